//! The way between a gate and its engine: latencies, failures, and what a crash does to calls under way.

use std::sync::Arc;

use sheaf_checkers::{By, Fact, NodeId, PointAt, Stamp};
use sheaf_gate::{EngineCall, EngineReply, Event, JobId, Outcome, Scope, Token, Write};
use sheaf_types::{CollectionId, PlacementKey, PointId, StoredPoint, mark};

use crate::dice::Dice;
use crate::engine::{Change, body_of, id_of};
use crate::gate_node::Question;
use crate::machine::Proc;
use crate::wire::{DataRequest, Found, Inserted, Work};
use crate::world::{Happening, World};

/// An engine call under way.
#[derive(Clone, Debug)]
pub struct EngineOp {
    kind: Kind,
    /// Set once the call took effect.
    answer: Option<Answered>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The call is there until it takes effect.
    Core { job: JobId, call: Option<EngineCall> },
    Request {
        token: Token,
        request: Arc<DataRequest>,
        collection: CollectionId,
        scope: Scope,
        /// What an insert found when it began; nothing else is written to its points until its end.
        inserted: Vec<(PointId, Inserted)>,
    },
}

impl Kind {
    /// What takes effect now; what is left says whom the answer is for.
    fn begun(&mut self) -> Self {
        match self {
            Self::Core { job, call } => Self::Core { job: *job, call: call.take() },
            Self::Request { .. } => self.clone(),
        }
    }

    /// Whether it needs room on the disk; what deletes does, too, until it is compacted.
    fn writes(&self) -> bool {
        match self {
            Self::Core { call, .. } => {
                matches!(call, Some(EngineCall::Apply { .. } | EngineCall::CreateCollection { .. }))
            }
            Self::Request { request, .. } => !matches!(request.work, Work::Get(_) | Work::Gather),
        }
    }
}

#[derive(Clone, Debug)]
enum Answered {
    Core(EngineReply),
    Request(Outcome, Found),
}

/// Microseconds for which a write of unknown outcome may stay unsettled.
const LATE_US_MAX: u64 = 3_000_000;

impl World {
    pub fn begin_core_call(&mut self, gate: u32, job: JobId, call: EngineCall) {
        self.log(|| format!("    engine of gate {gate}: {job:?} {}", brief(&call)));
        self.begin_op(gate, Kind::Core { job, call: Some(call) });
    }

    pub fn begin_request(
        &mut self,
        gate: u32,
        token: Token,
        request: Arc<DataRequest>,
        collection: CollectionId,
        scope: Scope,
    ) {
        let engine = &self.gates[gate as usize].engine;
        let inserted = match &request.work {
            Work::Insert(points) => points
                .iter()
                .map(|(id, stamp)| (id.clone(), compare(*stamp, engine.get(collection, id))))
                .collect(),
            _ => Vec::new(),
        };
        self.begin_op(gate, Kind::Request { token, request, collection, scope, inserted });
    }

    fn begin_op(&mut self, gate: u32, kind: Kind) {
        let Some(life) = self.life(Proc::Gate(gate)) else { return };
        let node = &mut self.gates[gate as usize];
        node.next_op += 1;
        let op = node.next_op;
        node.ops.add(op, EngineOp { kind, answer: None });
        self.plan_engine(gate, life, op, false);
    }

    /// What is left to chance in a gate's engine and on its disk.
    pub fn disk(&mut self, gate: u32) -> &mut Dice {
        self.dice.disks.of(Proc::Gate(gate).code())
    }

    fn plan_engine(&mut self, gate: u32, life: u32, op: u64, applied: bool) {
        let slowness = self.machines.get(&Proc::Gate(gate)).map_or(1, |machine| machine.slowness);
        let mean = self.knobs.engine_mean_us / 2;
        let takes = 20 + self.disk(gate).around(mean) * slowness;
        self.queue.plan(self.now_us + takes, Happening::Engine { gate, life, op, applied });
    }

