//! A record in memory, for tests and simulations: as durable as its process, and failing when told to.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::port::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

/// How a write is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is stored, and the store says so.
    NotStored,
    /// It is stored, and the answer is lost.
    UnknownStored,
    /// Nothing is stored, and the answer is lost.
    UnknownNotStored,
}

/// The store of one record.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    current: Option<Loaded>,
    failures: VecDeque<Failure>,
    writes: u64,
}

impl MemoryStore {
    /// A store without a record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the next write without an ordered failure fail so.
    pub fn fail_next(&self, failure: Failure) {
        self.lock().failures.push_back(failure);
    }

    /// How many records were stored so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn compare_and_set(&mut self, expected: Option<Etag>, bytes: Bytes) -> StoreOutcome {
        let current = self.current.as_ref().map(|loaded| loaded.etag);
        if current != expected {
            return StoreOutcome::Refused;
        }
        let failure = self.failures.pop_front();
        let reason = || "the test said so".to_owned();
        match failure {
            Some(Failure::NotStored) => return StoreOutcome::NotStored { reason: reason() },
            Some(Failure::UnknownNotStored) => return StoreOutcome::Unknown { reason: reason() },
            Some(Failure::UnknownStored) | None => {}
        }
        let etag = Etag(expected.map_or(1, |etag| etag.0 + 1));
        self.current = Some(Loaded { etag, bytes });
        self.writes += 1;
        match failure {
            Some(_) => StoreOutcome::Unknown { reason: reason() },
            None => StoreOutcome::Done(etag),
        }
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async { Ok(self.lock().current.clone()) })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move { self.lock().compare_and_set(expected, bytes) })
    }
}
