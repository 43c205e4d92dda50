//! Calls on named points: get, upsert, delete.
//!
//! Decides what each shard is sent: its items' bytes as they came. Never parses a vector.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use sheaf_engines::validate::is_ranked;
use sheaf_map::Map;
use sheaf_router::{CallId, Op, Verdict};
use sheaf_types::limits::BULK_POINTS_MAX;
use sheaf_types::{MapVersion, Metric, PlacementKey};

use super::outcome::{self, Purpose};
use super::shard::{Ask, Reply};
use super::target::Segment;
use super::{Api, Asked, LOOK_PATIENCE, intake};
use crate::problem::Problem;
use crate::splitter::{self, RawPoint, SplitError};
use crate::wire::MAP_VERSION;
use crate::wire::collection::{Deleted, Upserted};
use crate::wire::point::check_id;

/// `DELETE …/points`, as it comes and as it is handed on.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ids<'a> {
    #[serde(borrow)]
    ids: Vec<Text<'a>>,
}

/// A string that is borrowed from the body where it has no escapes.
#[derive(Deserialize, Serialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Api {
    pub(super) async fn get(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        id: &Segment<'_>,
    ) -> Result<Response, Problem> {
        check_id(&id.text)?;
        let map = self.map_for(asked, &name.text).await?;
        let path = format!("/v1/collections/{}/points/{}", name.raw, id.raw);
        let ask = Ask { method: Method::GET, path, reads: true, stream: true };
        let op = Op::Read { keys: vec![PlacementKey::of(&id.text)] };
        let send = |call, map| self.shards.ask(&ask, Bytes::new(), call, map);
        let mut ended = self.host.run(map, op, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { version, calls } => {
                let reply = calls.first().and_then(|call| ended.replies.remove(call));
                Ok(hand_on(reply, version))
            }
            Verdict::Incomplete(incomplete) => {
                Ok(outcome::answer(Purpose::Read, &incomplete, &mut ended.replies))
            }
        }
    }

    pub(super) async fn upsert(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        call_name: &str,
        limit: usize,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let points = splitter::split(&body, limit).map_err(|error| not_split(&error))?;
        for point in &points {
            check_id(&point.id)?;
        }
        let map = self.map_for(asked, &name.text).await?;
        let map = self.map_that_fits(asked, &name.text, map, &points).await?;
        let path = format!("/v1/collections/{}/{call_name}", name.raw);
        let ask = Ask { method: Method::POST, path, reads: false, stream: false };
        let op = Op::Write { keys: points.iter().map(|p| PlacementKey::of(&p.id)).collect() };
        let send = |call: sheaf_router::Call, map| {
            let share = if call.items.len() == points.len() {
                body.clone()
            } else {
                let items = call.items.iter().map(|&item| points[item as usize].range.clone());
                splitter::join(&body, items)
            };
            self.shards.ask(&ask, share, call, map)
        };
        let mut ended = self.host.run(map, op, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { version, .. } => {
                let upserted = points.len() as u64;
                Ok((at(version), Json(Upserted { upserted })).into_response())
            }
            Verdict::Incomplete(incomplete) => {
                let purpose = Purpose::Write { points: points.len() };
                Ok(outcome::answer(purpose, &incomplete, &mut ended.replies))
            }
        }
    }

    /// A map by which every point of a batch fits its collection. One shard takes all of its share or nothing; of several,
    /// each would decide alone, so what is surely wrong is refused before any of them is asked.
    async fn map_that_fits(
        &self,
        asked: &Asked<'_>,
        name: &str,
        map: Arc<Map>,
        points: &[RawPoint<'_>],
    ) -> Result<Arc<Map>, Problem> {
        if points.len() < 2 || map.shards().len() < 2 || misfit(&map, name, points).is_none() {
            return Ok(map);
        }
        // It may have been dropped and created anew with another dimension.
        let patience = LOOK_PATIENCE.min(self.clock().until(asked.deadline) / 2);
        let Some(newest) = self.host.look_for_newer_map(patience).await else { return Ok(map) };
        match misfit(&newest, name, points) {
            None => Ok(newest),
            Some(what) => Err(Problem::bad_request(format!("{what}; nothing was applied"))),
        }
    }

    pub(super) async fn delete(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        call_name: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let Ids { ids } =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        if ids.len() > BULK_POINTS_MAX {
            return Err(not_split(&SplitError::TooMany { limit: BULK_POINTS_MAX }));
        }
        for id in &ids {
            check_id(&id.0)?;
        }
        let map = self.map_for(asked, &name.text).await?;
        let path = format!("/v1/collections/{}/{call_name}", name.raw);
        let ask = Ask { method: Method::DELETE, path, reads: false, stream: false };
        let op = Op::Write { keys: ids.iter().map(|id| PlacementKey::of(&id.0)).collect() };
        let send = |call: sheaf_router::Call, map| {
            let share = if call.items.len() == ids.len() {
                body.clone()
            } else {
                ids_body(call.items.iter().map(|&item| &*ids[item as usize].0))
            };
            self.shards.ask(&ask, share, call, map)
        };
        let mut ended = self.host.run(map, op, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { version, calls } => {
                let deleted = deleted(&calls, &ended.replies)?;
                Ok((at(version), Json(Deleted { deleted })).into_response())
            }
            Verdict::Incomplete(incomplete) => {
                let purpose = Purpose::Write { points: ids.len() };
                Ok(outcome::answer(purpose, &incomplete, &mut ended.replies))
            }
        }
    }
}

