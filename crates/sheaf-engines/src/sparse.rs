//! Sparse vectors and texts in payloads, and what a query's rank by them is: the sparse half of hybrid search.
//!
//! Both live in payloads under reserved keys, so they are stored, moved and compared as payloads are, in every engine. What is
//! found there, how text becomes terms and how terms score is the public API's: clients of a single Quiver node get the same lists.

mod engine;
mod index;
mod tokens;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use engine::SparseEngine;
pub use index::Ranked;
pub use tokens::query_terms;

/// The payload's key of a sparse vector, `{"indices": [u32], "values": [f32]}`.
pub const SPARSE_KEY: &str = "__quiver_sparse__";
/// The payload's key of a text. Counts only where there is no sparse vector.
pub const TEXT_KEY: &str = "__quiver_text__";

/// BM25: how fast a term's repetitions saturate. Source: the public API.
const BM25_K1: f32 = 1.2;
/// BM25: how much a document's length counts. Source: the public API.
const BM25_B: f32 = 0.75;

/// Weights by term, each term once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    weights: BTreeMap<u32, f32>,
}

#[derive(Deserialize)]
struct Stored {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// Of a query: the last weight of a term that is named twice counts.
    pub fn of_query(indices: &[u32], values: &[f32]) -> Self {
        Self { weights: indices.iter().copied().zip(values.iter().copied()).collect() }
    }

    /// What a payload holds. A sparse vector that is malformed (no numbers, lists of different lengths, a term twice)
    /// counts as none, and the text beside it isn't looked at.
    pub fn of_payload(payload: Option<&str>) -> Option<Self> {
        let payload = payload?;
        // Most payloads have neither key, and needn't be parsed to know it.
        if !payload.contains("__quiver_") && !payload.contains("\\u") {
            return None;
        }
        let payload: Value = serde_json::from_str(payload).ok()?;
        let payload = payload.as_object()?;
        if let Some(stored) = payload.get(SPARSE_KEY) {
            let Stored { indices, values } = Stored::deserialize(stored).ok()?;
            let vector = Self::of_query(&indices, &values);
            let is_sound = indices.len() == values.len() && vector.weights.len() == indices.len();
            return is_sound.then_some(vector);
        }
        let text = payload.get(TEXT_KEY)?.as_str()?;
        let mut weights = BTreeMap::new();
        tokens::each(text, |term| *weights.entry(term).or_insert(0.0) += 1.0);
        Some(Self { weights })
    }
}

/// What BM25 has to know of all documents: added up over shards, it is that of one big node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Points with a sparse vector or a text.
    pub documents: u64,
    /// The sum of their lengths; a length is the sum of a document's weights.
    pub length: f64,
    /// In how many documents each of the query's terms is, in the order of the terms.
    pub frequencies: Vec<u64>,
}

impl Statistics {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.length += other.length;
        self.frequencies.resize(self.frequencies.len().max(other.frequencies.len()), 0);
        for (mine, theirs) in self.frequencies.iter_mut().zip(&other.frequencies) {
            *mine += theirs;
        }
    }

    /// How much a term weighs that is in so many documents, never below zero.
    fn inverse_frequency(&self, of_term: u64) -> f64 {
        let (all, with) = (self.documents as f64, of_term as f64);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }

    /// What a term with this weight and inverse frequency adds to a document of this length.
    fn score(&self, inverse_frequency: f64, weight: f32, length: f32) -> f32 {
        let mean = (self.length / self.documents as f64).max(f64::MIN_POSITIVE);
        let (k1, b) = (f64::from(BM25_K1), f64::from(BM25_B));
        let weight = f64::from(weight);
        let saturation = weight + k1 * (1.0 - b + b * (f64::from(length) / mean));
        (inverse_frequency * (weight * (k1 + 1.0)) / saturation) as f32
    }
}

/// What points are ranked by.
#[derive(Clone, Debug, PartialEq)]
pub enum SparseQuery {
    /// The inner product with a sparse vector.
    Vector(SparseVector),
    /// BM25 over these terms, each of them once.
    Text { terms: Vec<u32>, statistics: Statistics },
}

#[cfg(test)]
mod tests;
