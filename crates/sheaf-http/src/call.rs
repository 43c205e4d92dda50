//! One call of the data API, whichever role it is made to: what its path means, a 405's header, and how it is counted.
//!
//! Decides nothing about what is answered.

use axum::response::{IntoResponse, Response};
use http::request::Parts;
use sheaf_runtime::Clock;

use crate::metrics::{self, Role};
use crate::problem::Problem;
use crate::router::target::{self, Target};

/// Has the call answered, and counts it as one that was made to `role`.
pub(crate) async fn counted<'a, F>(
    role: Role,
    clock: Clock,
    parts: &'a Parts,
    answer: impl FnOnce(Target<'a>) -> F,
) -> Response
where
    F: Future<Output = Result<Response, Problem>>,
{
    let started = clock.elapsed();
    let (route, answered) = match target::target(&parts.method, parts.uri.path()) {
        Ok(target) => (target.route(), answer(target).await),
        Err(problem) => ("unknown", Err(problem)),
    };
    let response = answered.unwrap_or_else(|problem| {
        let allow = target::allow_header(&problem);
        let mut response = problem.into_response();
        response.headers_mut().extend(allow);
        response
    });
    let took = clock.elapsed().saturating_sub(started);
    metrics::request(role, route, response.status(), took);
    response
}
