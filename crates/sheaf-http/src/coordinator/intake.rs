//! What a request brings: ids in paths, JSON in bodies, preconditions in headers, its deadline.
//!
//! Decides which requests are malformed; never what they are about.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_coordinator::{Ask, Reply};
use sheaf_types::{MapVersion, ShardId, TransitionId};

use super::Api;
use super::refusal::not_done;
use crate::problem::Problem;
use crate::wire;

/// A body as it arrived, whole or not.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// The body as `T`; an empty one is `{}`.
pub(super) fn json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), format!("{rejection}; nothing was changed"))
    })?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text).map_err(|error| {
        Problem::bad_request(format!("the body can't be understood: {error}; nothing was changed"))
    })
}

/// A shard's id in a path: `4`, or `s4` as messages write it.
pub(super) fn shard(text: &str) -> Result<ShardId, Problem> {
    let number = text.strip_prefix('s').unwrap_or(text).parse();
    number.map(ShardId).map_err(|_| Problem::bad_request(format!("{text:?} is no shard's id")))
}

/// A transition's id in a path: `7`, `x7` as messages write it, or `current`.
pub(super) fn transition(api: &Api, text: &str) -> Result<TransitionId, Problem> {
    if text == "current" {
        let running = api.host.look(|core| core.record().transition.as_ref().map(|t| t.id));
        return running.ok_or_else(|| Problem::not_found("no transition is running"));
    }
    let number = text.strip_prefix('x').unwrap_or(text).parse();
    number
        .map(TransitionId)
        .map_err(|_| Problem::bad_request(format!("{text:?} is no transition's id")))
}

/// Has the core decide, under the preconditions of the headers.
pub(super) async fn ask(api: &Api, headers: &HeaderMap, ask: Ask) -> Result<Reply, Problem> {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => Some(key.to_str().map(str::to_owned).map_err(|_| {
            Problem::bad_request("the idempotency key is not visible ASCII; nothing was changed")
        })?),
    };
    let expects = expected(headers)?;
    let deadline = api.clock().now().plus_ms(wire::timeout_ms(headers)?);
    api.host.ask(ask, key, expects, deadline).await.map_err(not_done)
}

/// The map version that `If-Match` names.
fn expected(headers: &HeaderMap) -> Result<Option<MapVersion>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse();
    number.map(|version| Some(MapVersion(version))).map_err(|_| {
        Problem::bad_request(
            "If-Match is not a version of the map, such as \"7\"; nothing was changed",
        )
    })
}

/// What was decided, as JSON.
pub(super) fn reply(reply: Reply) -> Response {
    match reply {
        Reply::Accepted { transition, shards } => {
            #[derive(Serialize)]
            struct Accepted {
                transition: TransitionId,
                shards: Vec<ShardId>,
            }
            (StatusCode::ACCEPTED, Json(Accepted { transition, shards })).into_response()
        }
        Reply::Added { shards, version } | Reply::Adopted { shards, version } => {
            let body = serde_json::json!({ "shards": shards, "version": version });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Reply::Removed { shard, version } | Reply::Replicated { shard, version } => {
            Json(serde_json::json!({ "shard": shard, "version": version })).into_response()
        }
        Reply::Forgotten { shard } => {
            Json(serde_json::json!({ "shard": shard, "forgotten": true })).into_response()
        }
        Reply::Steered { transition } => {
            Json(serde_json::json!({ "transition": transition })).into_response()
        }
        Reply::Created { collection, version } => {
            let (id, config) = (collection.id, &*collection.config);
            let body = serde_json::json!({ "id": id, "config": config, "version": version });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Reply::Dropped { existed, version } => {
            Json(serde_json::json!({ "existed": existed, "version": version })).into_response()
        }
    }
}
