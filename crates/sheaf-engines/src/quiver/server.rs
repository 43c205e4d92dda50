//! One Quiver server over HTTP: requests, deadlines, and what each kind of failure says about the data.
//!
//! Decides whether a failed call may have been carried out. Knows no collection and no point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use serde::Deserialize;
use sheaf_transport::{Limits, Transport, TransportError, call_whole};

use crate::EngineError;

/// Bytes of one answer. A page is asked for such that it is far smaller, unless payloads are huge.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

pub struct Server {
    transport: Arc<dyn Transport>,
    /// `http://HOST:PORT`.
    url: String,
    authorization: Option<HeaderValue>,
    /// Calls that got no answer: the server may have been restarted then.
    silences: AtomicU64,
    /// Requests of the data API that it has answered.
    answered: AtomicU64,
}

/// Why a call has no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It never left.
    NotSent(String),
    /// It may have been carried out, or may be yet.
    Lost(String),
    /// It wasn't sent: the server's log may be torn.
    Withheld,
    /// The server answered with this status and these words.
    Refused { status: StatusCode, detail: String },
}

impl CallError {
    /// Whether the server surely changed nothing. A status of 5xx says nothing about that: Quiver logs a write before it fails.
    pub fn changed_nothing(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Withheld => true,
            Self::Lost(_) => false,
            Self::Refused { status, .. } => {
                status.is_client_error() || *status == StatusCode::NOT_IMPLEMENTED
            }
        }
    }

    /// Whether it may go away by itself or by an operator's hand, so that asking again is worth it.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) | Self::Withheld => true,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || [
                        StatusCode::UNAUTHORIZED,
                        StatusCode::FORBIDDEN,
                        StatusCode::TOO_MANY_REQUESTS,
                        StatusCode::MISDIRECTED_REQUEST,
                    ]
                    .contains(status)
            }
        }
    }

    pub fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }

    /// The failure of a call that changed nothing.
    pub fn into_engine_error(self) -> EngineError {
        match self {
            Self::NotSent(reason) | Self::Lost(reason) => {
                EngineError::Unavailable(format!("the Quiver server doesn't answer: {reason}"))
            }
            Self::Withheld => EngineError::Unavailable(
                "the Quiver server has failed a write since it was started, so its log may be torn, and what it takes now \
                 may be gone at its next start: see in its log why (disk full?), then restart it. Nothing was changed"
                    .to_owned(),
            ),
            Self::Refused { status, detail } => match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    EngineError::Unavailable(format!(
                        "the Quiver server refuses the key ({status}: {detail}); give one with the role admin for \
                         all collections as --engine-key"
                    ))
                }
                StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY => EngineError::Invalid(format!(
                    "the Quiver server takes it not ({status}): {detail}"
                )),
                StatusCode::NOT_IMPLEMENTED => EngineError::Unsupported(format!(
                    "the Quiver server can't do that ({detail}); it must be a single node, no router of a cluster"
                )),
                _ => EngineError::Unavailable(format!(
                    "the Quiver server failed ({status}): {detail}"
                )),
            },
        }
    }
}

impl Server {
    /// # Errors
    /// The key can't be sent in a header.
    pub fn new(
        transport: Arc<dyn Transport>,
        url: &str,
        key: Option<&str>,
    ) -> Result<Self, EngineError> {
        let authorization = key.map(|key| {
            let header = HeaderValue::from_str(&format!("Bearer {key}"));
            header.map(|mut header| {
                header.set_sensitive(true);
                header
            })
        });
        let authorization = authorization.transpose().map_err(|_| {
            EngineError::Invalid("the engine's key has characters that a header can't carry".into())
        })?;
        let url = url.trim_end_matches('/').to_owned();
        let (silences, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { transport, url, authorization, silences, answered })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls so far that got no answer.
    pub fn silences(&self) -> u64 {
        self.silences.load(Ordering::Acquire)
    }

    /// Requests of the data API that it has answered so far: it has counted as many, if it wasn't started anew.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There is none, or it isn't a success.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(header) = &self.authorization {
            request = request.header(AUTHORIZATION, header);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(body).map_err(|error| CallError::NotSent(error.to_string()))?;
        let limits = Limits { timeout: deadline, answer_bytes_max: ANSWER_BYTES_MAX };
        let answer = call_whole(&*self.transport, request, limits).await;
        let answer = answer.inspect_err(|_| {
            self.silences.fetch_add(1, Ordering::AcqRel);
        });
        let answer = answer.map_err(|error| match &error {
            TransportError::NotSent { .. } => CallError::NotSent(error.to_string()),
            TransportError::Lost { .. } => CallError::Lost(error.to_string()),
        })?;
        if path.starts_with("/v1/") {
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        Err(CallError::Refused { status, detail: detail(answer.body()) })
    }
}

/// What a problem says; a body that is none, shortened.
fn detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}
