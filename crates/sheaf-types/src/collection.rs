//! A collection's configuration: the whole of it travels in the map, so every shard has the same.

use serde::{Deserialize, Serialize};

/// How near two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Squared Euclidean distance: lower is better.
    #[default]
    L2,
    /// Cosine similarity: higher is better. A zero vector has none and is refused.
    Cosine,
    /// Inner product: higher is better.
    Dot,
}

impl Metric {
    /// Whether a lower score is the better one.
    pub fn lower_is_better(self) -> bool {
        match self {
            Self::L2 => true,
            Self::Cosine | Self::Dot => false,
        }
    }
}

/// The index that the user asked for. An engine that has no such index says so when the collection is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    #[default]
    Hnsw,
    Vamana,
    DiskVamana,
    Ivf,
    Colbert,
}

/// The type by which a payload field is compared in filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    Keyword,
    Numeric,
}

/// A payload field announced for filtering.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterableField {
    /// Dotted path into the payload.
    pub path: String,
    pub field_type: FieldType,
}

/// Everything that makes up a collection but its points.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionConfig {
    pub name: String,
    /// Numbers in a vector.
    pub dim: u32,
    #[serde(default)]
    pub metric: Metric,
    #[serde(default)]
    pub index: IndexKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pq_subspaces: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filterable: Vec<FilterableField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multivector: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_encryption: Option<bool>,
}

impl CollectionConfig {
    /// Whether its points are documents: each has one or several vectors, one after the other in its body.
    pub fn holds_documents(&self) -> bool {
        self.multivector == Some(true)
    }
}
