//! What processes send each other: requests with their answers, as over HTTP.

use std::sync::Arc;

use sheaf_checkers::Stamp;
use sheaf_coordinator::{Ask, AskRefusal, Reply as AskReply};
use sheaf_gate::Seen;
use sheaf_map::Map;
use sheaf_protocol::{
    Directive, DirectiveRefusal, Frame, FrameRefusal, GateReport, Refusal, StreamId, Verdict,
};
use sheaf_router::Reason;
use sheaf_types::{MapVersion, PointId, ShardId};

/// A request and its answer, in the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What a client wants done with points.
#[derive(Clone, Debug)]
pub enum Work {
    Upsert(Vec<(PointId, Stamp)>),
    Delete(Vec<PointId>),
    Get(PointId),
    Gather,
    /// Upserts those that aren't there: half of a repair.
    Insert(Vec<(PointId, Stamp)>),
    /// Deletes points that the gate doesn't own: the other half.
    Discard(Vec<PointId>),
}

/// What an insert found where it was to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    Equal,
    Differs,
}

/// A client's request to a router.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    pub collection: Arc<str>,
    pub work: Work,
    pub timeout_ms: u64,
}

/// A request to a gate: a router's, or one of a repair, which names no map.
#[derive(Clone, Debug)]
pub struct DataRequest {
    pub version: Option<MapVersion>,
    pub shard: Option<ShardId>,
    pub collection: Arc<str>,
    pub work: Work,
    pub timeout_ms: u64,
}

/// What was found by a request; nothing for clients' writes.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub points: Vec<(PointId, Stamp)>,
    pub inserted: Vec<(PointId, Inserted)>,
}

/// A gate's answer to a router.
#[derive(Clone, Debug)]
pub enum DataReply {
    Done {
        version: MapVersion,
        found: Found,
    },
    Refused(Refusal),
    /// 504: it may or may not have been applied.
    Unknown,
}

/// A router's answer to a client: what became of each item.
#[derive(Clone, Debug)]
pub enum ClientReply {
    Done(Found),
    /// Item numbers that were applied, surely not applied; all others are unknown.
    Parts {
        applied: Vec<u32>,
        not_applied: Vec<u32>,
        reason: Reason,
    },
}

/// A request.
#[derive(Clone, Debug)]
pub enum Message {
    Directive { directive: Arc<Directive>, wait_ms: u64, seen: Seen },
    ReportWanted,
    Frame(Arc<Frame>),
    MapWanted { after: Option<MapVersion>, wait_ms: u64 },
    Data(Arc<DataRequest>),
    Client(Arc<ClientRequest>),
    Ask(Arc<AskMessage>),
}

/// A change that an operator asks for.
#[derive(Clone, Debug)]
pub struct AskMessage {
    pub ask: Ask,
    pub key: Option<String>,
    pub expects: Option<MapVersion>,
    pub timeout_ms: u64,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Directed(Result<Box<GateReport>, DirectiveRefusal>),
    Report(Box<GateReport>),
    Frame(Result<Verdict, FrameRefusal>),
    Map(Arc<Map>),
    Data(DataReply),
    Client(ClientReply),
    Asked(Result<Box<AskReply>, Box<AskRefusal>>),
    /// The process isn't ready: surely nothing was done.
    NotReady,
    /// No answer came.
    Lost,
    /// The connection was refused: surely nothing was done.
    NotSent,
}

/// What the caller does with the answer.
#[derive(Clone, Debug)]
pub enum Purpose {
    Directive { shard: ShardId, poll: u64 },
    Identify { url: String },
    Frame { recipient: ShardId, stream: StreamId, seq: u64 },
    GateMap,
    RouterMap { keeper: bool },
    Data { operation: u64, call: sheaf_router::CallId },
    Client { number: u32 },
    Ask { number: u64 },
    Repair { number: u64 },
}
