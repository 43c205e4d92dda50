//! The data API's JSON, shared by gates and routers, what nodes tell each other beside it, and the headers of both.
//!
//! Decides how requests and answers are written, and which are malformed. Knows no status code but through a problem.

pub mod collection;
pub mod directive;
pub mod document;
pub mod hybrid;
pub mod map;
pub mod map_delta;
pub mod numbers;
pub mod peer;
pub mod point;
pub mod query;

use http::{HeaderMap, HeaderName};
use sheaf_types::MapVersion;
use sheaf_types::limits::{BODY_BYTES_MAX, REQUEST_MS_DEFAULT, REQUEST_MS_MAX};

use crate::problem::Problem;

/// The version of the map by which a request is sent, or was served.
pub const MAP_VERSION: HeaderName = HeaderName::from_static("sheaf-map-version");
/// In a question for the map after one: a difference from that one will do.
pub const MAP_DELTA: HeaderName = HeaderName::from_static("sheaf-map-delta");
/// The shard that a request is meant for.
pub const SHARD: HeaderName = HeaderName::from_static("sheaf-shard");
/// Milliseconds that a request may still take.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("sheaf-timeout-ms");

/// Bytes of an answer's body; whoever asks for more is told to ask for less.
pub const ANSWER_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// How many milliseconds a request may take: what its header says, at most `REQUEST_MS_MAX`.
///
/// # Errors
/// 400: the header is not a number of milliseconds from 1 up.
pub fn timeout_ms(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get(TIMEOUT_MS) else { return Ok(REQUEST_MS_DEFAULT) };
    let ms = value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).filter(|ms| *ms > 0);
    ms.map(|ms| ms.min(REQUEST_MS_MAX)).ok_or_else(|| {
        Problem::bad_request(format!(
            "the header {TIMEOUT_MS} is not a number of milliseconds from 1 up; nothing was applied"
        ))
    })
}

/// The version of the map that these headers name.
pub fn map_version(headers: &HeaderMap) -> Option<MapVersion> {
    headers.get(MAP_VERSION)?.to_str().ok()?.parse().ok().map(MapVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_what_the_client_says_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_MS, text.parse().unwrap());
            timeout_ms(&headers).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(timeout_ms(&HeaderMap::new()), Ok(REQUEST_MS_DEFAULT));
        assert_eq!((of("1"), of("250"), of("99999999")), (Ok(1), Ok(250), Ok(REQUEST_MS_MAX)));
        assert_eq!(
            (of("0"), of("-1"), of("1.5"), of("")),
            (Err(400), Err(400), Err(400), Err(400))
        );
    }
}
