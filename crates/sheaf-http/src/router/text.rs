//! Text calls: the text becomes a vector by the collection's model, and then it is an ordinary upsert or hybrid search, whose hits a second
//! model may rank again.
//!
//! Decides nothing about where a point goes. Nothing is applied before every text has its vector.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sheaf_engines::sparse::TEXT_KEY;
use sheaf_types::limits::{BATCH_POINTS_MAX, BODY_BYTES_MAX};

use super::gather::{K_DEFAULT, not_understood};
use super::hybrid::Hit;
use super::target::Segment;
use super::{Api, Asked, intake};
use crate::models::Model;
use crate::problem::Problem;
use crate::wire::point::too_many;

/// Hits from which a model chooses, if the caller wants fewer. Source: the public API.
const POOL_MIN: usize = 50;

/// `POST …/points:text`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts<'a> {
    #[serde(borrow)]
    points: Vec<TextPoint<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextPoint<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default)]
    payload: Option<Map<String, Value>>,
}

/// A point as `POST …/points` takes it.
#[derive(Serialize)]
struct Point<'a> {
    id: &'a str,
    vector: Vec<f32>,
    payload: Map<String, Value>,
}

#[derive(Serialize)]
struct Points<'a> {
    points: Vec<Point<'a>>,
}

impl Api {
    pub(super) async fn upsert_text(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let model = self.models.embedding_of(&name.text)?;
        let Texts { points } = parsed(&body)?;
        if points.len() > BATCH_POINTS_MAX {
            return Err(too_many(points.len(), BATCH_POINTS_MAX));
        }
        let texts: Vec<&str> = points.iter().map(|point| &*point.text).collect();
        let vectors = model.embed(&texts, self.clock().until(asked.deadline)).await?;
        let points = points.iter().zip(vectors).map(|(point, vector)| {
            let mut payload = point.payload.clone().unwrap_or_default();
            // A text that the caller gave for keywords stays what it is.
            payload.entry(TEXT_KEY).or_insert_with(|| Value::from(&*point.text));
            Point { id: &point.id, vector, payload }
        });
        let body = written(&Points { points: points.collect() })?;
        self.upsert(asked, name, "points", BATCH_POINTS_MAX, body).await
    }

    pub(super) async fn query_text(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let embedding = self.models.embedding_of(&name.text)?;
        // What isn't looked at here is a hybrid search's own.
        let mut query: BTreeMap<&str, &RawValue> = parsed(&body)?;
        let text: String = member(query.remove("text"))?.ok_or_else(|| {
            Problem::bad_request("a text search needs a `text`; nothing was done")
        })?;
        let ranks_again = member(query.remove("rerank"))?.unwrap_or(false);
        // Without such a model the order stays as it is, as on a Quiver node.
        let ranking = self.models.reranking.get(&*name.text).filter(|_| ranks_again);
        let ranking = ranking.map(|model| Ranking::new(model, &query)).transpose()?;
        let vectors = embedding.embed(&[&text], self.clock().until(asked.deadline)).await?;
        let (vector, query_text) = (raw(&vectors.first())?, raw(&text)?);
        query.insert("vector", &vector);
        query.insert("query_text", &query_text);
        let pool = ranking.as_ref().map(|ranking| raw(&ranking.pool())).transpose()?;
        if let Some(pool) = &pool {
            query.insert("k", pool);
            // The model reads it, whether the caller wants it or not.
            query.remove("with_payload");
        }
        let mut found = match self.hybrid_search(asked, name, &written(&query)?).await? {
            Ok(found) => found,
            Err(answer) => return Ok(answer),
        };
        if let Some(ranking) = ranking {
            ranking.rank(&text, &mut found.hits, self.clock().until(asked.deadline)).await?;
        }
        Ok(found.answer())
    }
}

/// How hits are ranked again.
struct Ranking<'a> {
    model: &'a Model,
    /// Hits that the caller wants.
    k: usize,
    with_payload: bool,
}

impl<'a> Ranking<'a> {
    /// # Errors
    /// 400: the members of the body are of other kinds.
    fn new(model: &'a Model, query: &BTreeMap<&str, &RawValue>) -> Result<Self, Problem> {
        let k = member(query.get("k").copied())?.unwrap_or(K_DEFAULT);
        let with_payload = member(query.get("with_payload").copied())?.unwrap_or(true);
        Ok(Self { model, k, with_payload })
    }

    /// Hits that are looked for: there has to be something to choose from.
    fn pool(&self) -> usize {
        self.k.max(POOL_MIN)
    }

    /// Leaves the best `k`, with the model's scores; of equal ones the order stays.
    ///
    /// # Errors
    /// The model fails, or there is too much text for it.
    async fn rank(
        &self,
        question: &str,
        hits: &mut Vec<Hit>,
        timeout: Duration,
    ) -> Result<(), Problem> {
        let mut texts = Vec::with_capacity(hits.len());
        let mut bytes = 0;
        for hit in &*hits {
            let text = text_of(hit.members.get("payload").map(|payload| &**payload))?;
            bytes += text.len();
            texts.push(text);
        }
        if bytes > BODY_BYTES_MAX {
            return Err(Problem::bad_request(format!(
                "the texts of {} hits have {bytes} bytes, which is more than the {BODY_BYTES_MAX} that are ranked again; ask for fewer, or \
                 leave `rerank` out. The data is as it was",
                texts.len()
            )));
        }
        let scores = self.model.rerank(question, &texts, timeout).await?;
        for (hit, score) in hits.iter_mut().zip(scores) {
            hit.score = score;
        }
        hits.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        hits.truncate(self.k);
        if !self.with_payload {
            hits.iter_mut().for_each(|hit| drop(hit.members.remove("payload")));
        }
        Ok(())
    }
}

/// What a model reads of a point: its text; of one that has none, all of its payload.
fn text_of(payload: Option<&RawValue>) -> Result<String, Problem> {
    let payload = payload.map_or("null", RawValue::get);
    let payload: Value = serde_json::from_str(payload).map_err(|error| not_understood(&error))?;
    let text = payload.get(TEXT_KEY).and_then(Value::as_str);
    Ok(text.map_or_else(|| payload.to_string(), str::to_owned))
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| intake::malformed(&error))
}

/// A member of the body, if it is there.
fn member<T: DeserializeOwned>(raw: Option<&RawValue>) -> Result<Option<T>, Problem> {
    let read = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    read.map_err(|error| intake::malformed(&error))
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Problem> {
    serde_json::value::to_raw_value(value).map_err(unwritable)
}

fn written(body: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(body).map(Bytes::from).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Problem {
    Problem::internal(format!("what was embedded can't be written down: {error}"))
}
