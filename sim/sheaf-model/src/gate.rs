//! A gate's shell: its ledger on disk, the questions it has taken in, its frames and fetches. See `engine` for its engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_checkers::{Fact, NodeId, PointAt};
use sheaf_gate::{
    Answer, Change, Effects, Event, FrameAnswer, Gate, GateRecord, Limits, Operation, Persist,
    Request, Token,
};
use sheaf_map::Map;
use sheaf_protocol::{Content, Delta, Load, Refusal, Stage};
use sheaf_sim::engine::Engine;
use sheaf_sim::gate_node::held;
use sheaf_types::{CollectionId, MapVersion, PointId, ShardId, StoreId, Time};

use crate::engine::{EngineOp, OpName};
use crate::marks::Mark;
use crate::wire::{Call, DataRequest, Found, Message, Proc, Reply, What, Work};
use crate::world::World;

/// The collection.
pub const COLLECTION: &str = "things";

/// A question that the core hasn't answered for good.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Question {
    pub call: Call,
    /// A client's request, unless it is a directive or a frame.
    pub data: Option<DataQuestion>,
}

/// A client's request at a gate.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct DataQuestion {
    pub request: Arc<DataRequest>,
    /// Whether the core said `Go`.
    pub admitted: bool,
    /// At which version it was admitted, as which shard.
    pub version: MapVersion,
    pub shard: Option<ShardId>,
    /// What the engine found; `None` when it surely did nothing.
    pub found: Option<Found>,
}

/// A gate's process with its disk.
#[derive(Clone, Debug, Hash)]
pub struct GateNode {
    pub core: Gate,
    /// On the disk.
    pub record: Arc<GateRecord>,
    pub engine: Engine,
    pub questions: BTreeMap<Token, Question>,
    pub ops: BTreeMap<OpName, EngineOp>,
    /// On its way to the disk.
    pub ledger: Option<Persist>,
    /// A map of this version is asked for.
    pub fetching: Option<MapVersion>,
    pub wake: Option<Time>,
    pub life: u8,
    /// A write of which points would be admitted now, one bit each.
    pub writable: u8,
}

/// The address of a gate.
pub fn url_of(gate: u8) -> String {
    format!("http://gate-{gate}:7000")
}

impl GateNode {
    /// A new node's first start.
    pub fn new(gate: u8, now: Time) -> Self {
        let record = GateRecord::new(StoreId::from(format!("disk-{gate}"))).restarted();
        Self {
            core: Gate::new(now, record.clone(), Vec::new(), Limits::default()),
            record: Arc::new(record),
            engine: Engine::default(),
            questions: BTreeMap::new(),
            ops: BTreeMap::new(),
            ledger: None,
            fetching: None,
            wake: None,
            life: 0,
            writable: 0,
        }
    }

    pub fn is_quiet(&self, published: Option<MapVersion>) -> bool {
        self.ops.is_empty()
            && self.ledger.is_none()
            && self.fetching.is_none_or(|wanted| published < Some(wanted))
    }

    pub fn has_question(&self, call: &Call) -> bool {
        self.questions.values().any(|question| question.call == *call)
    }

    /// Whether nothing of a transition is left here.
    pub fn is_settled_in(&self, current: &Map) -> bool {
        let version = self.record.map.as_ref().map(|map| map.version());
        match self.record.shard {
            Some(shard) => {
                current.shard(shard).is_some()
                    && version == Some(current.version())
                    && self.record.order.is_none()
                    && self.record.clean
            }
            None => self.engine.points() == 0,
        }
    }

    /// Tries on a copy which points' writes would be admitted.
    pub fn probe(&mut self, now: Time, ids: &BTreeMap<crate::scope::Id, PointId>) {
        let mut copy = self.core.clone();
        self.writable = 0;
        for (at, id) in ids.values().enumerate() {
            let request = Request {
                version: None,
                shard: None,
                collection: COLLECTION.to_owned(),
                operation: Operation::Write { ids: vec![id.clone()], change: Change::Upsert },
                deadline: now.plus_ms(1),
            };
            let token = Token(u64::MAX - at as u64);
            let effects = copy.handle(now, Event::Requested { token, request });
            let goes = effects
                .answer
                .iter()
                .any(|(to, answer)| *to == token && matches!(answer, Answer::Go { .. }));
            self.writable |= u8::from(goes) << at;
        }
    }
}

