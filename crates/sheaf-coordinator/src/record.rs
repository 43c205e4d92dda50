//! What a coordinator keeps durable: one record, stored whole at each decision.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::{Map, ShardEntry, Weight};
use sheaf_protocol::{CopyOptions, StallReport};
use sheaf_types::{
    Attempt, ClusterId, CollectionId, Digest, MapVersion, Revision, ShardId, Term, Time,
    TransitionId,
};

use crate::effect::Reply;
use crate::event::Ask;

/// The form that this version writes. 2: with the names of dropped collections.
pub const RECORD_FORMAT: u32 = 2;
/// The oldest form that it reads: that of the version before.
pub const RECORD_FORMAT_OLDEST: u32 = 1;

/// All that a coordinator has decided.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorRecord {
    /// Version of this record's form.
    pub format: u32,
    /// Raised by each coordinator before it says anything.
    pub term: Term,
    /// Drawn by each coordinator at its start: tells apart two that raise the same term at the same time.
    pub author: u64,
    /// Raised by each decision; orders directives within a term.
    pub revision: Revision,
    pub map: Arc<Map>,
    /// The ids that are given out next; never one twice.
    pub next_shard: ShardId,
    pub next_transition: TransitionId,
    pub next_collection: CollectionId,
    /// Names of dropped collections that a shard may still serve.
    #[serde(default)]
    pub dropped: Vec<Dropped>,
    /// The cluster was adopted, and not every shard has said that it holds nothing foreign (ADR 0006).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    pub transition: Option<Transition>,
    /// Transitions that wait for their turn, the next one first.
    pub queue: Vec<Queued>,
    /// Shards that have left the map, or never came into it, and whose nodes have not confirmed that they know.
    pub retiring: Vec<Retiring>,
    pub autoscale: AutoscaleMemory,
    /// How fast the last transition copied, for estimates.
    pub copy_rate: Option<CopyRate>,
    /// Reports of ended transitions, the oldest first; shared, as the history is.
    pub ended: VecDeque<Arc<TransitionReport>>,
    /// Decisions with their reasons, the oldest first. Shared: each decision drafts a record anew.
    pub history: VecDeque<Arc<HistoryEntry>>,
    /// Idempotency keys with their answers, the oldest first.
    pub keys: VecDeque<UsedKey>,
}

/// A collection's name that is free again once every shard has a map of this version.
#[derive(Clone, Debug, PartialEq, Hash, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    pub name: String,
    pub version: MapVersion,
}

/// Tells one version of the record from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub term: Term,
    pub author: u64,
    pub revision: Revision,
}

/// The running transition.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    pub id: TransitionId,
    pub request: Request,
    pub origin: Origin,
    pub options: Options,
    pub phase: Phase,
    /// The last try at fencing; 0: none yet.
    pub attempt: Attempt,
    /// The version of the map that it started from.
    pub from_version: MapVersion,
    /// What the commit makes current. Rebased when the catalogue changes.
    pub next: Arc<Map>,
    /// Shards that may lose points, sorted.
    pub donors: Vec<ShardId>,
    /// Shards that may gain points, and those that join, sorted.
    pub recipients: Vec<ShardId>,
    pub requested: Time,
    pub started: Time,
    /// When copying first began.
    pub copy_since: Option<Time>,
    pub committed: Option<Time>,
    /// Points and bytes that were expected to move when it started.
    pub points_expected: u64,
    pub bytes_expected: u64,
    /// The last tries at fencing, the oldest first.
    pub fences: VecDeque<FenceTry>,
    /// Set by the commit: one for each pair.
    pub moves: Vec<MoveReport>,
    /// Recipients that confirmed, and when.
    pub confirmed: Vec<Confirmation>,
}

/// How far a transition is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    Prepare,
    Copy,
    Fence,
    /// Committed. `permitted`: every recipient has confirmed, gates may delete what they don't own.
    Sweep {
        permitted: bool,
    },
    /// Given up before the commit; recipients delete what they received.
    Abort {
        reason: String,
    },
}

/// What a transition shall achieve.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    Grow { shards: Vec<ShardEntry> },
    Drain { shard: ShardId },
    Replace { shard: ShardId, with: ShardEntry },
    Reweight { shard: ShardId, weight: Weight },
}

