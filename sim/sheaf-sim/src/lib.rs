//! The deterministic simulation: the three real cores in a made-up world, one seed, one event at a time.
//!
//! No async, no threads within a run, no clock: two runs of a seed are the same to the last event.

pub mod audit;
pub mod bench;
pub mod brief;
pub mod clients;
pub mod condensed;
pub mod coordinator_node;
pub mod corpus;
pub mod dice;
pub mod draw;
pub mod engine;
pub mod faults;
pub mod gate_engine;
pub mod gate_node;
pub mod knobs;
pub mod machine;
pub mod marks;
pub mod network;
pub mod operator;
pub mod picture;
pub mod plan;
pub mod queue;
pub mod record_disk;
pub mod recording;
pub mod repairs;
pub mod report;
pub mod router_node;
pub mod row;
pub mod scenario;
pub mod shrink;
pub mod span;
pub mod stats;
pub mod steps;
pub mod store;
pub mod stories;
pub mod swarm;
pub mod trace;
pub mod turns;
pub mod twin;
pub mod wire;
pub mod world;
