//! The exhaustive harness: the three real cores in a small cluster, and every order in which things can happen to them.
//!
//! One state holds the cores, their disks and all that is on its way; stateright searches all states that a scope can
//! reach. No clock, no chance, no tasks: what the swarm draws, this tries.

pub mod clock;
pub mod coordinator;
pub mod engine;
pub mod gate;
pub mod instant;
pub mod judge;
pub mod letter;
pub mod marks;
pub mod model;
pub mod node;
pub mod register;
pub mod router;
pub mod run;
pub mod scope;
pub mod setup;
pub mod state;
pub mod wire;
pub mod world;
