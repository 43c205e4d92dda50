//! All that a gate can ask for.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sheaf_map::{Map, Move, Moves};
use sheaf_protocol::{DirectiveRefusal, Frame, FrameRefusal, GateReport, Refusal, Verdict};
use sheaf_types::{
    CollectionConfig, CollectionId, MapVersion, PointId, ShardId, StoredPoint, Time,
};

use crate::event::Token;
use crate::record::GateRecord;

/// What the shell must do for the core.
///
/// Records are made durable one after the other, and each is reported by `Event::Persisted`. Nothing else has to wait:
/// the core never claims or serves what isn't durable.
#[must_use]
#[derive(Debug, Default)]
pub struct Effects {
    pub persist: Option<Persist>,
    pub engine: Vec<(JobId, EngineCall)>,
    pub send: Vec<Outgoing>,
    pub answer: Vec<(Token, Answer)>,
    /// Fetch a map of at least this version from a coordinator; answered by `MapLearned` or `MapUnavailable`.
    pub fetch_map: Option<MapVersion>,
    /// Call `handle` with `Event::Tick` no later than this. Wishes add up: an earlier one stays in force until its moment.
    pub wake: Option<(Time, WakeReason)>,
}

/// Make the record durable; if that fails, try again: later records wait.
#[derive(Clone, Debug)]
pub struct Persist {
    pub seq: u64,
    pub record: Arc<GateRecord>,
}

/// One record is on its way at a time: its number only names it, see `Serial`.
impl Hash for Persist {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.record.hash(state);
    }
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// A held request reaches its deadline.
    HeldRequest,
    /// A coordinator's poll is to be answered.
    Poll,
    /// A stream may send again.
    Stream,
    /// A sweep goes on.
    Sweep,
    /// An acknowledgement was delayed so that the dirty set can shrink.
    DelayedAnswer,
    /// A failed step is tried again.
    Retry,
}

/// Names one engine call of the core; never used twice within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// It only tells one call from another, see `Serial`.
impl Hash for JobId {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What the core asks of the engine for itself.
#[derive(Clone, Debug, Hash)]
pub enum EngineCall {
    CreateCollection { id: CollectionId, config: Arc<CollectionConfig> },
    DropCollection { id: CollectionId },
    Scan(Scan),
    Read { collection: CollectionId, ids: Vec<PointId> },
    Apply { collection: CollectionId, writes: Vec<Write> },
}

/// A page of ids (with hashes), or of whole points.
#[derive(Clone, Debug, Hash)]
pub struct Scan {
    pub collection: CollectionId,
    pub after: Option<PointId>,
    pub through: Option<PointId>,
    pub points_max: usize,
    pub bytes_max: usize,
    pub bodies: bool,
    pub select: Select,
}

/// Which points a scan returns.
#[derive(Clone, Debug, Hash)]
pub enum Select {
    /// Those of one move.
    Moving { moves: Moves, mv: Move },
    /// Those that `me` doesn't own in `map`.
    Foreign { map: Arc<Map>, me: ShardId },
}

/// A write of the core: ingest or sweep.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Write {
    Upsert(StoredPoint),
    Delete(PointId),
}

/// A frame for the gate of shard `frame.recipient`.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub url: String,
    pub frame: Frame,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    Directed(Result<Box<GateReport>, DirectiveRefusal>),
    Report(Box<GateReport>),
    Frame(Result<Verdict, FrameRefusal>),
    /// Have the engine do it, then say `Event::RequestDone`. See only what `scope` admits.
    Go {
        collection: CollectionId,
        version: MapVersion,
        scope: Scope,
    },
    /// Nothing was applied.
    Refused(Refusal),
    /// The request is done and its result may be answered.
    Deliver,
    /// The write may or may not have been applied.
    OutcomeUnknown,
}

/// Which points a request may see.
#[derive(Clone, Debug, Hash)]
pub enum Scope {
    /// Every point in the engine is owned: no filter is needed.
    All,
    /// Only those that `me` owns in `map`.
    Owned { map: Arc<Map>, me: ShardId },
}
