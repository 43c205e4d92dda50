//! The shells around the cores: their tasks, their locks, the only clock and the only entropy.
//!
//! Carries out what a core asks for and tells it what happened. Knows no path, no JSON and no status code.

pub mod clock;
pub mod entropy;
pub mod gate;
pub mod router;

pub use clock::Clock;
