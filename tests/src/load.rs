//! Clients under way: writers, readers and searchers on several routers at once, and the record that judges them.
//!
//! A writer owns its keys, so each key's writes have an order. A key whose write had an unknown outcome is never written
//! again: that write may still take effect. A few keys are written by all, and judged by the checker of the simulator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::contended::Contended;
use crate::patience::{eventually, pause_ms};
use crate::points;
use crate::record::{Broken, Fate, Record};
use crate::router::{Miss, Router, TORN};

/// Points that one answer may have: more than any test writes.
const ALL: usize = 5_000;
/// Points in one request of the first load.
const SEED_BATCH: usize = 200;

/// How much is going on.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub writers: usize,
    pub readers: usize,
    pub searchers: usize,
    /// Keys of each writer.
    pub keys: usize,
    pub seed: u64,
}

impl Workload {
    /// Two writers, one reader, one searcher.
    pub fn seeded(seed: u64) -> Self {
        Self { writers: 2, readers: 1, searchers: 1, keys: 300, seed }
    }
}

/// What the clients did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    pub gets: u64,
    pub searches: u64,
    /// Requests that did not succeed.
    pub failed: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
}

/// What all clients share.
pub(crate) struct Shared {
    pub collection: String,
    pub workload: Workload,
    stop: AtomicBool,
    record: Mutex<Record>,
    tally: Mutex<Tally>,
    pub contended: Contended,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A client that panicked has said why already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn record(&self) -> MutexGuard<'_, Record> {
        locked(&self.record)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts an answer, and keeps what it says against the cluster.
    pub fn count<T>(&self, answer: &Result<T, Miss>) {
        let mut tally = locked(&self.tally);
        tally.requests += 1;
        let Err(miss) = answer else { return };
        if miss.why.starts_with(TORN) {
            self.record().torn(miss.why.clone());
            return;
        }
        tally.failed += 1;
        let reason: String = miss.why.chars().take(200).collect();
        *tally.reasons.entry(reason).or_default() += 1;
    }
}

impl Load {
    /// Writes every key once, and starts no client yet.
    ///
    /// # Panics
    /// A write fails: nothing disturbs the cluster so far.
    pub async fn seeded(router: &Router, collection: &str, workload: Workload) -> Self {
        let shared = Shared {
            collection: collection.to_owned(),
            workload,
            stop: AtomicBool::new(true),
            record: Mutex::default(),
            tally: Mutex::default(),
            contended: Contended::default(),
        };
        for writer in 0..workload.writers {
            let keys: Vec<String> = (0..workload.keys).map(|n| key(writer, n)).collect();
            for keys in keys.chunks(SEED_BATCH) {
                let fate = write(&shared, router, keys).await;
                assert_eq!(fate, Fate::Acknowledged, "the first load: {:?}", locked(&shared.tally));
            }
        }
        Self { shared: Arc::new(shared), tasks: Vec::new() }
    }

    /// Starts the clients, each on another of these routers.
    pub fn go(&mut self, routers: &[Router]) {
        self.shared.stop.store(false, Ordering::Relaxed);
        let workload = self.shared.workload;
        for number in 0..workload.writers {
            self.tasks.push(tokio::spawn(writer(
                Arc::clone(&self.shared),
                routers.to_vec(),
                number,
            )));
        }
        for number in 0..workload.readers {
            self.tasks.push(tokio::spawn(reader(
                Arc::clone(&self.shared),
                routers.to_vec(),
                number,
            )));
        }
        for number in 0..workload.searchers {
            let shared = Arc::clone(&self.shared);
            self.tasks.push(tokio::spawn(searcher(shared, routers.to_vec(), number)));
        }
    }

