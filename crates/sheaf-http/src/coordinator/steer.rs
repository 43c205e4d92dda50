//! Steering a transition: pause, resume, cancel, throttle.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use sheaf_coordinator::Ask;
use sheaf_types::TransitionId;

use super::Api;
use super::intake::{self, Body, ask, json, reply};
use crate::auth::Role;
use crate::problem::Problem;

type Answered = Result<Response, Problem>;

/// `POST /cluster/transitions/{id}/pause`
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    steer(&api, &id, &headers, |transition| Ask::Pause { transition }).await
}

/// `POST /cluster/transitions/{id}/resume`
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    steer(&api, &id, &headers, |transition| Ask::Resume { transition }).await
}

/// `POST /cluster/transitions/{id}/cancel`
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answered {
    steer(&api, &id, &headers, |transition| Ask::Cancel { transition }).await
}

/// `POST /cluster/transitions/{id}/throttle`: all limits at once; what isn't named is without limit.
pub(super) async fn throttle(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    api.allow(&headers, Role::Admin)?;
    let limits = json(body)?;
    steer(&api, &id, &headers, |transition| Ask::Throttle { transition, limits }).await
}

async fn steer(
    api: &Api,
    id: &str,
    headers: &HeaderMap,
    wanted: impl FnOnce(TransitionId) -> Ask,
) -> Answered {
    api.allow(headers, Role::Admin)?;
    let transition = intake::transition(api, id)?;
    ask(api, headers, wanted(transition)).await.map(reply)
}
