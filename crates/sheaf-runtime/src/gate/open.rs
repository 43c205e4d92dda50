//! How a gate starts: from its ledger, with the next incarnation stored before anything else.
//!
//! Decides whether ledger and engine can belong together; never repairs either.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock};

use sheaf_engines::{Engine, EngineError, SparseEngine};
use sheaf_gate::{Gate, GateRecord, Limits, RECORD_FORMAT};
use sheaf_stores::{NotKept, RecordStore, Store, StoreError};
use sheaf_types::{StoreId, Time};
use tokio::sync::{Notify, mpsc, watch};

use super::core::Core;
use super::latency::Latency;
use super::peers::Peers;
use super::{GateHost, Shared, tasks};
use crate::clock::Clock;

/// What a gate is made of.
pub struct GateParts {
    pub clock: Clock,
    /// Keeps the ledger; nobody else writes to it.
    pub ledger: Arc<dyn Store>,
    pub engine: Arc<dyn Engine>,
    pub peers: Arc<dyn Peers>,
    /// The name that the node gets if it has no ledger yet.
    pub new_store_id: StoreId,
}

/// Why a gate doesn't start. Nothing was changed, but that its incarnation may have been raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Ledger(#[from] StoreError),
    #[error("the ledger can't be stored: {0}")]
    LedgerNotStored(#[from] NotKept),
    #[error(
        "the ledger has the form {found}, this version of Sheaf writes {RECORD_FORMAT}: start the version that wrote it"
    )]
    LedgerForm { found: u32 },
    #[error("the engine doesn't answer: {0}")]
    Engine(#[from] EngineError),
    #[error(
        "the engine holds {collections} collections, but there is no ledger that says whose they are: the ledger's file was \
         lost. Restore the whole data directory, or start with an empty one and have the cluster replace this node"
    )]
    LedgerLost { collections: usize },
}

impl GateHost {
    /// Starts a gate. It serves what its ledger says, at once.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(parts: GateParts) -> Result<Self, OpenError> {
        let GateParts { clock, ledger, engine, peers, new_store_id } = parts;
        let sparse = Arc::new(SparseEngine::new(engine));
        let engine: Arc<dyn Engine> = sparse.clone();
        let (mut ledger, record) = RecordStore::<GateRecord>::open(ledger).await?;
        let collections = engine.collections().await?;
        let record = match record {
            Some(record) if record.format != RECORD_FORMAT => {
                return Err(OpenError::LedgerForm { found: record.format });
            }
            Some(record) => record,
            None if collections.is_empty() => GateRecord::new(new_store_id),
            None => return Err(OpenError::LedgerLost { collections: collections.len() }),
        };
        let record = record.restarted();
        ledger.keep(&record).await?;

        let map = RwLock::new(record.map.clone());
        let collections = collections.into_iter().map(|(id, _)| id).collect();
        let (records, to_store) = mpsc::channel(1);
        let gate = Gate::new(clock.now(), record, collections, Limits::default());
        let shared = Arc::new(Shared {
            clock,
            core: Core::new(clock, gate, records),
            engine,
            sparse,
            peers,
            latency: Latency::default(),
            repairing: Arc::default(),
            map,
            wake_at: AtomicU64::new(Time::NEVER.0),
            wake_changed: Notify::new(),
            stopped: watch::Sender::new(false),
            files: OnceLock::new(),
        });
        // A directive is judged by what the engine holds, so the core knows that first.
        tasks::sample(&shared).await;
        tokio::spawn(tasks::store_records(shared.clone(), ledger, to_store));
        tokio::spawn(tasks::tick(shared.clone()));
        tokio::spawn(tasks::sample_load(shared.clone()));
        Ok(Self { shared })
    }
}
