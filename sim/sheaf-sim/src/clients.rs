//! Clients: each does one call after the other, on few points, so that calls meet. Every write has a stamp of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use sheaf_checkers::{Answer, Call, Fact, OpId, Stamp};
use sheaf_router::Reason;
use sheaf_types::PointId;

use crate::knobs::Knobs;
use crate::machine::Proc;
use crate::plan::{ClientCall, Deed, Job, Step};
use crate::recording::named;
use crate::wire::{CallId, ClientReply, ClientRequest, Message, Purpose, Reply, Work};
use crate::world::{Happening, Stage, World};

/// The collection that is never dropped.
pub const LASTING: &str = "things";
/// One that comes and goes.
pub const TEMPORARY: &str = "temporary";

/// Milliseconds that a write of the setup may take.
const PRELOAD_MS: u64 = 5_000;
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
    /// What each has to do first, with the router.
    scripts: Vec<VecDeque<(u32, ClientRequest)>>,
    /// The plan's calls of each client, with the times before which they don't begin.
    planned: Vec<VecDeque<(u64, ClientCall)>>,
    /// When each looks what there is to do next; `None`: it waits for an answer, or there is nothing.
    due: Vec<Option<u64>>,
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
    pub fn new(knobs: &Knobs, steps: &[Step]) -> Self {
        let weird = weird();
        let plain = (0..knobs.ids.saturating_sub(weird.len() as u64)).map(|n| format!("point-{n}"));
        let mut planned: Vec<VecDeque<(u64, ClientCall)>> =
            (0..knobs.clients).map(|_| VecDeque::new()).collect();
        for step in steps {
            if let Deed::Call(call) = &step.deed {
                let client = (call.client % knobs.clients) as usize;
                planned[client].push_back((step.at.0, call.clone()));
            }
        }
        for calls in &mut planned {
            calls.make_contiguous().sort_by_key(|(at_us, _)| *at_us);
        }
        let ids = weird.iter().cloned().chain(plain).take(knobs.ids as usize);
        Self {
            ids: ids.map(PointId::from).collect(),
            next_op: 0,
            next_stamp: 0,
            waiting: BTreeMap::new(),
            scripts: (0..knobs.clients).map(|_| VecDeque::new()).collect(),
            planned,
            due: vec![None; knobs.clients as usize],
        }
    }

    /// Gives the first client something to do before all else.
    pub fn script(&mut self, requests: impl IntoIterator<Item = ClientRequest>) {
        self.scripts[0].extend(requests.into_iter().map(|request| (0, request)));
    }

    pub fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    /// A name for the next write.
    pub fn stamp(&mut self) -> Stamp {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// All ids that clients name.
    pub fn ids(&self) -> &[PointId] {
        &self.ids
    }

    /// Calls that haven't ended.
    pub fn open(&self) -> Vec<OpId> {
        self.waiting.values().flat_map(|waiting| waiting.ops.iter().copied()).collect()
    }

    /// Someone waits for an answer, or will do something.
    pub fn are_busy(&self) -> bool {
        !self.waiting.is_empty() || self.due.iter().any(Option::is_some)
    }

    pub fn all_idle(&self) -> bool {
        !self.are_busy() && self.scripts.iter().all(VecDeque::is_empty)
    }
}

impl World {
    /// Fills the collection, if the plan wants that.
    pub fn preload(&mut self) {
        if !self.drawn.preload {
            return;
        }
        let ids = self.clients.ids.clone();
        let clients = self.clients.scripts.len();
        for (at, chunk) in ids.chunks(8).enumerate() {
            let points = chunk.iter().map(|id| (id.clone(), self.clients.stamp())).collect();
            let (collection, work) = (Arc::from(LASTING), Work::Upsert(points));
            let request = ClientRequest { collection, work, timeout_ms: PRELOAD_MS };
            self.clients.scripts[at % clients].push_back((0, request));
        }
        self.start_clients();
    }

    /// Lets the clients begin.
    pub fn start_clients(&mut self) {
        for client in 0..self.drawn.clients {
            self.think_at(client, self.now_us + 1);
        }
    }

    fn think_at(&mut self, client: u32, at_us: u64) {
        self.clients.due[client as usize] = Some(at_us);
        self.queue.plan(at_us, Happening::Think { client });
    }

    /// A client does its next call, or waits for its time.
    pub fn think(&mut self, client: u32) {
        let due = &mut self.clients.due[client as usize];
        if *due != Some(self.now_us) {
            return;
        }
        *due = None;
        let scripted = self.clients.scripts[client as usize].pop_front();
        let (router, request) = match scripted {
            Some(scripted) => scripted,
            None if self.stage == Stage::Setup => return,
            None => {
                let planned = &mut self.clients.planned[client as usize];
                let Some((at_us, _)) = planned.front() else { return };
                let due_us = self.safety_from_us + at_us;
                if due_us > self.now_us {
                    self.think_at(client, due_us);
                    return;
                }
                let Some((_, call)) = planned.pop_front() else { return };
                (call.router % self.drawn.routers, self.request_of(&call))
            }
        };
        self.invoke(client, router, Arc::new(request), 0);
    }

