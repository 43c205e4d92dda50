//! Hybrid search: what clients ask for, and the three questions that a router asks gates for it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sheaf_engines::Filter;
use sheaf_engines::sparse::Statistics;
use sheaf_types::PointId;
use sheaf_types::limits::{EF_SEARCH_MAX, K_MAX, SPARSE_TERMS_MAX};

use super::point::Shown;
use super::query::{default_ef, default_k, filter, read, within, yes};
use crate::problem::Problem;

/// `POST …/query/hybrid` at a router.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hybrid<'a> {
    #[serde(borrow, default)]
    pub vector: Option<&'a RawValue>,
    #[serde(default)]
    pub sparse_indices: Option<Vec<u32>>,
    #[serde(default)]
    pub sparse_values: Option<Vec<f32>>,
    #[serde(default)]
    pub query_text: Option<String>,
    #[serde(default = "default_k")]
    pub k: usize,
    #[serde(borrow, default)]
    pub filter: Option<&'a RawValue>,
    #[serde(default = "default_ef")]
    pub ef_search: usize,
    #[serde(default = "default_k0")]
    pub rrf_k0: f32,
    #[serde(default = "yes")]
    pub with_payload: bool,
    #[serde(default)]
    pub with_vector: bool,
}

fn default_k0() -> f32 {
    60.0
}

impl<'a> Hybrid<'a> {
    /// # Errors
    /// 400: the body is no hybrid search, or over a limit.
    pub fn read(body: &'a [u8]) -> Result<Self, Problem> {
        let form = r#"{"vector"?: [number], "sparse_indices"? and "sparse_values"?: [number], "query_text"?: string, …}"#;
        let query: Self = read(body, form)?;
        within("k", query.k, K_MAX)?;
        within("ef_search", query.ef_search, EF_SEARCH_MAX)?;
        let terms = match (&query.sparse_indices, &query.sparse_values) {
            (None, None) => 0,
            (Some(indices), Some(values)) if indices.len() == values.len() => indices.len(),
            _ => {
                return Err(Problem::bad_request(
                    "`sparse_indices` and `sparse_values` must be given together and have the same length",
                ));
            }
        };
        within("the number of `sparse_indices`", terms, SPARSE_TERMS_MAX)?;
        if query.vector.is_none() && query.sparse_indices.is_none() && query.query_text.is_none() {
            return Err(Problem::bad_request(
                "a hybrid search needs a `vector`, a sparse vector or a `query_text`",
            ));
        }
        Ok(query)
    }
}

/// `POST …/query/hybrid:statistics` → [`Statistics`].
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticsWanted {
    pub query_text: String,
}

/// `POST …/query/hybrid:lists` → [`Lists`]: the candidates of one shard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListsWanted {
    #[serde(default)]
    pub vector: Option<Vec<f32>>,
    #[serde(default)]
    pub sparse_indices: Vec<u32>,
    /// `None`: no list of this kind is wanted.
    #[serde(default)]
    pub sparse_values: Option<Vec<f32>>,
    #[serde(default)]
    pub query_text: Option<String>,
    /// Of the whole cluster, for the terms of `query_text`.
    #[serde(default)]
    pub statistics: Statistics,
    #[serde(default)]
    filter: Option<Value>,
    pub ef_search: usize,
    /// Candidates of each list.
    pub depth: usize,
}

impl ListsWanted {
    /// # Errors
    /// 400: the body is something else, or over a limit.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let wanted: Self = read(body, "as a router sends it")?;
        within("depth", wanted.depth, 10 * K_MAX)?;
        within("ef_search", wanted.ef_search, EF_SEARCH_MAX)?;
        Ok(wanted)
    }

    /// # Errors
    /// 400: the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>, Problem> {
        filter(self.filter.as_ref())
    }
}

/// The lists that were asked for, each best first.
#[derive(Default, Serialize)]
pub struct Lists {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<Vec<Listed>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Vec<Listed>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<Listed>>,
}

#[derive(Serialize)]
pub struct Listed {
    pub id: PointId,
    pub score: f32,
    /// Whether the filter doesn't hold for it: it takes its place among the nearest, and isn't shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub filtered_out: bool,
}

impl Listed {
    /// JSON has no infinity: what is beyond any number stays the best or the worst.
    pub fn new(id: PointId, score: f32) -> Self {
        Self { id, score: score.clamp(f32::MIN, f32::MAX), filtered_out: false }
    }
}

/// `POST …/points:get` → `{"points": […]}`: those that exist and that the filter holds for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointsWanted {
    pub ids: Vec<PointId>,
    #[serde(default)]
    filter: Option<Value>,
    with_payload: bool,
    with_vector: bool,
}

impl PointsWanted {
    /// # Errors
    /// 400: the body is something else, or over a limit.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let form =
            r#"{"ids": [string], "with_payload": bool, "with_vector": bool, "filter"?: object}"#;
        let wanted: Self = read(body, form)?;
        within("the number of `ids`", wanted.ids.len(), K_MAX)?;
        Ok(wanted)
    }

    /// # Errors
    /// 400: the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>, Problem> {
        filter(self.filter.as_ref())
    }

    pub fn shown(&self) -> Shown {
        Shown { payload: self.with_payload, vector: self.with_vector }
    }
}
