//! What must hold after every step: the checkers of the other harnesses, told what they need to know of the state before,
//! and what only a whole state can show.

use std::sync::Arc;

use sheaf_checkers::fact::HeldPoint;
use sheaf_checkers::{
    By, Checker, Decided, Fact, Moment, NodeId, PointAt, Violation, capture_gapless, ids_fresh,
    intent_first, invisible, map_monotone, nothing_destroyed, one_writer, sweep_foreign, total_map,
};
use sheaf_sim::gate_node::held;
use sheaf_sim::store::decided;

use sheaf_types::{Revision, Term};

use crate::scope::QUIET_MAX;
use crate::state::State;
use crate::world::World;

impl World<'_> {
    /// Ends the step: seals what was touched, and judges.
    pub fn end(mut self, before: &State) -> State {
        let facts = std::mem::take(&mut self.facts);
        if let Err(violation) = judge_facts(before, &facts) {
            self.break_promise(violation.label, violation.text);
        }
        self.seal();
        if self.touched.engines || self.touched.clients || self.state.store != before.store {
            self.judge_owners();
        }
        if self.touched.gates != 0 {
            self.judge_writers();
        }
        if self.state.is_quiet() {
            self.judge_rest();
        }
        self.state
    }

    pub fn seal(&mut self) {
        if self.touched.coordinator {
            self.state.coordinator.seal();
        }
        if self.touched.router {
            self.state.router.seal();
        }
        if self.touched.clients {
            self.state.clients.seal();
        }
        for gate in 0..self.state.gates.len() {
            if self.touched.gates & (1 << gate) != 0 {
                let now = self.state.now(crate::wire::Proc::Gate(gate as u8));
                self.state.gates[gate].edit().probe(now, &self.cluster.ids);
                self.state.gates[gate].seal();
            }
        }
    }

    /// I3: of each point, at most one gate would admit a write.
    fn judge_writers(&mut self) {
        let mut taken = 0;
        for gate in 0..self.state.gates.len() {
            let writable = self.state.gates[gate].get().writable;
            let twice = taken & writable;
            if twice != 0 {
                let at = twice.trailing_zeros() as usize;
                let id = self.cluster.ids.values().nth(at).cloned();
                self.break_promise(
                    "I3 one-writer",
                    format!("two gates admit a write of {id:?}, one is gate {gate}"),
                );
            }
            taken |= writable;
        }
    }

    /// P1, P8: each point's owner holds a value that its clients can explain.
    fn judge_owners(&mut self) {
        let map = Arc::clone(&self.state.store.get().map);
        if map.shards().is_empty() {
            return; // The cluster isn't founded yet.
        }
        for (at, id) in self.cluster.ids.values().enumerate() {
            let owner = map.owner(id.placement_key()).and_then(|shard| map.shard(shard));
            let Some(gate) = owner.and_then(|entry| self.gate_at(&entry.primary_url)) else {
                self.break_promise(
                    "I6 total-map",
                    format!("nobody owns {id} in {}", map.version()),
                );
                return;
            };
            let engine = &self.state.gates[usize::from(gate)].get().engine;
            let value = engine.get(self.cluster.collection, id);
            if !self.state.clients.get().registers[at].allows(value) {
                let text = format!(
                    "{id} is {value:?} at its owner, gate {gate}, in {}, which no order of the clients' calls explains",
                    map.version()
                );
                self.break_promise("P1 acked-survives", text);
                return;
            }
        }
    }

    /// P6: what is quiet has ended, or a timer will go on. P8: at the end each point is where it belongs.
    fn judge_rest(&mut self) {
        let state = &self.state;
        if state.is_done() {
            let foreign = state.gates.iter().enumerate().find_map(|(gate, node)| {
                let node = node.get();
                let stays = |point: &PointAt| {
                    let owner = state.store.get().map.owner(point.id.placement_key());
                    owner.is_some() && owner == node.record.shard
                };
                let (point, stamp) = node.engine.contents().find(|(point, _)| !stays(point))?;
                Some(format!("gate {gate} still holds foreign {point:?} = {stamp} at the end"))
            });
            if let Some(text) = foreign {
                self.break_promise("P8 nothing-destroyed", text);
            }
            self.marks.hit(crate::marks::Mark::Finished);
            return;
        }
        let waits = state.procs().any(|proc| state.wake(proc).is_some());
        if !waits || state.quiet >= QUIET_MAX {
            let running = state.store.get().transition.as_ref().map(|t| t.phase.clone());
            let text = format!(
                "all is quiet for the {}th time, and the transition is in {running:?} ({})",
                state.quiet,
                if waits { "timers only go round" } else { "no timer is set" }
            );
            self.break_promise("P6 converges", text);
        }
    }

    /// Tells what every engine holds: before a commit.
    pub fn tell_holdings(&mut self) {
        for (gate, node) in self.state.gates.iter().enumerate() {
            let node = node.get();
            let unsettled: Vec<&PointAt> = node.engine.unsettled().collect();
            let of = |point: PointAt, stamp| HeldPoint {
                unsettled: unsettled.contains(&&point),
                point,
                stamp,
            };
            let mut points: Vec<HeldPoint> =
                node.engine.contents().map(|(point, stamp)| of(point, Some(stamp))).collect();
            let absent = unsettled
                .iter()
                .filter(|point| node.engine.get(point.collection, &point.id).is_none());
            points.extend(absent.map(|point| of((*point).clone(), None)));
            let shard = node.record.shard;
            self.facts.push(Fact::Holds {
                node: NodeId(gate as u32),
                shard,
                points: points.into(),
            });
        }
    }
}

