//! An election in memory, for tests and simulations: as etcd holds it, with leases that end by its callers' clock, and cut off
//! when told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_types::Time;

use crate::election::{Election, Look};
use crate::port::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

/// Those who stand for the election of one store, by when they came, and until when.
#[derive(Clone, Debug, Default)]
pub struct Polls(Arc<Mutex<Vec<(String, Time)>>>);

/// One process's part in it, and its way to the store.
#[derive(Clone)]
pub struct MemoryElection(Arc<Inner>);

struct Inner {
    polls: Polls,
    store: Arc<dyn Store>,
    /// No other process says so.
    said: String,
    lease_ms: u64,
    /// Until when it leads, as far as it has been told.
    until: Mutex<Option<Time>>,
    is_cut_off: AtomicBool,
}

impl Polls {
    /// Those whose lease hasn't ended.
    fn standing(&self, now: Time) -> MutexGuard<'_, Vec<(String, Time)>> {
        let mut standing = self.lock();
        standing.retain(|(_, until)| *until > now);
        standing
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Time)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever was first when somebody last looked.
    fn leader(&self) -> Option<String> {
        self.lock().first().map(|(said, _)| said.clone())
    }
}

impl MemoryElection {
    pub fn new(polls: &Polls, store: Arc<dyn Store>, said: String, lease_ms: u64) -> Self {
        let (until, is_cut_off) = (Mutex::new(None), AtomicBool::new(false));
        Self(Arc::new(Inner { polls: polls.clone(), store, said, lease_ms, until, is_cut_off }))
    }

    /// From now on this process reaches neither the store nor the election, or does again.
    pub fn cut_off(&self, is_cut_off: bool) {
        self.0.is_cut_off.store(is_cut_off, Ordering::SeqCst);
    }

    /// The store, as this process may use it: to write only while it leads.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    fn reach(&self) -> Result<(), StoreError> {
        if self.0.is_cut_off.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the store can't be reached".to_owned()));
        }
        Ok(())
    }

    fn until(&self) -> MutexGuard<'_, Option<Time>> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Election for MemoryElection {
    fn look(&self, now: Time) -> Reply<'_, Result<Look, StoreError>> {
        Box::pin(async move {
            self.reach()?;
            let until = now.plus_ms(self.0.lease_ms);
            {
                let mut standing = self.0.polls.standing(now);
                match standing.iter_mut().find(|(said, _)| *said == self.0.said) {
                    Some((_, ends)) => *ends = until,
                    None => standing.push((self.0.said.clone(), until)),
                }
                let leads = standing.first().is_some_and(|(said, _)| *said == self.0.said);
                *self.until() = leads.then_some(until);
            }
            let etag = self.0.store.load().await?.map(|loaded| loaded.etag);
            let standing =
                self.0.polls.standing(now).iter().map(|(said, _)| said.clone()).collect();
            Ok(Look { standing, etag })
        })
    }

    fn leads(&self, now: Time) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    fn resign(&self) -> Reply<'_, ()> {
        Box::pin(async {
            *self.until() = None;
            if self.reach().is_ok() {
                self.0.polls.lock().retain(|(said, _)| *said != self.0.said);
            }
        })
    }
}

impl Store for MemoryElection {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            self.reach()?;
            self.0.store.load().await
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move {
            let reason = match self.reach() {
                Err(error) => error.to_string(),
                Ok(()) if self.0.polls.leader().as_ref() != Some(&self.0.said) => {
                    "this process doesn't lead".to_owned()
                }
                Ok(()) => return self.0.store.compare_and_set(expected, bytes).await,
            };
            StoreOutcome::NotStored { reason }
        })
    }
}
