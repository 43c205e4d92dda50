//! What gates answer to other nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_protocol::{DirectiveRefusal, FrameRefusal, GateReport, Verdict};
use sheaf_types::{Digest, MapVersion, PointId};

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
