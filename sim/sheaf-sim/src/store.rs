//! A model of the coordinators' store: one record, compare-and-set, and calls whose outcome stays unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_checkers::{Decided, Phase, Running};
use sheaf_coordinator::{CoordinatorRecord, StoreWrite};
use sheaf_types::ClusterId;

/// The store. It never fails; only calls to it do.
pub struct Store {
    record: Arc<CoordinatorRecord>,
    late: BTreeMap<u64, StoreWrite>,
    next_late: u64,
}

impl Store {
    pub fn new(seed: u64) -> Self {
        let record = CoordinatorRecord::new(ClusterId::from(format!("cluster-{seed}")));
        Self { record: Arc::new(record), late: BTreeMap::new(), next_late: 0 }
    }

    pub fn record(&self) -> &Arc<CoordinatorRecord> {
        &self.record
    }

    /// Stores the record if the store holds what it expects. Returns whether it did.
    pub fn compare_and_set(&mut self, write: &StoreWrite) -> bool {
        let expected = self.record.stamp() == write.expects;
        if expected {
            self.record = Arc::clone(&write.record);
        }
        expected
    }

    /// Keeps a write that will take effect later.
    pub fn delay(&mut self, write: StoreWrite) -> u64 {
        self.next_late += 1;
        self.late.insert(self.next_late, write);
        self.next_late
    }

    pub fn take_late(&mut self, number: u64) -> Option<StoreWrite> {
        self.late.remove(&number)
    }

    pub fn forget_late(&mut self) {
        self.late.clear();
    }

    /// What the store holds, in the checkers' words.
    pub fn decided(&self) -> Decided {
        decided(&self.record)
    }
}

/// A record in the checkers' words.
pub fn decided(record: &CoordinatorRecord) -> Decided {
    let running = record.transition.as_ref().map(|running| Running {
        id: running.id,
        attempt: running.attempt,
        phase: phase_of(&running.phase),
        fence_budget_ms: running.options.fence_budget_ms,
        next: Arc::clone(&running.next),
    });
    Decided { term: record.term, revision: record.revision, map: Arc::clone(&record.map), running }
}

pub fn phase_of(phase: &sheaf_coordinator::Phase) -> Phase {
    match phase {
        sheaf_coordinator::Phase::Prepare => Phase::Prepare,
        sheaf_coordinator::Phase::Copy => Phase::Copy,
        sheaf_coordinator::Phase::Fence => Phase::Fence,
        sheaf_coordinator::Phase::Sweep { .. } => Phase::Sweep,
        sheaf_coordinator::Phase::Abort { .. } => Phase::Abort,
    }
}