/// What surely no engine takes of these points.
fn misfit(map: &Map, name: &str, points: &[RawPoint<'_>]) -> Option<String> {
    let config = &map.collection(name)?.config;
    let wants = config.dim as usize;
    points.iter().find_map(|point| {
        let id = &point.id;
        match point.dim() {
            Some(has) if has != wants => Some(format!(
                "the point {id:?}: its vector has {has} numbers, the collection takes {wants}"
            )),
            Some(_) if config.metric == Metric::Cosine && is_ranked(config) && point.is_zero() => {
                Some(format!(
                    "the point {id:?}: its vector has no length, so it has no cosine similarity"
                ))
            }
            Some(_) | None => None,
        }
    })
}

fn ids_body<'a>(ids: impl Iterator<Item = &'a str>) -> Bytes {
    let ids = Ids { ids: ids.map(|id| Text(Cow::Borrowed(id))).collect() };
    // Strings always serialise.
    Bytes::from(serde_json::to_vec(&ids).unwrap_or_default())
}

/// The sum of what the shards deleted.
fn deleted(calls: &[CallId], replies: &BTreeMap<CallId, Reply>) -> Result<u64, Problem> {
    let mut sum = 0;
    for body in calls.iter().filter_map(|call| replies.get(call)?.whole()) {
        let Deleted { deleted } = serde_json::from_slice(body).map_err(|error| {
            Problem::internal(format!(
                "all points were deleted, but a shard did not say how many there were: {error}"
            ))
        })?;
        sum += deleted;
    }
    Ok(sum)
}

fn not_split(error: &SplitError) -> Problem {
    Problem::bad_request(format!("{error}; nothing was applied"))
}

/// The header that says at which version of the map an answer was made.
pub(super) fn at(version: MapVersion) -> [(header::HeaderName, HeaderValue); 1] {
    [(MAP_VERSION, HeaderValue::from(version.0))]
}

/// A shard's answer as the client's.
pub(super) fn hand_on(reply: Option<Reply>, version: MapVersion) -> Response {
    let (status, headers, body) = match reply {
        Some(Reply::Stream(answer)) => {
            let (parts, body) = answer.into_parts();
            (parts.status, parts.headers, Body::new(body))
        }
        Some(Reply::Whole(answer)) => {
            let (parts, body) = answer.into_parts();
            (parts.status, parts.headers, Body::from(body))
        }
        None => (StatusCode::NO_CONTENT, HeaderMap::new(), Body::empty()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().extend(at(version));
    response
}
