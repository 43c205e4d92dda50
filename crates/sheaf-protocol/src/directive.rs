//! Coordinator → gate: one message that says all that the gate should be doing now.
//!
//! There is a single kind of command, and it is a state, not a step: a gate compares it with what it has durably
//! and moves there. Repeating it is harmless; a late one is recognised by `(term, revision)` and changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::Map;
use sheaf_types::{Attempt, ClusterId, MapVersion, Revision, ShardId, StoreId, Term, TransitionId};

/// What a gate should be doing, as its coordinator durably decided.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Directive {
    pub cluster_id: ClusterId,
    pub term: Term,
    /// The coordinator's durable state that this was derived from; orders directives within a term.
    pub revision: Revision,
    /// Who the coordinator takes the gate for. A gate that is someone else refuses.
    pub shard: ShardId,
    pub store_id: StoreId,
    /// The current map.
    pub map: Arc<Map>,
    /// The running transition, while it can still commit or abort. `None`: there is none, or it is decided,
    /// and then `map` is its outcome.
    pub order: Option<Order>,
    /// Whether the gate may delete what it neither owns under `map` nor is about to receive: every owner under
    /// `map` is known to hold its points durably.
    pub sweep: bool,
    /// The shard has left the map for good: once swept, the gate is a standby again and `shard` is never used again.
    pub retired: bool,
    /// The cluster was adopted, and some engine may hold the only copy of a point that another shard owns (ADR 0006): the
    /// gate looks for such points and deletes none.
    #[serde(default)]
    pub unproven: bool,
}

/// A gate's part in a transition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    pub transition: TransitionId,
    /// The try at fencing; raised durably at the coordinator before each fence.
    pub attempt: Attempt,
    pub stage: Stage,
    /// The map that the commit makes current. Its placement is fixed; its catalogue and version may be rebased.
    pub next: Arc<Map>,
    pub copy: CopyOptions,
}

/// How far the gates may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Capture outgoing writes; sweep until ready to receive.
    Prepare,
    /// Donors stream.
    Copy,
    /// Donors hold requests on outgoing ids and hand over the last writes.
    Fence,
}

/// How fast a donor may copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CopyOptions {
    /// No new range is started; capture goes on.
    pub paused: bool,
    /// Points a second that one donor sends at most; `None`: as fast as it can.
    pub points_per_s_max: Option<u64>,
    /// Bytes a second that one donor sends at most.
    pub bytes_per_s_max: Option<u64>,
    /// While the donor's own requests have a p99 above this, it doesn't start a new range.
    pub request_p99_ms_max: Option<u64>,
}

/// Why a gate doesn't follow a directive. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DirectiveRefusal {
    #[error("this node belongs to cluster {mine}; it can't join another")]
    OtherCluster { mine: ClusterId },
    #[error(
        "this node's store is {mine}; the directive is for another node or its disk was replaced"
    )]
    OtherStore { mine: StoreId },
    #[error("this node is shard {mine}; the directive is for another")]
    OtherShard { mine: ShardId },
    #[error("a coordinator of term {highest} has spoken; this one is deposed")]
    Deposed { highest: Term },
    #[error("the directive is older than {revision} or than map {map}, which this gate follows")]
    Stale { revision: Revision, map: MapVersion },
    #[error(
        "the node holds {points} points that belong to no cluster; empty its data directory first"
    )]
    NotEmpty { points: u64 },
}
