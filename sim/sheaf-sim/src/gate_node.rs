//! A gate's shell: its ledger on disk, the questions it has taken in, its frames and fetches.
//!
//! The ledger's records are written one after the other; a crash loses what is not on the disk. See `gate_engine` for the engine.

use std::collections::VecDeque;
use std::sync::Arc;

use sheaf_checkers::{Fact, Held, NodeId, PointAt};
use sheaf_gate::{
    Answer, Change, Effects, Event, FrameAnswer, Gate, GateRecord, Limits, Operation, Persist,
    Request, Scope, Token,
};
use sheaf_protocol::{Load, Stage};
use sheaf_types::{CollectionId, MapVersion, PointId, ShardId, StoreId, mark};

use crate::engine::Engine;
use crate::gate_engine::EngineOp;
use crate::machine::Proc;
use crate::record_disk::RecordDisk;
use crate::row::Row;
use crate::turns::Turns;
use crate::wire::{CallId, DataReply, DataRequest, Found, Message, Purpose, Reply, Work};
use crate::world::{Happening, World};

/// Milliseconds that a frame's answer may take.
const FRAME_MS: u64 = 1_500;
/// Milliseconds that a map fetched for a held request may take.
const FETCH_MS: u64 = 600;

/// A question that the core hasn't answered for good.
#[derive(Clone, Debug)]
pub enum Question {
    /// A directive, a frame, a wish for a report.
    Control(CallId),
    Data(Box<DataQuestion>),
}

/// A client's request at a gate.
#[derive(Clone, Debug)]
pub struct DataQuestion {
    pub call: CallId,
    pub request: Arc<DataRequest>,
    /// Set when the core said `Go`.
    pub version: MapVersion,
    pub shard: Option<ShardId>,
    pub collection: CollectionId,
    /// What the engine found; `None` when it surely did nothing.
    pub found: Option<Found>,
}

/// One gate process with its disk.
pub struct GateNode {
    pub url: String,
    pub record: Arc<GateRecord>,
    pub engine: Engine,
    pub core: Option<Gate>,
    /// The engine has no room until then.
    pub full_until_us: u64,
    pub questions: Row<Question>,
    next_token: u64,
    pub ops: Row<EngineOp>,
    pub next_op: u64,
    ledger: VecDeque<Persist>,
    turns: Turns,
    /// The ledger's file, if the next start has to read it: the power went in the middle of a write.
    disk: Option<RecordDisk>,
}

impl GateNode {
    pub fn new(number: u32) -> Self {
        Self {
            url: url_of(number),
            record: Arc::new(GateRecord::new(StoreId::from(format!("disk-{number}")))),
            engine: Engine::default(),
            core: None,
            full_until_us: 0,
            questions: Row::default(),
            next_token: 0,
            ops: Row::default(),
            next_op: 0,
            ledger: VecDeque::new(),
            turns: Turns::default(),
            disk: None,
        }
    }
}

/// The address of a gate.
pub fn url_of(number: u32) -> String {
    format!("http://gate-{number}:7000")
}

/// A ledger in the checkers' words.
pub fn held(record: &GateRecord) -> Held {
    Held {
        incarnation: record.incarnation,
        shard: record.shard,
        term: record.term,
        revision: record.revision,
        map: record.map.clone(),
        order: record.order.as_ref().map(|order| order.order.clone()),
        clean: record.clean,
        unproven: record.unproven,
    }
}

fn points_at(collection: CollectionId, work: &Work, found: &Found) -> Vec<PointAt> {
    let at = |id: &PointId| PointAt { collection, id: id.clone() };
    match work {
        Work::Upsert(points) | Work::Insert(points) => {
            points.iter().map(|(id, _)| at(id)).collect()
        }
        Work::Delete(ids) | Work::Discard(ids) => ids.iter().map(at).collect(),
        Work::Get(id) => vec![at(id)],
        Work::Gather => found.points.iter().map(|(id, _)| at(id)).collect(),
    }
}