/// A token that follows from what is asked, not from when.
fn token_of(call: &Call) -> Token {
    match call.what {
        What::Data { operation, part } => Token(u64::from(operation) << 16 | part),
        What::Directive { poll, .. } => Token(1 << 62 | u64::from(call.life) << 32 | poll.0),
        What::Frame { transition, stream, seq, tries, to: _ } => {
            let Proc::Gate(from) = call.from else { return Token(0) };
            let stream = stream.incarnation.0 << 8 | stream.number;
            let number = stream << 20 | seq << 8 | u64::from(tries) << 4 | u64::from(from);
            Token(2 << 60 | transition.0 << 48 | number)
        }
    }
}

impl World<'_> {
    pub fn gate_event(&mut self, gate: u8, event: Event) {
        let now = self.state.now(Proc::Gate(gate));
        let effects = self.gate(gate).core.handle(now, event);
        let Effects { persist, engine, send, answer, fetch_map, wake } = effects;
        let node = self.gate(gate);
        if let Some(persist) = persist {
            assert!(node.ledger.is_none(), "I4 intent-before-effect: two records are on their way");
            node.ledger = Some(persist);
        }
        for (job, call) in engine {
            node.ops.insert(OpName::Core(job), EngineOp::core(call));
        }
        node.fetching = fetch_map.or(node.fetching);
        if let Some((at, _)) = wake {
            // An earlier wish stays in force until its moment.
            node.wake = Some(node.wake.map_or(at, |earlier| earlier.min(at)));
        }
        for outgoing in send {
            self.send_frame(gate, outgoing);
        }
        for (token, answer) in answer {
            self.gate_answer(gate, token, answer);
        }
    }

    fn send_frame(&mut self, gate: u8, outgoing: sheaf_gate::Outgoing) {
        let frame = outgoing.frame;
        let Some(to) = self.gate_at(&outgoing.url) else { return };
        if let Content::Drain { deltas } = &frame.content {
            for delta in deltas {
                self.marks.hit(match delta {
                    Delta::Put { .. } => Mark::Captured,
                    Delta::Deleted { .. } => Mark::CapturedDelete,
                });
            }
        }
        let what = What::Frame {
            to: frame.recipient,
            transition: frame.transition,
            stream: frame.stream,
            seq: frame.seq,
            tries: 0,
        };
        let life = self.state.gates[usize::from(gate)].get().life;
        let call = Call { from: Proc::Gate(gate), life, to, what };
        self.call(call, Message::Frame(Arc::new(frame)));
    }

    fn gate_answer(&mut self, gate: u8, token: Token, answer: Answer) {
        let node = NodeId(u32::from(gate));
        if let Answer::Go { collection, version, scope } = answer {
            self.admit(gate, token, collection, version, scope);
            return;
        }
        let Some(Question { call, data }) = self.gate(gate).questions.remove(&token) else {
            self.break_promise("I17 answers-fit", format!("{answer:?} answers nothing"));
            return;
        };
        match (data, answer) {
            (None, Answer::Directed(Ok(report)) | Answer::Report(report)) => {
                self.facts.push(Fact::Reported { node, report: report.clone() });
                self.reply(call, Reply::Directed(Ok(report)));
            }
            (None, Answer::Directed(Err(refusal))) => {
                self.reply(call, Reply::Directed(Err(refusal)));
            }
            (None, Answer::Frame(verdict)) => {
                if let Ok(sheaf_protocol::Verdict::Checked { equal: false, .. }) = verdict {
                    self.marks.hit(Mark::Repaired);
                }
                self.reply(call, Reply::Frame(verdict));
            }
            (Some(data), Answer::Deliver) => self.deliver_data(gate, call, data),
            (Some(_), Answer::Refused(refusal)) => {
                if matches!(refusal, Refusal::Moved { .. }) && self.is_fenced(gate) {
                    self.marks.hit(Mark::HeldWriteMoves);
                }
                self.reply(call, Reply::Refused(refusal));
            }
            (Some(_), Answer::OutcomeUnknown) => self.reply(call, Reply::Unknown),
            (data, answer) => {
                let text = format!("{answer:?} doesn't fit {data:?}");
                self.break_promise("I17 answers-fit", text);
            }
        }
    }

    /// Whether the gate's durable order is a fence.
    pub fn is_fenced(&self, gate: u8) -> bool {
        let record = &self.state.gates[usize::from(gate)].get().record;
        record.order.as_ref().is_some_and(|order| order.order.stage == Stage::Fence)
    }

    fn admit(
        &mut self,
        gate: u8,
        token: Token,
        collection: CollectionId,
        version: MapVersion,
        scope: sheaf_gate::Scope,
    ) {
        let shard = self.state.gates[usize::from(gate)].get().record.shard;
        let moved =
            self.state.maps.get().len() > 1 && version == self.state.store.get().map.version();
        let Some(Question { data: Some(data), .. }) = self.gate(gate).questions.get_mut(&token)
        else {
            self.break_promise("I17 answers-fit", "something unknown is admitted".to_owned());
            return;
        };
        (data.admitted, data.version, data.shard) = (true, version, shard);
        let request = Arc::clone(&data.request);
        if moved {
            self.marks.hit(Mark::ServedByRecipient);
        }
        let gather = matches!(request.work, Work::Gather);
        let points = points_at(collection, &request.work, &Found::new());
        let node = NodeId(u32::from(gate));
        self.facts.push(Fact::Admitted { node, shard, version, gather, points });
        let op = EngineOp::request(request, collection, scope);
        self.gate(gate).ops.insert(OpName::Request(token), op);
    }

    fn deliver_data(&mut self, gate: u8, call: Call, data: DataQuestion) {
        let node = NodeId(u32::from(gate));
        let DataQuestion { request, version, shard, found, .. } = data;
        let Some(found) = found else {
            let reason = "the engine failed".to_owned();
            self.reply(call, Reply::Refused(Refusal::EngineUnavailable { reason }));
            return;
        };
        let points = points_at(self.cluster.collection, &request.work, &found);
        self.facts.push(match &request.work {
            Work::Put(_) | Work::Delete(_) => Fact::Acknowledged { node, shard, version, points },
            Work::Get(_) | Work::Gather => Fact::Served { node, shard, version, points },
        });
        self.reply(call, Reply::Done { version, found });
    }

    /// A token for a request; `None` when two copies of it are being answered already.
    fn free_token(&mut self, call: &Call) -> Option<Token> {
        let questions = &self.state.gates[usize::from(call.to)].get().questions;
        let first = token_of(call);
        let copy = Token(first.0 | 1 << 63);
        let token = [first, copy].into_iter().find(|token| !questions.contains_key(token))?;
        if token == copy {
            self.marks.hit(match call.what {
                What::Directive { .. } => Mark::RepeatedDirective,
                What::Frame { .. } | What::Data { .. } => Mark::RepeatedFrame,
            });
        }
        Some(token)
    }

    /// A request reaches a gate.
    pub fn gate_request(&mut self, call: Call, message: Message) {
        let gate = call.to;
        let now = self.state.now(Proc::Gate(gate));
        let Some(token) = self.free_token(&call) else { return };
        if !self.state.open.contains(&call) {
            self.marks.hit(Mark::LateRequest);
        }
        let mut data = None;
        let event = match message {
            Message::Directive { directive, wait_ms, seen } => {
                let directive = Box::new((*directive).clone());
                let node = NodeId(u32::from(gate));
                self.facts.push(Fact::Directed { node, directive: directive.clone() });
                Event::Directed { token, directive, seen, deadline: now.plus_ms(wait_ms) }
            }
            Message::Frame(frame) => {
                let running = self.state.store.get().transition.as_ref();
                if running.is_none_or(|running| running.id != frame.transition || !is_open(running))
                {
                    self.marks.hit(Mark::LateFrame);
                }
                Event::FrameArrived { token, frame: Box::new((*frame).clone()) }
            }
            Message::Data(request) => {
                let asked = Request {
                    version: Some(request.version),
                    shard: Some(request.shard),
                    collection: COLLECTION.to_owned(),
                    operation: operation_of(&request.work),
                    deadline: now.plus_ms(request.timeout_ms),
                };
                let version = MapVersion(0);
                data = Some(DataQuestion {
                    request,
                    admitted: false,
                    version,
                    shard: None,
                    found: None,
                });
                Event::Requested { token, request: asked }
            }
            Message::Answer(_) => return,
        };
        let held = self.state.gates[usize::from(gate)].get().core.metrics().held_requests;
        self.gate(gate).questions.insert(token, Question { call, data });
        self.gate_event(gate, event);
        let after = self.state.gates[usize::from(gate)].get().core.metrics().held_requests;
        if after > held && self.is_fenced(gate) {
            self.marks.hit(Mark::HeldWrite);
        }
    }

    /// The answer to a gate's frame has arrived.
    pub fn gate_answered(&mut self, gate: u8, what: What, reply: Reply) {
        let What::Frame { to, stream, seq, .. } = what else { return };
        let answer = match reply {
            Reply::Frame(Ok(verdict)) => FrameAnswer::Carried(verdict),
            Reply::Frame(Err(refusal)) => FrameAnswer::Refused(refusal),
            _ => FrameAnswer::Lost,
        };
        self.gate_event(gate, Event::FrameAnswered { recipient: to, stream, seq, answer });
    }

    /// The map that a gate has asked for arrives.
    pub fn fetched(&mut self, gate: u8) {
        let Some(map) = self.state.coordinator.get().published.clone() else { return };
        self.gate(gate).fetching = None;
        self.marks.hit(Mark::FetchedMap);
        let node = NodeId(u32::from(gate));
        self.facts.push(Fact::MapFetched { node, map: Arc::clone(&map) });
        self.gate_event(gate, Event::MapLearned { map });
    }

    pub fn fetch_fails(&mut self, gate: u8) {
        self.gate(gate).fetching = None;
        self.gate_event(gate, Event::MapUnavailable);
    }

    /// The record on its way is durable.
    pub fn persisted(&mut self, gate: u8) {
        let Some(persist) = self.gate(gate).ledger.take() else { return };
        let held = self.state.gates[usize::from(gate)].get().core.metrics().held_requests;
        self.store_record(gate, &persist.record);
        self.gate_event(gate, Event::Persisted { seq: persist.seq });
        let after = self.state.gates[usize::from(gate)].get();
        if after.core.metrics().held_requests < held && after.record.order.is_some() {
            self.marks.hit(Mark::HeldWriteThaws);
        }
    }

    fn store_record(&mut self, gate: u8, record: &Arc<GateRecord>) {
        self.gate(gate).record = Arc::clone(record);
        let node = NodeId(u32::from(gate));
        self.facts.push(Fact::Persisted { node, held: held(record) });
    }

    /// The memory is gone. `stored`: the record on its way arrives; `applied`: so do the engine's writes.
    pub fn crash_gate(&mut self, gate: u8, stored: bool, applied: bool) {
        self.mark_crash(gate);
        self.crash_engine(gate, applied);
        if let Some(persist) = self.gate(gate).ledger.take() {
            if stored {
                self.store_record(gate, &persist.record);
            } else {
                self.marks.hit(Mark::CrashLosesRecord);
            }
        }
        self.hang_up(Proc::Gate(gate));
        let now = self.state.now(Proc::Gate(gate));
        let node = self.gate(gate);
        let questions = std::mem::take(&mut node.questions);
        let record = GateRecord::clone(&node.record).restarted();
        node.record = Arc::new(record.clone());
        node.fetching = None;
        node.wake = None;
        node.life += 1;
        node.core = Gate::new(now, record, node.engine.collections(), Limits::default());
        let points = node.engine.points();
        let held = held(&node.record);
        self.facts.push(Fact::GateStarted { node: NodeId(u32::from(gate)), held });
        for question in questions.into_values() {
            self.reply(question.call, Reply::Lost);
        }
        let load = Load { points, ..Load::default() };
        self.gate_event(gate, Event::Sampled { load });
    }

    fn mark_crash(&self, gate: u8) {
        let core = &self.state.gates[usize::from(gate)].get().core;
        let report = core.report();
        if self.is_fenced(gate) && !report.outgoing.is_empty() {
            self.marks.hit(Mark::DonorCrashesFenced);
        }
        if report.incoming.iter().any(|incoming| incoming.sealed.is_some()) {
            self.marks.hit(Mark::RecipientCrashesSealed);
        }
    }
}

fn is_open(running: &sheaf_coordinator::Transition) -> bool {
    use sheaf_coordinator::Phase;
    matches!(running.phase, Phase::Prepare | Phase::Copy | Phase::Fence)
}

pub fn points_at(collection: CollectionId, work: &Work, found: &Found) -> Vec<PointAt> {
    let at = |id: &PointId| PointAt { collection, id: id.clone() };
    match work {
        Work::Put(points) => points.iter().map(|(id, _)| at(id)).collect(),
        Work::Delete(ids) => ids.iter().map(at).collect(),
        Work::Get(id) => vec![at(id)],
        Work::Gather => found.iter().map(|(id, _)| at(id)).collect(),
    }
}

fn operation_of(work: &Work) -> Operation {
    match work {
        Work::Put(points) => Operation::Write {
            ids: points.iter().map(|(id, _)| id.clone()).collect(),
            change: Change::Upsert,
        },
        Work::Delete(ids) => Operation::Write { ids: ids.clone(), change: Change::Delete },
        Work::Get(id) => Operation::Read { ids: vec![id.clone()] },
        Work::Gather => Operation::Gather,
    }
}
