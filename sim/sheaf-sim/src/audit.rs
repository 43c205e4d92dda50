//! The end of a run: waits until all is quiet, has every point read for the last time, and tells what every disk holds.

use std::collections::BTreeSet;

use sheaf_checkers::fact::HeldPoint;
use sheaf_checkers::{EndState, Fact, NodeId, PointAt};

use crate::machine::Proc;
use crate::world::{Happening, Stage, World};

/// Simulated seconds after the last fault in which all must be quiet.
const QUIET_S_MAX: u64 = 240;
/// Simulated seconds that the last reads may take.
const AUDIT_S_MAX: u64 = 120;
/// Microseconds between two looks.
const LOOK_US: u64 = 200_000;

impl World {
    /// Looks whether the run can go on to its next stage.
    pub fn look_around(&mut self) {
        let over_us = self.now_us - self.healed_us;
        let late = over_us > (QUIET_S_MAX + AUDIT_S_MAX) * 1_000_000;
        if self.stage == Stage::Audit && !self.clients.all_idle() && !late {
            // Nothing hangs on it yet.
            self.queue.plan(self.now_us + LOOK_US, Happening::LookAround);
            return;
        }
        let state = self.end_state();
        let quiet = state.unfinished.is_empty()
            && state.unclean.is_empty()
            && state.stale_routers.is_empty()
            && !self.operator.is_waiting();
        match self.stage {
            Stage::Liveness if quiet => {
                self.stage = Stage::Audit;
                self.script_audit();
            }
            Stage::Liveness if over_us > QUIET_S_MAX * 1_000_000 => {
                self.fact(Fact::Ended { state: Box::new(state) });
                self.broken("P6 converges", "the operator's ask has no answer");
                return;
            }
            Stage::Audit if self.clients.all_idle() && quiet => {
                self.tell_holdings();
                self.fact(Fact::Ended { state: Box::new(state) });
                self.stage = Stage::Over;
                return;
            }
            // An ask that was on its way since before the calm has begun something: that has to end, too.
            Stage::Audit if self.clients.all_idle() => {
                self.stage = Stage::Liveness;
                self.queue.plan(self.now_us, Happening::Operate);
            }
            Stage::Audit if late => {
                let state = EndState { hanging: self.clients.open(), ..state };
                self.fact(Fact::Ended { state: Box::new(state) });
                self.broken("P6 converges", "the last reads don't end");
                return;
            }
            _ => {}
        }
        self.queue.plan(self.now_us + LOOK_US, Happening::LookAround);
    }

    /// Tells what every engine holds.
    pub fn tell_holdings(&mut self) {
        for gate in 0..self.gates.len() {
            let node = &self.gates[gate];
            let unsettled: BTreeSet<&PointAt> = node.engine.unsettled().collect();
            let held = node.engine.contents().map(|(point, stamp)| HeldPoint {
                unsettled: unsettled.contains(&point),
                point,
                stamp: Some(stamp),
            });
            let mut points: Vec<HeldPoint> = held.collect();
            let absent = unsettled
                .iter()
                .filter(|point| node.engine.get(point.collection, &point.id).is_none());
            points.extend(absent.map(|point| HeldPoint {
                point: (*point).clone(),
                stamp: None,
                unsettled: true,
            }));
            let shard = node.record.shard;
            self.fact(Fact::Holds { node: NodeId(gate as u32), shard, points: points.into() });
        }
    }

    /// What isn't as it should be when all is quiet.
    fn end_state(&self) -> EndState {
        let record = self.store.record();
        let running = record.transition.iter().map(|running| running.id);
        let queued = record.queue.iter().map(|queued| queued.id);
        let retiring = record.retiring.iter().filter_map(|retiring| retiring.transition);
        let unfinished = running.chain(queued).chain(retiring).collect();
        let mut unclean = Vec::new();
        for (gate, node) in self.gates.iter().enumerate() {
            if let Some(reason) = self.unclean(gate) {
                unclean.push((NodeId(gate as u32), format!("{}: {reason}", node.url)));
            }
        }
        let current = record.map.version();
        if record.unproven {
            let url = self.gates.first().map_or_else(String::new, |node| node.url.clone());
            unclean.push((NodeId(0), format!("{url}: the cluster isn't proven")));
        }
        let versions = self
            .routers
            .iter()
            .enumerate()
            .map(|(n, node)| (n as u32, node.map.as_ref().map(|map| map.version())));
        let stale_routers = versions.filter(|(_, version)| *version != Some(current)).collect();
        EndState { unfinished, unclean, stale_routers, hanging: self.operator.open() }
    }

    fn unclean(&self, gate: usize) -> Option<String> {
        let current = &self.store.record().map;
        let node = &self.gates[gate];
        if self.life(Proc::Gate(gate as u32)).is_none() {
            return Some("is down".to_owned());
        }
        let entry = current.shard_by_url(&node.url);
        let record = &node.record;
        if record.shard != entry.map(|entry| entry.id) {
            return Some(format!(
                "is {:?}, but the map says {:?}",
                record.shard,
                entry.map(|entry| entry.id)
            ));
        }
        let version = record.map.as_ref().map(|map| map.version());
        if entry.is_some()
            && (version != Some(current.version())
                || record.order.is_some()
                || !record.clean
                || record.unproven)
        {
            let order = record.order.as_ref().map(|order| order.order.transition);
            let (clean, unproven) = (record.clean, record.unproven);
            return Some(format!(
                "has map {version:?}, order {order:?}, clean {clean}, unproven {unproven}"
            ));
        }
        let foreign = node.engine.find(|collection, key| {
            let owner = current.owner(key);
            let dropped = current.collection_by_id(collection).is_none();
            dropped || owner != record.shard || owner.is_none()
        });
        foreign.map(|(point, stamp)| format!("holds foreign {point:?} = {stamp}"))
    }
}
