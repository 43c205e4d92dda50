//! The port to a copy of an engine that follows it, for searches that may be a little old.

use sheaf_types::CollectionId;

use crate::{Hit, Reply, Search};

/// A read-only copy of one shard's engine.
pub trait Follower: Send + Sync + 'static {
    /// Returns once the copy has all that the engine had when this was called. Ends by itself.
    ///
    /// # Errors
    /// `Unavailable`: it doesn't follow, or not in time. Searches are refused until it does again.
    fn catch_up(&self) -> Reply<'_, ()>;

    /// The nearest points of a copy that has caught up before, and took in nothing but what came later.
    ///
    /// # Errors
    /// `Unavailable`: it may hold less than when it had caught up.
    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>>;
}
