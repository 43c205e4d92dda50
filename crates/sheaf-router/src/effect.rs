//! All that an operation can ask for, and how it ends.

use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, ShardId, Time};

/// Names one call of an operation; never used twice within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What the shell must do for the core. The parts don't depend on each other.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The replies to these calls are no longer wanted: what has come of them can be freed, and what is under
    /// way be given up. Only reads are ever discarded.
    pub discard: Vec<CallId>,
    /// Send these. Each is answered by one `Event::Replied`.
    pub calls: Vec<Call>,
    /// Get a map of at least this version, and say `Event::MapAdopted`.
    pub need_map: Option<MapVersion>,
    /// The end of the operation; nothing follows it. Calls under way can be given up.
    pub answer: Option<Verdict>,
    /// Call `handle` with `Event::Tick` no later than this. There is always one until the answer.
    pub wake: Option<(Time, WakeReason)>,
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// The client's deadline.
    Deadline,
    /// What was refused is asked again.
    Retry,
}

/// One request to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: CallId,
    pub shard: ShardId,
    /// The version of the map by which the shard was chosen.
    pub version: MapVersion,
    /// Which items of the operation are asked of this shard, ascending. Empty for `Op::Gather`.
    pub items: Vec<u32>,
    /// When the shard should have answered, with a refusal at the latest: a little before the operation's deadline.
    pub answer_by: Time,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of it was done. The replies to these calls, in this order, make up the answer.
    Complete {
        /// The version at which all shards answered; for points the newest that a shard answered at.
        version: MapVersion,
        calls: Vec<CallId>,
    },
    /// Not all of it was done.
    Incomplete(Incomplete),
}

/// What was done of an operation that didn't end well. Each item is in exactly one list; all are ascending.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incomplete {
    /// The calls that were done. None for a gather: a part of the shards is no answer.
    pub done: Vec<CallId>,
    /// Items that were done and acknowledged.
    pub applied: Vec<u32>,
    /// Items that were surely not applied.
    pub not_applied: Vec<u32>,
    /// Items that may or may not have been applied. Always empty for reads.
    pub unknown: Vec<u32>,
    /// Why, from the worst: lost, failed, refused.
    pub reason: Reason,
}

/// Why an operation didn't end well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No answer came to a call in time.
    Lost { shard: ShardId },
    /// A shard said that it can't be done; its reply says why.
    Failed { call: CallId, shard: ShardId },
    /// Shards refused until the deadline; this was the last refusal.
    Refused { shard: ShardId, refusal: Refusal },
    /// A shard could not be reached until the deadline.
    NotSent { shard: ShardId },
    /// The map has no shard, so nobody can be asked.
    NoShards,
    /// The deadline had passed before anybody could be asked.
    Late,
}
