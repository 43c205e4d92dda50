//! The way between a gate and its engine: when a call takes effect, when it is answered, and what a crash does to it.

use std::sync::Arc;

use sheaf_checkers::{By, Fact, NodeId, PointAt};
use sheaf_gate::{EngineCall, EngineReply, Event, JobId, Outcome, Scope, Token, Write};
use sheaf_sim::engine::{Change, body_of, id_of};
use sheaf_types::{CollectionId, PlacementKey, StoredPoint};

use crate::marks::Mark;
use crate::wire::{DataRequest, Found, Work};
use crate::world::World;

/// Names an engine call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpName {
    Core(JobId),
    Request(Token),
}

/// An engine call under way.
#[derive(Clone, Debug, Hash)]
pub struct EngineOp {
    pub kind: Kind,
    /// Set once the call took effect.
    pub answer: Option<Answered>,
}

#[derive(Clone, Debug, Hash)]
pub enum Kind {
    Core(EngineCall),
    Request { request: Arc<DataRequest>, collection: CollectionId, scope: Scope },
}

#[derive(Clone, Debug, Hash)]
pub enum Answered {
    Core(EngineReply),
    Request(Outcome, Found),
}

/// What becomes of a call that the engine carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Carried,
    /// It fails with an unknown outcome, and was carried out.
    UnknownDone,
    /// It fails with an unknown outcome, and was not carried out.
    UnknownNever,
    /// It fails with an unknown outcome, and is carried out at the last moment before that is said (ADR 0003).
    UnknownLate,
}

impl EngineOp {
    pub fn core(call: EngineCall) -> Self {
        Self { kind: Kind::Core(call), answer: None }
    }

    pub fn request(request: Arc<DataRequest>, collection: CollectionId, scope: Scope) -> Self {
        Self { kind: Kind::Request { request, collection, scope }, answer: None }
    }

    /// Whether it can change the engine.
    pub fn writes(&self) -> bool {
        match &self.kind {
            Kind::Core(EngineCall::Scan(_) | EngineCall::Read { .. }) => false,
            Kind::Core(_) => true,
            Kind::Request { request, .. } => matches!(request.work, Work::Put(_) | Work::Delete(_)),
        }
    }

    /// Whether its effect and its answer are two steps.
    pub fn is_split(&self, split_reads: bool) -> bool {
        match &self.kind {
            Kind::Core(EngineCall::Scan(_) | EngineCall::Read { .. }) => split_reads,
            Kind::Core(_) => false,
            Kind::Request { .. } => self.writes(),
        }
    }
}

