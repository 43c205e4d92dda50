//! Which shard owns a point, under which version of the map, and which points move between two versions.
//!
//! Pure functions of their arguments: every process that holds the same map gets the same answers, on every
//! machine. This crate never does I/O, never reads a clock, and never decides that a map should change.

pub mod hrw;
mod log2;
pub mod map;
mod shares;
pub mod transition;
pub mod weight;

pub use hrw::{Placement, score};
pub use map::{Collection, Map, MapError, ShardEntry};
pub use transition::{Move, Moves};
pub use weight::{Weight, WeightError};
