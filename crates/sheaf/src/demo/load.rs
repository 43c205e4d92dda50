//! The live load: concurrent writers, readers and searchers, each answer judged against the record at once.
//!
//! A key has one writer, and one write at a time. Decides what is asked; never when the cluster changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sheaf_runtime::clock::Clock;
use sheaf_types::Time;
use tokio::task::JoinSet;

use super::api::{Hit, Miss, Router};
use super::check::{Broken, Change, KeyNumber, Outcome, Record, Shown};
use super::dataset::{Dataset, GROUP_KEYS};
use super::tally::{Kind, Tally};

/// Loaded keys that the live load writes; the rest is only read.
const WRITTEN_KEYS_MAX: usize = 5_000;
/// Points in one write.
const WRITE_POINTS_MAX: usize = 8;
/// Hits asked for when the answer must show a whole group.
const GROUP_K: usize = GROUP_KEYS * 2;
const NEAREST_K: usize = 10;

/// How many clients of each kind, and how long each rests between its requests.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    pub writers: usize,
    pub readers: usize,
    pub searchers: usize,
    pub pause_ms: u64,
    pub search_pause_ms: u64,
}

/// What all clients share.
pub struct World {
    pub data: Dataset,
    pub routers: Vec<Router>,
    pub clock: Clock,
    record: Mutex<Record>,
    tally: Mutex<Tally>,
    stop: AtomicBool,
}

impl World {
    pub fn new(data: Dataset, clock: Clock) -> Self {
        let record = Mutex::new(Record::new(data.keys()));
        let tally = Mutex::new(Tally::default());
        Self { data, routers: Vec::new(), clock, record, tally, stop: AtomicBool::new(false) }
    }

    // A panic of one client must not hide what the others found.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn router(&self, rng: &mut ChaCha8Rng) -> &Router {
        &self.routers[rng.random_range(0..self.routers.len())]
    }

    /// A key of those that are loaded or that the live load writes.
    fn any_key(&self, rng: &mut ChaCha8Rng) -> KeyNumber {
        KeyNumber(rng.random_range(0..self.data.keys()))
    }

    fn answered(&self, kind: Kind, began: Time, miss: Option<&Miss>) {
        let ended = self.clock.now();
        self.tally().answered(kind, began, ended, miss.map(Miss::why));
    }

    fn broke(&self, kind: Kind, key: KeyNumber, broken: Broken, detail: &str) {
        let id: String = self.data.id(key).chars().take(40).collect();
        self.tally().broke(kind, broken, format!("{id:?}: {detail}"));
    }

    /// Writes these keys' points, in one request, and records what became of it.
    ///
    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn put(&self, router: &Router, keys: &[(KeyNumber, u64)]) -> Result<(), Miss> {
        let points: Vec<_> = keys.iter().map(|&(key, stamp)| self.data.point(key, stamp)).collect();
        let changes = keys.iter().map(|&(key, stamp)| (key, Change::Put { stamp })).collect();
        self.write(changes, router.put(&points)).await
    }

    async fn delete(&self, router: &Router, keys: &[KeyNumber]) -> Result<(), Miss> {
        let ids: Vec<&str> = keys.iter().map(|&key| self.data.id(key)).collect();
        let changes = keys.iter().map(|&key| (key, Change::Delete)).collect();
        self.write(changes, router.delete(&ids)).await
    }

    async fn write(
        &self,
        changes: Vec<(KeyNumber, Change)>,
        request: impl Future<Output = Result<(), Miss>>,
    ) -> Result<(), Miss> {
        {
            let mut record = self.record();
            changes.iter().for_each(|&(key, change)| record.begin_write(key, change));
        }
        let began = self.clock.now();
        let answer = request.await;
        let outcome = match &answer {
            Ok(()) => Outcome::Acknowledged,
            // Of a batch, a part may have been applied by its owner.
            Err(Miss::Refused(_)) if changes.len() == 1 => Outcome::Refused,
            Err(Miss::Refused(_) | Miss::Unknown(_)) => Outcome::Unknown,
        };
        {
            let mut record = self.record();
            changes.iter().for_each(|&(key, _)| record.end_write(key, outcome));
        }
        self.answered(Kind::Write, began, answer.as_ref().err());
        match (answer, outcome) {
            (Err(miss), Outcome::Unknown) => Err(Miss::Unknown(miss.why().to_owned())),
            (answer, _) => answer,
        }
    }

    /// Gets a key and judges the answer; `false` when there was none.
    pub async fn get(&self, router: &Router, key: KeyNumber, kind: Kind) -> bool {
        let get = self.record().begin_get(key);
        let began = self.clock.now();
        let answer = router.get(self.data.id(key)).await;
        self.answered(kind, began, answer.as_ref().err());
        let Ok(point) = answer else { return false };
        let (shown, torn) = match &point {
            None => (Shown::Absent, false),
            Some(point) => {
                let stamp = point.payload.get("stamp").and_then(serde_json::Value::as_u64);
                let torn = stamp.is_some_and(|stamp| point.vector != self.data.vector(key, stamp));
                (stamp.map_or(Shown::Foreign, Shown::Stamp), torn)
            }
        };
        if torn {
            self.broke(
                kind,
                key,
                Broken::Stale,
                "the vector belongs to another write than the payload",
            );
        }
        let broken = self.record().end_get(get, shown);
        if let Some(broken) = broken {
            self.broke(kind, key, broken, &format!("a get returned {shown:?}"));
        }
        true
    }

    /// Judges the hits of a search that began at `tick`.
    fn judge(&self, tick: u64, hits: &[Hit], complete: &[KeyNumber]) {
        let mut shown = Vec::with_capacity(hits.len());
        for hit in hits {
            match self.data.key_of(&hit.id) {
                Some(key) => {
                    shown.push((key, hit.stamp().map_or(Shown::Foreign, Shown::Stamp)));
                }
                None => self.tally().broke(
                    Kind::Search,
                    Broken::Resurrected,
                    format!("{:?}: no write ever made it", hit.id),
                ),
            }
        }
        let broken = self.record().judge_search(tick, &shown, complete);
        for (key, broken) in broken {
            let times = shown.iter().filter(|(shown, _)| *shown == key).count();
            self.broke(Kind::Search, key, broken, &format!("{times} times in {} hits", hits.len()));
        }
    }
}

