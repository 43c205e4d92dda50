//! How a coordinator starts that has its store for itself: from what the store holds.
//!
//! Decides whether that can be a coordinator's record; never repairs it.

use std::sync::Arc;

use serde::Deserialize;
use sheaf_coordinator::{
    Config, Coordinator, CoordinatorRecord, RECORD_FORMAT, RECORD_FORMAT_OLDEST,
};
use sheaf_stores::{Etag, Store, StoreError};
use sheaf_types::ClusterId;
use tokio::sync::mpsc;

use super::CoordinatorHost;
use super::core::{Reign, Shared};
use super::gates::Gates;
use super::standing::{Peer, Standing};
use super::store::Keeper;
use crate::clock::Clock;

/// Store calls that wait. Source: one write and two reads at most.
const STORE_CALLS_MAX: usize = 4;

/// What a coordinator is made of.
pub struct CoordinatorParts {
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    /// What kind of store.
    pub kind: &'static str,
    pub gates: Arc<dyn Gates>,
    pub config: Config,
    /// The name that the cluster gets if it is new.
    pub new_cluster_id: ClusterId,
    pub me: Peer,
    /// Drawn anew at each start.
    pub seed: u64,
}

/// Why a coordinator doesn't start. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorOpenError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Record(#[from] RecordError),
}

/// Why a stored record can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(
        "the stored record is whole, but not one that this version of Sheaf can read: {reason}. Start the version that wrote it"
    )]
    Unreadable { reason: String },
    #[error(
        "the stored record has the form {found}; this version of Sheaf reads {RECORD_FORMAT_OLDEST} to {RECORD_FORMAT}. Nothing was changed: start the version that wrote it, or a later one"
    )]
    Form { found: u32 },
}

impl CoordinatorHost {
    /// Starts a coordinator. It says nothing before its term is durable.
    ///
    /// # Errors
    /// See [`CoordinatorOpenError`].
    pub async fn open(parts: CoordinatorParts) -> Result<Self, CoordinatorOpenError> {
        let CoordinatorParts { clock, store, kind, gates, config, new_cluster_id, me, seed } =
            parts;
        let loaded = store.load().await?;
        let known = loaded.as_ref().map(|loaded| loaded.etag);
        let record = match loaded {
            None => CoordinatorRecord::new(new_cluster_id),
            Some(loaded) => read_record(&loaded.bytes)?,
        };
        let record = Arc::new(record);
        let read = Coordinator::new(clock.now(), Arc::clone(&record), config.clone(), seed);
        let shared = Arc::new(Shared::new(clock, read, gates, Standing::alone(kind, me)));
        tokio::spawn(Arc::clone(&shared).tick());
        begin(&shared, Coordinator::new(clock.now(), record, config, seed), store, known);
        Ok(Self { shared })
    }
}

/// The record in these bytes.
///
/// # Errors
/// It isn't one that this version can read.
pub fn read_record(bytes: &[u8]) -> Result<CoordinatorRecord, RecordError> {
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    let unreadable =
        |error: serde_json::Error| RecordError::Unreadable { reason: error.to_string() };
    let Form { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if !(RECORD_FORMAT_OLDEST..=RECORD_FORMAT).contains(&format) {
        return Err(RecordError::Form { found: format });
    }
    let record: CoordinatorRecord = serde_json::from_slice(bytes).map_err(unreadable)?;
    // Whatever is written next is of this version's form.
    Ok(CoordinatorRecord { format: RECORD_FORMAT, ..record })
}

/// Has a core decide from now on, on a store that holds the record `known`.
pub(super) fn begin(
    shared: &Arc<Shared>,
    core: Coordinator,
    store: Arc<dyn Store>,
    known: Option<Etag>,
) -> Reign {
    let (calls, to_carry_out) = mpsc::channel(STORE_CALLS_MAX);
    let reign = shared.reign(core, calls);
    tokio::spawn(Keeper { store, known }.run(Arc::clone(shared), reign, to_carry_out));
    reign
}
