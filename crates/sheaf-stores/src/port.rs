//! The store port: one record, loaded whole and replaced by compare-and-set.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// The answer of a store, when it comes.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps one record.
pub trait Store: Send + Sync + 'static {
    /// The record as it is durably now; `None`: never stored.
    ///
    /// What it answers is final: a write whose outcome was unknown is decided, one way or the other, once this has answered.
    ///
    /// # Errors
    /// See [`StoreError`]; the record was not changed.
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>>;

    /// Replaces the record durably if it still is the one with the etag `expected`; `None`: if there is none yet.
    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome>;
}

/// Names one stored state of the record: no two differ in content and agree in this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etag(pub u64);

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub etag: Etag,
    pub bytes: Bytes,
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The record is durable and has this etag now.
    Done(Etag),
    /// Another state than the expected one is stored, so somebody else writes here: load, and start over.
    Refused,
    /// It may be stored, now or later: load until it is known. Neither success nor failure.
    Unknown { reason: String },
    /// Surely not stored; the old record is intact. Asking again may work.
    NotStored { reason: String },
}

/// Why a record can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be read now; asking again may work.
    #[error("{0}")]
    Unavailable(String),
    /// Another process works with it.
    #[error("{0}")]
    InUse(String),
    /// It isn't what was stored: names the place and says what to do. Never repaired by guessing.
    #[error("{0}")]
    Damaged(String),
}
