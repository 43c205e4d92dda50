//! Paths, JSON, bytes of frames, status codes and keys; never whether something is safe: cores decide that.

pub mod auth;
mod call;
pub mod coordinator;
pub mod drain;
pub mod frame;
pub mod gate;
pub mod metrics;
pub mod models;
pub mod problem;
pub mod replica;
pub mod router;
pub mod splitter;
pub mod wire;
