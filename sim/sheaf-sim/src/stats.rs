//! What a run, or many, amounted to.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counts of one run; they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub seeds: u64,
    pub events: u64,
    /// Events that were given to a core: gates, coordinators, operations of routers.
    pub core_events: u64,
    pub simulated_us: u64,
    pub transitions_started: u64,
    pub committed: u64,
    pub aborted: u64,
    pub fences: u64,
    pub faults: u64,
    pub crashes: u64,
    pub client_ops: u64,
    pub client_done: u64,
    pub client_unknown: u64,
    pub client_refused: u64,
    /// Calls of the plan that were carried out, without those that fill the collection and those that read it at the end.
    pub planned_done: u64,
    pub facts: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.core_events += other.core_events;
        self.simulated_us += other.simulated_us;
        self.transitions_started += other.transitions_started;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.fences += other.fences;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.client_ops += other.client_ops;
        self.client_done += other.client_done;
        self.client_unknown += other.client_unknown;
        self.client_refused += other.client_refused;
        self.planned_done += other.planned_done;
        self.facts += other.facts;
    }
}

impl Stats {
    /// One line for people.
    pub fn line(&self, wall_ms: u64) -> String {
        let per_minute = self.seeds * 60_000 / wall_ms.max(1);
        format!(
            "{} seeds, {} events, {} simulated seconds; transitions: {} started, {} committed, {} aborted, {} fences; \
             {} faults ({} crashes); client calls: {} ({} done, {} unknown, {} refused); {}.{:03} s, {per_minute} seeds/min",
            self.seeds,
            self.events,
            self.simulated_us / 1_000_000,
            self.transitions_started,
            self.committed,
            self.aborted,
            self.fences,
            self.faults,
            self.crashes,
            self.client_ops,
            self.client_done,
            self.client_unknown,
            self.client_refused,
            wall_ms / 1_000,
            wall_ms % 1_000,
        )
    }
}