/// The running load.
pub struct Load {
    world: Arc<World>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts all clients. Everything they do follows from `seed` and from when answers come.
    pub fn start(world: &Arc<World>, clients: Clients, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        for number in 0..clients.writers {
            let owned = Owned::keys_of(&world.data, number, clients.writers);
            let rng = ChaCha8Rng::seed_from_u64(seed ^ (0x1000 + number as u64));
            tasks.spawn(writer(Arc::clone(world), owned, clients.pause_ms, rng));
        }
        for number in 0..clients.readers {
            let rng = ChaCha8Rng::seed_from_u64(seed ^ (0x2000 + number as u64));
            tasks.spawn(reader(Arc::clone(world), clients.pause_ms, rng));
        }
        for number in 0..clients.searchers {
            let rng = ChaCha8Rng::seed_from_u64(seed ^ (0x3000 + number as u64));
            tasks.spawn(searcher(Arc::clone(world), clients.search_pause_ms, rng));
        }
        Self { world: Arc::clone(world), clients: tasks }
    }

    /// Lets every client finish its request, and waits for them.
    ///
    /// # Errors
    /// A client panicked: its findings are incomplete.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.world.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// A key and what its writer knows of it.
struct Owned {
    key: KeyNumber,
    next_stamp: u64,
    there: bool,
}

impl Owned {
    fn keys_of(data: &Dataset, writer: usize, writers: usize) -> Vec<Self> {
        let loaded = 0..data.loaded.min(WRITTEN_KEYS_MAX);
        let keys = loaded.chain(data.loaded..data.keys()).filter(|key| key % writers == writer);
        keys.map(|key| Self { key: KeyNumber(key), next_stamp: 1, there: key < data.loaded })
            .collect()
    }
}

async fn writer(world: Arc<World>, mut owned: Vec<Owned>, pause_ms: u64, mut rng: ChaCha8Rng) {
    while !world.stopped() && !owned.is_empty() {
        // The chosen keys go to the end, so that they are easily found again.
        let most = WRITE_POINTS_MAX.min(owned.len());
        let chosen = if rng.random_bool(0.5) { 1 } else { rng.random_range(1..=most) };
        for back in 1..=chosen {
            let last = owned.len() - back;
            let at = rng.random_range(0..=last);
            owned.swap(at, last);
        }
        let keys = owned.len() - chosen..;
        let deletable = |o: &Owned| o.there && world.data.may_delete(o.key);
        let router = world.router(&mut rng);
        let delete = rng.random_bool(0.25) && owned[keys.clone()].iter().all(deletable);
        let answer = if delete {
            let keys: Vec<KeyNumber> = owned[keys.clone()].iter().map(|o| o.key).collect();
            world.delete(router, &keys).await
        } else {
            let puts: Vec<_> = owned[keys.clone()].iter().map(|o| (o.key, o.next_stamp)).collect();
            world.put(router, &puts).await
        };
        for o in &mut owned[keys.clone()] {
            // A stamp is never used twice, also when its write was refused.
            o.next_stamp += 1;
            if answer.is_ok() {
                o.there = !delete;
            }
        }
        if let Err(Miss::Unknown(_)) = answer {
            owned.truncate(keys.start);
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

async fn reader(world: Arc<World>, pause_ms: u64, mut rng: ChaCha8Rng) {
    while !world.stopped() {
        let (router, key) = (world.router(&mut rng), world.any_key(&mut rng));
        world.get(router, key, Kind::Get).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

async fn searcher(world: Arc<World>, pause_ms: u64, mut rng: ChaCha8Rng) {
    while !world.stopped() {
        let router = world.router(&mut rng);
        let group = rng.random_range(0..world.data.groups());
        let filter = json!({ "eq": { "field": "group", "value": group } });
        let complete = world.data.keys_of_group(group);
        let vector = nearby(&world, &mut rng);
        let tick = world.record().tick();
        let began = world.clock.now();
        let (answer, complete) = match rng.random_range(0..3) {
            0 => (router.query(&vector, GROUP_K, Some(filter)).await, complete),
            1 => (router.fetch(filter, GROUP_K).await, complete),
            _ => (router.query(&vector, NEAREST_K, None).await, Vec::new()),
        };
        world.answered(Kind::Search, began, answer.as_ref().err());
        if let Ok(hits) = answer {
            world.judge(tick, &hits, &complete);
            judge_order(&world, &hits);
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// A vector to search with: that of some key.
fn nearby(world: &World, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let key = world.any_key(rng);
    let stamp = world.record().settled(key).unwrap_or_default();
    world.data.vector(key, stamp)
}

/// The best hit comes first.
fn judge_order(world: &World, hits: &[Hit]) {
    let scores: Vec<f64> = hits.iter().filter_map(|hit| hit.score).collect();
    if !scores.is_sorted_by(|a, b| a >= b) {
        world.tally().note(format!("a search's hits are not in order: {scores:?}"));
    }
}
