//! Changes of the shards: add, grow, join, promote, drain, replace, weigh, remove.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use sheaf_coordinator::{Ask, AskedOptions, CopyLimits, NewShard, Reply};
use sheaf_map::Weight;
use sheaf_types::ShardId;

use super::Api;
use super::intake::{self, Body, ask, json, reply};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire;

type Answered = Result<Response, Problem>;

/// One shard, or several at once, and how they join.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinBody {
    primary_url: Option<String>,
    #[serde(default)]
    replica_urls: Vec<String>,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    shards: Vec<NewShard>,
    fence_budget_ms: Option<u64>,
    #[serde(default)]
    limits: CopyLimits,
}

/// How a transition runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionsBody {
    fence_budget_ms: Option<u64>,
    #[serde(default)]
    limits: CopyLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceBody {
    primary_url: String,
    #[serde(default)]
    replica_urls: Vec<String>,
    /// That of the shard that is replaced, unless given.
    weight: Option<Weight>,
    fence_budget_ms: Option<u64>,
    #[serde(default)]
    limits: CopyLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightBody {
    weight: Weight,
    fence_budget_ms: Option<u64>,
    #[serde(default)]
    limits: CopyLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicasBody {
    replica_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    accept_data_loss: bool,
}

impl JoinBody {
    fn parts(self, by_hand: bool) -> Result<(Vec<NewShard>, AskedOptions), Problem> {
        let options =
            AskedOptions { by_hand, fence_budget_ms: self.fence_budget_ms, limits: self.limits };
        let shards = match (self.primary_url, self.shards.is_empty()) {
            (Some(primary_url), true) => {
                let (replica_urls, weight) = (self.replica_urls, self.weight);
                vec![NewShard { primary_url, replica_urls, weight }]
            }
            (None, false) => self.shards,
            (Some(_), false) | (None, true) => {
                return Err(Problem::bad_request(
                    "give either primary_url or shards; nothing was changed",
                ));
            }
        };
        Ok((shards, options))
    }
}

/// `POST /cluster/shards`
pub(super) async fn add(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let (shards, _) = json::<JoinBody>(body)?.parts(false)?;
    api.hold_all(&shards).await?;
    match ask(&api, &headers, Ask::AddShards { shards }).await? {
        Reply::Accepted { transition, shards } => {
            Ok(until_serving(&api, &headers, transition, shards).await)
        }
        other => Ok(reply(other)),
    }
}

/// The cluster was empty, so it takes a moment: who asks for the old call expects the shard in the map.
async fn until_serving(
    api: &Api,
    headers: &HeaderMap,
    transition: sheaf_types::TransitionId,
    shards: Vec<ShardId>,
) -> Response {
    let mut maps = api.host.maps();
    let patience = Duration::from_millis(wire::timeout_ms(headers).unwrap_or_default());
    let there = |map: &Option<Arc<sheaf_map::Map>>| {
        map.as_ref().is_some_and(|map| shards.iter().all(|id| map.shard(*id).is_some()))
    };
    let version = match tokio::time::timeout(patience, maps.wait_for(there)).await {
        Ok(Ok(map)) => map.as_ref().map(|map| map.version()),
        Ok(Err(_)) | Err(_) => None,
    };
    match version {
        Some(version) => reply(Reply::Added { shards, version }),
        None => reply(Reply::Accepted { transition, shards }),
    }
}

/// `POST /cluster/shards/grow`
pub(super) async fn grow(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let (shards, options) = json::<JoinBody>(body)?.parts(false)?;
    api.hold_all(&shards).await?;
    ask(&api, &headers, Ask::Grow { shards, options }).await.map(reply)
}

/// `POST /cluster/shards/joining`
pub(super) async fn join(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let (shards, options) = json::<JoinBody>(body)?.parts(true)?;
    api.hold_all(&shards).await?;
    ask(&api, &headers, Ask::Grow { shards, options }).await.map(reply)
}

/// `POST /cluster/shards/{id}/promote`
pub(super) async fn promote(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let shard = intake::shard(&id)?;
    ask(&api, &headers, Ask::Promote { shard }).await.map(reply)
}

/// `POST /cluster/shards/{id}/drain`
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let OptionsBody { fence_budget_ms, limits } = json(body)?;
    let options = AskedOptions { by_hand: false, fence_budget_ms, limits };
    let shard = intake::shard(&id)?;
    ask(&api, &headers, Ask::Drain { shard, options }).await.map(reply)
}

/// `POST /cluster/shards/{id}/replace`
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let shard = intake::shard(&id)?;
    let ReplaceBody { primary_url, replica_urls, weight, fence_budget_ms, limits } = json(body)?;
    let inherited = api.host.look(|core| core.map().shard(shard).map(|entry| entry.weight));
    let weight = weight.or(inherited).unwrap_or_default();
    let with = NewShard { primary_url, replica_urls, weight };
    api.hold_all(std::slice::from_ref(&with)).await?;
    let options = AskedOptions { by_hand: false, fence_budget_ms, limits };
    ask(&api, &headers, Ask::Replace { shard, with, options }).await.map(reply)
}

/// `PUT /cluster/shards/{id}/weight`
pub(super) async fn reweight(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let shard = intake::shard(&id)?;
    let WeightBody { weight, fence_budget_ms, limits } = json(body)?;
    let options = AskedOptions { by_hand: false, fence_budget_ms, limits };
    ask(&api, &headers, Ask::Reweight { shard, weight, options }).await.map(reply)
}

/// `PUT /cluster/shards/{id}/replicas`
pub(super) async fn set_replicas(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let shard = intake::shard(&id)?;
    let ReplicasBody { replica_urls } = json(body)?;
    ask(&api, &headers, Ask::SetReplicas { shard, replica_urls }).await.map(reply)
}

/// `DELETE /cluster/shards/{id}`
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<RemoveQuery>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let shard = intake::shard(&id)?;
    let Query(RemoveQuery { accept_data_loss }) = query
        .map_err(|rejection| Problem::bad_request(format!("{rejection}; nothing was changed")))?;
    ask(&api, &headers, Ask::Remove { shard, accept_data_loss }).await.map(reply)
}
