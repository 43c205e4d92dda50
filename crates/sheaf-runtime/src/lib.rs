//! The shells around the cores: their tasks, their locks, the only clock and the only entropy.
//!
//! Carries out what a core asks for and tells it what happened. Knows no path and no status code, and of JSON only that the
//! coordinator's record is written in it.

pub mod clock;
pub mod coordinator;
pub mod entropy;
pub mod gate;
pub mod replica;
pub mod router;

pub use clock::Clock;
