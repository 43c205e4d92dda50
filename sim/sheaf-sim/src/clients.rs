//! Clients: each does one call after the other, on few points, so that calls meet. Every write has a stamp of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sheaf_checkers::{Answer, Call, Fact, OpId, Stamp};
use sheaf_types::PointId;

use crate::knobs::Knobs;
use crate::machine::Proc;
use crate::wire::{CallId, ClientReply, ClientRequest, Message, Purpose, Reply, Work};
use crate::world::{Happening, Stage, World};

/// The collection that is never dropped.
pub const LASTING: &str = "things";
/// One that comes and goes.
pub const TEMPORARY: &str = "temporary";

/// Times that a read at the end is tried before the promise to serve is broken.
const AUDIT_TRIES_MAX: u32 = 20;

/// A call whose end a client waits for.
struct Waiting {
    client: u32,
    ops: Vec<OpId>,
    request: Arc<ClientRequest>,
    router: u32,
    tries: u32,
}

/// All clients.
pub struct Clients {
    ids: Vec<PointId>,
    next_op: u64,
    next_stamp: Stamp,
    waiting: BTreeMap<CallId, Waiting>,
    /// What has to be done before anything is drawn.
    scripts: Vec<VecDeque<(u32, ClientRequest)>>,
    idle: Vec<bool>,
}

/// Ids that break what isn't careful.
fn weird() -> Vec<String> {
    let long = "long/".repeat(60);
    ["", "a/b", "doc#3", "ключ", "🗝️", " ", "%2F", "..", "\u{0}", "a", "A"]
        .iter()
        .map(|id| (*id).to_owned())
        .chain([long])
        .collect()
}

impl Clients {
    pub fn new(knobs: &Knobs) -> Self {
        let weird = weird();
        let plain = (0..knobs.ids.saturating_sub(weird.len() as u64)).map(|n| format!("point-{n}"));
        let ids = weird.iter().cloned().chain(plain).take(knobs.ids as usize);
        Self {
            ids: ids.map(PointId::from).collect(),
            next_op: 0,
            next_stamp: 0,
            waiting: BTreeMap::new(),
            scripts: (0..knobs.clients).map(|_| VecDeque::new()).collect(),
            idle: vec![false; knobs.clients as usize],
        }
    }

    pub fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn stamp(&mut self) -> Stamp {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Calls that haven't ended.
    pub fn open(&self) -> Vec<OpId> {
        self.waiting.values().flat_map(|waiting| waiting.ops.iter().copied()).collect()
    }

    pub fn all_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.idle.iter().all(|idle| *idle)
            && self.scripts.iter().all(VecDeque::is_empty)
    }
}

impl World {
    /// Lets the clients begin; first they fill the collection.
    pub fn start_clients(&mut self) {
        let timeout_ms = 5_000;
        if self.drawn.preload {
            let ids = self.clients.ids.clone();
            for (at, chunk) in ids.chunks(8).enumerate() {
                let points = chunk.iter().map(|id| (id.clone(), self.clients.stamp())).collect();
                let work = Work::Upsert(points);
                let request = ClientRequest { collection: Arc::from(LASTING), work, timeout_ms };
                let client = at % self.clients.scripts.len();
                self.clients.scripts[client].push_back((0, request));
            }
        }
        for client in 0..self.drawn.clients {
            let at_us = self.now_us + self.dice.clients.below(50_000);
            self.queue.plan(at_us, Happening::Think { client });
        }
    }

    /// A client does its next call.
    pub fn think(&mut self, client: u32) {
        let scripted = self.clients.scripts[client as usize].pop_front();
        let (router, request) = match scripted {
            Some(scripted) => scripted,
            None if self.stage >= Stage::Audit => {
                self.clients.idle[client as usize] = true;
                return;
            }
            None => {
                let router = self.dice.clients.below(u64::from(self.drawn.routers)) as u32;
                (router, self.draw_request())
            }
        };
        self.invoke(client, router, Arc::new(request), 0);
    }

    fn draw_request(&mut self) -> ClientRequest {
        let dice = &mut self.dice.clients;
        let temporary = dice.chance(0.05);
        let collection = Arc::from(if temporary { TEMPORARY } else { LASTING });
        let timeout_ms = *dice.pick(&[300, 1_500, 4_000, 10_000]).unwrap_or(&4_000);
        let kind = dice.below(100);
        let work = match kind {
            0..25 => Work::Upsert(vec![self.draw_point()]),
            25..33 => {
                let count = self.dice.clients.between(2, 6);
                let mut points: BTreeMap<PointId, Stamp> = BTreeMap::new();
                for _ in 0..count {
                    let (id, stamp) = self.draw_point();
                    points.insert(id, stamp);
                }
                Work::Upsert(points.into_iter().collect())
            }
            33..43 => Work::Delete(vec![self.draw_id()]),
            43..47 => {
                let count = self.dice.clients.between(2, 4);
                let ids: std::collections::BTreeSet<PointId> =
                    (0..count).map(|_| self.draw_id()).collect();
                Work::Delete(ids.into_iter().collect())
            }
            47..92 => Work::Get(self.draw_id()),
            _ => Work::Gather,
        };
        ClientRequest { collection, work, timeout_ms }
    }

