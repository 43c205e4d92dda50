//! Gate → router: why a request was not served. Nothing was applied, so asking again is safe.

use serde::{Deserialize, Serialize};
use sheaf_types::{MapVersion, ShardId};

/// Why a gate did not serve a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// Fetch a map of at least this version and ask the owner.
    #[error("the point is owned by another shard in map {version}")]
    Moved { version: MapVersion },
    /// A search must be answered by all shards at one version: fetch the newer map, and ask all again.
    #[error("this shard answers at map {version}, not at the version of the search")]
    OtherVersion { version: MapVersion },
    /// The fence was neither committed nor backed out before the deadline. Ask again.
    #[error("the point is being handed over; nothing was applied")]
    Fenced { version: MapVersion },
    /// The router's map is newer and the gate couldn't learn it before the deadline. Ask again.
    #[error(
        "this shard knows map {version} and could not learn {wanted} in time; nothing was applied"
    )]
    Behind { version: MapVersion, wanted: MapVersion },
    /// A standby, or a node that has not heard from its coordinator since its disk was replaced.
    #[error("this node serves no shard of the cluster")]
    NotServing,
    /// The URL belongs to another shard than the router believes. Fetch the map.
    #[error("this node is shard {me}")]
    OtherShard { me: ShardId },
    /// The map in force knows no such collection.
    #[error("map {version} has no such collection")]
    NoCollection { version: MapVersion },
    /// Too many requests are held already. Ask again later.
    #[error("{held} requests are held already, the limit is {limit}; nothing was applied")]
    TooManyHeld { held: usize, limit: usize },
    /// The engine can't take it now (disk full, restarting). Nothing was applied.
    #[error("the engine is unavailable: {reason}; nothing was applied")]
    EngineUnavailable { reason: String },
    /// The cluster was adopted, and a copy of the point may be on another shard: deleted here alone, a repair would bring it back.
    #[error(
        "this cluster was adopted and isn't proven yet, so nothing is deleted; nothing was applied. `sheaf verify` says what is missing"
    )]
    Unproven,
    /// An insert or a discard of a repair, at a gate that has nothing to repair, or not these points.
    #[error("this shard has no such point to repair in map {version}; nothing was applied")]
    NothingToRepair { version: MapVersion },
}