impl World<'_> {
    /// A call takes effect.
    pub fn engine_acts(&mut self, gate: u8, name: OpName, fate: Fate) {
        if fate != Fate::Carried {
            self.state.budget.unknowns -= 1;
        }
        let Some(op) = self.gate(gate).ops.get(&name).cloned() else { return };
        let answer = self.take_effect(gate, &op.kind, fate);
        if let Some(op) = self.gate(gate).ops.get_mut(&name) {
            op.answer = Some(answer);
        }
        if !op.is_split(self.scope.split_reads) {
            self.engine_answers(gate, name);
        }
    }

    /// The answer of a call reaches the gate.
    pub fn engine_answers(&mut self, gate: u8, name: OpName) {
        let Some(op) = self.gate(gate).ops.remove(&name) else { return };
        if let (
            Kind::Request { request, collection, .. },
            Some(Answered::Request(Outcome::Unknown, _)),
        ) = (&op.kind, &op.answer)
        {
            self.barrier(gate, *collection, &writes_of(*collection, &request.work));
        }
        match (name, op.answer) {
            (OpName::Core(job), Some(Answered::Core(reply))) => {
                self.gate_event(gate, Event::EngineAnswered { job, reply });
            }
            (OpName::Request(token), Some(Answered::Request(outcome, found))) => {
                let question = self.gate(gate).questions.get_mut(&token);
                if let Some(data) = question.and_then(|question| question.data.as_mut()) {
                    data.found = (outcome == Outcome::Done).then_some(found);
                }
                self.gate_event(gate, Event::RequestDone { token, outcome });
            }
            _ => {}
        }
    }

    fn take_effect(&mut self, gate: u8, kind: &Kind, fate: Fate) -> Answered {
        match kind {
            Kind::Core(call) => {
                if let EngineCall::Apply { collection, writes } = call {
                    self.barrier(gate, *collection, writes);
                }
                if fate == Fate::UnknownNever {
                    return Answered::Core(EngineReply::Failed { reason: "no answer".to_owned() });
                }
                let (changes, reply) = self.gate(gate).engine.carry_out(call.clone(), u64::MAX);
                let is_sweep = |change: &Change| change.after.is_none();
                if changes.iter().any(is_sweep) {
                    self.marks.hit(Mark::Swept);
                }
                self.tell_changes(gate, By::Gate, changes);
                if fate == Fate::Carried {
                    Answered::Core(reply)
                } else {
                    Answered::Core(EngineReply::Failed { reason: "no answer".to_owned() })
                }
            }
            Kind::Request { request, collection, scope } => {
                self.serve(gate, &request.work, *collection, scope, fate)
            }
        }
    }

    fn serve(
        &mut self,
        gate: u8,
        work: &Work,
        collection: CollectionId,
        scope: &Scope,
        fate: Fate,
    ) -> Answered {
        let accepts = |key: PlacementKey| match scope {
            Scope::All => true,
            Scope::Owned { map, me } => map.owner(key) == Some(*me),
        };
        let engine = &self.state.gates[usize::from(gate)].get().engine;
        match work {
            Work::Get(id) => {
                let stamp = engine.get(collection, id).filter(|_| accepts(id.placement_key()));
                let found = stamp.map(|stamp| (id.clone(), stamp)).into_iter().collect();
                return Answered::Request(Outcome::Done, found);
            }
            Work::Gather => {
                return Answered::Request(Outcome::Done, engine.gather(collection, accepts));
            }
            Work::Put(_) | Work::Delete(_) => {}
        }
        let writes = writes_of(collection, work);
        self.barrier(gate, collection, &writes);
        match fate {
            Fate::Carried | Fate::UnknownDone => {
                let (changes, _) = self.gate(gate).engine.apply(collection, writes);
                self.tell_changes(gate, By::Request, changes);
            }
            Fate::UnknownLate => self.gate(gate).engine.delay(collection, writes),
            Fate::UnknownNever => {}
        }
        let outcome = if fate == Fate::Carried { Outcome::Done } else { Outcome::Unknown };
        Answered::Request(outcome, Found::new())
    }

    /// Before an id is written again, or an outcome is called unknown, what is late is carried out.
    fn barrier(&mut self, gate: u8, collection: CollectionId, writes: &[Write]) {
        for write in writes {
            let point = PointAt { collection, id: id_of(write).clone() };
            self.settle_late(gate, &point, true);
        }
    }

    fn settle_late(&mut self, gate: u8, point: &PointAt, apply: bool) {
        let change = self.gate(gate).engine.settle(point, apply);
        self.tell_changes(gate, By::Request, change.into_iter().collect());
    }

    /// Calls under way take effect, or don't.
    pub fn crash_engine(&mut self, gate: u8, applied: bool) {
        let ops = std::mem::take(&mut self.gate(gate).ops);
        for op in ops.into_values().filter(EngineOp::writes) {
            if op.answer.is_some() {
                self.marks.hit(Mark::CrashBetweenApplyAndAnswer);
            } else if applied {
                self.take_effect(gate, &op.kind, Fate::Carried);
            }
        }
        let engine = &self.state.gates[usize::from(gate)].get().engine;
        let late: Vec<PointAt> = engine.unsettled().cloned().collect();
        for point in late {
            self.settle_late(gate, &point, applied);
        }
    }

    fn tell_changes(&mut self, gate: u8, by: By, changes: Vec<Change>) {
        let shard = self.state.gates[usize::from(gate)].get().record.shard;
        let node = NodeId(u32::from(gate));
        for Change { point, before, after } in changes {
            self.touched.engines = true;
            self.facts.push(Fact::Applied { node, shard, by, point, before, after });
        }
    }
}

/// What a request writes; nothing, if it reads.
fn writes_of(collection: CollectionId, work: &Work) -> Vec<Write> {
    match work {
        Work::Get(_) | Work::Gather => Vec::new(),
        Work::Put(points) => points
            .iter()
            .map(|(id, stamp)| {
                Write::Upsert(StoredPoint::new(collection, id.clone(), body_of(*stamp)))
            })
            .collect(),
        Work::Delete(ids) => ids.iter().cloned().map(Write::Delete).collect(),
    }
}
