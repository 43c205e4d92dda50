//! The public REST API on a router: who may, what is meant, whom it is sent to, how it is answered.
//!
//! Decides status codes and JSON; where a request goes and when it is asked again is decided by `sheaf-router`. Keeps nothing
//! between two requests but the map.

pub(crate) mod cluster;
mod collections;
mod documents;
mod gather;
mod hybrid;
pub(crate) mod intake;
mod outcome;
mod points;
mod shard;
mod snapshot;
pub(crate) mod target;
mod text;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::HeaderMap;
use sheaf_map::Map;
use sheaf_runtime::Clock;
use sheaf_runtime::router::RouterHost;
use sheaf_transport::Transport;
use sheaf_types::Time;

pub use cluster::{Coordinators, CoordinatorsError};

use crate::auth::{Caller, Keys, Role};
use crate::call;
use crate::metrics;
use crate::metrics::gauges::Gauges;
use crate::models::Models;
use crate::problem::Problem;
use intake::deadline;
use shard::Shards;
use target::Target;

/// How long a request waits to learn whether a coordinator knows a collection that the router doesn't.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// What a router's API is made of.
pub struct RouterParts {
    pub host: RouterHost,
    pub transport: Arc<dyn Transport>,
    pub coordinators: Coordinators,
    /// Who may ask this router.
    pub keys: Keys,
    /// The key that shards are shown; `None`: none.
    pub peer_key: Option<String>,
    /// Of the collections whose texts this router embeds, or ranks again.
    pub models: Models,
}

/// The routes of a router.
///
/// # Errors
/// The peer key can't be sent in a header.
pub fn router(parts: RouterParts) -> Result<Router, CoordinatorsError> {
    metrics::begin();
    Ok(Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .fallback(serve)
        .with_state(Arc::new(Api::new(parts)?)))
}

/// A router inside of a gate, for requests that name no version of the map. Cheap to clone.
#[derive(Clone)]
pub struct InnerRouter(Arc<Api>);

impl InnerRouter {
    /// # Errors
    /// The peer key can't be sent in a header.
    pub fn new(parts: RouterParts) -> Result<Self, CoordinatorsError> {
        Ok(Self(Arc::new(Api::new(parts)?)))
    }

    /// Answers what `caller` asks every shard for, or any.
    pub(crate) async fn answer(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
        caller: &Caller,
        deadline: Time,
        body: Bytes,
    ) -> Result<Response, Problem> {
        allow(caller, &target)?;
        let caller = caller.clone();
        let asked = Asked { caller, headers, deadline, broadcasts: true, eventual: false };
        self.0.carry_out(&asked, target, Body::from(body)).await
    }
}

struct Api {
    host: RouterHost,
    coordinators: Coordinators,
    keys: Keys,
    shards: Shards,
    models: Models,
}

