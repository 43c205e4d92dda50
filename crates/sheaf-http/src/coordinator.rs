//! The coordinator's HTTP API: who may, what is meant, how it is answered.
//!
//! Decides status codes and JSON; what is done is decided by `sheaf-coordinator`.

mod adopt;
mod asks;
mod collections;
mod events;
mod forward;
mod gates;
mod held;
mod intake;
mod metrics;
mod reads;
mod refusal;
mod repair;
mod steer;
mod verify;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderMap, HeaderValue, StatusCode};
use sheaf_runtime::Clock;
use sheaf_runtime::coordinator::CoordinatorHost;
use sheaf_transport::Transport;

pub use gates::HttpGates;

use crate::auth::{Keys, Role};
use crate::metrics as measures;
use crate::problem::Problem;

/// What a coordinator's API is made of.
pub struct CoordinatorApiParts {
    pub host: CoordinatorHost,
    /// For audits of the gates.
    pub transport: Arc<dyn Transport>,
    /// Who may ask this coordinator.
    pub keys: Keys,
    /// The header that gates are shown; `None`: none.
    pub authorization: Option<HeaderValue>,
}

/// The routes of a coordinator.
pub fn coordinator(parts: CoordinatorApiParts) -> Router {
    let CoordinatorApiParts { host, transport, keys, authorization } = parts;
    let clock = host.clock();
    let api = Arc::new(Api { host, transport, keys, authorization });
    let measured = (measures::Role::Coordinator, clock);
    let of_leader = axum::middleware::from_fn_with_state(Arc::clone(&api), forward::to_leader);
    measures::begin();
    Router::new()
        .merge(reading().merge(changing()).route_layer(of_leader))
        .fallback(|| async {
            Problem::not_found(
                "there is no such path on a coordinator; points are served by routers",
            )
        })
        .method_not_allowed_fallback(|| async {
            let detail = "this path has no such method; nothing was changed";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(axum::middleware::from_fn_with_state(measured, measures::measure))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .with_state(api)
}

fn reading() -> Router<Arc<Api>> {
    Router::new()
        .route("/cluster/map", get(reads::map))
        .route("/cluster/events", get(events::events))
        .route("/cluster/status", get(reads::status))
        .route("/cluster/health", get(reads::health))
        .route("/cluster/autoscale", get(reads::autoscale))
        .route("/cluster/history", get(reads::history))
        .route("/cluster/transitions", get(reads::transitions))
        .route("/cluster/transitions/{id}", get(reads::transition))
        .route("/cluster/transitions/{id}/report", get(reads::report))
        .route("/cluster/plan", post(reads::plan))
        .route("/cluster/verify", get(verify::verify))
}

fn changing() -> Router<Arc<Api>> {
    Router::new()
        .route("/cluster/adopt", post(adopt::adopt))
        .route("/cluster/verify/repair", post(repair::repair))
        .route("/cluster/shards", post(asks::add))
        .route("/cluster/shards/grow", post(asks::grow))
        .route("/cluster/shards/joining", post(asks::join))
        .route("/cluster/shards/{id}", delete(asks::remove))
        .route("/cluster/shards/{id}/promote", post(asks::promote))
        .route("/cluster/shards/{id}/drain", post(asks::drain))
        .route("/cluster/shards/{id}/replace", post(asks::replace))
        .route("/cluster/shards/{id}/weight", put(asks::reweight))
        .route("/cluster/shards/{id}/replicas", put(asks::set_replicas))
        .route("/cluster/transitions/{id}/pause", post(steer::pause))
        .route("/cluster/transitions/{id}/resume", post(steer::resume))
        .route("/cluster/transitions/{id}/cancel", post(steer::cancel))
        .route("/cluster/transitions/{id}/throttle", post(steer::throttle))
        .route("/cluster/collections", post(collections::create))
        .route("/cluster/collections/{name}", delete(collections::drop_collection))
}

struct Api {
    host: CoordinatorHost,
    transport: Arc<dyn Transport>,
    keys: Keys,
    authorization: Option<HeaderValue>,
}

impl Api {
    fn clock(&self) -> Clock {
        self.host.clock()
    }

    /// # Errors
    /// 401, 403: the caller may not act in this role on the whole cluster.
    fn allow(&self, headers: &HeaderMap, role: Role) -> Result<(), Problem> {
        self.keys.caller(headers)?.need_everywhere(role)
    }
}

/// Ready: this coordinator decides, or follows one that does and can show its map.
async fn readyz(State(api): State<Arc<Api>>) -> Response {
    let (reigns, version) = api.host.look(|core| (core.reigns(), core.map().version()));
    let standing = api.host.standing().borrow().clone();
    let follows =
        !standing.leads && standing.leader.is_some() && api.host.maps().borrow().is_some();
    if reigns || follows {
        let body = serde_json::json!({ "ready": true, "leads": reigns, "map_version": version });
        return axum::Json(body).into_response();
    }
    not_reigning().into_response()
}

fn not_reigning() -> Problem {
    Problem::unavailable(
        "this coordinator doesn't decide: its term is not stored yet, or another one has taken over; nothing was changed",
    )
}
