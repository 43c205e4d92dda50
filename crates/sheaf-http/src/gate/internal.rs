//! What only the cluster's own nodes may say to a gate: directives, frames, and questions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sheaf_runtime::gate::{NotAudited, Seen, Stopping};
use sheaf_types::limits::{LONG_POLL_MS_MAX, REQUEST_MS_DEFAULT};
use sheaf_types::{CollectionConfig, Incarnation};

use super::Api;
use crate::auth::Role;
use crate::frame;
use crate::problem::Problem;
use crate::router::intake;
use crate::wire::directive::Read;
use crate::wire::peer::{AuditReply, DirectiveReply, FrameReply, HoldsReply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/internal/directive", post(directive))
        .route("/internal/report", get(report))
        .route("/internal/frame", post(frame_arrived))
        .route("/internal/audit", get(audit))
        .route("/internal/holds", post(holds))
}

/// The newest report that the coordinator has, and how long it waits for a newer one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Poll {
    wait_ms: u64,
    seen_incarnation: u64,
    seen_seq: u64,
}

impl Api {
    pub(super) fn need_peer(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.keys.caller(headers)?.need_everywhere(Role::Peer)
    }

    pub(super) async fn whole(&self, body: Body) -> Result<Bytes, Problem> {
        let clock = self.host.clock();
        intake::body(clock, clock.now().plus_ms(REQUEST_MS_DEFAULT), body).await
    }
}

async fn directive(
    State(api): State<Arc<Api>>,
    poll: Result<Query<Poll>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    api.need_peer(&parts.headers)?;
    let Query(poll) = poll.map_err(|error| Problem::bad_request(error.to_string()))?;
    let read =
        api.heard.read(&api.whole(body).await?).map_err(|error| intake::malformed(&error))?;
    let directive = match read {
        Read::Directive(directive) => *directive,
        Read::MapNeeded => return Ok(Json(DirectiveReply::MapNeeded).into_response()),
    };
    let seen = Seen { incarnation: Incarnation(poll.seen_incarnation), seq: poll.seen_seq };
    let deadline = api.host.clock().now().plus_ms(poll.wait_ms.min(LONG_POLL_MS_MAX));
    Ok(match api.host.direct(directive, seen, deadline).await.map_err(stopping)? {
        Ok(report) => Json(DirectiveReply::Report(Box::new(report))).into_response(),
        Err(refusal) => {
            (StatusCode::CONFLICT, Json(DirectiveReply::Refusal(refusal))).into_response()
        }
    })
}

async fn report(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    api.need_peer(&headers)?;
    Ok(Json(api.host.report().await.map_err(stopping)?).into_response())
}

async fn frame_arrived(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<FrameReply>, Problem> {
    let (parts, body) = request.into_parts();
    api.need_peer(&parts.headers)?;
    let frame = frame::decode(api.whole(body).await?)
        .map_err(|error| Problem::bad_request(format!("{error}; nothing was applied")))?;
    Ok(Json(match api.host.frame(frame).await.map_err(stopping)? {
        Ok(verdict) => FrameReply::Carried(verdict),
        Err(refusal) => FrameReply::Refused(refusal),
    }))
}

/// Which of these collections the engine can't hold.
async fn holds(State(api): State<Arc<Api>>, request: Request) -> Result<Json<HoldsReply>, Problem> {
    let (parts, body) = request.into_parts();
    api.need_peer(&parts.headers)?;
    let configs: Vec<CollectionConfig> = intake::json(&api.whole(body).await?)?;
    let engine = api.host.engine();
    let refusals = configs.iter().filter_map(|config| engine.holds(config).err());
    Ok(Json(HoldsReply { refusals: refusals.map(|why| why.to_string()).collect() }))
}

async fn audit(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<AuditReply>, Problem> {
    api.need_peer(&headers)?;
    let audit = api.host.audit().await.map_err(|reason| match reason {
        NotAudited::NotServing | NotAudited::MapChanged => Problem::conflict(reason.to_string()),
        NotAudited::Engine(_) => Problem::internal(reason.to_string()),
    })?;
    Ok(Json(AuditReply {
        version: audit.version,
        owned: audit.owned,
        foreign_points: audit.foreign_points,
        foreign_ids: audit.foreign_ids,
    }))
}

pub(super) fn stopping(stopping: Stopping) -> Problem {
    Problem::unavailable(stopping.to_string())
}
