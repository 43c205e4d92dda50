//! Locks on ids, so that two batches never change the same id at once: what each changed is then known without locks in the
//! database, and an id whose outcome got lost stays locked until that is settled.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_types::{CollectionId, PointId};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Locks that all ids share. Unrelated ids seldom meet: there are many more than sessions.
const STRIPES: usize = 512;

pub struct Stripes(Vec<Arc<Mutex<()>>>);

/// The ids are this caller's until it is dropped.
pub struct Locked {
    _held: Vec<OwnedMutexGuard<()>>,
}

impl Stripes {
    pub fn new() -> Self {
        Self((0..STRIPES).map(|_| Arc::default()).collect())
    }

    /// Waits for the ids, first come, first served. Always in the same order, so nobody waits in a circle.
    pub async fn lock<'a>(
        &self,
        collection: CollectionId,
        ids: impl IntoIterator<Item = &'a PointId>,
    ) -> Locked {
        let stripe = |id: &PointId| (id.placement_key().0 ^ collection.0) as usize % STRIPES;
        let wanted: BTreeSet<usize> = ids.into_iter().map(stripe).collect();
        let mut held = Vec::with_capacity(wanted.len());
        for stripe in wanted {
            held.push(Arc::clone(&self.0[stripe]).lock_owned().await);
        }
        Locked { _held: held }
    }
}
