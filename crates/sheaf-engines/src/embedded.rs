//! The embedded engine, the default: redb for the points, vectors in memory for exact search, a derived
//! HNSW index for large collections.
//!
//! One [`Database`] holds everything and is synchronous. Readers work on an immutable snapshot, so they never
//! wait for a writer nor for each other; a snapshot is published only when its changes are durable.
//! [`Embedded`] puts threads around it: one that writes (group commit), a few that read, one that indexes.
//!
//! Memory, per point of a collection: `4 × dim` bytes of vector and about 100 bytes more, its id included; with the
//! index (collections of more than [`EmbeddedOptions::index_floats_min`] numbers) `4 × dim` and about 200 bytes on
//! top. Payloads stay on disk. The file is one and a half to two times the data, and never shrinks: space of what is
//! deleted is used again.
//!
//! A filter reads the payloads of all points it may hold for, about a microsecond each, unless it holds for so
//! many that the index finds enough of them. An index may miss a point, above all one far from all others; it never
//! shows one that is deleted, older, or not accepted.

mod copy;
mod database;
mod disk;
mod graph;
mod options;
mod search;
mod snapshot;
mod tables;
mod threads;
mod vectors;
mod writer;

pub use database::{Command, Database, Done};
pub use disk::{Disk, FileDisk};
pub use options::{EmbeddedOptions, Work};
pub use threads::Embedded;
