//! What is known of all coordinators together: which states of their record were seen, and who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_runtime::coordinator::Standing;
use tokio::sync::watch;
use twox_hash::XxHash3_128;

/// Shared by all coordinators of a run.
#[derive(Default)]
pub struct Reigns {
    seen: Mutex<BTreeSet<(u64, u64, u128)>>,
    standings: Mutex<BTreeMap<u32, watch::Receiver<Standing>>>,
    writes: Mutex<Writes>,
}

/// Writes of all coordinators in one second.
#[derive(Default)]
struct Writes {
    second: u64,
    count: u64,
}

/// Writes of all coordinators in a second, far above what three of them can have to say.
const WRITES_A_SECOND_MAX: u64 = 5_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reigns {
    /// Whether this record was never seen before. Two records with the same term and revision are both news: the checkers shall
    /// see such a thing.
    pub fn is_news(&self, term: u64, revision: u64, bytes: &[u8]) -> bool {
        locked(&self.seen).insert((term, revision, XxHash3_128::oneshot(bytes)))
    }

    /// A coordinator begins a write. Whether there were so many in this second that it can only be going round in circles.
    pub fn is_spinning(&self, second: u64) -> bool {
        let mut writes = locked(&self.writes);
        if writes.second != second {
            *writes = Writes { second, count: 0 };
        }
        writes.count += 1;
        writes.count > WRITES_A_SECOND_MAX
    }

    /// How many terms there were.
    pub fn terms(&self) -> u64 {
        locked(&self.seen).iter().map(|(term, ..)| term).collect::<BTreeSet<_>>().len() as u64
    }

    pub fn started(&self, coordinator: u32, standing: watch::Receiver<Standing>) {
        locked(&self.standings).insert(coordinator, standing);
    }

    /// Those that live and believe that they lead.
    pub fn leaders(&self) -> Vec<u32> {
        let standings = locked(&self.standings);
        let lead = standings
            .iter()
            .filter(|(_, standing)| standing.has_changed().is_ok() && standing.borrow().leads);
        lead.map(|(number, _)| *number).collect()
    }
}