impl World {
    pub fn boot_gate(&mut self, gate: u32) {
        let proc = Proc::Gate(gate);
        if !self.ledger_is_read(gate) {
            return;
        }
        if let Some(machine) = self.machines.get_mut(&proc) {
            machine.up = true;
        }
        self.settle_all_late(gate);
        let now = self.clock(proc);
        let limits = Limits { buggify: self.buggify_of(proc), ..self.drawn.limits };
        let node = &mut self.gates[gate as usize];
        let record = GateRecord::clone(&node.record).restarted();
        node.record = Arc::new(record.clone());
        let fact = Fact::GateStarted { node: NodeId(gate), held: held(&record) };
        node.core = Some(Gate::new(now, record, node.engine.collections(), limits));
        self.fact(fact);
        let load = self.load_of(gate);
        self.gate_event(gate, Event::Sampled { load });
    }

    /// The gate's memory is gone; its disk stays as it is, or as it is about to be.
    pub fn crash_gate(&mut self, gate: u32) {
        self.crash_engine(gate);
        let node = &mut self.gates[gate as usize];
        let stage = node.record.order.as_ref().map(|order| order.order.stage);
        mark!(stage == Some(Stage::Prepare), "a gate dies in Prepare");
        mark!(stage == Some(Stage::Copy), "a gate dies in Copy");
        mark!(stage == Some(Stage::Fence), "a gate dies fenced");
        mark!(stage.is_none() && !node.record.clean, "a gate dies while it has to sweep");
        node.core = None;
        node.questions = Row::default();
        node.turns = Turns::default();
        let ledger = std::mem::take(&mut node.ledger);
        let torn = self.knobs.record_torn;
        if let Some(persist) = ledger.front()
            && match self.disk(gate).chance(torn) {
                true => self.ledger_at_power_cut(gate, &persist.record),
                false => self.disk(gate).chance(0.4),
            }
        {
            mark!("what a gate wrote when it died is durable");
            self.persisted(gate, &persist.record.clone());
        }
    }

    /// The power goes while the ledger is written. Returns whether the new record is in its place.
    fn ledger_at_power_cut(&mut self, gate: u32, record: &GateRecord) -> bool {
        self.stats.faults += 1;
        let number = self.disk(gate).number();
        let before = Arc::clone(&self.gates[gate as usize].record);
        let (disk, changed) = self.record_at_power_cut(&*before, record, number);
        self.gates[gate as usize].disk = disk;
        changed
    }

    /// Whether the ledger's file could be read; if not, the gate starts again once its operator has put it back.
    fn ledger_is_read(&mut self, gate: u32) -> bool {
        let flipped = self.knobs.record_flipped;
        let flips = self.disk(gate).chance(flipped);
        let number = if flips { self.disk(gate).number() } else { 0 };
        let node = &mut self.gates[gate as usize];
        let (disk, record) = (node.disk.take(), Arc::clone(&node.record));
        let read = self.record_is_read(Proc::Gate(gate), disk, &*record, flips.then_some(number));
        mark!(!read, "a gate refuses to start on a record with a flipped bit");
        read
    }

    fn load_of(&self, gate: u32) -> Load {
        let engine = &self.gates[gate as usize].engine;
        let points = engine.points();
        Load {
            points,
            bytes: points * 32,
            disk_bytes: points * 64,
            unindexed_points: 0,
            request_p99_ms: 1,
        }
    }

    pub fn gate_event(&mut self, gate: u32, event: Event) {
        let now = self.clock(Proc::Gate(gate));
        let Some(core) = &mut self.gates[gate as usize].core else { return };
        let effects = core.handle(now, event);
        self.stats.core_events += 1;
        self.gate_effects(gate, effects);
    }

