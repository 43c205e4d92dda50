//! What a gate does to hold nothing that isn't its own: sweeps, looks, leaves, drops.

use sheaf_map::Map;
use sheaf_types::{CollectionId, mark};

use super::Gate;
use crate::context::Context;
use crate::effect::Effects;
use crate::event::{Change, EngineReply, Operation, Token};
use crate::sweep::SweepGround;

impl Gate {
    /// The collections to sweep. A look leaves out what was dropped: nobody is to get those points.
    fn to_sweep(&self, map: &Map, looks: bool) -> Vec<CollectionId> {
        let mut collections = self.catalogue.collections();
        collections.retain(|id| !looks || map.collection_by_id(*id).is_some());
        collections
    }

    pub(super) fn on_swept(&mut self, reply: EngineReply, fx: &mut Effects) {
        let (Some(map), Some(me)) = (self.ledger.map(), self.ledger.shard()) else { return };
        let looks = self.ledger.durable().unproven || self.ledger.decided().unproven;
        let collections = self.to_sweep(map, looks);
        let ground = SweepGround { map, me, collections: &collections, urgent: false, looks };
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        self.sweep.on_engine(reply, &ground, &mut ctx);
    }

    /// Points were discarded, or may have been.
    pub(super) fn note_discarded(&mut self, token: Token) {
        let request = self.requests.in_flight(token);
        if request.is_some_and(|request| {
            matches!(request.operation, Operation::Write { change: Change::Discard, .. })
        }) {
            self.sweep.discarded(self.now);
        }
    }

    pub(super) fn step_sweep(&mut self, fx: &mut Effects) {
        let record = self.ledger.durable();
        let (Some(map), Some(me)) = (self.ledger.map(), self.ledger.shard()) else { return };
        let looks = record.unproven || self.ledger.decided().unproven;
        let permitted = looks || self.control.sweep_permit == Some(map.version());
        let receiving = record.order.as_ref().is_some_and(|order| order.prepared);
        let busy = || self.jobs.ingests() || self.jobs.sweeps();
        if record.clean || !permitted || receiving || busy() || !self.ledger.is_settled() {
            return;
        }
        let collections = self.to_sweep(map, looks);
        let urgent = record.order.is_some() || self.control.retired;
        let ground = SweepGround { map, me, collections: &collections, urgent, looks };
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        if self.sweep.step(&ground, &mut ctx) {
            self.ledger.decide(|record| record.clean = true);
        }
    }

    /// Becomes a standby, when the coordinator says so and nothing is left.
    pub(super) fn retire(&mut self) {
        let record = self.ledger.durable();
        let permitted = self.ledger.map().map(|map| map.version()) == self.control.sweep_permit;
        let leaves = self.control.retired && permitted && record.clean && record.order.is_none();
        if leaves && record.shard.is_some() && self.ledger.is_settled() {
            self.control.retired = false;
            mark!("a node becomes free again");
            self.ledger.decide(|record| {
                record.shard = None;
                record.map = None;
            });
            self.judge_again = true;
        }
    }

    pub(super) fn drop_collections(&mut self, fx: &mut Effects) {
        let record = self.ledger.durable();
        if record.map.is_some() {
            self.catalogue.knows_map();
        }
        let waiting = self.control.directive.is_some() || self.control.map.is_some();
        if record.cluster_id.is_none() || waiting || !self.ledger.is_settled() || !record.clean {
            return;
        }
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        self.catalogue.drop_surplus(record.map.as_deref(), &mut ctx);
    }
}
