//! One HTTP request, one answer, no second try: a test must see what any client would see.
//!
//! Paths are sent as they are written, dots and slashes included; nothing is normalised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sheaf_transport::{HttpOptions, HyperTransport, Limits, TransportError, call_whole};

/// Seconds that an answer may take: longer than a router lets a request live.
const ANSWER_SECS_MAX: u64 = 30;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// All but letters, digits and what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// One text as a segment of a path, whatever it contains.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// One server.
#[derive(Clone)]
pub struct Client {
    transport: Arc<HyperTransport>,
    url: String,
    key: Option<String>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who answered.
    pub server: String,
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    /// The body as JSON; a string when it is something else.
    pub body: Value,
}

/// There is no answer.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Nothing can have been applied.
    pub never_sent: bool,
    pub why: String,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.body.to_string().chars().take(600).collect();
        write!(f, "{}: {} {body}", self.server, self.status.as_u16())
    }
}

impl Answer {
    /// The body of an answer that must be a success.
    ///
    /// # Panics
    /// It is not: the message is the whole answer.
    pub fn expect_ok(self, what: &str) -> Value {
        assert!(self.status.is_success(), "{what}: {self}");
        self.body
    }

    /// What a problem says.
    pub fn detail(&self) -> &str {
        self.body.get("detail").and_then(Value::as_str).unwrap_or_default()
    }

    /// Fails unless this is a problem (RFC 9457) with this status and a sentence that helps.
    ///
    /// # Panics
    /// It is not.
    pub fn expect_problem(&self, status: u16, what: &str) {
        assert_eq!(self.status.as_u16(), status, "{what}: {self}");
        let media = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        assert_eq!(media, Some("application/problem+json"), "{what}: {self}");
        assert_eq!(self.body["status"], status, "{what}: {self}");
        for member in ["type", "title", "detail"] {
            let text = self.body.get(member).and_then(Value::as_str).unwrap_or_default();
            assert!(!text.is_empty(), "{what}: {member} is empty: {self}");
        }
        assert!(self.detail().split_whitespace().count() >= 4, "{what}: this helps nobody: {self}");
    }
}

impl Client {
    /// A client of the server at this URL.
    pub fn new(url: &str) -> Self {
        let options = HttpOptions { idle_per_peer_max: 16, ..HttpOptions::default() };
        let transport = Arc::new(HyperTransport::new(options));
        Self { transport, url: url.to_owned(), key: None }
    }

    /// The same client, showing this key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// # Errors
    /// No answer came.
    pub async fn get(&self, path: &str) -> Result<Answer, Gone> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// # Errors
    /// No answer came.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Gone> {
        self.json(Method::POST, path, &[], body).await
    }

    /// # Errors
    /// No answer came.
    pub async fn delete(&self, path: &str, body: &Value) -> Result<Answer, Gone> {
        self.json(Method::DELETE, path, &[], body).await
    }

    /// Sends a JSON body; none when it is `null`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Gone> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, headers, Bytes::from(text)).await
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Gone> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| Gone {
            never_sent: true,
            why: format!("{path} makes no request: {error}"),
        })?;
        let limits = Limits {
            timeout: Duration::from_secs(ANSWER_SECS_MAX),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = call_whole(self.transport.as_ref(), request, limits).await;
        let answer = answer.map_err(|error: TransportError| Gone {
            never_sent: error.surely_not_sent(),
            why: format!("{}{path}: {error}", self.url),
        })?;
        let (parts, body) = answer.into_parts();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        let server = self.url.clone();
        Ok(Answer { server, status: parts.status, headers: parts.headers, body })
    }
}
