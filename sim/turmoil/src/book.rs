//! What hosts write down for the judges: facts in the order in which they happened, and the newest records.
//!
//! Decides nothing. Hosts can't hold the checkers themselves, so the loop around the simulation takes facts from here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_checkers::{Fact, OpId, Stamp, Violation};
use sheaf_coordinator::CoordinatorRecord;
use sheaf_gate::GateRecord;
use sheaf_runtime::router::RouterHost;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The cluster is founded.
    Setup,
    /// Faults: nothing may go wrong.
    Safety,
    /// No fault any more: everything must finish.
    Liveness,
    /// Every point is read for the last time.
    Audit,
}

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Counts {
    pub calls: AtomicU64,
    pub done: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    pub boots: AtomicU64,
    pub failed_boots: AtomicU64,
}

/// Shared by all hosts of a run.
#[derive(Default)]
pub struct Book {
    facts: Mutex<Vec<Fact>>,
    broken: Mutex<Option<Violation>>,
    record: Mutex<Option<Arc<CoordinatorRecord>>>,
    gates: Mutex<BTreeMap<u32, GateRecord>>,
    routers: Mutex<BTreeMap<u32, (u32, RouterHost)>>,
    stage: AtomicU8,
    pub founded: AtomicBool,
    pub operator_done: AtomicBool,
    pub audited: AtomicBool,
    pub calm_clients: AtomicU64,
    clients: AtomicU64,
    pub counts: Counts,
    next_op: AtomicU64,
    next_stamp: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    pub fn fact(&self, fact: Fact) {
        locked(&self.facts).push(fact);
    }

    /// What was written down since the last time.
    pub fn take_facts(&self) -> Vec<Fact> {
        std::mem::take(&mut locked(&self.facts))
    }

    /// A promise that no checker judges was broken. The first one counts.
    pub fn broken(&self, label: &'static str, text: impl Into<String>) {
        locked(&self.broken).get_or_insert_with(|| Violation::new(label, text));
    }

    pub fn take_broken(&self) -> Option<Violation> {
        locked(&self.broken).take()
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Setup,
            1 => Stage::Safety,
            2 => Stage::Liveness,
            _ => Stage::Audit,
        }
    }

    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }

    /// How many clients there are.
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::SeqCst)
    }

    pub fn set_clients(&self, clients: u64) {
        self.clients.store(clients, Ordering::SeqCst);
    }

    pub fn op(&self) -> OpId {
        OpId(self.next_op.fetch_add(1, Ordering::SeqCst) + 1)
    }

    pub fn stamp(&self) -> Stamp {
        self.next_stamp.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The coordinator's store holds this.
    pub fn stored(&self, record: Arc<CoordinatorRecord>) {
        *locked(&self.record) = Some(record);
    }

    pub fn record(&self) -> Option<Arc<CoordinatorRecord>> {
        locked(&self.record).clone()
    }

    /// A gate's ledger holds this.
    pub fn kept(&self, node: u32, record: GateRecord) {
        locked(&self.gates).insert(node, record);
    }

    pub fn ledger(&self, node: u32) -> Option<GateRecord> {
        locked(&self.gates).get(&node).cloned()
    }

    pub fn router_started(&self, router: u32, host: RouterHost) {
        let mut routers = locked(&self.routers);
        let life = routers.get(&router).map_or(0, |(life, _)| life + 1);
        routers.insert(router, (life, host));
    }

    /// Routers with their lives.
    pub fn routers(&self) -> BTreeMap<u32, (u32, RouterHost)> {
        locked(&self.routers).clone()
    }
}
