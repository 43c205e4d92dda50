//! Engines: the databases behind a gate, one port for all of them.
//!
//! An engine stores, finds and scans points. It knows nothing of maps, transitions or other shards.

pub mod conformance;
pub mod documents;
pub mod embedded;
pub mod filter;
pub mod follower;
pub mod memory;
pub mod port;
pub mod quiver;
pub mod score;
pub mod sparse;
pub mod validate;

pub use embedded::{Embedded, EmbeddedOptions};
pub use filter::{Filter, FilterError};
pub use follower::Follower;
pub use memory::Memory;
pub use port::{
    Accept, Adoptable, Bodies, Change, Engine, EngineError, EngineStats, Hit, Reply, Scan,
    ScanPage, ScannedPoint, Search, ShownPoint, Write,
};
pub use quiver::{
    ManyReads, Quiver, QuiverFollower, QuiverFollowerOptions, QuiverOptions, ReadError, ReadPoint,
    ReadingMany,
};
pub use sparse::SparseEngine;
