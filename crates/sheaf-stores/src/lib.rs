//! Where a record becomes durable: the coordinator's state and a gate's ledger, by one mechanism.
//!
//! A store loads a record whole and replaces it by compare-and-set, with a third answer, *unknown*, besides done and refused.
//! It never interprets a record.

pub mod conformance;
pub mod disk;
pub mod election;
pub mod file;
pub mod memory;
pub mod memory_election;
pub mod port;
pub mod record;

pub use disk::{Disk, Folder};
pub use election::{Election, Look};
pub use file::FileStore;
pub use memory::{Failure, MemoryStore};
pub use memory_election::{MemoryElection, Polls};
pub use port::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};
pub use record::{NotKept, RecordStore};