/// Who wanted a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Operator,
    Autoscale,
}

/// How a transition runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub copy: CopyOptions,
    /// Milliseconds that a fence may last before it is backed out.
    pub fence_budget_ms: u64,
    pub promotion: Promotion,
}

/// When a converged copy may be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    Automatic,
    /// When someone asks.
    Awaited,
    Asked,
}

/// A transition that waits for its turn.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    pub id: TransitionId,
    pub request: Request,
    pub origin: Origin,
    pub options: Options,
    pub requested: Time,
}

/// A shard that is not in the map (any more), until its node confirms that it knows.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retiring {
    pub shard: ShardEntry,
    /// The transition by which it left.
    pub transition: Option<TransitionId>,
    /// Whether the node may delete its points. `false`: it was taken out with points that nobody else has.
    pub sweep: bool,
    /// Whether its URL goes (back) to the standby pool.
    pub standby: bool,
    pub since: Time,
}

/// What autoscale remembers.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleMemory {
    /// Nodes that it may grow into, the next one first.
    pub standbys: Vec<String>,
    /// Every URL of the settings that was ever taken into the pool: none is taken in twice.
    pub known: Vec<String>,
    pub last_action: Option<Time>,
    /// Why it does nothing, as last written to the history.
    pub why_not: Option<String>,
}

/// How fast a transition copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CopyRate {
    pub points_per_s: u64,
    pub bytes_per_s: u64,
}

/// One try at fencing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceTry {
    pub attempt: Attempt,
    pub began: Time,
    pub ended: Option<Time>,
    pub outcome: String,
}

/// The proof of one pair: both sides' digests under the fence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MoveReport {
    pub donor: ShardId,
    pub recipient: ShardId,
    pub attempt: Attempt,
    pub donor_digest: Digest,
    pub recipient_digest: Digest,
    pub passes: u64,
    pub sent_points: u64,
    pub sent_bytes: u64,
}

/// A recipient said that it durably serves the committed map, with its identity intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Confirmation {
    pub shard: ShardId,
    pub at: Time,
}

/// What remains of an ended transition: its proof.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct TransitionReport {
    pub id: TransitionId,
    pub request: Request,
    pub origin: Origin,
    pub outcome: Outcome,
    pub reason: String,
    pub from_version: MapVersion,
    /// The version that the commit made current.
    pub to_version: Option<MapVersion>,
    pub requested: Time,
    pub started: Option<Time>,
    pub committed: Option<Time>,
    pub ended: Time,
    pub attempts: u64,
    pub fences: VecDeque<FenceTry>,
    pub points: u64,
    pub sent_points: u64,
    pub sent_bytes: u64,
    pub moves: Vec<MoveReport>,
    pub confirmed: Vec<Confirmation>,
    /// Shards that had not confirmed that they hold nothing foreign when it ended; they are told until they do.
    pub unswept: Vec<ShardId>,
    pub stall: StallReport,
}

/// How a transition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Committed,
    Aborted,
    /// Taken out of the queue before it started.
    Cancelled,
    /// It could not start any more when its turn came.
    Refused,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub at: Time,
    pub kind: HistoryKind,
    pub text: String,
    pub transition: Option<TransitionId>,
}

/// What a line of the history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    Leadership,
    Membership,
    Transition,
    Catalogue,
    Autoscale,
}

/// An idempotency key that was used.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedKey {
    pub key: String,
    pub ask: Ask,
    pub reply: Reply,
}

impl CoordinatorRecord {
    /// The record of a new cluster.
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            format: RECORD_FORMAT,
            term: Term(0),
            author: 0,
            revision: Revision(0),
            map: Arc::new(Map::empty(cluster_id)),
            next_shard: ShardId(1),
            next_transition: TransitionId(1),
            next_collection: CollectionId(1),
            dropped: Vec::new(),
            unproven: false,
            transition: None,
            queue: Vec::new(),
            retiring: Vec::new(),
            autoscale: AutoscaleMemory::default(),
            copy_rate: None,
            ended: VecDeque::new(),
            history: VecDeque::new(),
            keys: VecDeque::new(),
        }
    }

    /// What tells this version of the record from every other.
    pub fn stamp(&self) -> Stamp {
        Stamp { term: self.term, author: self.author, revision: self.revision }
    }
}
