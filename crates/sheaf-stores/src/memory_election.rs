//! An election in memory, for tests and simulations: as etcd holds it, with leases that end by a clock of its own, and cut
//! off when told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_types::Time;

use crate::election::{Election, Look};
use crate::port::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

/// Those who stand for the election of one store, by when they came, and until when.
#[derive(Clone)]
pub struct Polls {
    standing: Arc<Mutex<Vec<(String, Time)>>>,
    /// The election's own clock: those of the processes may be ahead or behind.
    now: Arc<dyn Fn() -> Time + Send + Sync>,
}

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
    is_cut_off: Arc<AtomicBool>,
}

impl Polls {
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self { standing: Arc::default(), now: Arc::new(now) }
    }

    /// Those whose lease hasn't ended.
    fn standing(&self) -> MutexGuard<'_, Vec<(String, Time)>> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.now)();
        standing.retain(|(_, until)| *until > now);
        standing
    }

    fn leader(&self) -> Option<String> {
        self.standing().first().map(|(said, _)| said.clone())
    }
}

impl MemoryElection {
    /// While `is_cut_off`, this process reaches neither the store nor the election.
    pub fn new(
        polls: &Polls,
        store: Arc<dyn Store>,
        said: String,
        lease_ms: u64,
        is_cut_off: Arc<AtomicBool>,
    ) -> Self {
        let (polls, until) = (polls.clone(), Mutex::new(None));
        Self(Arc::new(Inner { polls, store, said, lease_ms, until, is_cut_off }))
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
            {
                let ends = (self.0.polls.now)().plus_ms(self.0.lease_ms);
                let mut standing = self.0.polls.standing();
                match standing.iter_mut().find(|(said, _)| *said == self.0.said) {
                    Some((_, until)) => *until = ends,
                    None => standing.push((self.0.said.clone(), ends)),
                }
                let leads = standing.first().is_some_and(|(said, _)| *said == self.0.said);
                *self.until() = leads.then_some(now.plus_ms(self.0.lease_ms));
            }
            let etag = self.0.store.load().await?.map(|loaded| loaded.etag);
            let standing = self.0.polls.standing().iter().map(|(said, _)| said.clone()).collect();
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
                self.0.polls.standing().retain(|(said, _)| *said != self.0.said);
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