    /// A call takes effect (`applied` is false), or its answer reaches the gate.
    pub fn engine_step(&mut self, gate: u32, life: u32, op: u64, applied: bool) {
        if self.life(Proc::Gate(gate)) != Some(life) {
            return;
        }
        if !applied {
            let Some(taken) = self.gates[gate as usize].ops.get_mut(op) else { return };
            let kind = taken.kind.begun();
            let answer = self.take_effect(gate, kind);
            let unclear = matches!(answer, Answered::Request(Outcome::Unknown, _));
            if let Some(op) = self.gates[gate as usize].ops.get_mut(op) {
                op.answer = Some(answer);
            }
            if unclear {
                let at_us = self.now_us + self.disk(gate).below(LATE_US_MAX);
                self.queue.plan(at_us, Happening::Engine { gate, life, op, applied: true });
            } else {
                self.plan_engine(gate, life, op, true);
            }
            return;
        }
        let Some(op) = self.gates[gate as usize].ops.remove(op) else { return };
        if let (Kind::Request { request, collection, .. }, Some(Answered::Request(outcome, _))) =
            (&op.kind, &op.answer)
            && *outcome == Outcome::Unknown
        {
            // The adapter's barrier: it answers once nothing can follow (ADR 0003).
            self.barrier(gate, *collection, &writes_of(*collection, request));
        }
        match (op.kind, op.answer) {
            (Kind::Core { job, .. }, Some(Answered::Core(reply))) => {
                self.gate_event(gate, Event::EngineAnswered { job, reply });
            }
            (Kind::Request { token, .. }, Some(Answered::Request(outcome, found))) => {
                let question = self.gates[gate as usize].questions.get_mut(token.0);
                if let Some(Question::Data(data)) = question {
                    data.found = (outcome == Outcome::Done).then_some(found);
                }
                self.gate_event(gate, Event::RequestDone { token, outcome });
            }
            _ => {}
        }
    }

    fn take_effect(&mut self, gate: u32, kind: Kind) -> Answered {
        let rates = (self.knobs.engine_unavailable, self.knobs.engine_unknown);
        let disk = self.disk(gate);
        let (mut unavailable, unknown) = (disk.chance(rates.0), disk.chance(rates.1));
        if kind.writes() && self.now_us < self.gates[gate as usize].full_until_us {
            mark!("an engine has no room for a write");
            unavailable = true;
        }
        self.stats.faults += u64::from(unavailable || unknown);
        match kind {
            Kind::Core { call: Some(call), .. } if !unavailable => {
                let reply = self.carry_out(gate, call, unknown);
                Answered::Core(reply)
            }
            Kind::Core { .. } => {
                Answered::Core(EngineReply::Failed { reason: "unavailable".to_owned() })
            }
            Kind::Request { request, collection, scope, inserted, .. } => {
                let missing = !self.gates[gate as usize].engine.has(collection);
                if unavailable || missing {
                    return Answered::Request(Outcome::Failed, Found::default());
                }
                let found = Found { inserted, ..Found::default() };
                self.serve(gate, &request, (collection, &scope), found, unknown)
            }
        }
    }

    fn carry_out(&mut self, gate: u32, mut call: EngineCall, unknown: bool) -> EngineReply {
        if let EngineCall::Apply { collection, writes } = &mut call {
            self.barrier(gate, *collection, writes);
            if unknown {
                // A part of it, or nothing, or all.
                writes.truncate(self.disk(gate).below(writes.len() as u64 + 1) as usize);
            }
        }
        if let EngineCall::CreateCollection { id, config } = &call {
            self.take_over(gate, *id, &config.name);
        }
        let page_max = self.knobs.engine_page_max;
        let (changes, reply) = self.gates[gate as usize].engine.carry_out(call, page_max);
        self.tell_changes(gate, By::Gate, changes);
        if unknown { EngineReply::Failed { reason: "no answer".to_owned() } } else { reply }
    }

    fn serve(
        &mut self,
        gate: u32,
        request: &DataRequest,
        (collection, scope): (CollectionId, &Scope),
        found: Found,
        unknown: bool,
    ) -> Answered {
        let accepts = |key: PlacementKey| match scope {
            Scope::All => true,
            Scope::Owned { map, me } => map.owner(key) == Some(*me),
        };
        match &request.work {
            Work::Get(id) => {
                let engine = &self.gates[gate as usize].engine;
                let stamp = engine.get(collection, id).filter(|_| accepts(id.placement_key()));
                let points = stamp.map(|stamp| (id.clone(), stamp)).into_iter().collect();
                return Answered::Request(Outcome::Done, Found { points, ..found });
            }
            Work::Gather => {
                let points = self.gates[gate as usize].engine.gather(collection, accepts);
                return Answered::Request(Outcome::Done, Found { points, ..found });
            }
            Work::Upsert(_) | Work::Delete(_) | Work::Insert(_) | Work::Discard(_) => {}
        }
        let mut writes = writes_of(collection, request);
        let is_there = |write: &Write| {
            found.inserted.iter().any(|(id, it)| id == id_of(write) && *it != Inserted::New)
        };
        writes.retain(|write| !is_there(write));
        self.barrier(gate, collection, &writes);
        let forgets = self.knobs.engine_forgets;
        if !unknown && forgets > 0.0 && self.disk(gate).chance(forgets) {
            return Answered::Request(Outcome::Done, found);
        }
        if !unknown {
            let (changes, _) = self.gates[gate as usize].engine.apply(collection, writes);
            self.tell_changes(gate, By::Request, changes);
            return Answered::Request(Outcome::Done, found);
        }
        self.serve_unclearly(gate, collection, writes);
        Answered::Request(Outcome::Unknown, Found::default())
    }

