//! What a coordinator that doesn't lead does with what only the leader can answer: it hands it on.
//!
//! Decides what an answer that doesn't come means. A read is answered from this coordinator's own copy then; of a change it is
//! said whether it may have been made.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sheaf_transport::{Limits, call_whole};
use sheaf_types::limits::BODY_BYTES_MAX;

use super::verify::AUDIT_TIMEOUT;
use super::{Api, not_reigning};
use crate::problem::Problem;
use crate::router::intake;
use crate::wire;

/// Marks a request that was handed on once: it isn't again.
const FORWARDED: HeaderName = HeaderName::from_static("sheaf-forwarded");
/// How long a leader may take for a read that this coordinator can answer, too.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer than the leader itself this coordinator waits, so that the leader's own "too late" is heard.
const GRACE: Duration = Duration::from_millis(500);
/// Of one connection only (RFC 9110, 7.6.1), or set anew for the body as it is sent on.
const NOT_HANDED_ON: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::EXPECT,
];

/// Has the leader answer, unless that is this coordinator.
pub(super) async fn to_leader(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let standing = api.host.standing().borrow().clone();
    if standing.leads || waits_for_news(&request) {
        return next.run(request).await;
    }
    let may_read_here = request.method() == Method::GET;
    let is_handed_on = request.headers().contains_key(FORWARDED);
    let leader = standing.leader.filter(|_| !is_handed_on);
    let Some(leader) = leader else {
        return match may_read_here {
            true => next.run(request).await,
            false => nobody_leads().into_response(),
        };
    };
    if let Err(problem) = api.keys.caller(request.headers()) {
        return problem.into_response();
    }
    if !may_read_here {
        return match handed_on(&api, &leader.url, request).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(),
        };
    }
    let (parts, _) = request.into_parts();
    let asked = Request::from_parts(parts.clone(), Body::empty());
    match handed_on(&api, &leader.url, asked).await {
        Ok(answer) if !answer.status().is_server_error() => answer,
        Ok(_) | Err(_) => next.run(Request::from_parts(parts, Body::empty())).await,
    }
}

/// Every coordinator hears of each decision in a moment, and can tell those who wait for one. Who asks what is so now must not be
/// shown less than the leader has said before.
fn waits_for_news(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/cluster/events" => true,
        "/cluster/map" => query.split('&').any(|part| part.starts_with("after=")),
        _ => false,
    }
}

async fn handed_on(api: &Api, leader: &str, request: Request) -> Result<Response, Problem> {
    let clock = api.clock();
    let (parts, body) = request.into_parts();
    let ms = wire::timeout_ms(&parts.headers)?;
    let body = intake::body(clock, clock.now().plus_ms(ms), body).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let timeout = match parts.uri.path() {
        "/cluster/verify" => AUDIT_TIMEOUT,
        _ if parts.method == Method::GET => READ_TIMEOUT.min(Duration::from_millis(ms)),
        _ => Duration::from_millis(ms),
    };
    let mut asked = http::Request::new(body);
    *asked.method_mut() = parts.method;
    *asked.uri_mut() = format!("{leader}{path}").parse().map_err(|error| {
        Problem::unavailable(format!(
            "the leader says of itself that it is at {leader:?}, which is no address ({error}); nothing was changed. Start it \
             with the right --advertise"
        ))
    })?;
    *asked.headers_mut() = handed(parts.headers);
    asked.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    let limits = Limits { timeout: timeout + GRACE, answer_bytes_max: BODY_BYTES_MAX };
    let answer = call_whole(&*api.transport, asked, limits).await;
    let (parts, body): (_, Bytes) = answer.map_err(|error| lost(leader, &error))?.into_parts();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = handed(parts.headers);
    Ok(response)
}

fn handed(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_HANDED_ON {
        headers.remove(name);
    }
    headers
}

fn lost(leader: &str, error: &sheaf_transport::TransportError) -> Problem {
    if error.surely_not_sent() {
        return Problem::unavailable(format!(
            "the coordinator that leads, at {leader}, can't be reached ({error}); nothing was changed. Another one leads soon if \
             it is gone: ask again. Everything is served meanwhile"
        ));
    }
    Problem::outcome_unknown(format!(
        "the coordinator that leads, at {leader}, didn't say whether the change was made ({error}); look at the status, or ask \
         again with the same idempotency key"
    ))
}

fn nobody_leads() -> Problem {
    let Problem { status, title, extensions, .. } = not_reigning();
    let detail = "this coordinator doesn't lead, and knows of no other that does; nothing was changed. One leads soon if the store \
                  answers: ask again. Everything is served meanwhile";
    Problem { status, title, extensions, detail: detail.to_owned() }
}