    fn request_of(&mut self, call: &ClientCall) -> ClientRequest {
        let collection = Arc::from(if call.temporary { TEMPORARY } else { LASTING });
        let id = |n: &u64| self.clients.ids[(*n % self.clients.ids.len() as u64) as usize].clone();
        let ids = |numbers: &[u64]| numbers.iter().map(id).collect::<BTreeSet<PointId>>();
        let work = match &call.work {
            Job::Upsert(numbers) => {
                let points = ids(numbers).into_iter().map(|id| (id, self.clients.stamp()));
                Work::Upsert(points.collect())
            }
            Job::Delete(numbers) => Work::Delete(ids(numbers).into_iter().collect()),
            Job::Get(number) => Work::Get(id(number)),
            Job::Gather => Work::Gather,
        };
        ClientRequest { collection, work, timeout_ms: call.timeout_ms }
    }

    fn invoke(&mut self, client: u32, router: u32, request: Arc<ClientRequest>, tries: u32) {
        let items = match &request.work {
            Work::Upsert(points) | Work::Insert(points) => points.len(),
            Work::Delete(ids) | Work::Discard(ids) => ids.len(),
            Work::Get(_) | Work::Gather => 1,
        };
        let mut ops = Vec::with_capacity(items);
        for item in 0..items {
            let collection = Arc::clone(&request.collection);
            let call = match &request.work {
                Work::Upsert(points) | Work::Insert(points) => {
                    Call::Upsert { collection, points: vec![points[item].clone()] }
                }
                Work::Delete(ids) | Work::Discard(ids) => {
                    Call::Delete { collection, ids: vec![ids[item].clone()] }
                }
                Work::Get(id) => Call::Get { collection, id: id.clone() },
                Work::Gather => Call::Gather { collection },
            };
            let op = self.clients.op();
            self.stats.client_ops += 1;
            self.fact(Fact::Invoked { op, call: Arc::new(call) });
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
                _ => {
                    let planned = matches!(self.stage, Stage::Safety | Stage::Liveness);
                    self.stats.planned_done += u64::from(planned);
                    self.stats.client_done += 1;
                }
            }
            let found = match &answer {
                Answer::Point(stamp) => stamp.unwrap_or(0),
                Answer::Points(points) => {
                    points.iter().fold(7, |sum, (_, stamp)| u64::wrapping_mul(sum, 31) ^ stamp)
                }
                _ => 1,
            };
            self.trace.fold(&[op.0, found]);
            let done = !matches!(answer, Answer::Refused | Answer::Unknown);
            self.fact(Fact::Returned { op: *op, answer });
            if !done {
                self.record(|recording, _| recording.explain(*op, &why(&reply)));
            }
        }
        if failed && self.stage == Stage::Setup {
            let text = format!("a write before any fault failed: {:?}: {reply:?}", waiting.request);
            self.broken("the setup", &text);
            return;
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
        self.think_at(client, self.now_us + 1_000);
    }

    /// Every point is read through every router, and all of them at once.
    pub fn script_audit(&mut self) {
        self.clients.planned.iter_mut().for_each(VecDeque::clear);
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
        let busy: Vec<u32> = self.clients.waiting.values().map(|waiting| waiting.client).collect();
        for client in (0..self.drawn.clients).filter(|client| !busy.contains(client)) {
            self.think_at(client, self.now_us + 1);
        }
    }
}

/// Why a call wasn't done, in a word.
fn why(reply: &Reply) -> String {
    match reply {
        Reply::Client(ClientReply::Parts { reason: Reason::Refused { refusal, .. }, .. }) => {
            named(refusal)
        }
        Reply::Client(ClientReply::Parts { reason, .. }) => named(reason),
        other => named(other),
    }
}

/// What a client may conclude for one item of its request.
pub fn answer_of(work: &Work, item: u32, reply: &Reply) -> Answer {
    match reply {
        Reply::Client(ClientReply::Done(found)) => match work {
            Work::Upsert(_) | Work::Delete(_) | Work::Insert(_) | Work::Discard(_) => Answer::Done,
            Work::Get(_) => Answer::Point(found.points.first().map(|(_, stamp)| *stamp)),
            Work::Gather => Answer::Points(found.points.clone()),
        },
        Reply::Client(ClientReply::Parts { applied, not_applied, .. }) => {
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

#[cfg(test)]
mod tests {
    use crate::knobs::Knobs;
    use crate::plan::Plan;
    use crate::swarm::run_plan;
    use crate::trace::Trace;

    #[test]
    fn every_id_is_written_before_anything_else_happens() {
        for seed in 0..20 {
            let knobs = Knobs { safety_us: 100_000, clock_skew: seed % 2 == 0, ..Knobs::calm() };
            let audit = u64::from(knobs.routers) * (knobs.ids + 1);
            let (ids, plan) = (knobs.ids, Plan { seed, knobs, steps: Vec::new() });
            let outcome = run_plan("preload", plan, Trace::new(false), None);
            assert_eq!(outcome.letter(), None);
            assert_eq!(outcome.stats.client_refused, 0, "seed {seed}");
            assert_eq!(outcome.stats.client_done, ids + audit, "seed {seed}");
        }
    }
}