    /// Lets the clients end their requests and stops them.
    ///
    /// # Panics
    /// A client did.
    pub async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.expect("a client of the load must not panic");
        }
    }

    pub fn tally(&self) -> Tally {
        locked(&self.shared.tally).clone()
    }

    /// Writes that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.shared.record().acknowledged
    }

    /// Waits until the clients have had this many more writes acknowledged: so that there was load.
    pub async fn until_acknowledged(&self, more: u64) {
        let from = self.acknowledged();
        eventually("the writers get on", 60, || async {
            let now = self.acknowledged();
            if now >= from + more {
                Ok(())
            } else {
                Err(format!("{} of {more}; {:?}", now - from, self.tally()))
            }
        })
        .await;
    }

    /// With the clients stopped: every key, through every router, by get, search and count.
    ///
    /// # Panics
    /// A router doesn't answer any more.
    pub async fn check_at_rest(&self, routers: &[Router]) {
        for router in routers {
            let collection = &self.shared.collection;
            let reading = self.shared.record().begin_search();
            let all = eventually("a whole search at rest", 30, || async {
                router.fetch(collection, ALL).await.map_err(|miss| miss.why)
            });
            let all = all.await;
            self.shared.record().end_search(&reading, &without_contended(all), true);
            let count = eventually("a count at rest", 30, || async {
                router.count(collection).await.map_err(|miss| miss.why)
            });
            let count = count.await;
            let (surely, maybe) = self.shared.record().expected_points();
            let contended = self.shared.contended.keys() as u64;
            assert!(
                (surely..=maybe + contended).contains(&count),
                "{count} points are counted, {surely} to {maybe} exist, and up to {contended} contended ones"
            );
            let keys = self.shared.record().keys();
            for key in keys {
                let reading = self.shared.record().begin_read(&key);
                let shown = eventually("a get at rest", 30, || async {
                    router.get(collection, &key).await.map_err(|miss| miss.why)
                });
                let shown = shown.await;
                self.shared.record().end_read(&reading, &key, shown);
            }
            self.shared.contended.check_at_rest(&self.shared, router).await;
        }
    }

    /// Points that must be counted, and those that may.
    pub fn expected_points(&self) -> (u64, u64) {
        let (surely, maybe) = self.shared.record().expected_points();
        (surely, maybe + self.shared.contended.keys() as u64)
    }

    /// How often this promise was broken.
    pub fn broken(&self, promise: Broken) -> u64 {
        self.shared.record().counts.get(&promise).copied().unwrap_or(0)
    }

    /// # Panics
    /// A promise was broken: the message says which, and how often.
    pub fn expect_nothing_broken(&self) {
        let record = self.shared.record();
        let words: Vec<String> =
            record.broken.iter().map(|(broken, text)| format!("  {broken:?}: {text}")).collect();
        assert!(record.counts.is_empty(), "{:?}:\n{}", record.counts, words.join("\n"));
        self.shared.contended.expect_linearizable();
        assert!(record.acknowledged > 0, "nothing was written");
    }

    /// # Panics
    /// A client's request failed.
    pub fn expect_no_failure(&self) {
        let tally = self.tally();
        assert_eq!(tally.failed, 0, "of {} requests: {:#?}", tally.requests, tally.reasons);
    }
}

fn key(writer: usize, number: usize) -> String {
    format!("w{writer}-{number}")
}

fn without_contended(mut points: Vec<(String, u64)>) -> Vec<(String, u64)> {
    points.retain(|(key, _)| !Contended::is_key(key));
    points
}

