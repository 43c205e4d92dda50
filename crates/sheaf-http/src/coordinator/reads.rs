//! What is so: the map, the status, transitions, history, health, autoscale, plans. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use sheaf_coordinator::{Coordinator, PlanRequest, StatusView};
use sheaf_map::Map;
use sheaf_runtime::coordinator::Standing;
use sheaf_types::MapVersion;
use sheaf_types::limits::LONG_POLL_MS_MAX;

use super::intake::{self, Body, json};
use super::refusal::refused;
use super::{Api, not_reigning};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::MAP_DELTA;
use crate::wire::map::{PublishedDelta, PublishedMap, Underway};
use crate::wire::map_delta::MapDelta;

type Answered = Result<Response, Problem>;

/// Which map is wanted, and how long it may take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapQuery {
    /// A version after this one.
    after: Option<u64>,
    /// Seconds.
    #[serde(default)]
    wait: f64,
}

/// `GET /cluster/map`
pub(super) async fn map(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Query<MapQuery>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    api.allow(&headers, Role::Read)?;
    let Query(MapQuery { after, wait }) =
        query.map_err(|rejection| Problem::bad_request(rejection.to_string()))?;
    let longest = LONG_POLL_MS_MAX as f64 / 1_000.0;
    if !(0.0..=longest).contains(&wait) {
        return Err(Problem::bad_request(format!(
            "wait is {wait}, not from 0 to {longest} seconds"
        )));
    }
    let before = api.host.maps().borrow().clone();
    if let Some(after) = after {
        let mut maps = api.host.maps();
        let newer =
            maps.wait_for(|map| map.as_ref().is_some_and(|map| map.version() > MapVersion(after)));
        // Whatever comes first: the answer is the map as it is then.
        let _in_time = tokio::time::timeout(Duration::from_secs_f64(wait), newer).await.is_ok();
    }
    if api.host.look(Coordinator::is_deposed) {
        return Err(not_reigning());
    }
    let map = api.host.maps().borrow().clone().ok_or_else(not_reigning)?;
    let (joining, draining) = api.host.look(Coordinator::joining_and_leaving);
    let underway = Underway::new(joining, draining);
    let has_it = |known: &Arc<Map>| Some(known.version().0) == after;
    if headers.contains_key(MAP_DELTA)
        && let Some(known) = before.filter(has_it)
        && let Some(delta) = MapDelta::between(&known, &map)
    {
        return Ok(Json(PublishedDelta { delta, underway }).into_response());
    }
    Ok(Json(PublishedMap { map: &map, underway }).into_response())
}

/// The status with what the core doesn't know: the other coordinators, and the store.
#[derive(Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    core: StatusView,
    #[serde(flatten)]
    standing: Standing,
}

pub(super) fn status_of(api: &Api) -> Status {
    let standing = api.host.standing().borrow().clone();
    Status { core: api.host.look(Coordinator::status), standing }
}

/// `GET /cluster/status`
pub(super) async fn status(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answered {
    api.allow(&headers, Role::Read)?;
    Ok(Json(status_of(&api)).into_response())
}

/// `GET /cluster/health`
pub(super) async fn health(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answered {
    api.allow(&headers, Role::Read)?;
    let health: BTreeMap<String, bool> = api
        .host
        .look(Coordinator::health)
        .into_iter()
        .map(|(shard, up)| (shard.0.to_string(), up))
        .collect();
    Ok(Json(health).into_response())
}

/// `GET /cluster/autoscale`
pub(super) async fn autoscale(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answered {
    api.allow(&headers, Role::Read)?;
    Ok(Json(api.host.look(Coordinator::autoscale)).into_response())
}

/// `GET /cluster/history`
pub(super) async fn history(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answered {
    api.allow(&headers, Role::Read)?;
    let record = api.host.look(|core| Arc::clone(core.record()));
    Ok(Json(&record.history).into_response())
}

/// `GET /cluster/transitions`
pub(super) async fn transitions(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answered {
    api.allow(&headers, Role::Read)?;
    Ok(Json(api.host.look(Coordinator::transitions)).into_response())
}

/// `GET /cluster/transitions/{id}`: running, queued, or ended.
pub(super) async fn transition(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    api.allow(&headers, Role::Read)?;
    let id = intake::transition(&api, &id)?;
    if let Some(running) = api.host.look(Coordinator::running).filter(|running| running.id == id) {
        return Ok(Json(running).into_response());
    }
    let record = api.host.look(|core| Arc::clone(core.record()));
    if let Some(queued) = record.queue.iter().find(|queued| queued.id == id) {
        return Ok(Json(queued).into_response());
    }
    let ended = record.ended.iter().find(|report| report.id == id);
    ended
        .map(|report| Json(report).into_response())
        .ok_or_else(|| Problem::not_found(format!("no transition {id} is remembered")))
}

/// `GET /cluster/transitions/{id}/report`
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    api.allow(&headers, Role::Read)?;
    let id = intake::transition(&api, &id)?;
    let record = api.host.look(|core| Arc::clone(core.record()));
    if let Some(report) = record.ended.iter().find(|report| report.id == id) {
        return Ok(Json(report).into_response());
    }
    let underway = record.transition.iter().any(|running| running.id == id)
        || record.queue.iter().any(|queued| queued.id == id);
    Err(if underway {
        Problem::conflict(format!("{id} has not ended; its report is made at its end"))
    } else {
        Problem::not_found(format!("no transition {id} is remembered"))
    })
}

/// `POST /cluster/plan`
pub(super) async fn plan(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Answered {
    api.allow(&headers, Role::Read)?;
    let request: PlanRequest = json(body)?;
    api.hold_planned(&request).await?;
    let planner = api.host.look(Coordinator::planner);
    // Tens of milliseconds of arithmetic for large maps: not on a thread that serves others.
    let plan = tokio::task::spawn_blocking(move || planner.plan(&request)).await;
    let plan =
        plan.map_err(|error| Problem::internal(format!("the plan was not finished: {error}")))?;
    plan.map(|plan| Json(plan).into_response()).map_err(|refusal| refused(&refusal))
}
