//! All that can happen to a gate.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sheaf_map::Map;
use sheaf_protocol::{Directive, Frame, FrameRefusal, StreamId, Verdict};
use sheaf_types::{
    CollectionId, Incarnation, MapVersion, PointHash, PointId, ShardId, StoredPoint, Time,
};

use crate::effect::JobId;
use sheaf_protocol::Load;

/// Names one question to the core; the shell never uses one twice within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// It only tells one question from another, see `Serial`.
impl Hash for Token {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed; every deadline is looked at.
    Tick,
    /// The coordinator says what should be so, and waits for news until `deadline`.
    Directed { token: Token, directive: Box<Directive>, seen: Seen, deadline: Time },
    /// Someone asks who and how this gate is.
    ReportWanted { token: Token },
    /// A frame of a donor's stream.
    FrameArrived { token: Token, frame: Box<Frame> },
    /// A client's request, by way of a router or directly.
    Requested { token: Token, request: Request },
    /// The engine has carried out a request that was answered with `Go`.
    RequestDone { token: Token, outcome: Outcome },
    /// The client of a request is gone. Does nothing to a request that is already `Go`.
    RequestAbandoned { token: Token },
    /// The answer to one of the core's own engine calls.
    EngineAnswered { job: JobId, reply: EngineReply },
    /// The answer to a frame that this gate sent as a donor.
    FrameAnswered { recipient: ShardId, stream: StreamId, seq: u64, answer: FrameAnswer },
    /// A map was fetched from a coordinator.
    MapLearned { map: Arc<Map> },
    /// A map could not be fetched; waiting requests stay until their deadlines.
    MapUnavailable,
    /// The record with this number is durable.
    Persisted { seq: u64 },
    /// How full and busy the gate is, sampled by the shell.
    Sampled { load: Load },
}

/// The newest report that the coordinator has seen of this gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub incarnation: Incarnation,
    pub seq: u64,
}

/// A request as far as the core needs to know it; vectors and payloads stay in the shell.
#[derive(Clone, Debug, Hash)]
pub struct Request {
    /// The version of the router's map; `None`: the caller knows no map.
    pub version: Option<MapVersion>,
    /// The shard that the router believes to ask.
    pub shard: Option<ShardId>,
    pub collection: String,
    pub operation: Operation,
    /// A request that is still held then is refused.
    pub deadline: Time,
}

/// What a request touches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads these points.
    Read { ids: Vec<PointId> },
    /// Changes these points.
    Write { ids: Vec<PointId>, change: Change },
    /// Reads any point that this gate owns (search, fetch, count): answered at exactly one map version.
    Gather,
}

/// How points are changed. The last two are the halves of a repair, and for unproven gates only (ADR 0006).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Upsert,
    Delete,
    /// Upserts those that aren't there.
    Insert,
    /// Deletes points that this gate doesn't own, and whose owner surely has them.
    Discard,
}

/// What the engine did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Carried out; writes are durable.
    Done,
    /// Surely nothing was applied.
    Failed,
    /// It may have been applied. That is settled: it changes nothing after this (ADR 0003).
    Unknown,
}

/// What became of a frame that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FrameAnswer {
    Carried(Verdict),
    Refused(FrameRefusal),
    /// No answer came: it may or may not have been carried out.
    Lost,
}

/// The engine's answer to a call of the core.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum EngineReply {
    Page(Page),
    /// In the order of the ids that were asked for.
    Points(Vec<Option<StoredPoint>>),
    /// What each write changed, in order.
    Applied(Vec<Changed>),
    /// A collection was created or dropped.
    Done,
    /// The engine can't hold such a collection, or one of these points. Nothing was applied.
    CannotHold {
        reason: String,
    },
    /// The collection is not there.
    NoCollection(CollectionId),
    /// It failed; a write may or may not have been applied.
    Failed {
        reason: String,
    },
}

/// One page of a scan, in the order of ids.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Page {
    pub points: Vec<Scanned>,
    /// Looked at everything through this id; `None`: through the end of what was asked for.
    pub looked_through: Option<PointId>,
}

/// A point in a page; `point` is there when bodies were asked for.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Scanned {
    pub id: PointId,
    pub hash: PointHash,
    pub point: Option<StoredPoint>,
}

/// A point's hash before and after a write; `None` where there is no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Changed {
    pub old: Option<PointHash>,
    pub new: Option<PointHash>,
}
