//! What gates answer to other nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_protocol::{DirectiveRefusal, FrameRefusal, GateReport, Verdict};
use sheaf_types::{CollectionConfig, Digest, MapVersion, PointId};

/// `POST /internal/directive`: 200 with a report or the wish for the map that was left out, 409 with a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectiveReply {
    Report(Box<GateReport>),
    Refusal(DirectiveRefusal),
    /// Nothing was done: the directive must have its map in it.
    MapNeeded,
}

/// `POST /internal/frame`: 200 in either case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameReply {
    Carried(Verdict),
    Refused(FrameRefusal),
}

/// `GET /internal/audit`: what a scan of everything found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReply {
    /// The map by which points were judged.
    pub version: MapVersion,
    /// The owned points of each collection, by its name.
    pub owned: BTreeMap<String, Digest>,
    pub foreign_points: u64,
    /// The first of them.
    pub foreign_ids: Vec<PointId>,
}

/// `GET /internal/engine`: what is behind a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineReply {
    /// Where the database is; `None`: nobody else could reach it.
    pub place: Option<String>,
    /// Collections that were there before Sheaf.
    pub collections: Vec<AdoptableReply>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdoptableReply {
    pub config: CollectionConfig,
    pub points: u64,
    /// Why it can't be taken over.
    pub obstacle: Option<String>,
}

/// `GET /internal/strays?collection=NAME&after=ID`: points that another shard owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StraysReply {
    pub points: Vec<StrayPoint>,
    /// Looked at everything up to this id; `None`: to the end.
    pub looked_through: Option<PointId>,
}

/// A point between two gates; its payload as the text that is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrayPoint {
    pub id: PointId,
    pub vector: Vec<f32>,
    pub payload: Option<String>,
}

/// `POST /internal/insert`: points to be there unless others are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsertBody {
    pub collection: String,
    pub points: Vec<StrayPoint>,
}

/// What an insert found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsertReply {
    pub points: Vec<InsertedPoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InsertedPoint {
    New(PointId),
    Equal(PointId),
    Differs(PointId),
}

/// `POST /internal/discard`: points that another shard owns and surely has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardBody {
    pub collection: String,
    pub ids: Vec<PointId>,
}

/// `POST /internal/holds` with configurations: why the engine can't hold some of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldsReply {
    pub refusals: Vec<String>,
}

/// `POST /v1/snapshot` of one shard: what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedReply {
    pub data_dir: PathBuf,
    /// Where the engine's server wrote its own, on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<PathBuf>,
}
