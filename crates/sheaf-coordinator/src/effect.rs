//! All that a coordinator can ask for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::{Collection, Map};
use sheaf_protocol::Directive;
use sheaf_types::{Incarnation, MapVersion, ShardId, Time, TransitionId};

use crate::event::Token;
use crate::record::{CoordinatorRecord, Stamp};
use crate::refusal::AskRefusal;

/// What the shell must do for the core.
///
/// Nothing here waits for anything else: all that is sent, answered or published is derived from what the store is
/// known to hold (I4). `store` and `load` are carried out one after the other.
#[must_use]
#[derive(Debug, Default)]
pub struct Effects {
    pub store: Option<StoreWrite>,
    /// Read the store, then say `Event::Loaded`.
    pub load: bool,
    pub send: Vec<Outgoing>,
    /// Ask these URLs who they are (`GET /internal/report`), each with a deadline, then say `Event::Identified`.
    pub identify: Vec<String>,
    pub answer: Vec<(Token, Result<Reply, AskRefusal>)>,
    /// The current map has changed.
    pub publish: Option<Arc<Map>>,
    /// Another coordinator has taken over: this core does nothing more. Load the store and build a new one, or exit.
    pub deposed: bool,
    /// Call `handle` with `Event::Tick` no later than this.
    pub wake: Option<(Time, WakeReason)>,
}

/// One compare-and-set: store `record` if the store holds the record with the stamp `expects`.
#[derive(Clone, Debug, Hash)]
pub struct StoreWrite {
    pub number: u64,
    pub expects: Stamp,
    pub record: Arc<CoordinatorRecord>,
}

/// A directive for a gate, as a long poll: answered when the gate's report is newer than what was seen.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub shard: ShardId,
    pub poll: u64,
    pub url: String,
    pub directive: Arc<Directive>,
    pub wait_ms: u64,
    pub seen_incarnation: Incarnation,
    pub seen_seq: u64,
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// A gate is to be polled again, or its poll is over.
    Poll,
    /// The fence is over its budget.
    FenceBudget,
    /// A fence that was backed out may be tried again.
    FenceRetry,
    /// A gate has been silent for too long.
    Silence,
    /// An ask reaches its deadline.
    Ask,
    /// The store is asked again.
    Store,
    /// Autoscale looks at the shards.
    Autoscale,
}

/// What was decided, durably.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// A transition runs, or is queued behind another.
    Accepted {
        transition: TransitionId,
        shards: Vec<ShardId>,
    },
    /// The shards are in the map.
    Added {
        shards: Vec<ShardId>,
        version: MapVersion,
    },
    /// The shards are in the map, with what their engines hold.
    Adopted {
        shards: Vec<ShardId>,
        version: MapVersion,
    },
    /// The shard is out of the map.
    Removed {
        shard: ShardId,
        version: MapVersion,
    },
    /// The shard's replicas are these.
    Replicated {
        shard: ShardId,
        version: MapVersion,
    },
    /// The shard had left the map before; nothing waits for its node any more.
    Forgotten {
        shard: ShardId,
    },
    /// The transition was paused, resumed, throttled, promoted or cancelled.
    Steered {
        transition: TransitionId,
    },
    Created {
        collection: Collection,
        version: MapVersion,
    },
    Dropped {
        existed: bool,
        version: MapVersion,
    },
}
