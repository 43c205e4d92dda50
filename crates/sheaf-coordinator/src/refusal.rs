//! Why the coordinator doesn't do what it was asked. Nothing was changed.

use serde::{Deserialize, Serialize};
use sheaf_map::MapError;
use sheaf_types::{ClusterId, MapVersion, ShardId, TransitionId};

/// A refusal. But for `OutcomeUnknown`, nothing was changed and asking again is safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AskRefusal {
    #[error(
        "another coordinator has taken over before this was decided; look at the status, then ask that one"
    )]
    Deposed,
    #[error(
        "another coordinator has taken over while this was being stored, so it may or may not have been decided; look at the status, or ask again with the same idempotency key"
    )]
    OutcomeUnknown,
    #[error(
        "{shard} follows a later record than this coordinator has, so its store was set back or another coordinator reigns; nothing was changed. Everything is served. Restore the newest record of the store, then start again"
    )]
    RecordOutdated { shard: ShardId },
    #[error("{limit} changes wait for the store already; nothing was changed, ask again later")]
    TooManyAsks { limit: usize },
    #[error("the change could not be decided before the deadline; nothing was changed, ask again")]
    TimedOut,
    #[error("the change is based on map {expected}, but the map is {version}; nothing was changed")]
    OtherVersion { expected: MapVersion, version: MapVersion },
    #[error(
        "the idempotency key {key:?} was used for another change; use a new key for a new change"
    )]
    KeyReused { key: String },
    #[error("the idempotency key has {bytes} bytes, more than {limit}")]
    KeyTooLong { bytes: usize, limit: usize },
    #[error("{url:?} is not a node's address: {why}; give one such as http://10.0.0.5:7000")]
    BadUrl { url: String, why: String },
    #[error("no shard was named; name at least one")]
    NoShards,
    #[error("{url} is used by {by} already; give a node of its own")]
    UrlTaken { url: String, by: String },
    #[error("no shard could be asked at {url}: {reason}; start one there, then ask again")]
    NodeUnreachable { url: String, reason: String },
    #[error("the node at {url} is already {shard}; it can't be a second shard")]
    NodeTaken { url: String, shard: ShardId },
    #[error("the node at {url} belongs to cluster {cluster}; empty its data directory first")]
    OtherCluster { url: String, cluster: ClusterId },
    #[error(
        "the node at {url} holds {points} points that it would delete; empty its data directory first"
    )]
    NodeNotEmpty { url: String, points: u64 },
    #[error(
        "the node at {url} was {shard} and has not confirmed that it left; wait until it is swept, or remove {shard} for good"
    )]
    NodeRetiring { url: String, shard: ShardId },
    #[error("there is no {shard} in the map")]
    UnknownShard { shard: ShardId },
    #[error(
        "the cluster holds {points} points, and a shard added at once would hide some of them; use grow, which moves them first"
    )]
    ClusterNotEmpty { points: u64 },
    #[error(
        "the cluster was adopted and isn't proven yet: some shard may hold the only copy of a point that another one owns. Nothing was changed. `sheaf verify` says what is missing, `sheaf verify --repair` mends it"
    )]
    Unproven,
    #[error(
        "only a cluster without shards and collections can take over another one; start a coordinator with an empty store"
    )]
    NotNew,
    #[error("{shard} is the last shard: nobody could take its points; grow first")]
    LastShard { shard: ShardId },
    #[error(
        "{shard} owns points that no other shard has; drain it, or accept the loss with accept_data_loss=true after its node is stopped"
    )]
    StillOwns { shard: ShardId },
    #[error("{shard} takes part in {transition}; cancel that or wait until it has ended")]
    InTransition { shard: ShardId, transition: TransitionId },
    #[error("{transition} is running; wait until it has ended, or cancel it")]
    Busy { transition: TransitionId },
    #[error("{limit} transitions are queued already; wait or cancel one")]
    QueueFull { limit: usize },
    #[error(
        "this would move points between {pairs} pairs of shards, more than {limit}; change fewer shards at once"
    )]
    TooManyMoves { pairs: usize, limit: usize },
    #[error("there is no transition {transition} that runs or is queued")]
    UnknownTransition { transition: TransitionId },
    #[error("{transition} is committed; it can't be stopped or changed any more")]
    Committed { transition: TransitionId },
    #[error("{transition} is being aborted; it can't be changed any more")]
    Aborting { transition: TransitionId },
    #[error("{shard} is not joining")]
    NotJoining { shard: ShardId },
    #[error("a fence budget of {given} ms is out of range: give 10 to 60000")]
    BadFenceBudget { given: u64 },
    #[error("the collection can't be created: {why}")]
    BadCollection { why: String },
    #[error("the collection {name:?} exists already")]
    CollectionExists { name: String },
    #[error("{why}")]
    BadMap { why: String },
}

impl From<MapError> for AskRefusal {
    fn from(error: MapError) -> Self {
        match error {
            MapError::DuplicateCollectionName { name } => Self::CollectionExists { name },
            other => Self::BadMap { why: other.to_string() },
        }
    }
}
