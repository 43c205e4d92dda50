//! Engines: the databases behind a gate, one port for all of them.
//!
//! An engine stores, finds and scans points. It knows nothing of maps, transitions or other shards.

pub mod filter;
pub mod port;

pub use filter::Filter;
pub use port::{
    Accept, Change, Engine, EngineError, EngineStats, Hit, Scan, ScanPage, ScannedPoint, Search,
    Write,
};
