//! A collection's configuration: the whole of it travels in the map, so every shard has the same.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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

/// What clients do to vectors before they send them; whoever stores them never has the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorEncryption {
    #[default]
    None,
    /// Distances keep their order under `l2`, so they are ranked as any others.
    Dcpe,
    /// The vector is in the payload, sealed, and zeros are in its place: it is stored, and never ranked.
    ClientSide,
}

impl VectorEncryption {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A word; `false` in maps and records from before there were words.
struct EncryptionVisitor;

impl Visitor<'_> for EncryptionVisitor {
    type Value = VectorEncryption;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one of none, dcpe and client_side")
    }

    fn visit_bool<E: Error>(self, set: bool) -> Result<Self::Value, E> {
        if set {
            Err(E::invalid_value(Unexpected::Bool(set), &self))
        } else {
            Ok(Self::Value::None)
        }
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        match word {
            "none" => Ok(VectorEncryption::None),
            "dcpe" => Ok(VectorEncryption::Dcpe),
            "client_side" => Ok(VectorEncryption::ClientSide),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for VectorEncryption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EncryptionVisitor)
    }
}

/// A payload field announced for filtering.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterableField {
    /// Dotted path into the payload.
    pub path: String,
    /// Routers of Quiver's own call it `type` when they hand on a new collection.
    #[serde(alias = "type")]
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
    #[serde(default, skip_serializing_if = "VectorEncryption::is_none")]
    pub vector_encryption: VectorEncryption,
}

impl CollectionConfig {
    /// Whether its points are documents: each has one or several vectors, one after the other in its body.
    pub fn holds_documents(&self) -> bool {
        self.multivector == Some(true)
    }
}