/// The fate of a write, from its answer.
pub(crate) fn fate<T>(answer: &Result<T, Miss>) -> Fate {
    match answer {
        Ok(_) => Fate::Acknowledged,
        Err(miss) if miss.unknown => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}

/// Upserts these keys with new stamps.
async fn write(shared: &Shared, router: &Router, keys: &[String]) -> Fate {
    let mut begun = Vec::with_capacity(keys.len());
    let mut stamps = Vec::with_capacity(keys.len());
    {
        let mut record = shared.record();
        for key in keys {
            let stamp = record.stamp();
            begun.push(record.begin_write(key, Some(stamp)));
            stamps.push((key.clone(), stamp));
        }
    }
    let answer = router.put(&shared.collection, &stamps).await;
    shared.count(&answer);
    let fate = fate(&answer);
    let mut record = shared.record();
    for (key, write) in keys.iter().zip(begun) {
        record.end_write(key, write, fate);
    }
    fate
}

/// Deletes these keys, of which `live` exist for certain and the others don't.
async fn delete(shared: &Shared, router: &Router, keys: &[String], live: u64) -> Fate {
    let begun: Vec<usize> = {
        let mut record = shared.record();
        keys.iter().map(|key| record.begin_write(key, None)).collect()
    };
    let answer = router.delete(&shared.collection, keys).await;
    shared.count(&answer);
    let fate = fate(&answer);
    let mut record = shared.record();
    for (key, write) in keys.iter().zip(begun) {
        record.end_write(key, write, fate);
    }
    if let Ok(deleted) = answer
        && deleted != live
    {
        record.torn(format!("a delete of {keys:?} says {deleted}, but {live} of them existed"));
    }
    fate
}

async fn writer(shared: Arc<Shared>, routers: Vec<Router>, number: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(shared.workload.seed ^ ((number as u64) << 32));
    // The keys that may be written, and whether each exists.
    let mut keys: Vec<(String, bool)> =
        (0..shared.workload.keys).map(|n| (key(number, n), true)).collect();
    let mut next = keys.len();
    while shared.goes_on() {
        let router = &routers[rng.random_range(0..routers.len())];
        if rng.random_range(0..8) == 0 {
            shared.contended.write(&shared, router, &mut rng).await;
            continue;
        }
        let deletes = rng.random_range(0..4) == 0;
        let many = if rng.random_bool(0.5) { 1 } else { rng.random_range(2..=8) };
        let mut chosen: Vec<usize> = (0..many).map(|_| rng.random_range(0..keys.len())).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let names: Vec<String> = chosen.iter().map(|&at| keys[at].0.clone()).collect();
        let fate = if deletes {
            let live = chosen.iter().filter(|&&at| keys[at].1).count() as u64;
            delete(&shared, router, &names, live).await
        } else {
            write(&shared, router, &names).await
        };
        for at in chosen {
            match fate {
                Fate::Acknowledged => keys[at].1 = !deletes,
                Fate::Refused => {}
                Fate::Unknown => {
                    keys[at] = (key(number, next), false);
                    next += 1;
                }
            }
        }
        pause_ms(if fate == Fate::Acknowledged { 1 } else { 10 }).await;
    }
}

async fn reader(shared: Arc<Shared>, routers: Vec<Router>, number: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(shared.workload.seed ^ ((number as u64 + 100) << 32));
    let workload = shared.workload;
    while shared.goes_on() {
        let router = &routers[rng.random_range(0..routers.len())];
        if rng.random_range(0..4) == 0 {
            shared.contended.read(&shared, router, &mut rng).await;
        } else {
            let key =
                key(rng.random_range(0..workload.writers), rng.random_range(0..workload.keys));
            let reading = shared.record().begin_read(&key);
            let answer = router.get(&shared.collection, &key).await;
            shared.count(&answer);
            if let Ok(shown) = &answer {
                shared.record().end_read(&reading, &key, *shown);
                locked(&shared.tally).gets += 1;
            }
        }
        pause_ms(1).await;
    }
}

async fn searcher(shared: Arc<Shared>, routers: Vec<Router>, number: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(shared.workload.seed ^ ((number as u64 + 200) << 32));
    while shared.goes_on() {
        let router = &routers[rng.random_range(0..routers.len())];
        let near = points::vector(rng.random());
        let even = json!({ "eq": { "field": "even", "value": true } });
        let collection = &shared.collection;
        let reading = shared.record().begin_search();
        // Few enough points for an exact scan: a search for more than there are shows all of them.
        let (complete, answer) = match rng.random_range(0..4) {
            0 => (true, router.fetch(collection, ALL).await),
            1 => (true, router.query(collection, &near, ALL, None).await),
            2 => (false, router.query(collection, &near, 20, None).await),
            _ => (false, router.query(collection, &near, 200, Some(even)).await),
        };
        shared.count(&answer);
        if let Ok(shown) = answer {
            shared.record().end_search(&reading, &without_contended(shown), complete);
            locked(&shared.tally).searches += 1;
        }
        pause_ms(10).await;
    }
}
