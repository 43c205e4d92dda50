//! What checkers are told: facts that an observer of the whole cluster could see. Decides nothing.

use std::sync::Arc;

use sheaf_map::Map;
use sheaf_protocol::{Directive, GateReport, Order};
use sheaf_types::{
    Attempt, CollectionId, Incarnation, MapVersion, PointId, Revision, ShardId, Term, TransitionId,
};

/// A process with a disk or a gate: the harness numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One call of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Names the write that made a point: unique within a run, so every read names its writer.
pub type Stamp = u64;

/// A point as a client addresses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    pub collection: Arc<str>,
    pub id: PointId,
}

/// A point as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointAt {
    pub collection: CollectionId,
    pub id: PointId,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Call {
    Upsert {
        collection: Arc<str>,
        points: Vec<(PointId, Stamp)>,
    },
    Delete {
        collection: Arc<str>,
        ids: Vec<PointId>,
    },
    Get {
        collection: Arc<str>,
        id: PointId,
    },
    /// Every point of the collection: a search without bounds.
    Gather {
        collection: Arc<str>,
    },
    Create {
        collection: Arc<str>,
    },
    Drop {
        collection: Arc<str>,
    },
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Carried out, all of it.
    Done,
    /// The answer to a get.
    Point(Option<Stamp>),
    /// The answer to a gather.
    Points(Vec<(PointId, Stamp)>),
    /// Surely nothing was applied.
    Refused,
    /// It may have been applied, wholly or partly, now or later.
    Unknown,
}

/// What a coordinator's store holds.
#[derive(Clone, Debug)]
pub struct Decided {
    pub term: Term,
    pub revision: Revision,
    pub map: Arc<Map>,
    pub running: Option<Running>,
}

/// The running transition, as stored.
#[derive(Clone, Debug)]
pub struct Running {
    pub id: TransitionId,
    pub attempt: Attempt,
    pub phase: Phase,
    /// How long a fence may take before it is backed out.
    pub fence_budget_ms: u64,
    /// The map that the commit makes current; the current one after it.
    pub next: Arc<Map>,
}

/// The phase of a transition, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Prepare,
    Copy,
    Fence,
    Sweep,
    Abort,
}

/// What a gate's ledger holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub incarnation: Incarnation,
    pub shard: Option<ShardId>,
    pub term: Term,
    pub revision: Revision,
    pub map: Option<Arc<Map>>,
    pub order: Option<Order>,
    pub clean: bool,
    /// It may hold the only copy of what another shard owns (ADR 0006).
    pub unproven: bool,
}

/// Who changed a point in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A client's request.
    Request,
    /// The gate itself: ingest or sweep.
    Gate,
    /// Nobody: it was there before Sheaf.
    Found,
}

/// What remains when everything should be over.
#[derive(Clone, Debug)]
pub struct EndState {
    /// Transitions that neither committed nor aborted, and those that still wait.
    pub unfinished: Vec<TransitionId>,
    /// Nodes that hold foreign points or aren't clean, with the reason.
    pub unclean: Vec<(NodeId, String)>,
    /// Routers that don't know the current map: number and version.
    pub stale_routers: Vec<(u32, Option<MapVersion>)>,
    /// Client calls that never ended.
    pub hanging: Vec<OpId>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A client sent a call.
    Invoked { op: OpId, call: Arc<Call> },
    /// Its answer arrived, or its patience ended (`Unknown`).
    Returned { op: OpId, answer: Answer },

    /// A gate started on its ledger.
    GateStarted { node: NodeId, held: Held },
    /// A gate's ledger is durable with this.
    Persisted { node: NodeId, held: Held },
    /// A directive reached a gate.
    Directed { node: NodeId, directive: Box<Directive> },
    /// A gate learned a map that it had fetched.
    MapFetched { node: NodeId, map: Arc<Map> },
    /// A gate answered with a report.
    Reported { node: NodeId, report: Box<GateReport> },
    /// A gate's core let a request go to its engine; `gather`: one that reads every owned point.
    Admitted {
        node: NodeId,
        shard: Option<ShardId>,
        version: MapVersion,
        gather: bool,
        points: Vec<PointAt>,
    },
    /// A gate's core acknowledged a write to its caller.
    Acknowledged { node: NodeId, shard: Option<ShardId>, version: MapVersion, points: Vec<PointAt> },
    /// A gate's core let the result of a read go to its caller: `points` were looked at, or found.
    Served { node: NodeId, shard: Option<ShardId>, version: MapVersion, points: Vec<PointAt> },
    /// An engine's contents changed; `None` where there is no point.
    Applied {
        node: NodeId,
        shard: Option<ShardId>,
        by: By,
        point: PointAt,
        before: Option<Stamp>,
        after: Option<Stamp>,
    },

    /// The coordinator's store holds this now.
    Stored { decided: Box<Decided> },
    /// A coordinator handed a directive to its network.
    DirectiveSent { directive: Box<Directive> },
    /// A coordinator published a map to those who ask it.
    Published { map: Arc<Map> },
    /// A router uses this map. `life` differs after a restart.
    RouterAdopted { router: u32, life: u32, version: MapVersion },

    /// What an engine holds: told for every node before each commit and at the end. `unsettled`: a write of unknown
    /// outcome may still change the point.
    Holds { node: NodeId, shard: Option<ShardId>, points: Arc<[HeldPoint]> },
    /// All faults are over, for ever.
    Healed,
    /// Everything should be quiet now.
    Ended { state: Box<EndState> },
}

/// What a fact is about: a checker says which it hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invoked,
    Returned,
    GateStarted,
    Persisted,
    Directed,
    MapFetched,
    Reported,
    Admitted,
    Acknowledged,
    Served,
    Applied,
    Stored,
    DirectiveSent,
    Published,
    RouterAdopted,
    Holds,
    Healed,
    Ended,
}

impl Kind {
    pub const ALL: [Self; 18] = [
        Self::Invoked,
        Self::Returned,
        Self::GateStarted,
        Self::Persisted,
        Self::Directed,
        Self::MapFetched,
        Self::Reported,
        Self::Admitted,
        Self::Acknowledged,
        Self::Served,
        Self::Applied,
        Self::Stored,
        Self::DirectiveSent,
        Self::Published,
        Self::RouterAdopted,
        Self::Holds,
        Self::Healed,
        Self::Ended,
    ];
}

impl Fact {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invoked { .. } => Kind::Invoked,
            Self::Returned { .. } => Kind::Returned,
            Self::GateStarted { .. } => Kind::GateStarted,
            Self::Persisted { .. } => Kind::Persisted,
            Self::Directed { .. } => Kind::Directed,
            Self::MapFetched { .. } => Kind::MapFetched,
            Self::Reported { .. } => Kind::Reported,
            Self::Admitted { .. } => Kind::Admitted,
            Self::Acknowledged { .. } => Kind::Acknowledged,
            Self::Served { .. } => Kind::Served,
            Self::Applied { .. } => Kind::Applied,
            Self::Stored { .. } => Kind::Stored,
            Self::DirectiveSent { .. } => Kind::DirectiveSent,
            Self::Published { .. } => Kind::Published,
            Self::RouterAdopted { .. } => Kind::RouterAdopted,
            Self::Holds { .. } => Kind::Holds,
            Self::Healed => Kind::Healed,
            Self::Ended { .. } => Kind::Ended,
        }
    }
}

/// A point that a node holds, or may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPoint {
    pub point: PointAt,
    pub stamp: Option<Stamp>,
    pub unsettled: bool,
}
