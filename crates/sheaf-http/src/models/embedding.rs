//! Texts become vectors, by a server that speaks the embeddings API of OpenAI, as Ollama, vLLM and many others do.
//!
//! Decides what of its answer can be right.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Model, in_order};
use crate::problem::Problem;

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

#[derive(Deserialize)]
struct Embedded {
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl Model {
    /// A vector for each text, in their order.
    ///
    /// # Errors
    /// 502: the server doesn't answer, or not with that. Nothing was applied anywhere.
    pub async fn embed(&self, texts: &[&str], timeout: Duration) -> Result<Vec<Vec<f32>>, Problem> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = Wanted { model: &self.name, input: texts };
        let answer = self.ask(&wanted, timeout).await;
        answer.and_then(|answer| read(&answer, texts.len())).map_err(|why| {
            let said = format!(
                "the text could not be embedded by {self}: {why}. Nothing was applied; ask again"
            );
            Problem::new(StatusCode::BAD_GATEWAY, said)
        })
    }
}

/// The vectors in the order in which they were asked for, or what is wrong with the answer.
fn read(body: &[u8], wanted: usize) -> Result<Vec<Vec<f32>>, String> {
    let Answer { data } = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is none of the embeddings API ({error})"))?;
    let rows = data.into_iter().enumerate();
    in_order(rows.map(|(at, row)| (row.index.unwrap_or(at), row.embedding)), "vector", wanted)
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
