//! Embedding models: texts become vectors by a server that speaks the embeddings API of OpenAI, as Ollama, vLLM and many others do.
//!
//! Decides what such a server is asked and what of its answer can be right. Nothing is written while it is asked, so a failure
//! always means that nothing was applied.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use sheaf_transport::{Limits, Transport, call_whole};

use crate::problem::Problem;

/// Bytes of an answer: a thousand vectors of 8,192 numbers.
const ANSWER_BYTES_MAX: usize = 192 * 1024 * 1024;

/// The model of one collection.
#[derive(Clone, PartialEq, Eq)]
pub struct Model {
    /// As the server calls it.
    pub name: String,
    /// Where it is asked, e.g. `http://127.0.0.1:11434/v1/embeddings`.
    pub url: String,
    /// The header that it is shown; `None`: none.
    pub authorization: Option<HeaderValue>,
}

/// Never shows the key.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.url)
    }
}

/// The models of all collections that have one, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models(BTreeMap<String, Model>);

/// What a server is asked.
#[derive(Serialize)]
struct Wanted<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedded>,
}

/// One vector. Servers may answer in another order than they were asked.
#[derive(Deserialize)]
struct Embedded {
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl Models {
    pub fn new(models: BTreeMap<String, Model>) -> Self {
        Self(models)
    }

    /// # Errors
    /// 501: the collection has none.
    pub fn of(&self, collection: &str) -> Result<&Model, Problem> {
        self.0.get(collection).ok_or_else(|| {
            Problem::not_implemented(format!(
                "no embedding model is set for the collection {collection:?}: start the router with --embedding '{collection}=MODEL@URL', or \
                 embed the text yourself and send its vector to /points or /query. Nothing was applied"
            ))
        })
    }
}

impl Model {
    /// A vector for each text, in their order.
    ///
    /// # Errors
    /// 502: the server doesn't answer, or not with that. Nothing was applied anywhere.
    pub async fn embed(
        &self,
        transport: &Arc<dyn Transport>,
        texts: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Vec<f32>>, Problem> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let body = serde_json::to_vec(&Wanted { model: &self.name, input: texts });
        let body = body.map_err(|error| self.failed(&error.to_string()))?;
        let mut request = Request::builder().method(Method::POST).uri(&self.url);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::from(body));
        let request = request.map_err(|error| self.failed(&error.to_string()))?;
        let limits = Limits { timeout, answer_bytes_max: ANSWER_BYTES_MAX };
        let answer = call_whole(&**transport, request, limits).await;
        let answer = answer.map_err(|error| self.failed(&error.to_string()))?;
        if !answer.status().is_success() {
            let said: String = String::from_utf8_lossy(answer.body()).chars().take(300).collect();
            return Err(self.failed(&format!("it answered {}: {said}", answer.status())));
        }
        read(answer.body(), texts.len()).map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &str) -> Problem {
        Problem::new(
            StatusCode::BAD_GATEWAY,
            format!(
                "the text could not be embedded by {} at {}: {why}. Nothing was applied; ask again",
                self.name, self.url
            ),
        )
    }
}

/// The vectors in the order in which they were asked for, or what is wrong with the answer.
fn read(body: &[u8], wanted: usize) -> Result<Vec<Vec<f32>>, String> {
    let Answer { data } = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is none of the embeddings API ({error})"))?;
    if data.len() != wanted {
        return Err(format!("it gave {} vectors for {wanted} texts", data.len()));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; wanted];
    for (at, Embedded { index, embedding }) in data.into_iter().enumerate() {
        let index = index.unwrap_or(at);
        match vectors.get_mut(index) {
            Some(vector @ None) => *vector = Some(embedding),
            Some(Some(_)) => return Err(format!("it gave two vectors for the text {index}")),
            None => return Err(format!("it gave a vector for the text {index} of {wanted}")),
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(answer: &serde_json::Value, wanted: usize) -> Result<Vec<Vec<f32>>, String> {
        read(answer.to_string().as_bytes(), wanted)
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts_whatever_the_servers_order() {
        let row = |index: usize| serde_json::json!({"index": index, "embedding": [index, 0.5]});
        let answer = serde_json::json!({"data": [row(2), row(0), row(1)]});
        assert_eq!(vectors(&answer, 3).unwrap(), [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]);
        let bare = serde_json::json!({"data": [{"embedding": [1]}, {"embedding": [2]}]});
        assert_eq!(vectors(&bare, 2).unwrap(), [[1.0], [2.0]]);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let row = |index: usize| serde_json::json!({"index": index, "embedding": [1]});
        for (rows, wanted) in [(vec![0], 2), (vec![0, 0], 2), (vec![0, 2], 2), (vec![0, 1], 1)] {
            let rows: Vec<_> = rows.into_iter().map(row).collect();
            assert!(vectors(&serde_json::json!({ "data": rows }), wanted).is_err());
        }
        assert!(vectors(&serde_json::json!({"oops": 1}), 1).is_err());
        assert!(vectors(&serde_json::json!({"data": [{"embedding": ["x"]}]}), 1).is_err());
    }
}