    fn gate_effects(&mut self, gate: u32, effects: Effects) {
        let proc = Proc::Gate(gate);
        let Some(life) = self.life(proc) else { return };
        let Effects { persist, engine, send, answer, fetch_map, wake } = effects;
        if let Some(persist) = persist {
            let node = &mut self.gates[gate as usize];
            node.ledger.push_back(persist);
            if node.ledger.len() == 1 {
                self.begin_fsync(gate, life);
            }
        }
        for (job, call) in engine {
            if self.crashed_between(proc, life) {
                return;
            }
            self.begin_core_call(gate, job, call);
        }
        for outgoing in send {
            if self.crashed_between(proc, life) {
                return;
            }
            let frame = outgoing.frame;
            let (recipient, stream, seq) = (frame.recipient, frame.stream, frame.seq);
            let purpose = Purpose::Frame { recipient, stream, seq };
            match self.gate_at(&outgoing.url) {
                Some(to) => {
                    let message = Message::Frame(Arc::new(frame));
                    self.call(proc, to, message, purpose, FRAME_MS * 1_000);
                }
                None => self.call_nobody(proc, purpose),
            }
        }
        for (token, answer) in answer {
            if self.crashed_between(proc, life) {
                return;
            }
            self.gate_answer(gate, token, answer);
        }
        if let Some(version) = fetch_map {
            let coordinator = self.some_coordinator(proc);
            let after = Some(MapVersion(version.0.saturating_sub(1)));
            let message = Message::MapWanted { after, wait_ms: FETCH_MS / 2 };
            self.call(proc, coordinator, message, Purpose::GateMap, FETCH_MS * 1_000);
        }
        self.plan_wake(proc, wake.map(|(at, _)| at));
    }

    fn gate_answer(&mut self, gate: u32, token: Token, answer: Answer) {
        let node = NodeId(gate);
        let proc = Proc::Gate(gate);
        if let Answer::Go { collection, version, scope } = &answer
            && self.go(gate, token, *collection, *version, scope)
        {
            return;
        }
        let question = self.gates[gate as usize].questions.remove(token.0);
        self.turn_ends(gate, token);
        match (question, answer) {
            (Some(Question::Control(call)), Answer::Directed(Ok(report))) => {
                self.fact(Fact::Reported { node, report: report.clone() });
                self.reply(proc, call, Reply::Directed(Ok(report)));
            }
            (Some(Question::Control(call)), Answer::Directed(Err(refusal))) => {
                self.reply(proc, call, Reply::Directed(Err(refusal)));
            }
            (Some(Question::Control(call)), Answer::Report(report)) => {
                self.fact(Fact::Reported { node, report: report.clone() });
                self.reply(proc, call, Reply::Report(report));
            }
            (Some(Question::Control(call)), Answer::Frame(verdict)) => {
                self.reply(proc, call, Reply::Frame(verdict));
            }
            (Some(Question::Data(data)), Answer::Deliver) => self.deliver_data(gate, *data),
            (Some(Question::Data(data)), Answer::Refused(refusal)) => {
                self.reply(proc, data.call, Reply::Data(DataReply::Refused(refusal)));
            }
            (Some(Question::Data(data)), Answer::OutcomeUnknown) => {
                self.reply(proc, data.call, Reply::Data(DataReply::Unknown));
            }
            // The core answers a question that it wasn't asked, or in another way.
            (question, answer) => {
                let known = question.is_some();
                self.broken(
                    "I17 answers-fit",
                    &format!("gate {gate}: {answer:?} for {token:?} (known: {known})"),
                );
            }
        }
    }

    /// Has the engine do what was asked. `false`: it wasn't.
    fn go(
        &mut self,
        gate: u32,
        token: Token,
        collection: CollectionId,
        version: MapVersion,
        scope: &Scope,
    ) -> bool {
        let node = &mut self.gates[gate as usize];
        let shard = node.record.shard;
        let Some(Question::Data(data)) = node.questions.get_mut(token.0) else { return false };
        (data.version, data.collection, data.shard) = (version, collection, shard);
        let request = Arc::clone(&data.request);
        let gather = matches!(request.work, Work::Gather);
        let points = points_at(collection, &request.work, &Found::default());
        self.fact(Fact::Admitted { node: NodeId(gate), shard, version, gather, points });
        self.begin_request(gate, token, request, collection, scope.clone());
        true
    }

