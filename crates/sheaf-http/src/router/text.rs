//! Text calls: the text becomes a vector by the collection's model, and then it is an ordinary upsert or hybrid search.
//!
//! Decides nothing about where a point goes. Nothing is applied before every text has its vector.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::response::Response;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sheaf_engines::sparse::TEXT_KEY;
use sheaf_types::limits::BATCH_POINTS_MAX;

use super::target::Segment;
use super::{Api, Asked, intake};
use crate::problem::Problem;
use crate::wire::point::too_many;

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
        let model = self.models.of(&name.text)?;
        let Texts { points } =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        if points.len() > BATCH_POINTS_MAX {
            return Err(too_many(points.len(), BATCH_POINTS_MAX));
        }
        let texts: Vec<&str> = points.iter().map(|point| &*point.text).collect();
        let timeout = self.clock().until(asked.deadline);
        let vectors = model.embed(&self.shards.transport, &texts, timeout).await?;
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
        let model = self.models.of(&name.text)?;
        // What isn't looked at here is a hybrid search's own.
        let mut query: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        let text: String = member(query.remove("text"))?.ok_or_else(|| {
            Problem::bad_request("a text search needs a `text`; nothing was done")
        })?;
        if member(query.remove("rerank"))?.unwrap_or(false) {
            return Err(Problem::not_implemented(
                "hits are not ranked again by a second model here; leave `rerank` out",
            ));
        }
        let timeout = self.clock().until(asked.deadline);
        let vectors = model.embed(&self.shards.transport, &[&text], timeout).await?;
        let vector = serde_json::value::to_raw_value(&vectors.first());
        let text = serde_json::value::to_raw_value(&text);
        let (vector, text) = vector.and_then(|vector| Ok((vector, text?))).map_err(unwritable)?;
        query.insert("vector", &vector);
        query.insert("query_text", &text);
        self.hybrid(asked, name, written(&query)?).await
    }
}

/// A member of the body, if it is there.
fn member<T: DeserializeOwned>(raw: Option<&RawValue>) -> Result<Option<T>, Problem> {
    let read = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    read.map_err(|error| intake::malformed(&error))
}

fn written(body: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(body).map(Bytes::from).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Problem {
    Problem::internal(format!("what was embedded can't be written down: {error}"))
}
