//! Writers under a grow, and the record that says what was lost: the one of the end-to-end tests, which knows no cluster.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use sheaf_tests::{Broken, Client, Fate, Record};

use super::contender::Contender;
use crate::stage::COLLECTION;
use crate::synthetic;

const WRITERS: usize = 4;
/// Points that are written to; a writer has its own.
const WRITTEN: usize = 2_000;
/// The stamp of what was loaded before.
const LOADED: u64 = u64::MAX;
/// Milliseconds between the writes of one writer.
const PAUSE_MS: u64 = 4;
/// Milliseconds for which a router is frozen, longer than the stock coordinator waits for one; and between its begins.
const FROZEN_MS: u64 = 4_000;
const THAWED_MS: u64 = 2_000;

/// What the record found.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub broken: u64,
    acknowledged: u64,
    lost: u64,
    came_back: u64,
    stale: u64,
}

impl Judged {
    pub fn add(&mut self, other: &Self) {
        self.broken += other.broken;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.came_back += other.came_back;
        self.stale += other.stale;
    }

    pub fn text(&self) -> String {
        format!(
            "{} of {} ({} gone, {} older, {} came back)",
            self.broken, self.acknowledged, self.lost, self.stale, self.came_back
        )
    }
}

/// Grows while points are written and deleted through both routers, of which one is frozen again and again.
pub async fn grow_under_load(contender: &Contender, points: usize) -> (f64, Judged) {
    let record = Rc::new(RefCell::new(Record::default()));
    let loaded = WRITTEN.min(points);
    for number in 0..loaded {
        let mut record = record.borrow_mut();
        let begun = record.begin_write(&key(number), Some(LOADED));
        record.end_write(&key(number), begun, Fate::Acknowledged);
    }
    let is_over = Rc::new(Cell::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let routers = [contender.router(0), contender.router(1)];
            let (record, is_over) = (Rc::clone(&record), Rc::clone(&is_over));
            tokio::task::spawn_local(async move {
                write(number, points, &routers, &record, &is_over).await;
            })
        })
        .collect();
    let freezing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(THAWED_MS)).await;
            contender.freeze_router();
            tokio::time::sleep(Duration::from_millis(FROZEN_MS)).await;
            contender.thaw_router();
        }
    };
    let ms = tokio::select! {
        biased;
        ms = contender.grow() => ms,
        () = freezing => 0.0,
    };
    contender.thaw_router();
    // Writes of the router that was frozen last may still be on their way.
    tokio::time::sleep(Duration::from_millis(THAWED_MS)).await;
    is_over.set(true);
    for writer in writers {
        writer.await.unwrap_or_else(|why| panic!("a writer ended: {why}"));
    }
    contender.at_rest().await;
    judge(&contender.router(0), &record).await;
    let record = record.borrow();
    let count = |broken: Broken| record.counts.get(&broken).copied().unwrap_or_default();
    let (lost, stale) = (count(Broken::Lost), count(Broken::Stale));
    let came_back = count(Broken::Resurrected);
    let broken = record.counts.values().sum();
    let acknowledged = record.acknowledged - loaded as u64;
    (ms, Judged { broken, acknowledged, lost, came_back, stale })
}

fn key(number: usize) -> String {
    synthetic::id(number)
}

async fn write(
    writer: usize,
    points: usize,
    routers: &[Client; 2],
    record: &RefCell<Record>,
    is_over: &Cell<bool>,
) {
    let mut keys: Vec<usize> =
        (0..WRITTEN.min(points)).filter(|number| number % WRITERS == writer).collect();
    let mut round = writer * 31;
    while !is_over.get() && !keys.is_empty() {
        round += 1;
        let at = round * 7 % keys.len();
        let number = keys[at];
        let router = &routers[round % 2];
        let stamp = (!round.is_multiple_of(4)).then(|| record.borrow_mut().stamp());
        let begun = record.borrow_mut().begin_write(&key(number), stamp);
        let fate = send(router, number, stamp).await;
        record.borrow_mut().end_write(&key(number), begun, fate);
        if fate == Fate::Unknown {
            // It may take effect at any time, so nothing is written behind it.
            keys.swap_remove(at);
        }
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }
}

async fn send(router: &Client, number: usize, stamp: Option<u64>) -> Fate {
    let path = format!("/v1/collections/{COLLECTION}/points");
    let (method, body) = match stamp {
        Some(stamp) => {
            let (id, vector) = (key(number), synthetic::vector_json(number));
            let payload = format!(r#"{{"stamp":{stamp}}}"#);
            let body =
                format!(r#"{{"points":[{{"id":"{id}","vector":{vector},"payload":{payload}}}]}}"#);
            (Method::POST, Bytes::from(body))
        }
        None => (Method::DELETE, Bytes::from(json!({ "ids": [key(number)] }).to_string())),
    };
    match router.send(method, &path, &[], body).await {
        Ok(answer) if answer.status.is_success() => Fate::Acknowledged,
        Ok(answer) if answer.status.is_client_error() || answer.status.as_u16() == 503 => {
            Fate::Refused
        }
        Err(gone) if gone.never_sent => Fate::Refused,
        Ok(_) | Err(_) => Fate::Unknown,
    }
}

/// Reads every key that was written.
async fn judge(router: &Client, record: &RefCell<Record>) {
    let keys = record.borrow().keys();
    for key in keys {
        let reading = record.borrow().begin_read(&key);
        let path = format!("/v1/collections/{COLLECTION}/points/{key}");
        let answer = router.get(&path).await.expect("it answers");
        let shown = match answer.status.as_u16() {
            404 => None,
            _ => Some(answer.expect_ok("get")["payload"]["stamp"].as_u64().unwrap_or(LOADED)),
        };
        record.borrow_mut().end_read(&reading, &key, shown);
    }
}
