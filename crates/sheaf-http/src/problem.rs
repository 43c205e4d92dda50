//! Errors as clients see them: `application/problem+json` (RFC 9457).
//!
//! Decides how an error is written; never which error it is.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, what it means for the data and what to do, in words for a person and fields for a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub status: StatusCode,
    /// A few words that are the same for every problem of this kind.
    pub title: String,
    /// Says what happened, what it means for the data and what to do.
    pub detail: String,
    /// Further members for programs; never one of the four standard ones.
    pub extensions: Map<String, Value>,
}

impl Problem {
    /// A problem titled with the status code's own words.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { status, title, detail: detail.into(), extensions: Map::new() }
    }

    /// The same problem with another title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The same problem with one more member.
    ///
    /// # Panics
    /// `name` is one of the standard members: a mistake in the program, never in its input.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        assert!(!matches!(name, "type" | "title" | "status" | "detail"), "{name} is taken");
        self.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// 400: the request can't be right; nothing was applied.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409: the request contradicts the present state; nothing was applied.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413: the body is larger than `limit` bytes; nothing was applied.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes; send it in several requests");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 501: this will not work here however often it is tried.
    pub fn not_implemented(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, detail)
    }

    /// 503: nothing was applied, the same request may succeed later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 504: it is not known whether the request was applied.
    pub fn outcome_unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, detail).titled("Outcome Unknown")
    }

    /// 500: something is broken here, and the operator has to look.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl Problem {
    /// The problem as JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(flatten)]
            extensions: &'a Map<String, Value>,
        }
        let body = serde_json::to_vec(&Body {
            r#type: "about:blank",
            title: &self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            extensions: &self.extensions,
        });
        // Strings and JSON values always serialise; the status alone still says enough.
        body.unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json();
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        let mut response = (self.status, [content_type], body).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_problem_has_the_four_standard_members_and_its_own() {
        let problem = Problem::conflict("it exists").with("existing", 7);
        let response = problem.into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["content-type"], PROBLEM_JSON);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let wanted = serde_json::json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "detail": "it exists", "existing": 7
        });
        assert_eq!(body, wanted);
    }

    #[test]
    fn a_401_names_the_scheme_and_a_503_says_when_to_ask_again() {
        let response = Problem::new(StatusCode::UNAUTHORIZED, "no key").into_response();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(Problem::unavailable("later").into_response().headers()["retry-after"], "1");
    }
}
