//! One collection as the engine knows it: its configuration, and how much is in it.
//!
//! This engine is the only writer, so it counts in memory what its writes change, and asks the database only where an
//! outcome got lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_types::{CollectionConfig, CollectionId};
use tokio::sync::RwLock;

/// Points and bytes of ids and bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub points: i64,
    pub bytes: i64,
}

pub struct Collection {
    pub id: CollectionId,
    pub config: Arc<CollectionConfig>,
    tally: Mutex<Tally>,
    is_doubtful: AtomicBool,
    /// Held by writers together, by who counts anew alone.
    pub writers: Arc<RwLock<()>>,
}

impl Collection {
    pub fn new(id: CollectionId, config: Arc<CollectionConfig>, tally: Tally) -> Self {
        let (tally, writers) = (Mutex::new(tally), Arc::default());
        Self { id, config, tally, is_doubtful: AtomicBool::new(false), writers }
    }

    pub fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a durable write changed.
    pub fn add(&self, change: Tally) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.points += change.points;
        tally.bytes += change.bytes;
    }

    /// A write may or may not have been applied: the tally can't be known.
    pub fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Release);
    }

    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Acquire)
    }

    /// What was counted while nobody wrote.
    pub fn set(&self, tally: Tally) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = tally;
        self.is_doubtful.store(false, Ordering::Release);
    }

    /// Its table.
    pub fn table(&self) -> String {
        table(self.id)
    }
}

/// The table of a collection.
pub fn table(id: CollectionId) -> String {
    format!("sheaf.c{}", id.0)
}