async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match api.known_map() {
        Ok(map) => {
            let (version, shards) = (map.version().0, map.shards().len());
            Json(serde_json::json!({ "ready": true, "map_version": version, "shards": shards }))
                .into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// `GET /metrics`
async fn figures(State(api): State<Arc<Api>>) -> Response {
    let mut gauges = Gauges::default();
    let map = api.host.map();
    let (version, shards) = map.map_or((0, 0), |map| (map.version().0, map.shards().len() as u64));
    let help = "The version of the map by which the router routes; 0: it has none yet.";
    gauges.one("sheaf_router_map_version", help, version);
    gauges.one("sheaf_router_shards", "Shards in that map.", shards);
    metrics::answer(gauges)
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = |target| api.answer(target, parts.uri.query(), &parts.headers, body);
    call::counted(metrics::Role::Router, api.host.clock(), &parts, answer).await
}

/// Everything about a request but its target and body.
struct Asked<'a> {
    caller: Caller,
    headers: &'a HeaderMap,
    deadline: Time,
    /// Whether the caller asks every shard for the same: the second one to be asked for a new collection has it already.
    broadcasts: bool,
    /// Whether a search may show a state that is a little old.
    eventual: bool,
}

impl Api {
    fn new(parts: RouterParts) -> Result<Self, CoordinatorsError> {
        let RouterParts { host, transport, coordinators, keys, peer_key, models } = parts;
        let authorization = peer_key.as_deref().map(cluster::authorization).transpose()?;
        let (clock, turns) = (host.clock(), Default::default());
        let shards = Shards { transport, clock, authorization, turns };
        Ok(Self { host, coordinators, keys, shards, models })
    }

    /// Who asks is judged before anything else is said.
    async fn answer(
        &self,
        target: Target<'_>,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let caller = self.keys.caller(headers)?;
        allow(&caller, &target)?;
        let deadline = deadline(self.clock(), headers)?;
        let eventual = is_eventual(query)?;
        let asked = Asked { caller, headers, deadline, broadcasts: false, eventual };
        self.carry_out(&asked, target, body).await
    }

    async fn carry_out(
        &self,
        asked: &Asked<'_>,
        target: Target<'_>,
        body: Body,
    ) -> Result<Response, Problem> {
        let body = || self.body(asked, body);
        match target {
            Target::Get(name, id) => self.get(asked, &name, &id).await,
            Target::Upsert(name) => {
                let limit = sheaf_types::limits::BATCH_POINTS_MAX;
                self.upsert(asked, &name, "points", limit, body().await?).await
            }
            Target::Bulk(name) => {
                let limit = sheaf_types::limits::BULK_POINTS_MAX;
                self.upsert(asked, &name, "points:bulk", limit, body().await?).await
            }
            Target::Delete(name) => self.delete(asked, &name, "points", body().await?).await,
            Target::Query(name) => self.query(asked, &name, body().await?).await,
            Target::Fetch(name) => self.fetch(asked, &name, body().await?).await,
            Target::Count(name) => self.count(asked, &name, body().await?).await,
            Target::UpsertDocuments(name) => {
                self.upsert_documents(asked, &name, body().await?).await
            }
            Target::DeleteDocuments(name) => {
                self.delete(asked, &name, "documents", body().await?).await
            }
            Target::QueryDocuments(name) => self.query_documents(asked, &name, body().await?).await,
            Target::UpsertText(name) => self.upsert_text(asked, &name, body().await?).await,
            Target::QueryText(name) => self.query_text(asked, &name, body().await?).await,
            Target::Snapshot => self.snapshot(body().await?).await,
            Target::Hybrid(name) => self.hybrid(asked, &name, body().await?).await,
            Target::HybridStatistics(_) | Target::HybridLists(_) | Target::GetPoints(_) => {
                Err(only_a_gates())
            }
            Target::ListCollections => self.list_collections(asked).await,
            Target::ShowCollection(name) => self.show_collection(asked, &name).await,
            Target::CreateCollection => self.create_collection(asked, body().await?).await,
            Target::DropCollection(name) => self.drop_collection(asked, &name).await,
        }
    }

    fn clock(&self) -> Clock {
        self.host.clock()
    }

    async fn body(&self, asked: &Asked<'_>, body: Body) -> Result<Bytes, Problem> {
        intake::body(self.clock(), asked.deadline, body).await
    }

    fn known_map(&self) -> Result<Arc<Map>, Problem> {
        self.host.map().ok_or_else(|| {
            Problem::unavailable(
                "this router has not yet heard from a coordinator, so it knows no shard and nothing was applied; ask again, and look at \
                 the coordinator if this goes on",
            )
        })
    }

    /// A map to route a request for this collection by. One that this router doesn't know may be new, so a coordinator is
    /// asked; while none answers, the shards are the ones to know.
    async fn map_for(&self, asked: &Asked<'_>, name: &str) -> Result<Arc<Map>, Problem> {
        let patience = LOOK_PATIENCE.min(self.clock().until(asked.deadline) / 2);
        let map = match self.host.map() {
            Some(map) => map,
            // It has just started: the first map is on its way.
            None => match self.host.look_for_newer_map(patience).await {
                Some(map) => map,
                None => self.known_map()?,
            },
        };
        if map.collection(name).is_some() {
            return Ok(map);
        }
        match self.host.look_for_newer_map(patience).await {
            Some(map) if map.collection(name).is_none() => Err(no_such_collection(name)),
            Some(newer) => Ok(newer),
            None => Ok(map),
        }
    }
}

fn only_a_gates() -> Problem {
    Problem::not_found(
        "this is asked of shards, by routers; ask for /query, /query/hybrid or /fetch",
    )
}

/// What `?consistency=` says; without it, strong.
///
/// # Errors
/// 400: neither word.
fn is_eventual(query: Option<&str>) -> Result<bool, Problem> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.filter(|(name, _)| *name == "consistency").map(|(_, word)| word).next_back() {
        None | Some("strong") => Ok(false),
        Some("eventual") => Ok(true),
        Some(_) => Err(Problem::bad_request(
            "consistency is neither strong nor eventual; leave it out for strong. Nothing was done",
        )),
    }
}

fn no_such_collection(name: &str) -> Problem {
    Problem::not_found(format!(
        "there is no collection {name:?}; create it with POST /v1/collections"
    ))
}

/// # Errors
/// 403: the caller's key isn't for this. What can't be judged by the path alone is judged later.
pub(crate) fn allow(caller: &Caller, target: &Target<'_>) -> Result<(), Problem> {
    match target {
        Target::ListCollections | Target::CreateCollection => Ok(()),
        Target::ShowCollection(name)
        | Target::Get(name, _)
        | Target::Query(name)
        | Target::Hybrid(name)
        | Target::HybridStatistics(name)
        | Target::HybridLists(name)
        | Target::QueryDocuments(name)
        | Target::QueryText(name)
        | Target::GetPoints(name)
        | Target::Fetch(name)
        | Target::Count(name) => caller.need(Role::Read, &name.text),
        Target::Upsert(name)
        | Target::Bulk(name)
        | Target::Delete(name)
        | Target::UpsertText(name)
        | Target::UpsertDocuments(name)
        | Target::DeleteDocuments(name) => caller.need(Role::Write, &name.text),
        Target::Snapshot => caller.need_everywhere(Role::Admin),
        Target::DropCollection(name) => caller.need(Role::Admin, &name.text),
    }
}
