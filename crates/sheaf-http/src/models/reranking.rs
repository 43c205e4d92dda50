//! Texts get a score for a question, by a server that speaks the rerank API of Cohere, as Jina, vLLM, llama.cpp and others do.
//!
//! Decides what of its answer can be right: exactly one finite score for each text.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Model, in_order};
use crate::problem::Problem;

/// What a server is asked.
#[derive(Serialize)]
struct Wanted<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [String],
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    /// JSON has no other than finite numbers, and those that are too large for this one are refused.
    relevance_score: f32,
}

impl Model {
    /// A score for each text, in their order; higher is better.
    ///
    /// # Errors
    /// 502: the server doesn't answer, or not with that.
    pub async fn rerank(
        &self,
        question: &str,
        texts: &[String],
        timeout: Duration,
    ) -> Result<Vec<f32>, Problem> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = Wanted { model: &self.name, query: question, documents: texts };
        let answer = self.ask(&wanted, timeout).await;
        answer.and_then(|answer| read(&answer, texts.len())).map_err(|why| {
            let said = format!(
                "what was found could not be ranked by {self}: {why}. The data is as it was; ask again, or leave `rerank` out"
            );
            Problem::new(StatusCode::BAD_GATEWAY, said)
        })
    }
}

/// The scores in the order of the texts, or what is wrong with the answer.
fn read(body: &[u8], wanted: usize) -> Result<Vec<f32>, String> {
    let Answer { results } = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is none of the rerank API ({error})"))?;
    let results = results.into_iter();
    in_order(results.map(|scored| (scored.index, scored.relevance_score)), "score", wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(answer: &str, wanted: usize) -> Result<Vec<f32>, String> {
        read(answer.as_bytes(), wanted)
    }

    #[test]
    fn scores_come_in_the_order_of_their_texts_whatever_the_servers_order() {
        let answer = r#"{"id": "x", "results": [{"index": 2, "relevance_score": 0.9, "document": {"text": "c"}},
            {"index": 0, "relevance_score": 0.25}, {"index": 1, "relevance_score": -3}], "meta": {}}"#;
        assert_eq!(scores(answer, 3).unwrap(), [0.25, -3.0, 0.9]);
    }

    #[test]
    fn an_answer_without_one_finite_score_for_each_text_is_refused() {
        for (results, says) in [
            (r#"[{"index": 0, "relevance_score": 1}]"#, "1 scores for 2 texts"),
            (
                r#"[{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]"#,
                "two scores",
            ),
            (
                r#"[{"index": 0, "relevance_score": 1}, {"index": 2, "relevance_score": 1}]"#,
                "the text 2 of 2",
            ),
            (
                r#"[{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": 1e39}]"#,
                "out of range",
            ),
            (
                r#"[{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": NaN}]"#,
                "none of the rerank API",
            ),
            (
                r#"[{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": null}]"#,
                "none of the rerank API",
            ),
            (r#"[{"relevance_score": 1}, {"relevance_score": 1}]"#, "none of the rerank API"),
            (r#"{}"#, "none of the rerank API"),
        ] {
            let why = scores(&format!("{{\"results\": {results}}}"), 2).unwrap_err();
            assert!(why.contains(says), "{results}: {why}");
        }
        assert!(scores(r#"{"scores": [1, 2]}"#, 2).is_err());
    }
}
