//! A gate's HTTP: the data API of one shard, and what coordinators and other gates say to it.
//!
//! Decides status codes and JSON; whether a request is served is decided by the gate's core. A refusal always says that
//! nothing was applied.

mod collections;
mod documents;
pub(crate) mod gather;
mod hybrid;
mod internal;
mod metrics;
mod peers;
mod points;
pub(crate) mod refusal;
mod repair;
mod snapshot;
mod unversioned;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sheaf_runtime::gate::{GateHost, Operation, Request as GateRequest};
use sheaf_types::limits::{BATCH_POINTS_MAX, BULK_POINTS_MAX};
use sheaf_types::{MapVersion, ShardId, Time};

pub use peers::HttpPeers;

use crate::auth::{Caller, Keys};
use crate::call;
use crate::metrics as measures;
use crate::problem::Problem;
use crate::router::intake;
use crate::router::target::Target;
use crate::router::{self, InnerRouter};
use crate::wire::directive::HeardMap;
use crate::wire::{MAP_VERSION, SHARD};
use documents::Kind;

/// How long `/readyz` waits for the engine.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// The routes of a gate. `keys` are those that it accepts; the cluster's own nodes show the peer key among them.
pub fn gate(host: GateHost, keys: Keys) -> Router {
    routes(Api { host, keys, cluster: None, heard: HeardMap::default() })
}

/// The same, where a request that names no version of the map is answered for the whole cluster.
pub fn gate_for_everyone(host: GateHost, keys: Keys, cluster: InnerRouter) -> Router {
    routes(Api { host, keys, cluster: Some(cluster), heard: HeardMap::default() })
}

fn routes(api: Api) -> Router {
    measures::begin();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .merge(internal::routes())
        .merge(repair::routes())
        .route("/metrics", get(metrics::metrics))
        .fallback(serve)
        .with_state(Arc::new(api))
}

struct Api {
    host: GateHost,
    keys: Keys,
    /// `None`: this gate knows its own points only.
    cluster: Option<InnerRouter>,
    /// Of the coordinator's directives.
    heard: HeardMap,
}

/// What a data request's headers say.
struct Asked {
    caller: Caller,
    version: Option<MapVersion>,
    shard: Option<ShardId>,
    deadline: Time,
}

impl Asked {
    fn request(&self, collection: &str, operation: Operation) -> GateRequest {
        GateRequest {
            version: self.version,
            shard: self.shard,
            collection: collection.to_owned(),
            operation,
            deadline: self.deadline,
        }
    }
}

async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    match tokio::time::timeout(READY_TIMEOUT, api.host.engine().stats()).await {
        Ok(Ok(_)) => Ok("ok\n"),
        Ok(Err(error)) => Err(Problem::unavailable(format!("the engine isn't ready: {error}"))),
        Err(_) => Err(Problem::unavailable("the engine doesn't answer; look at its disk")),
    }
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = |target| api.answer(target, &parts.headers, body);
    call::counted(measures::Role::Gate, api.host.clock(), &parts, answer).await
}

impl Api {
    async fn answer(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let asked = Asked {
            caller: self.keys.caller(headers)?,
            version: number(headers, &MAP_VERSION)?.map(MapVersion),
            shard: number(headers, &SHARD)?.map(ShardId),
            deadline: intake::deadline(self.host.clock(), headers)?,
        };
        match &self.cluster {
            Some(cluster) if asked.version.is_none() && asked.shard.is_none() => {
                self.answer_unversioned(cluster, &asked, target, headers, body).await
            }
            Some(_) | None => self.answer_alone(&asked, target, body).await,
        }
    }

    async fn answer_alone(
        &self,
        asked: &Asked,
        target: Target<'_>,
        body: Body,
    ) -> Result<Response, Problem> {
        router::allow(&asked.caller, &target)?;
        let body = || intake::body(self.host.clock(), asked.deadline, body);
        match target {
            Target::Get(name, id) => self.get(asked, &name.text, &id.text).await,
            Target::Upsert(name) => {
                self.upsert(asked, &name.text, BATCH_POINTS_MAX, body().await?).await
            }
            Target::Bulk(name) => {
                self.upsert(asked, &name.text, BULK_POINTS_MAX, body().await?).await
            }
            Target::Delete(name) => {
                self.delete_of(asked, &name.text, Kind::Points, body().await?).await
            }
            Target::Query(name) => self.query(asked, &name.text, body().await?).await,
            Target::Fetch(name) => self.fetch(asked, &name.text, body().await?).await,
            Target::Count(name) => self.count(asked, &name.text, body().await?).await,
            Target::HybridStatistics(name) => {
                self.hybrid_statistics(asked, &name.text, body().await?).await
            }
            Target::HybridLists(name) => self.hybrid_lists(asked, &name.text, body().await?).await,
            Target::GetPoints(name) => self.get_points(asked, &name.text, body().await?).await,
            Target::UpsertDocuments(name) => {
                self.upsert_documents(asked, &name.text, body().await?).await
            }
            Target::DeleteDocuments(name) => {
                self.delete_of(asked, &name.text, Kind::Documents, body().await?).await
            }
            Target::QueryDocuments(name) => {
                self.query_documents(asked, &name.text, body().await?).await
            }
            Target::Snapshot => self.snapshot(asked, body().await?).await,
            Target::Hybrid(_) | Target::UpsertText(_) | Target::QueryText(_) => Err(only_of_all()),
            Target::ListCollections => self.list_collections(asked).await,
            Target::ShowCollection(name) => self.show_collection(asked, &name.text).await,
            Target::CreateCollection | Target::DropCollection(_) => Err(not_here()),
        }
    }
}

fn not_here() -> Problem {
    Problem::not_implemented(
        "a shard doesn't change the catalogue, which is the whole cluster's; ask a router or the coordinator. Nothing was changed",
    )
}

fn only_of_all() -> Problem {
    Problem::not_implemented(
        "text is embedded, and lists are fused once those of all shards are merged, by a router; ask one",
    )
}

/// # Errors
/// 400: the header is there and no number.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        Problem::bad_request(format!("the header {name} is not a number; nothing was applied"))
    })
}

/// An answer that was made at this version of the map.
pub(crate) fn answer(version: MapVersion, json: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::from(json.into()));
    let content_type = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer.headers_mut().insert(MAP_VERSION, HeaderValue::from(version.0));
    answer
}

fn answer_json(version: MapVersion, value: &impl serde::Serialize) -> Result<Response, Problem> {
    Ok(answer(version, serde_json::to_vec(value).map_err(unwritable)?))
}

fn unwritable(error: serde_json::Error) -> Problem {
    Problem::internal(format!("the answer can't be written: {error}"))
}

/// 404 that was found out at this version of the map.
fn absent(version: MapVersion, detail: &str) -> Response {
    let mut answer = Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    answer.headers_mut().insert(MAP_VERSION, HeaderValue::from(version.0));
    answer
}