    fn deliver_data(&mut self, gate: u32, data: DataQuestion) {
        let node = NodeId(gate);
        let DataQuestion { call, request, version, shard, collection, found } = data;
        let reply = match found {
            None => {
                let reason = "the engine failed".to_owned();
                DataReply::Refused(sheaf_protocol::Refusal::EngineUnavailable { reason })
            }
            Some(found) => {
                let points = points_at(collection, &request.work, &found);
                let fact = match &request.work {
                    Work::Upsert(_) | Work::Delete(_) | Work::Insert(_) => {
                        Some(Fact::Acknowledged { node, shard, version, points })
                    }
                    Work::Get(_) | Work::Gather => {
                        Some(Fact::Served { node, shard, version, points })
                    }
                    // Of what another shard owns.
                    Work::Discard(_) => None,
                };
                if let Some(fact) = fact {
                    self.fact(fact);
                }
                DataReply::Done { version, found }
            }
        };
        self.reply(Proc::Gate(gate), call, Reply::Data(reply));
    }

    pub fn gate_request(&mut self, gate: u32, call: CallId, message: Message) {
        let now = self.clock(Proc::Gate(gate));
        let node = &mut self.gates[gate as usize];
        node.next_token += 1;
        let token = Token(node.next_token);
        let event = match message {
            Message::Directive { directive, wait_ms, seen } => {
                node.questions.add(token.0, Question::Control(call));
                let directive = Box::new((*directive).clone());
                self.fact(Fact::Directed { node: NodeId(gate), directive: directive.clone() });
                Event::Directed { token, directive, seen, deadline: now.plus_ms(wait_ms) }
            }
            Message::ReportWanted => {
                node.questions.add(token.0, Question::Control(call));
                let load = self.load_of(gate);
                self.gate_event(gate, Event::Sampled { load });
                Event::ReportWanted { token }
            }
            Message::Frame(frame) => {
                node.questions.add(token.0, Question::Control(call));
                Event::FrameArrived { token, frame: Box::new(Arc::unwrap_or_clone(frame)) }
            }
            Message::Data(request) => {
                let asked = Request {
                    version: request.version,
                    shard: request.shard,
                    collection: (*request.collection).to_owned(),
                    operation: operation_of(&request.work),
                    deadline: now.plus_ms(request.timeout_ms),
                };
                let data = DataQuestion {
                    call,
                    request,
                    version: MapVersion(0),
                    shard: None,
                    collection: CollectionId(0),
                    found: None,
                };
                node.questions.add(token.0, Question::Data(Box::new(data)));
                let Some(request) = node.turns.begin(token, asked) else { return };
                Event::Requested { token, request }
            }
            Message::MapWanted { .. } | Message::Client(_) | Message::Ask(_) => return,
        };
        self.gate_event(gate, event);
    }

    /// Who asked is gone: a request that is still held needn't be served.
    pub fn gate_hung_up(&mut self, gate: u32, life: u32, call: CallId) {
        if self.life(Proc::Gate(gate)) != Some(life) {
            return;
        }
        let questions = &self.gates[gate as usize].questions;
        let token = questions.iter().find_map(|(token, question)| match question {
            Question::Data(data) if data.call == call => Some(Token(token)),
            _ => None,
        });
        let Some(token) = token else { return };
        if !self.gates[gate as usize].turns.waits(token) {
            self.gate_event(gate, Event::RequestAbandoned { token });
        }
        let questions = &mut self.gates[gate as usize].questions;
        let was_let_through = |question: &Question| matches!(question, Question::Data(data) if data.version > MapVersion(0));
        if !questions.get(token.0).is_some_and(was_let_through) {
            questions.remove(token.0);
            self.turn_ends(gate, token);
        }
    }