/// Has each checker judge the facts of one step, after it was told of the state before: none of them needs to know more.
fn judge_facts(before: &State, facts: &[Fact]) -> Result<(), Violation> {
    let any = |wanted: fn(&Fact) -> bool| facts.iter().any(wanted);
    if any(|fact| matches!(fact, Fact::Stored { .. })) {
        run(&mut capture_gapless::CaptureGapless::default(), stored(before), facts)?;
        run(&mut total_map::TotalMap::default(), stored(before), facts)?;
        run(&mut ids_fresh::IdsFresh::default(), stored(before), facts)?;
    }
    if any(|fact| matches!(fact, Fact::Acknowledged { .. })) {
        run(&mut one_writer::OneWriter::default(), stored(before), facts)?;
    }
    if any(|fact| matches!(fact, Fact::Served { .. })) {
        run(&mut invisible::Invisible::default(), stored(before), facts)?;
    }
    if any(|fact| matches!(fact, Fact::Applied { by: By::Gate, .. })) {
        run(&mut sweep_foreign::SweepForeign::default(), stored(before), facts)?;
        let known = stored(before).into_iter().chain(started(before)).chain(contents(before));
        run(&mut nothing_destroyed::NothingDestroyed::default(), known, facts)?;
    }
    if any(|fact| {
        matches!(fact, Fact::DirectiveSent { .. } | Fact::Published { .. } | Fact::Reported { .. })
    }) {
        let known = stored(before).into_iter().chain(started(before));
        run(&mut intent_first::IntentFirst::default(), known, facts)?;
    }
    if any(|fact| {
        matches!(fact, Fact::Stored { .. } | Fact::Persisted { .. } | Fact::GateStarted { .. })
    }) {
        let known = stored(before).into_iter().chain(started(before));
        run(&mut map_monotone::MapMonotone::default(), known, facts)?;
    }
    Ok(())
}

fn run(
    checker: &mut dyn Checker,
    known: impl IntoIterator<Item = Fact>,
    facts: &[Fact],
) -> Result<(), Violation> {
    let moment = Moment::default();
    for fact in known {
        checker.judge(moment, &fact)?;
    }
    facts.iter().try_for_each(|fact| checker.judge(moment, fact))
}

/// Every map that was current, and what the store holds.
fn stored(state: &State) -> Vec<Fact> {
    let newest = decided(state.store.get());
    let former = state.maps.get().iter().filter(|map| map.version() < newest.map.version());
    let former = former.map(|map| Decided {
        term: Term(0),
        revision: Revision(map.version().0),
        map: Arc::clone(map),
        running: None,
    });
    let mut facts: Vec<Fact> =
        former.map(|decided| Fact::Stored { decided: Box::new(decided) }).collect();
    facts.push(Fact::Stored { decided: Box::new(newest) });
    facts
}

/// What every gate's disk holds of its ledger.
fn started(state: &State) -> impl Iterator<Item = Fact> + '_ {
    state.gates.iter().enumerate().map(|(gate, node)| Fact::GateStarted {
        node: NodeId(gate as u32),
        held: held(&node.get().record),
    })
}

/// What every engine holds: at the owner, what clients wrote.
fn contents(state: &State) -> impl Iterator<Item = Fact> + '_ {
    state.gates.iter().enumerate().flat_map(move |(gate, node)| {
        let shard = node.get().record.shard;
        node.get().engine.contents().map(move |(point, stamp)| {
            let owner = state.store.get().map.owner(point.id.placement_key());
            let by = if owner == shard { By::Request } else { By::Gate };
            let (node, before) = (NodeId(gate as u32), None);
            Fact::Applied { node, shard, by, point, before, after: Some(stamp) }
        })
    })
}
