//! A record with a type, as JSON in a store with a single writer.
//!
//! Decides what an outcome means for one who alone writes: an unknown one is read back until it is known. A record that
//! somebody else replaced is never overwritten.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::port::{Etag, Store, StoreError, StoreOutcome};

/// Keeps records of one type.
pub struct RecordStore<T> {
    store: Arc<dyn Store>,
    known: Known,
    /// Made from a record, never from another type's.
    record: PhantomData<fn(T) -> T>,
}

/// What is known of the store.
enum Known {
    /// This state is stored; `None`: nothing is.
    Stored(Option<Etag>),
    /// A write had an unknown outcome: before it, `before` was stored.
    Unknown { before: Option<Etag>, written: Bytes },
}

/// Why a record is not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Try the same record, or a later one, again.
    #[error("{0}")]
    TryAgain(String),
    /// Somebody else writes this record: whoever had it must stop.
    #[error("somebody else has replaced the record; this process must not go on with its own")]
    Replaced,
    /// The record can't be written down.
    #[error("{0}")]
    Unwritable(String),
}

impl<T: Serialize + DeserializeOwned> RecordStore<T> {
    /// Opens the store and reads its record; `None`: there is none yet.
    ///
    /// # Errors
    /// The store's own, and `Damaged` when what is stored is no such record.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, Option<T>), StoreError> {
        let loaded = store.load().await?;
        let record = loaded.as_ref().map(|loaded| serde_json::from_slice(&loaded.bytes));
        let record = record.transpose().map_err(|error| {
            StoreError::Damaged(format!(
                "the stored record is whole, but not one that this version of Sheaf can read: {error}. Nothing was \
                 changed. Start the version that wrote it"
            ))
        })?;
        let known = Known::Stored(loaded.map(|loaded| loaded.etag));
        Ok((Self { store, known, record: PhantomData }, record))
    }

    /// Makes the record durable in place of the one before.
    ///
    /// # Errors
    /// See [`NotKept`]; the one before is durable then, or this one, and the next call finds out.
    pub async fn keep(&mut self, record: &T) -> Result<(), NotKept> {
        let bytes = serde_json::to_vec(record).map(Bytes::from);
        let bytes = bytes.map_err(|error| NotKept::Unwritable(error.to_string()))?;
        let before = self.find_out().await?;
        // Stays so when this call is dropped before the store has answered.
        self.known = Known::Unknown { before, written: bytes.clone() };
        match self.store.compare_and_set(before, bytes).await {
            StoreOutcome::Done(etag) => {
                self.known = Known::Stored(Some(etag));
                Ok(())
            }
            StoreOutcome::Refused => Err(NotKept::Replaced),
            StoreOutcome::NotStored { reason } => {
                self.known = Known::Stored(before);
                Err(NotKept::TryAgain(reason))
            }
            StoreOutcome::Unknown { reason } => Err(NotKept::TryAgain(reason)),
        }
    }

    /// The etag of what is stored, once that is known.
    async fn find_out(&mut self) -> Result<Option<Etag>, NotKept> {
        let (before, written) = match &self.known {
            Known::Stored(etag) => return Ok(*etag),
            Known::Unknown { before, written } => (*before, written),
        };
        let loaded =
            self.store.load().await.map_err(|error| NotKept::TryAgain(error.to_string()))?;
        let etag = loaded.as_ref().map(|loaded| loaded.etag);
        let is_ours = loaded.is_some_and(|loaded| loaded.bytes == *written);
        if etag != before && !is_ours {
            return Err(NotKept::Replaced);
        }
        self.known = Known::Stored(etag);
        Ok(etag)
    }
}
