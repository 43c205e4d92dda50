//! The store calls of a coordinator, one after the other.
//!
//! Decides only what a store's answer is called in the core's words; "surely not stored" is looked up like an unknown outcome,
//! so that the core knows two ways out of doubt and not three.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_coordinator::{CoordinatorRecord, Event, StoreOutcome, StoreRead, StoreWrite};
use sheaf_stores::{Etag, Store};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::core::{Reign, Shared};

/// What the core wants of the store.
#[derive(Debug)]
pub(super) enum StoreCall {
    Write(StoreWrite),
    Load,
}

/// The store, and the state of it that the core knows.
pub(super) struct Keeper {
    pub store: Arc<dyn Store>,
    pub known: Option<Etag>,
}

impl Keeper {
    /// Carries out the calls of one reign, until it or the coordinator ends.
    pub async fn run(
        mut self,
        shared: Arc<Shared>,
        reign: Reign,
        mut calls: mpsc::Receiver<StoreCall>,
    ) {
        let mut stopped = shared.stopped.subscribe();
        loop {
            let call = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                call = calls.recv() => call,
            };
            let event = match call {
                None => return,
                Some(StoreCall::Write(write)) => {
                    let outcome = self.write(&write).await;
                    Event::Stored { write: write.number, outcome }
                }
                Some(StoreCall::Load) => Event::Loaded { read: self.load().await },
            };
            shared.tell(reign, event);
        }
    }

    async fn write(&mut self, write: &StoreWrite) -> StoreOutcome {
        let bytes = match serde_json::to_vec(&*write.record) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                error!(%error, "the coordinator's record can't be written down");
                return StoreOutcome::Unknown;
            }
        };
        match self.store.compare_and_set(self.known, bytes).await {
            sheaf_stores::StoreOutcome::Done(etag) => {
                self.known = Some(etag);
                StoreOutcome::Done
            }
            sheaf_stores::StoreOutcome::Refused => StoreOutcome::Refused,
            sheaf_stores::StoreOutcome::Unknown { reason } => {
                warn!(%reason, "whether a decision was stored is unknown; the store is read until it is known");
                StoreOutcome::Unknown
            }
            sheaf_stores::StoreOutcome::NotStored { reason } => {
                warn!(%reason, "a decision was not stored; this is tried again");
                StoreOutcome::Unknown
            }
        }
    }

    async fn load(&mut self) -> StoreRead {
        match self.store.load().await {
            Err(error) => {
                warn!(%error, "the store can't be read; this is tried again");
                StoreRead::Failed
            }
            Ok(None) => StoreRead::Empty,
            Ok(Some(loaded)) => match serde_json::from_slice::<CoordinatorRecord>(&loaded.bytes) {
                Ok(record) => {
                    self.known = Some(loaded.etag);
                    StoreRead::Found(Arc::new(record))
                }
                Err(error) => {
                    error!(%error, "the store holds something that is no coordinator's record");
                    StoreRead::Failed
                }
            },
        }
    }
}
