//! Collections as clients see them, and answers that are a number. Decides names of fields; counts nothing.

use serde::{Deserialize, Serialize};
use sheaf_types::CollectionConfig;

/// A collection in a list, or alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionView<'a> {
    #[serde(flatten)]
    pub config: &'a CollectionConfig,
    /// Points that whoever answers owns.
    pub count: u64,
    /// Whether the index holds every point; until then searches are exact, and slower.
    pub index_ready: bool,
}

/// `POST …/count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub count: u64,
}

/// `POST …/points`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    pub upserted: u64,
}

/// `DELETE …/points`: how many of the ids there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub deleted: u64,
}

/// `DELETE /v1/collections/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
}
