//! Documents, points with several vectors, in requests and answers.
//!
//! Decides how they are written; whether their vectors fit the collection is decided where its configuration is known.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sheaf_engines::Filter;
use sheaf_types::limits::{BATCH_POINTS_MAX, EF_SEARCH_MAX, K_MAX};
use sheaf_types::{PointBody, PointId};

use super::point::{Shown, brief, canonical_payload, check_id, too_many};
use super::query::{default_ef, default_k, filter, read, within, yes};
use crate::problem::Problem;

/// Vectors of one query. Source: as many as the longest texts have tokens.
const QUERY_VECTORS_MAX: usize = 1_024;

/// A document of an upsert.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: PointId,
    pub vectors: Vec<Vec<f32>>,
    /// In the canonical form.
    pub payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpsertBody<'a> {
    #[serde(borrow)]
    documents: Vec<DocumentInput<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentInput<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    vectors: Vec<Vec<f32>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// The documents of `POST …/documents`, in order.
///
/// # Errors
/// 400: the body is no upsert of documents, or over a limit. Nothing was applied.
pub fn read_upsert(body: &[u8]) -> Result<Vec<Document>, Problem> {
    let UpsertBody { documents } = serde_json::from_slice(body).map_err(|error| {
        let form = r#"{"documents": [{"id": string, "vectors": [[number]], "payload"?: object}]}"#;
        Problem::bad_request(format!("the body must be {form}; nothing was applied: {error}"))
    })?;
    if documents.len() > BATCH_POINTS_MAX {
        return Err(too_many(documents.len(), BATCH_POINTS_MAX));
    }
    let document = |input: DocumentInput<'_>| {
        let DocumentInput { id, vectors, payload } = input;
        check_id(&id)?;
        let payload = payload.map(canonical_payload).transpose().map_err(|what| {
            let id = brief(&id);
            Problem::bad_request(format!("the payload of {id} {what}; nothing was applied"))
        })?;
        Ok(Document { id: PointId::from(id.as_ref()), vectors, payload })
    };
    documents.into_iter().map(document).collect()
}

/// `POST …/documents/query`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentQuery {
    pub query: Vec<Vec<f32>>,
    #[serde(default = "default_k")]
    pub k: usize,
    #[serde(default)]
    filter: Option<Value>,
    /// All documents are scored, so there is nothing to tune; a wrong number is refused all the same.
    #[serde(default = "default_ef")]
    ef_search: usize,
    #[serde(default = "yes")]
    with_payload: bool,
    #[serde(default)]
    with_vector: bool,
}

impl DocumentQuery {
    /// # Errors
    /// 400: the body is no search for documents, or over a limit.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let query: Self =
            read(body, r#"{"query": [[number]], "k"?: number, "filter"?: object, …}"#)?;
        within("k", query.k, K_MAX)?;
        within("ef_search", query.ef_search, EF_SEARCH_MAX)?;
        within("the number of vectors in `query`", query.query.len(), QUERY_VECTORS_MAX)?;
        Ok(query)
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

/// Appends `{"id", "score", "vectors"?, "payload"?}`; a payload that is shown and absent is `null`. `vectors` splits a body.
///
/// # Errors
/// Never, for a buffer in memory.
pub fn write_document(
    to: &mut Vec<u8>,
    id: &PointId,
    score: f32,
    body: Option<&PointBody>,
    shown: Shown,
    vectors: impl FnOnce(&PointBody) -> Vec<Vec<f32>>,
) -> Result<(), serde_json::Error> {
    let plain = Shown { vector: false, ..shown };
    super::point::write_point(to, id, Some(score), body, plain)?;
    if let (true, Some(body)) = (shown.vector, body) {
        to.pop();
        to.extend_from_slice(b",\"vectors\":");
        serde_json::to_writer(&mut *to, &vectors(body))?;
        to.push(b'}');
    }
    Ok(())
}
