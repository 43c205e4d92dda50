//! What a request brings: its body, its deadline, and JSON in it.
//!
//! Decides which requests are malformed or too large; never what they are about.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sheaf_runtime::Clock;
use sheaf_types::Time;
use sheaf_types::limits::BODY_BYTES_MAX;

use crate::problem::Problem;
use crate::wire;

/// When a request that arrives now must be answered.
pub(crate) fn deadline(clock: Clock, headers: &HeaderMap) -> Result<Time, Problem> {
    wire::timeout_ms(headers).map(|ms| clock.now().plus_ms(ms))
}

/// The whole body; a client that is slower than its own deadline is given up.
pub(crate) async fn body(clock: Clock, deadline: Time, body: Body) -> Result<Bytes, Problem> {
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(clock.until(deadline), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(BODY_BYTES_MAX)),
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off; nothing was applied")),
        Err(_) => Err(Problem::new(
            http::StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive before the request's deadline; nothing was applied",
        )),
    }
}

/// The body as `T`; unknown fields are named in the problem.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| malformed(&error))
}

pub(crate) fn malformed(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body can't be understood: {error}; nothing was applied"))
}
