//! Points in requests and answers.
//!
//! Decides what a point's body is: the vector bit for bit as its numbers say, and the payload in one canonical form (keys
//! sorted, no white space), so that equal payloads have equal bytes on every shard. `null` is no payload.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sheaf_engines::{Bodies, ShownPoint};
use sheaf_types::limits::{BULK_POINTS_MAX, PAYLOAD_BYTES_MAX, POINT_ID_BYTES_MAX};
use sheaf_types::{PointBody, PointId};

use super::numbers;
use crate::problem::Problem;

/// `POST …/points`, `POST …/points:bulk`. A field that isn't known is refused: what it said would be lost.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpsertBody<'a> {
    #[serde(borrow)]
    points: Vec<PointInput<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointInput<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(deserialize_with = "numbers::deserialize")]
    vector: Vec<f32>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// The points of an upsert, in order; at most `points_max`.
///
/// # Errors
/// 400: the body is no upsert, or over a limit. Nothing was applied.
pub fn read_upsert(body: &[u8], points_max: usize) -> Result<Vec<(PointId, PointBody)>, Problem> {
    let UpsertBody { points } = serde_json::from_slice(body).map_err(|error| {
        let form = r#"{"points": [{"id": string, "vector": [number], "payload"?: object}]}"#;
        Problem::bad_request(format!("the body must be {form}; nothing was applied: {error}"))
    })?;
    if points.len() > points_max {
        return Err(too_many(points.len(), points_max));
    }
    points.into_iter().map(read_point).collect()
}

fn read_point(point: PointInput<'_>) -> Result<(PointId, PointBody), Problem> {
    let PointInput { id, vector, payload } = point;
    check_id(&id)?;
    let payload = payload.map(canonical_payload).transpose();
    let payload = payload.map_err(|what| {
        let id = brief(&id);
        Problem::bad_request(format!("the payload of the point {id} {what}; nothing was applied"))
    })?;
    let body = PointBody::encode(&vector, payload.as_deref());
    Ok((PointId::from(id.as_ref()), body))
}

/// The payload with its keys sorted and without white space, or what is wrong with it.
pub(super) fn canonical_payload(payload: &RawValue) -> Result<String, String> {
    let value: Value =
        serde_json::from_str(payload.get()).map_err(|error| format!("can't be read: {error}"))?;
    if !value.is_object() {
        return Err("is not an object".to_owned());
    }
    let canonical = value.to_string();
    if canonical.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("has {} bytes, the limit is {PAYLOAD_BYTES_MAX}", canonical.len()));
    }
    Ok(canonical)
}

/// `DELETE …/points`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody {
    ids: Vec<PointId>,
}

/// The ids of a deletion, in order.
///
/// # Errors
/// 400: the body is no deletion, or over a limit. Nothing was applied.
pub fn read_delete(body: &[u8]) -> Result<Vec<PointId>, Problem> {
    let DeleteBody { ids } = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            r#"the body must be {{"ids": [string]}}; nothing was applied: {error}"#
        ))
    })?;
    if ids.len() > BULK_POINTS_MAX {
        return Err(too_many(ids.len(), BULK_POINTS_MAX));
    }
    ids.iter().try_for_each(|id| check_id(id.as_str()))?;
    Ok(ids)
}

/// # Errors
/// 400: no point can have this id.
pub fn check_id(id: &str) -> Result<(), Problem> {
    if id.len() <= POINT_ID_BYTES_MAX {
        return Ok(());
    }
    let (id, bytes) = (brief(id), id.len());
    Err(Problem::bad_request(format!(
        "the id {id} has {bytes} bytes, the limit is {POINT_ID_BYTES_MAX}; nothing was applied"
    )))
}

pub fn too_many(given: usize, limit: usize) -> Problem {
    Problem::bad_request(format!(
        "the request has {given} points, the limit is {limit}; nothing was applied, send several requests"
    ))
}

/// The beginning of an id, for a message.
pub(super) fn brief(id: &str) -> String {
    let start: String = id.chars().take(64).collect();
    let more = if start.len() < id.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

/// What of a point's body an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub payload: bool,
    pub vector: bool,
}

impl Shown {
    pub const ALL: Self = Self { payload: true, vector: true };

    /// Whether bodies are needed at all.
    pub fn any(self) -> bool {
        self.payload || self.vector
    }

    /// What hits must carry for it.
    pub fn bodies(self) -> Bodies {
        match self {
            Self { vector: true, .. } => Bodies::Whole,
            Self { payload: true, .. } => Bodies::Payloads,
            Self { .. } => Bodies::None,
        }
    }
}

/// Appends `{"id", "score"?, "vector"?, "payload"?}`; a payload that is shown and absent is `null`.
///
/// # Errors
/// Never, for a buffer in memory.
pub fn write_point(
    to: &mut Vec<u8>,
    id: &PointId,
    score: Option<f32>,
    body: Option<&PointBody>,
    shown: Shown,
) -> Result<(), serde_json::Error> {
    to.extend_from_slice(b"{\"id\":");
    serde_json::to_writer(&mut *to, id)?;
    if let Some(score) = score {
        to.extend_from_slice(b",\"score\":");
        // JSON has no infinity; what is farther than any number stays the farthest.
        serde_json::to_writer(&mut *to, &score.clamp(f32::MIN, f32::MAX))?;
    }
    if let (true, Some(body)) = (shown.vector, body) {
        to.extend_from_slice(b",\"vector\":");
        serde_json::to_writer(&mut *to, &body.vector())?;
    }
    if let (true, Some(body)) = (shown.payload, body) {
        to.extend_from_slice(b",\"payload\":");
        to.extend_from_slice(body.payload().unwrap_or("null").as_bytes());
    }
    to.push(b'}');
    Ok(())
}

/// The point that is shown, as [`write_point`] writes it.
///
/// # Errors
/// Never, for a buffer in memory.
pub fn shown_point(id: &PointId, point: &ShownPoint) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::new();
    match point {
        ShownPoint::Body(body) => write_point(&mut json, id, None, Some(body), Shown::ALL)?,
        ShownPoint::Json { vector, payload } => {
            json.extend_from_slice(b"{\"id\":");
            serde_json::to_writer(&mut json, id)?;
            json.extend_from_slice(b",\"vector\":");
            json.extend_from_slice(vector.get().as_bytes());
            json.extend_from_slice(b",\"payload\":");
            json.extend_from_slice(payload.as_deref().unwrap_or("null").as_bytes());
            json.push(b'}');
        }
    }
    Ok(json)
}

/// Appends `,` between the items of a list that began with `[`.
pub fn write_separator(to: &mut Vec<u8>) {
    if to.last() != Some(&b'[') {
        to.push(b',');
    }
}

#[cfg(test)]
mod tests;
