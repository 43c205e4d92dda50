//! Clients: each does one call after the other, on few points, so that calls meet. Every write has a stamp of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_checkers::{Answer, Call, Fact, OpId};
use sheaf_types::PointId;

use crate::book::{Book, Stage};
use crate::dice::Dice;
use crate::http_client::{COLLECTION, Caller, Work};
use crate::trace;

/// Points in one request of the first load.
const LOAD_POINTS: usize = 64;
/// Times that a read at the end is tried before the promise to serve is broken.
const AUDIT_TRIES_MAX: u32 = 20;
/// Milliseconds of patience of the first and the last calls.
const PATIENCE_MS: u64 = 5_000;

/// Ids that break what isn't careful, then plain ones.
pub fn ids(count: u64) -> Vec<PointId> {
    let weird = ["a/b", "doc#3", "ключ", "🗝️", " ", "%2F", "a", "A", "?q=1&x"];
    let weird = weird.iter().map(|id| (*id).to_owned());
    let plain = (0..count).map(|n| format!("point-{n}"));
    weird.chain(plain).take(count as usize).map(PointId::from).collect()
}

/// One client.
pub struct Client {
    pub book: Arc<Book>,
    pub dice: Dice,
    pub ids: Vec<PointId>,
    pub routers: Vec<String>,
    pub think_ms: u64,
    pub caller: Caller,
}

impl Client {
    /// Calls until the audit begins.
    pub async fn run(mut self) -> turmoil::Result {
        while self.book.stage() == Stage::Setup {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while self.book.stage() < Stage::Audit {
            let router = self.dice.pick(&self.routers);
            let timeout_ms = self.dice.pick(&[300, 1_500, 4_000, 10_000]);
            let work = self.draw();
            self.call(&router, &work, timeout_ms).await;
            let slower = if self.book.stage() == Stage::Liveness { 3 } else { 1 };
            let think_ms = self.dice.around(self.think_ms * slower);
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
        }
        self.book.calm_clients.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn id(&mut self) -> PointId {
        // A few ids are hot.
        let count = self.ids.len() as u64;
        let at = if self.dice.chance(0.3) {
            self.dice.below(count.min(6))
        } else {
            self.dice.below(count)
        };
        self.ids[at as usize].clone()
    }

    fn several(&mut self, most: u64) -> BTreeSet<PointId> {
        let count = self.dice.between(2, most);
        (0..count).map(|_| self.id()).collect()
    }

    fn draw(&mut self) -> Work {
        match self.dice.below(100) {
            0..25 => Work::Upsert(vec![(self.id(), self.book.stamp())]),
            25..35 => {
                let ids = self.several(8).into_iter();
                Work::Upsert(ids.map(|id| (id, self.book.stamp())).collect())
            }
            35..44 => Work::Delete(vec![self.id()]),
            44..48 => Work::Delete(self.several(5).into_iter().collect()),
            48..92 => Work::Get(self.id()),
            92..97 => Work::Search,
            _ => Work::Fetch,
        }
    }

    /// One call, written down; whether it was answered.
    pub async fn call(&mut self, router: &str, work: &Work, timeout_ms: u64) -> bool {
        let ops: Vec<OpId> = calls(work).into_iter().map(|call| self.invoked(call)).collect();
        let came = self.caller.ask(router, work, timeout_ms).await;
        trace::fold(format_args!("{ops:?} {:?} {}", came.answer, came.words));
        tracing::debug!(target: "sheaf_turmoil", ?work, words = came.words, router, "call {ops:?}");
        if let Some(what) = came.nonsense {
            self.book.broken("P1 whole-points", format!("call {ops:?} at {router}: {what}"));
        }
        let counts = &self.book.counts;
        let (count, answered) = match came.answer {
            Answer::Refused => (&counts.refused, false),
            Answer::Unknown => (&counts.unknown, false),
            _ => (&counts.done, true),
        };
        count.fetch_add(1, Ordering::SeqCst);
        for op in ops {
            self.book.fact(Fact::Returned { op, answer: came.answer.clone() });
        }
        answered
    }

    fn invoked(&self, call: Call) -> OpId {
        let op = self.book.op();
        self.book.counts.calls.fetch_add(1, Ordering::SeqCst);
        self.book.fact(Fact::Invoked { op, call: Arc::new(call) });
        op
    }

    /// Fills the collection, before any fault.
    pub async fn load(&mut self) {
        let ids = self.ids.clone();
        for chunk in ids.chunks(LOAD_POINTS) {
            let points = chunk.iter().map(|id| (id.clone(), self.book.stamp())).collect();
            let router = self.dice.pick(&self.routers);
            self.call(&router, &Work::Upsert(points), PATIENCE_MS).await;
        }
    }

    /// Reads every point through every router, and all of them at once.
    pub async fn audit(&mut self) {
        for router in self.routers.clone() {
            let mut reads = vec![Work::Search, Work::Fetch];
            reads.extend(self.ids.iter().cloned().map(Work::Get));
            for work in reads {
                let mut tries = 0;
                while !self.call(&router, &work, PATIENCE_MS).await {
                    tries += 1;
                    if tries >= AUDIT_TRIES_MAX {
                        let text = format!("a read at the end failed {tries} times: {work:?}");
                        return self.book.broken("P6 converges", text);
                    }
                }
            }
        }
    }
}

/// The calls that a request stands for: each point is on its own.
fn calls(work: &Work) -> Vec<Call> {
    let collection: Arc<str> = Arc::from(COLLECTION);
    match work {
        Work::Upsert(points) => {
            let call = |point: &(PointId, u64)| Call::Upsert {
                collection: Arc::clone(&collection),
                points: vec![point.clone()],
            };
            points.iter().map(call).collect()
        }
        Work::Delete(ids) => {
            let call = |id: &PointId| Call::Delete {
                collection: Arc::clone(&collection),
                ids: vec![id.clone()],
            };
            ids.iter().map(call).collect()
        }
        Work::Get(id) => vec![Call::Get { collection, id: id.clone() }],
        Work::Search | Work::Fetch => vec![Call::Gather { collection }],
    }
}
