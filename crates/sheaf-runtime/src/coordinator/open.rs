//! How a coordinator starts: from what its store holds.
//!
//! Decides whether that can be a coordinator's record; never repairs it.

use std::sync::Arc;

use sheaf_coordinator::{Config, Coordinator, CoordinatorRecord, Event, RECORD_FORMAT};
use sheaf_stores::{Store, StoreError};
use sheaf_types::ClusterId;
use tokio::sync::mpsc;

use super::CoordinatorHost;
use super::core::Shared;
use super::gates::Gates;
use super::store::Keeper;
use crate::clock::Clock;

/// Store calls that wait. Source: one write and two reads at most.
const STORE_CALLS_MAX: usize = 4;

/// What a coordinator is made of.
pub struct CoordinatorParts {
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub gates: Arc<dyn Gates>,
    pub config: Config,
    /// The name that the cluster gets if it is new.
    pub new_cluster_id: ClusterId,
    /// Drawn anew at each start.
    pub seed: u64,
}

/// Why a coordinator doesn't start. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorOpenError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error(
        "the stored record is whole, but not one that this version of Sheaf can read: {reason}. Start the version that wrote it"
    )]
    Record { reason: String },
    #[error(
        "the stored record has the form {found}, this version of Sheaf writes {RECORD_FORMAT}: start the version that wrote it"
    )]
    RecordForm { found: u32 },
}

impl CoordinatorHost {
    /// Starts a coordinator. It says nothing before its term is durable.
    ///
    /// # Errors
    /// See [`CoordinatorOpenError`].
    pub async fn open(parts: CoordinatorParts) -> Result<Self, CoordinatorOpenError> {
        let CoordinatorParts { clock, store, gates, config, new_cluster_id, seed } = parts;
        let loaded = store.load().await?;
        let known = loaded.as_ref().map(|loaded| loaded.etag);
        let record = match loaded {
            None => CoordinatorRecord::new(new_cluster_id),
            Some(loaded) => serde_json::from_slice::<CoordinatorRecord>(&loaded.bytes)
                .map_err(|error| CoordinatorOpenError::Record { reason: error.to_string() })?,
        };
        if record.format != RECORD_FORMAT {
            return Err(CoordinatorOpenError::RecordForm { found: record.format });
        }
        let core = Coordinator::new(clock.now(), Arc::new(record), config, seed);
        let (calls, to_carry_out) = mpsc::channel(STORE_CALLS_MAX);
        let shared = Arc::new(Shared::new(clock, core, gates, calls));
        let keeper = Keeper { store, known };
        tokio::spawn(keeper.run(Arc::clone(&shared), to_carry_out));
        tokio::spawn(Arc::clone(&shared).tick());
        shared.tell(Event::Tick);
        Ok(Self { shared })
    }
}
