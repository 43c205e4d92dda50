//! What a node counts and measures, as Prometheus text.
//!
//! Decides names and buckets; never when to alarm. One recorder for each process; every role adds to it.

pub(crate) mod gauges;

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sheaf_protocol::Refusal;
use sheaf_runtime::Clock;

use gauges::Gauges;

const REQUESTS: &str = "sheaf_requests_total";
const SECONDS: &str = "sheaf_request_seconds";
const REFUSALS: &str = "sheaf_refusals_total";

/// Upper bounds in seconds. A hop costs 0.1 ms, a fence 50 ms, a deadline 10 s.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];
/// Between two sweeps of the samples that have not been rendered.
const UPKEEP: Duration = Duration::from_secs(5);

/// Which role a request was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Router,
    Gate,
    Replica,
    Coordinator,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Gate => "gate",
            Self::Replica => "replica",
            Self::Coordinator => "coordinator",
        }
    }
}

/// The process's recorder, installed at the first call. `None`: the process has another recorder already.
fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), BUCKETS);
    let handle = builder.ok()?.install_recorder().ok()?;
    describe_counter!(REQUESTS, "Requests that were answered, by role, route and status.");
    describe_histogram!(SECONDS, "Seconds from a request's arrival to its answer's head.");
    describe_counter!(REFUSALS, "Refusals of gates, by the role that gave or got them, and kind.");
    Some(handle)
}

/// Counts from now on. A server calls it before its first request.
pub fn begin() {
    recorder();
}

/// The answer to `GET /metrics`, which is open, like every exporter's: what was counted, and what is so now.
pub(crate) fn answer(gauges: Gauges) -> Response {
    let mut text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    text.push_str(&gauges.text());
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let mut response = Response::new(text.into());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Keeps the memory of samples bounded when nobody renders them: spawn it once in a process. Never ends.
pub async fn upkeep() {
    let Some(handle) = recorder() else { return };
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}

/// Counts a request. `route` is a pattern, never a path: paths hold clients' ids.
pub fn request(role: Role, route: &'static str, status: StatusCode, took: Duration) {
    let role = role.name();
    counter!(REQUESTS, "role" => role, "route" => route, "status" => status_name(status))
        .increment(1);
    histogram!(SECONDS, "role" => role, "route" => route).record(took);
}

/// Counts a refusal that `role` gave (a gate) or got (a router).
pub fn refusal(role: Role, refusal: &Refusal) {
    counter!(REFUSALS, "role" => role.name(), "kind" => refusal_name(refusal)).increment(1);
}

/// Counts every request of a router whose routes are axum's. Use with `axum::middleware::from_fn_with_state`.
pub async fn measure(
    State((role, clock)): State<(Role, Clock)>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = clock.elapsed();
    let response = next.run(request).await;
    let took = clock.elapsed().saturating_sub(started);
    let status = response.status();
    let route = route.map_or_else(|| "unknown".to_owned(), |route| route.as_str().to_owned());
    let role = role.name();
    counter!(REQUESTS, "role" => role, "route" => route.clone(), "status" => status_name(status))
        .increment(1);
    histogram!(SECONDS, "role" => role, "route" => route).record(took);
    response
}

/// The status codes that Sheaf answers with, as text that needn't be made anew.
fn status_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        201 => "201",
        202 => "202",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        409 => "409",
        412 => "412",
        413 => "413",
        421 => "421",
        429 => "429",
        500 => "500",
        501 => "501",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "other",
    }
}

fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Moved { .. } => "moved",
        Refusal::OtherVersion { .. } => "other_version",
        Refusal::Fenced { .. } => "fenced",
        Refusal::Behind { .. } => "behind",
        Refusal::NotServing => "not_serving",
        Refusal::OtherShard { .. } => "other_shard",
        Refusal::NoCollection { .. } => "no_collection",
        Refusal::TooManyHeld { .. } => "too_many_held",
        Refusal::EngineUnavailable { .. } => "engine_unavailable",
        Refusal::Unproven => "unproven",
        Refusal::NothingToRepair { .. } => "nothing_to_repair",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered_by_role_route_and_status() {
        recorder();
        request(Role::Router, "/v1/test/{name}", StatusCode::OK, Duration::from_micros(180));
        refusal(Role::Router, &Refusal::NotServing);
        let text = recorder().unwrap().render();
        for line in [
            r#"sheaf_requests_total{role="router",route="/v1/test/{name}",status="200"} 1"#,
            r#"sheaf_request_seconds_bucket{role="router",route="/v1/test/{name}",le="0.00025"} 1"#,
            r#"sheaf_refusals_total{role="router",kind="not_serving"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
