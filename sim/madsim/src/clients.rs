//! Clients: each does one call after the other, on few points, so that calls meet. Every write has a stamp of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_checkers::{Answer, Call, Fact, OpId};
use sheaf_sim::clients::answer_of;
use sheaf_sim::wire::{ClientRequest, Reply, Work};
use sheaf_types::PointId;

use crate::book::{Book, Stage};
use crate::dice::Dice;
use crate::net::{self, Caller, Failure, Question};
use crate::process::COLLECTION;

/// Points in one request of the first load.
const LOAD_POINTS: usize = 64;
/// Times that a read at the end is tried before the promise to serve is broken.
const AUDIT_TRIES_MAX: u32 = 20;
/// Milliseconds of patience of the first and the last calls.
const PATIENCE_MS: u64 = 5_000;
/// Milliseconds by which a client is more patient than it tells the router.
const GRACE_MS: u64 = 300;

pub fn ids(count: u64) -> Vec<PointId> {
    (0..count).map(|n| PointId::from(format!("point-{n}"))).collect()
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
    pub async fn run(mut self) {
        while self.book.stage() == Stage::Setup {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while self.book.stage() < Stage::Audit {
            let router = self.dice.pick(&self.routers);
            let timeout_ms = self.dice.pick(&[300, 1_500, 4_000, 10_000]);
            let work = self.draw();
            self.call(&router, work, timeout_ms).await;
            let slower = if self.book.stage() == Stage::Liveness { 3 } else { 1 };
            let think_ms = self.dice.around(self.think_ms * slower);
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
        }
        self.book.calm_clients.fetch_add(1, Ordering::SeqCst);
    }

    fn id(&mut self) -> PointId {
        // A few ids are hot.
        let count = self.ids.len() as u64;
        let among = if self.dice.chance(0.3) { count.min(6) } else { count };
        self.ids[self.dice.below(among) as usize].clone()
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
            _ => Work::Gather,
        }
    }

    /// One call, written down; whether it was answered whole.
    pub async fn call(&mut self, router: &str, work: Work, timeout_ms: u64) -> bool {
        let ops: Vec<OpId> = calls(&work).into_iter().map(|call| self.invoked(call)).collect();
        let collection = Arc::from(COLLECTION);
        let request = Arc::new(ClientRequest { collection, work, timeout_ms });
        let question = Question::Client(Arc::clone(&request));
        let patience = Duration::from_millis(timeout_ms + GRACE_MS);
        let reply = match self.caller.ask(router, question, patience).await {
            Ok(net::Answer::Client(reply)) => Reply::Client(reply),
            Ok(net::Answer::NotReady(_)) => Reply::NotReady,
            Err(Failure::NotSent) => Reply::NotSent,
            Ok(_) | Err(Failure::Lost) => Reply::Lost,
        };
        tracing::debug!(target: "sheaf_madsim", ?request, ?reply, router, "call {ops:?}");
        let counts = &self.book.counts;
        let mut answered = true;
        for (item, op) in ops.into_iter().enumerate() {
            let answer = answer_of(&request.work, item as u32, &reply);
            let count = match answer {
                Answer::Refused => &counts.refused,
                Answer::Unknown => &counts.unknown,
                _ => &counts.done,
            };
            answered &= !matches!(answer, Answer::Refused | Answer::Unknown);
            count.fetch_add(1, Ordering::SeqCst);
            self.book.fact(Fact::Returned { op, answer });
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
            self.call(&router, Work::Upsert(points), PATIENCE_MS).await;
        }
    }

    /// Reads every point through every router, and all of them at once.
    pub async fn audit(&mut self) {
        for router in self.routers.clone() {
            let mut reads = vec![Work::Gather];
            reads.extend(self.ids.iter().cloned().map(Work::Get));
            for work in reads {
                let mut tries = 0;
                while !self.call(&router, work.clone(), PATIENCE_MS).await {
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
    let upsert = |point: &(PointId, u64)| Call::Upsert {
        collection: Arc::clone(&collection),
        points: vec![point.clone()],
    };
    let delete =
        |id: &PointId| Call::Delete { collection: Arc::clone(&collection), ids: vec![id.clone()] };
    match work {
        Work::Upsert(points) => points.iter().map(upsert).collect(),
        Work::Delete(ids) => ids.iter().map(delete).collect(),
        Work::Get(id) => vec![Call::Get { collection, id: id.clone() }],
        Work::Gather => vec![Call::Gather { collection }],
        Work::Insert(_) | Work::Discard(_) => Vec::new(), // No client asks for that.
    }
}
