//! All that can happen to a coordinator.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::Weight;
use sheaf_protocol::{DirectiveRefusal, GateReport};
use sheaf_types::{CollectionConfig, MapVersion, ShardId, Time, TransitionId};

use crate::record::CoordinatorRecord;

/// Names one question to the core; the shell never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed; every deadline is looked at.
    Tick,
    /// What became of the store write with this number.
    Stored { write: u64, outcome: StoreOutcome },
    /// What the store holds, asked for by `Effects::load`.
    Loaded { read: StoreRead },
    /// The end of a poll that `Effects::send` began.
    Reported { shard: ShardId, poll: u64, answer: PollAnswer },
    /// Who answers at a URL, asked for by `Effects::identify`.
    Identified { url: String, identity: Identity },
    /// Someone wants something changed.
    Asked(Box<Asked>),
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The record is durable.
    Done,
    /// The store holds another record than the write expects. This call changed nothing; an earlier one of
    /// unknown outcome may have.
    Refused,
    /// It may have been stored, now or later.
    Unknown,
}

/// What was read from the store.
#[derive(Clone, Debug, Hash)]
pub enum StoreRead {
    Found(Arc<CoordinatorRecord>),
    Empty,
    /// It couldn't be read; the core asks again.
    Failed,
}

/// How a poll of a gate ended.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum PollAnswer {
    Report(Box<GateReport>),
    Refused(DirectiveRefusal),
    /// No answer came: the gate may or may not have followed the directive.
    Unreachable {
        reason: String,
    },
}

/// Who answers at a URL.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Identity {
    Gate(Box<GateReport>),
    Unreachable { reason: String },
}

/// A change that someone wants.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Asked {
    pub token: Token,
    pub ask: Ask,
    /// A repeat with the same key gets the first answer.
    pub key: Option<String>,
    /// The map version that the change is based on; another one refuses it.
    pub expects: Option<MapVersion>,
    /// An ask that still waits then is refused: nothing was changed.
    pub deadline: Time,
}

/// A node that shall become a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewShard {
    pub primary_url: String,
    #[serde(default)]
    pub replica_urls: Vec<String>,
    #[serde(default)]
    pub weight: Weight,
}

/// A shard that keeps its id and its points.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedShard {
    pub id: ShardId,
    pub node: NewShard,
}

impl NewShard {
    /// A node without replicas, of weight 1.
    pub fn at(url: &str) -> Self {
        Self { primary_url: url.to_owned(), replica_urls: Vec::new(), weight: Weight::ONE }
    }
}

/// How a transition shall run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskedOptions {
    /// Fence and commit only when asked (`Ask::Promote`).
    pub by_hand: bool,
    /// Milliseconds that a fence may last; `None`: the coordinator's default.
    pub fence_budget_ms: Option<u64>,
    pub limits: CopyLimits,
}

/// How fast donors may copy; `None`: as fast as they can. What clients write to outgoing points meanwhile is sent besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CopyLimits {
    pub points_per_s_max: Option<u64>,
    pub bytes_per_s_max: Option<u64>,
    pub request_p99_ms_max: Option<u64>,
}

/// What someone wants.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    /// The first shards of a cluster, at once. On a map that has shards: a transition, refused if there are points.
    AddShards {
        shards: Vec<NewShard>,
    },
    /// Take over a cluster that has points already: its shards under their ids, and its collections (ADR 0006). On a map that has
    /// neither.
    Adopt {
        shards: Vec<AdoptedShard>,
        /// Ids below were given out by the old coordinator.
        next_shard: ShardId,
        /// The version of the old map; the new one is later.
        version: MapVersion,
        collections: Vec<CollectionConfig>,
    },
    Grow {
        shards: Vec<NewShard>,
        options: AskedOptions,
    },
    Drain {
        shard: ShardId,
        options: AskedOptions,
    },
    Replace {
        shard: ShardId,
        with: NewShard,
        options: AskedOptions,
    },
    Reweight {
        shard: ShardId,
        weight: Weight,
        options: AskedOptions,
    },
    /// Let the join of this shard be fenced and committed as soon as its copy has converged.
    Promote {
        shard: ShardId,
    },
    /// Other addresses of a shard's engine, for people and other tools; nothing is asked of them.
    SetReplicas {
        shard: ShardId,
        replica_urls: Vec<String>,
    },
    /// Forget a shard that has left the map, or take one out of the map with all that it owns.
    Remove {
        shard: ShardId,
        accept_data_loss: bool,
    },
    Pause {
        transition: TransitionId,
    },
    Resume {
        transition: TransitionId,
    },
    Throttle {
        transition: TransitionId,
        limits: CopyLimits,
    },
    Cancel {
        transition: TransitionId,
    },
    CreateCollection {
        config: CollectionConfig,
    },
    DropCollection {
        name: String,
    },
}
