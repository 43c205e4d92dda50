//! Models: servers that make vectors of texts, or say how well texts answer a question.
//!
//! Decides how they are asked, and how much they may answer. Nothing is written while one is asked, so a failure always means that
//! nothing was applied.

mod embedding;
mod reranking;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::Serialize;
use sheaf_transport::{Limits, Transport, call_whole};

use crate::problem::Problem;

/// Bytes of an answer: a thousand vectors of 8,192 numbers, or all texts that were sent, with their scores.
const ANSWER_BYTES_MAX: usize = 192 * 1024 * 1024;

/// One model, as a server has it.
#[derive(Clone)]
pub struct Model {
    /// As the server calls it.
    pub name: String,
    /// Where it is asked, e.g. `http://127.0.0.1:11434/v1/embeddings`.
    pub url: String,
    /// The header that it is shown; `None`: none.
    pub authorization: Option<HeaderValue>,
    pub transport: Arc<dyn Transport>,
}

/// Never shows the key.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.url)
    }
}

/// The models of all collections that have one, by the collections' names.
#[derive(Clone, Debug, Default)]
pub struct Models {
    /// Who makes vectors of their texts.
    pub embedding: BTreeMap<String, Model>,
    /// Who ranks what was found again.
    pub reranking: BTreeMap<String, Model>,
}

impl Models {
    /// # Errors
    /// 501: the collection has none.
    pub fn embedding_of(&self, collection: &str) -> Result<&Model, Problem> {
        self.embedding.get(collection).ok_or_else(|| {
            Problem::not_implemented(format!(
                "no embedding model is set for the collection {collection:?}: start the router with --embedding '{collection}=MODEL@URL', or \
                 embed the text yourself and send its vector to /points or /query. Nothing was applied"
            ))
        })
    }
}

impl Model {
    /// The body of the answer, or why there is none.
    async fn ask(&self, wanted: &impl Serialize, timeout: Duration) -> Result<Bytes, String> {
        let body = serde_json::to_vec(wanted).map_err(|error| error.to_string())?;
        let mut request = Request::builder().method(Method::POST).uri(&self.url);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::from(body)).map_err(|error| error.to_string())?;
        let limits = Limits { timeout, answer_bytes_max: ANSWER_BYTES_MAX };
        let answer = call_whole(&*self.transport, request, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            let said: String = String::from_utf8_lossy(answer.body()).chars().take(300).collect();
            return Err(format!("it answered {}: {said}", answer.status()));
        }
        Ok(answer.into_body())
    }
}

/// What was said of each of `wanted` texts, in their order. Servers may answer in another one than they were asked.
fn in_order<T>(
    said: impl ExactSizeIterator<Item = (usize, T)>,
    what: &str,
    wanted: usize,
) -> Result<Vec<T>, String> {
    if said.len() != wanted {
        return Err(format!("it gave {} {what}s for {wanted} texts", said.len()));
    }
    let mut all: Vec<Option<T>> = std::iter::repeat_with(|| None).take(wanted).collect();
    for (index, one) in said {
        match all.get_mut(index) {
            Some(place @ None) => *place = Some(one),
            Some(Some(_)) => return Err(format!("it gave two {what}s for the text {index}")),
            None => return Err(format!("it gave a {what} for the text {index} of {wanted}")),
        }
    }
    Ok(all.into_iter().flatten().collect())
}
