//! A model of the coordinators' store: one record, compare-and-set, and calls whose outcome stays unknown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sheaf_checkers::{Decided, Phase, Running};
use sheaf_coordinator::{CoordinatorRecord, StoreWrite};
use sheaf_types::ClusterId;

use crate::dice::Dice;
use crate::record_disk::RecordDisk;

/// Earlier records that a late start may still have read.
const EARLIER_MAX: usize = 8;

/// The store. It never fails; only calls to it do.
pub struct Store {
    record: Arc<CoordinatorRecord>,
    /// What it held before, the newest last.
    earlier: VecDeque<Arc<CoordinatorRecord>>,
    late: BTreeMap<u64, StoreWrite>,
    next_late: u64,
    /// The record's file, if the next start has to read it: the power went in the middle of a write.
    pub disk: Option<RecordDisk>,
}

impl Store {
    pub fn new(seed: u64) -> Self {
        let record = CoordinatorRecord::new(ClusterId::from(format!("cluster-{seed}")));
        let earlier = VecDeque::new();
        Self { record: Arc::new(record), earlier, late: BTreeMap::new(), next_late: 0, disk: None }
    }

    pub fn record(&self) -> &Arc<CoordinatorRecord> {
        &self.record
    }

    /// One that was there before, if any: what a start reads that was held up since.
    pub fn earlier_record(&self, dice: &mut Dice) -> Arc<CoordinatorRecord> {
        let earlier = &self.earlier;
        let at = dice.below(earlier.len().max(1) as u64) as usize;
        Arc::clone(earlier.get(at).unwrap_or(&self.record))
    }

    /// Stores the record if the store holds what it expects. Returns whether it did.
    pub fn compare_and_set(&mut self, write: &StoreWrite) -> bool {
        let expected = self.record.stamp() == write.expects;
        if expected {
            self.disk = None;
            let before = std::mem::replace(&mut self.record, Arc::clone(&write.record));
            self.earlier.push_back(before);
            if self.earlier.len() > EARLIER_MAX {
                self.earlier.pop_front();
            }
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