    /// Some of the writes are applied now, some perhaps later, some never.
    fn serve_unclearly(&mut self, gate: u32, collection: CollectionId, writes: Vec<Write>) {
        let late = self.knobs.engine_late;
        for write in writes {
            if self.disk(gate).chance(late) {
                let point = PointAt { collection, id: id_of(&write).clone() };
                self.gates[gate as usize].engine.delay(collection, vec![write]);
                let at_us = self.now_us + self.disk(gate).below(LATE_US_MAX);
                self.queue.plan(at_us, Happening::EngineLate { gate, point });
            } else if self.disk(gate).chance(0.5) {
                let (changes, _) = self.gates[gate as usize].engine.apply(collection, vec![write]);
                self.tell_changes(gate, By::Request, changes);
            }
        }
    }

    /// Before an id is written again, nothing that is late may follow.
    fn barrier(&mut self, gate: u32, collection: CollectionId, writes: &[Write]) {
        for write in writes {
            let point = PointAt { collection, id: id_of(write).clone() };
            let apply = self.disk(gate).chance(0.5);
            self.settle_late(gate, &point, apply);
        }
    }

    pub fn settle_late(&mut self, gate: u32, point: &PointAt, apply: bool) {
        let change = self.gates[gate as usize].engine.settle(point, apply);
        mark!(change.is_some(), "a write of unknown outcome is applied late");
        self.tell_changes(gate, By::Request, change.into_iter().collect());
    }

    /// A new start of a gate is a barrier for everything.
    pub fn settle_all_late(&mut self, gate: u32) {
        let points: Vec<PointAt> = self.gates[gate as usize].engine.unsettled().cloned().collect();
        for point in points {
            let apply = self.disk(gate).chance(0.5);
            self.settle_late(gate, &point, apply);
        }
    }

    /// Calls under way take effect, or don't.
    pub fn crash_engine(&mut self, gate: u32) {
        let ops = std::mem::take(&mut self.gates[gate as usize].ops);
        for op in ops.into_values().filter(|op| op.answer.is_none()) {
            if !self.disk(gate).chance(0.5) {
                continue;
            }
            let reads = matches!(
                &op.kind,
                Kind::Core { call: Some(EngineCall::Scan(_) | EngineCall::Read { .. }), .. }
            );
            if !reads {
                mark!("an engine carries out what a gate asked before it died");
                self.take_effect(gate, op.kind);
            }
        }
    }

    /// What was there before Sheaf is of a collection now.
    fn take_over(&mut self, gate: u32, id: CollectionId, name: &str) {
        let node = &mut self.gates[gate as usize];
        let map = &self.store.record().map;
        let shard = map.shard_by_url(&node.url).map(|entry| entry.id);
        for Change { point, before, after } in node.engine.take_over(id, name) {
            let (node, by) = (NodeId(gate), By::Found);
            self.fact(Fact::Applied { node, shard, by, point, before, after });
        }
    }

    fn tell_changes(&mut self, gate: u32, by: By, changes: Vec<Change>) {
        let shard = self.gates[gate as usize].record.shard;
        for Change { point, before, after } in changes {
            self.trace.fold(&[u64::from(gate), before.unwrap_or(0), after.unwrap_or(0)]);
            self.fact(Fact::Applied { node: NodeId(gate), shard, by, point, before, after });
        }
    }
}

/// What an insert does with a point where this is.
fn compare(stray: Stamp, there: Option<Stamp>) -> Inserted {
    match there {
        None => Inserted::New,
        Some(stamp) if stamp == stray => Inserted::Equal,
        Some(_) => Inserted::Differs,
    }
}

/// What a request writes; nothing, if it reads.
fn writes_of(collection: CollectionId, request: &DataRequest) -> Vec<Write> {
    match &request.work {
        Work::Get(_) | Work::Gather => Vec::new(),
        Work::Upsert(points) | Work::Insert(points) => points
            .iter()
            .map(|(id, stamp)| {
                Write::Upsert(StoredPoint::new(collection, id.clone(), body_of(*stamp)))
            })
            .collect(),
        Work::Delete(ids) | Work::Discard(ids) => ids.iter().cloned().map(Write::Delete).collect(),
    }
}

/// A call in one line.
fn brief(call: &EngineCall) -> String {
    match call {
        EngineCall::CreateCollection { id, .. } => format!("create {id}"),
        EngineCall::DropCollection { id } => format!("drop {id}"),
        EngineCall::Scan(scan) => format!(
            "scan {} after {:?} through {:?} bodies {}",
            scan.collection, scan.after, scan.through, scan.bodies
        ),
        EngineCall::Read { collection, ids } => format!("read {collection} {ids:?}"),
        EngineCall::Apply { collection, writes } => {
            let ids: Vec<_> = writes
                .iter()
                .map(|write| (matches!(write, Write::Upsert(_)), id_of(write)))
                .collect();
            format!("apply {collection} {ids:?}")
        }
    }
}