    /// A request is over: a write that waited for it may begin.
    fn turn_ends(&mut self, gate: u32, token: Token) {
        if self.gates[gate as usize].turns.end(token)
            && let Some(life) = self.life(Proc::Gate(gate))
        {
            self.queue.plan(self.now_us, Happening::Turn { gate, life });
        }
    }

    /// Has the writes begin that may now.
    pub fn take_turns(&mut self, gate: u32, life: u32) {
        let now = self.clock(Proc::Gate(gate));
        while self.life(Proc::Gate(gate)) == Some(life) {
            let next = self.gates[gate as usize].turns.next(now);
            let Some((token, request)) = next else { return };
            self.gate_event(gate, Event::Requested { token, request });
        }
    }

    pub fn gate_answered(&mut self, gate: u32, purpose: Purpose, reply: Reply) {
        let event = match (purpose, reply) {
            (Purpose::Frame { recipient, stream, seq }, reply) => {
                let answer = match reply {
                    Reply::Frame(Ok(verdict)) => FrameAnswer::Carried(verdict),
                    Reply::Frame(Err(refusal)) => FrameAnswer::Refused(refusal),
                    _ => FrameAnswer::Lost,
                };
                Event::FrameAnswered { recipient, stream, seq, answer }
            }
            (Purpose::GateMap, Reply::Map(map)) => {
                self.fact(Fact::MapFetched { node: NodeId(gate), map: Arc::clone(&map) });
                Event::MapLearned { map }
            }
            (Purpose::GateMap, _) => Event::MapUnavailable,
            _ => return,
        };
        self.gate_event(gate, event);
    }

    fn begin_fsync(&mut self, gate: u32, life: u32) {
        let slowness = self.machines.get(&Proc::Gate(gate)).map_or(1, |machine| machine.slowness);
        let mean = self.knobs.fsync_mean_us;
        let takes = 100 + self.disk(gate).around(mean) * slowness;
        self.queue.plan(self.now_us + takes, Happening::Fsync { gate, life });
    }

    pub fn fsynced(&mut self, gate: u32, life: u32) {
        if self.life(Proc::Gate(gate)) != Some(life) {
            return;
        }
        let Some(persist) = self.gates[gate as usize].ledger.pop_front() else { return };
        self.persisted(gate, &persist.record);
        if !self.gates[gate as usize].ledger.is_empty() {
            self.begin_fsync(gate, life);
        }
        self.gate_event(gate, Event::Persisted { seq: persist.seq });
    }

    fn persisted(&mut self, gate: u32, record: &Arc<GateRecord>) {
        self.gates[gate as usize].record = Arc::clone(record);
        self.fact(Fact::Persisted { node: NodeId(gate), held: held(record) });
        let order = record.order.as_ref().map(|order| order.order.attempt.0);
        let version = record.map.as_ref().map_or(0, |map| map.version().0);
        self.trace.fold(&[u64::from(gate), record.revision.0, version, order.unwrap_or(0)]);
    }
}

fn operation_of(work: &Work) -> Operation {
    match work {
        Work::Upsert(points) => Operation::Write {
            ids: points.iter().map(|(id, _)| id.clone()).collect(),
            change: Change::Upsert,
        },
        Work::Insert(points) => Operation::Write {
            ids: points.iter().map(|(id, _)| id.clone()).collect(),
            change: Change::Insert,
        },
        Work::Delete(ids) => Operation::Write { ids: ids.clone(), change: Change::Delete },
        Work::Discard(ids) => Operation::Write { ids: ids.clone(), change: Change::Discard },
        Work::Get(id) => Operation::Read { ids: vec![id.clone()] },
        Work::Gather => Operation::Gather,
    }
}
