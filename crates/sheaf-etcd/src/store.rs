//! The store port on etcd: deadlines, and what is answered when one passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::address::EtcdAddress;
use crate::election::{EtcdElection, Office};
use crate::head::{Keys, RECORD_BYTES_MAX};
use crate::members::{EtcdAccess, Members};
use crate::state::State;

/// Tries that fit into a deadline: a member that hangs leaves time for two others.
const TRIES_A_DEADLINE: u32 = 4;

/// What an etcd store is made of.
#[derive(Clone)]
pub struct EtcdOptions {
    pub address: EtcdAddress,
    pub access: EtcdAccess,
    /// Drawn anew for each store: no other writer has it.
    pub writer: String,
    /// For one call; after it the answer is "unavailable", "not stored", or "unknown".
    pub deadline: Duration,
}

/// The record of one cluster in etcd. Connects when it is asked something.
pub struct EtcdStore {
    state: Mutex<State>,
    deadline: Duration,
}

impl EtcdStore {
    /// A store in which whoever asks may write.
    pub fn new(options: EtcdOptions) -> Self {
        Self::of(options, None)
    }

    /// A store in which only the leader may write, and the election that makes this process one.
    ///
    /// `said`: of this process, to whoever looks; not empty. `lease_secs`: for how long a leader that is gone leads on; etcd itself
    /// takes no less than one and a half of its members' election timeout, 2 s unless set otherwise.
    pub fn with_election(
        options: EtcdOptions,
        said: String,
        lease_secs: u32,
    ) -> (Self, EtcdElection) {
        assert!(!said.is_empty(), "an empty value can't be compared");
        let office = Office::default();
        let election = EtcdElection::new(&options, office.clone(), said, lease_secs);
        (Self::of(options, Some(office)), election)
    }

    fn of(options: EtcdOptions, office: Option<Office>) -> Self {
        let EtcdOptions { address, access, writer, deadline } = options;
        let members = Members::new(address.members, access, deadline / TRIES_A_DEADLINE);
        let state = Mutex::new(State::new(Keys(address.prefix), writer, members, office));
        Self { state, deadline }
    }

    /// What the processes say of themselves that stand for election here, the leader first.
    ///
    /// # Errors
    /// Nothing could be learnt.
    pub async fn standing(&self) -> Result<Vec<String>, StoreError> {
        let standing = async { self.state.lock().await.standing().await };
        match timeout(self.deadline, standing).await {
            Ok(standing) => standing,
            Err(_) => Err(StoreError::Unavailable(self.too_late())),
        }
    }

    async fn write(&self, expected: Option<Etag>, bytes: Bytes) -> StoreOutcome {
        if bytes.len() > RECORD_BYTES_MAX {
            let reason = format!(
                "the record has {} bytes; etcd is given {RECORD_BYTES_MAX} at most",
                bytes.len()
            );
            return StoreOutcome::NotStored { reason };
        }
        let sent = AtomicBool::new(false);
        let written = async { self.state.lock().await.write(expected, &bytes, &sent).await };
        match timeout(self.deadline, written).await {
            Ok(outcome) => outcome,
            Err(_) if sent.load(Ordering::SeqCst) => {
                StoreOutcome::Unknown { reason: self.too_late() }
            }
            Err(_) => StoreOutcome::NotStored { reason: self.too_late() },
        }
    }

    /// Says that the deadline has passed, and why.
    fn too_late(&self) -> String {
        let within = self.deadline.as_millis();
        match self.state.try_lock() {
            Ok(state) => {
                format!("etcd took longer than {within} ms; at last: {}", state.trouble())
            }
            Err(_) => format!("etcd took longer than {within} ms"),
        }
    }
}

impl Store for EtcdStore {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            let loaded = async { self.state.lock().await.load().await };
            match timeout(self.deadline, loaded).await {
                Ok(loaded) => loaded,
                Err(_) => Err(StoreError::Unavailable(self.too_late())),
            }
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(self.write(expected, bytes))
    }
}
