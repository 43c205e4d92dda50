//! Gate → coordinator: what is durably so at the gate. The coordinator believes nothing else.

use serde::{Deserialize, Serialize};
use sheaf_types::{
    Attempt, ClusterId, Digest, Incarnation, MapVersion, Revision, ShardId, StoreId, Term,
    TransitionId,
};

use crate::StreamId;

/// The state of a gate. Everything in it is durable there, but for `load` and the progress figures.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct GateReport {
    pub store_id: StoreId,
    /// Raised at each start: with another incarnation, all that was in memory is gone.
    pub incarnation: Incarnation,
    pub cluster_id: Option<ClusterId>,
    /// `None`: a standby, it has never joined or has left.
    pub shard: Option<ShardId>,
    /// The newest directive that it follows.
    pub term: Term,
    pub revision: Revision,
    /// Grows within an incarnation whenever something changed that a coordinator waits for.
    pub seq: u64,
    /// The map by which the gate serves.
    pub map_version: Option<MapVersion>,
    /// The catalogue of that map exists in the engine.
    pub catalogue_ready: bool,
    /// Why the engine can't hold a collection of this map or of the transition's next one, or a point that is to move here.
    #[serde(default)]
    pub cannot_hold: Option<String>,
    /// Holds no point that it doesn't own.
    pub clean: bool,
    /// Looks for points that it doesn't own, and deletes none (ADR 0006).
    #[serde(default)]
    pub unproven: bool,
    /// Such points, as the last whole look of an unproven gate counted them; not durable.
    #[serde(default)]
    pub strays: Option<u64>,
    /// The transition that it has recorded, and whether it captures and can receive.
    pub transition: Option<TransitionId>,
    pub prepared: bool,
    /// One for each recipient that this gate may have points for.
    pub outgoing: Vec<DonorReport>,
    /// One for each donor that has opened a stream.
    pub incoming: Vec<RecipientReport>,
    pub stall: StallReport,
    pub load: Load,
}

/// How full and how busy a gate is. Sampled, not exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct Load {
    pub points: u64,
    pub bytes: u64,
    pub disk_bytes: u64,
    pub unindexed_points: u64,
    pub request_p99_ms: u64,
}

/// How long requests were held by the fence of the running or last transition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StallReport {
    pub held_requests: u64,
    pub stall_ms_max: u64,
    pub stall_ms_p99: u64,
}

/// A donor's side of one move.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct DonorReport {
    pub to: ShardId,
    pub stream: StreamId,
    pub state: CopyState,
    /// Passes over the outgoing ids that ended; the first copies, the last verifies.
    pub passes: u64,
    /// Points and bytes sent whole, by all passes and drains.
    pub sent_points: u64,
    pub sent_bytes: u64,
    /// Ranges in which the running pass found a difference.
    pub repaired_ranges: u64,
    /// Ids that changed since they were sent.
    pub dirty: u64,
    /// Points of the slice, as the last whole pass counted them; 0 before it.
    pub slice_points: u64,
    /// Set once drained: both sides of this move under the fence.
    pub proof: Option<Proof>,
}

/// How far one move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// Capturing; nothing is sent yet.
    Waiting,
    /// A pass is running.
    Reconciling,
    /// The last pass found both sides equal, and few ids are dirty.
    Converged,
    /// Fenced, and the recipient acknowledged the last write.
    Drained,
}

/// Both sides of a move at the moment when nothing more can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof {
    pub attempt: Attempt,
    /// The number of the stream's last frame.
    pub seq: u64,
    pub donor: Digest,
    pub recipient: Digest,
}

/// A recipient's side of one move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecipientReport {
    pub from: ShardId,
    pub stream: StreamId,
    /// The last frame that is durable here.
    pub seq: u64,
    /// What this gate holds of the slice, from its own engine.
    pub digest: Digest,
    /// Set when the last frame was the donor's seal.
    pub sealed: Option<Sealed>,
}

/// The donor's word that nothing follows in this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sealed {
    pub attempt: Attempt,
    /// What the donor says it holds.
    pub donor: Digest,
}
