//! The election port: which of several processes with one store decides.
//!
//! Liveness only. What makes two deciders harmless is the store's compare-and-set and the term in its record.

use sheaf_types::Time;

use crate::port::{Etag, Reply, StoreError};

/// One process's part in the election of a store. While it doesn't lead, the store of the same place takes no writes of it.
pub trait Election: Send + Sync + 'static {
    /// Stands for election, or stays in it, and says how it is. To be called again and again, many times in a lease; each call
    /// takes a part of the lease at most. `now` is read before anything is sent.
    ///
    /// # Errors
    /// Nothing could be learnt; [`Election::leads`] tells whether this process may go on.
    fn look(&self, now: Time) -> Reply<'_, Result<Look, StoreError>>;

    /// Whether this process leads, as far as its own clock can tell.
    fn leads(&self, now: Time) -> bool;

    /// Stands no longer, so that another one can lead at once. Best effort: a lease ends by itself.
    fn resign(&self) -> Reply<'_, ()>;
}

/// Who stands, and what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What each process said of itself, the leader first, the others by when they came.
    pub standing: Vec<String>,
    /// The record that is stored; `None`: none yet.
    pub etag: Option<Etag>,
}
