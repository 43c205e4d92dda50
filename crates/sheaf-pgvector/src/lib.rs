//! The engine on PostgreSQL with the vector extension: a shard's points in tables that SQL can read.
//!
//! One gate has one database. Points are kept as they came: float32 bits in `vector`, the payload's text in `json`, and the
//! hash of both beside them, so a point that was changed past Sheaf is noticed. PostgreSQL proposes neighbours; their scores
//! come from `sheaf_engines::score`, so they equal other engines' to the bit.
//!
//! What makes writes safe is in `owner.rs` (one writer), `write.rs` (one transaction a batch) and `settle.rs` (outcomes that
//! got lost). What a standby may answer is decided in `follower.rs`. Knows no map and no placement but through the port's predicates.

mod collection;
mod engine;
mod error;
mod follower;
mod key;
mod marks;
mod options;
mod owner;
mod read;
mod row;
mod schema;
mod search;
mod session;
mod settle;
mod stripes;
mod tls;
mod value;
mod write;

pub use engine::PgVector;
pub use follower::{PgFollower, PgFollowerOptions};
pub use options::PgOptions;