    fn draw_id(&mut self) -> PointId {
        let dice = &mut self.dice.clients;
        // A few ids are hot.
        let count = self.clients.ids.len() as u64;
        let at = if dice.chance(0.3) { dice.below(count.min(4)) } else { dice.below(count) };
        self.clients.ids[at as usize].clone()
    }

    fn draw_point(&mut self) -> (PointId, Stamp) {
        let id = self.draw_id();
        (id, self.clients.stamp())
    }

    fn invoke(&mut self, client: u32, router: u32, request: Arc<ClientRequest>, tries: u32) {
        let collection = Arc::clone(&request.collection);
        let calls: Vec<Call> = match &request.work {
            Work::Upsert(points) => points
                .iter()
                .map(|point| Call::Upsert {
                    collection: Arc::clone(&collection),
                    points: vec![point.clone()],
                })
                .collect(),
            Work::Delete(ids) => ids
                .iter()
                .map(|id| Call::Delete {
                    collection: Arc::clone(&collection),
                    ids: vec![id.clone()],
                })
                .collect(),
            Work::Get(id) => vec![Call::Get { collection, id: id.clone() }],
            Work::Gather => vec![Call::Gather { collection }],
        };
        let mut ops = Vec::with_capacity(calls.len());
        for call in calls {
            let op = self.clients.op();
            self.stats.client_ops += 1;
            self.fact(Fact::Invoked { op, call });
            ops.push(op);
        }
        let message = Message::Client(Arc::clone(&request));
        let timeout_us = (request.timeout_ms + 300) * 1_000;
        let purpose = Purpose::Client { number: client };
        let call =
            self.call(Proc::Client(client), Proc::Router(router), message, purpose, timeout_us);
        self.clients.waiting.insert(call, Waiting { client, ops, request, router, tries });
    }

    pub fn client_answered(&mut self, client: u32, call: CallId, reply: Reply) {
        let Some(waiting) = self.clients.waiting.remove(&call) else { return };
        let mut failed = false;
        for (item, op) in waiting.ops.iter().enumerate() {
            let answer = answer_of(&waiting.request.work, item as u32, &reply);
            failed |= matches!(answer, Answer::Refused | Answer::Unknown);
            match answer {
                Answer::Refused => self.stats.client_refused += 1,
                Answer::Unknown => self.stats.client_unknown += 1,
                _ => self.stats.client_done += 1,
            }
            let found = match &answer {
                Answer::Point(stamp) => stamp.unwrap_or(0),
                Answer::Points(points) => {
                    points.iter().fold(7, |sum, (_, stamp)| u64::wrapping_mul(sum, 31) ^ stamp)
                }
                _ => 1,
            };
            self.trace.fold(&[op.0, found]);
            self.fact(Fact::Returned { op: *op, answer });
        }
        let last_read = matches!(waiting.request.work, Work::Get(_) | Work::Gather);
        let lasting = &*waiting.request.collection == LASTING;
        if failed && last_read && lasting && self.stage == Stage::Audit {
            if waiting.tries >= AUDIT_TRIES_MAX {
                let text = format!(
                    "a read at the end failed {} times: {:?}: {reply:?}",
                    waiting.tries, waiting.request
                );
                self.broken("P6 converges", &text);
            }
            self.invoke(waiting.client, waiting.router, waiting.request, waiting.tries + 1);
            return;
        }
        let busy = self.stage < Stage::Liveness && self.clients.scripts[client as usize].is_empty();
        let mean = if self.stage == Stage::Audit || (!busy && self.stage == Stage::Setup) {
            1_000
        } else if busy {
            self.drawn.think_us
        } else {
            3 * self.drawn.think_us
        };
        let at_us = self.now_us + 1 + self.dice.clients.around(mean);
        self.queue.plan(at_us, Happening::Think { client });
    }

    /// Every point is read through every router, and all of them at once.
    pub fn script_audit(&mut self) {
        let timeout_ms = 5_000;
        let clients = self.clients.scripts.len();
        let mut next = 0;
        for router in 0..self.drawn.routers {
            let mut requests = vec![Work::Gather];
            requests.extend(self.clients.ids.iter().cloned().map(Work::Get));
            for work in requests {
                let request = ClientRequest { collection: Arc::from(LASTING), work, timeout_ms };
                self.clients.scripts[next % clients].push_back((router, request));
                next += 1;
            }
        }
        for client in 0..clients {
            if std::mem::take(&mut self.clients.idle[client]) {
                self.queue.plan(self.now_us + 1, Happening::Think { client: client as u32 });
            }
        }
    }
}

/// What a client may conclude for one item of its request.
fn answer_of(work: &Work, item: u32, reply: &Reply) -> Answer {
    match reply {
        Reply::Client(ClientReply::Done(found)) => match work {
            Work::Upsert(_) | Work::Delete(_) => Answer::Done,
            Work::Get(_) => Answer::Point(found.points.first().map(|(_, stamp)| *stamp)),
            Work::Gather => Answer::Points(found.points.clone()),
        },
        Reply::Client(ClientReply::Parts { applied, not_applied }) => {
            let reads = matches!(work, Work::Get(_) | Work::Gather);
            if !reads && applied.contains(&item) {
                Answer::Done
            } else if reads || not_applied.contains(&item) {
                Answer::Refused
            } else {
                Answer::Unknown
            }
        }
        Reply::NotReady | Reply::NotSent => Answer::Refused,
        _ => Answer::Unknown,
    }
}
