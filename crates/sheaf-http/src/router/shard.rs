//! One call to one shard: the request with its headers, and what its answer means for the data.
//!
//! Decides what a status code means: done, refused, surely not applied, or unknown. Never asks twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use sheaf_map::Map;
use sheaf_protocol::Refusal;
use sheaf_router::{Call, Outcome};
use sheaf_runtime::Clock;
use sheaf_transport::{Body, Limits, Transport, TransportError};
use sheaf_types::{MapVersion, ShardId, Time};

use crate::metrics::{self, Role};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::wire::{ANSWER_BYTES_MAX, MAP_VERSION, SHARD, TIMEOUT_MS, map_version};

/// Milliseconds that a router waits for an answer after the shard should have given it.
const GRACE_MS: u64 = 50;
/// Milliseconds that a replica may take for a search before the next one is asked.
const REPLICA_MS_MAX: u64 = 1_000;

/// How shards are reached: the client, the clock and the key that is shown.
pub(super) struct Shards {
    pub transport: Arc<dyn Transport>,
    pub clock: Clock,
    pub authorization: Option<HeaderValue>,
    /// Searches so far: each shard's readers take turns by it.
    pub turns: AtomicUsize,
}

/// What is asked of each shard.
pub(super) struct Ask {
    pub method: Method,
    /// Path as it goes on the wire, percent-encoded.
    pub path: String,
    /// Whether a lost answer leaves the data as it was.
    pub reads: bool,
    /// Whether a good answer may be handed on while it arrives.
    pub stream: bool,
}

/// A shard's answer that counts.
pub(super) enum Reply {
    Whole(Response<Bytes>),
    /// The body is still arriving.
    Stream(Response<Body>),
}

impl Reply {
    /// The body of a whole reply.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(response) => Some(response.body()),
            Self::Stream(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Refused {
    refusal: Refusal,
}

impl Shards {
    /// Makes the call. Ends soon after the call's `answer_by`.
    pub async fn ask(
        &self,
        ask: &Ask,
        body: Bytes,
        call: Call,
        map: Arc<Map>,
    ) -> (Outcome, Option<Reply>) {
        let url = map.shard(call.shard).map(|shard| shard.primary_url.clone());
        self.ask_at(url.as_deref(), ask, body, call).await
    }

    /// The number of a search, for [`Self::ask_any`].
    pub fn next_turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a reading call to the shard or one of its replicas, each in its turn, and to the next when that gives no answer. What the shard
    /// itself says counts when nobody answers.
    pub async fn ask_any(
        &self,
        ask: &Ask,
        body: Bytes,
        call: Call,
        map: Arc<Map>,
        turn: usize,
    ) -> (Outcome, Option<Reply>) {
        let entry = map.shard(call.shard);
        let urls: Vec<&str> = entry.map(|entry| entry.urls().collect()).unwrap_or_default();
        let first = turn.wrapping_add(call.shard.0 as usize) % urls.len().max(1);
        let mut own = None;
        for at in (0..urls.len()).map(|step| (first + step) % urls.len()) {
            let is_own = at == 0;
            let answer_by = if is_own { call.answer_by } else { self.replica_answers_by(&call) };
            let call = Call { answer_by, ..call.clone() };
            let (outcome, reply) = self.ask_at(Some(urls[at]), ask, body.clone(), call).await;
            if matches!(outcome, Outcome::Done { .. }) {
                return (outcome, reply);
            }
            if is_own {
                own = Some((outcome, reply));
            }
        }
        match own {
            Some(own) => own,
            None => self.ask_at(None, ask, body, call).await,
        }
    }

    /// A replica that doesn't answer must leave time for the others.
    fn replica_answers_by(&self, call: &Call) -> Time {
        let left_ms = self.clock.until(call.answer_by).as_millis() as u64;
        self.clock.now().plus_ms((left_ms / 4).min(REPLICA_MS_MAX))
    }

    async fn ask_at(
        &self,
        url: Option<&str>,
        ask: &Ask,
        body: Bytes,
        call: Call,
    ) -> (Outcome, Option<Reply>) {
        let request = match self.request(url, ask, body, &call) {
            Ok(request) => request,
            Err(problem) => return (Outcome::Failed, Some(own_reply(problem))),
        };
        let timeout = self.clock.until(call.answer_by) + Duration::from_millis(GRACE_MS);
        let limits = Limits { timeout, answer_bytes_max: ANSWER_BYTES_MAX };
        let answer = match self.transport.call(request, limits).await {
            Ok(answer) => answer,
            Err(error) => return (failure(&error), None),
        };
        let (parts, answer_body) = answer.into_parts();
        let version = map_version(&parts.headers);
        let done = parts.status.is_success();
        if done && ask.stream {
            let reply = Reply::Stream(Response::from_parts(parts, answer_body));
            return (Outcome::Done { version: version.unwrap_or(call.version) }, Some(reply));
        }
        if done && is_too_large(&parts.headers) {
            return (Outcome::Failed, Some(own_reply(too_large(call.shard))));
        }
        let whole = match answer_body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) => return (failure(&error), None),
        };
        judge(ask, &call, version, Response::from_parts(parts, whole))
    }

    fn request(
        &self,
        url: Option<&str>,
        ask: &Ask,
        body: Bytes,
        call: &Call,
    ) -> Result<Request<Bytes>, Problem> {
        let url = url.ok_or_else(|| {
            Problem::internal(format!("{} is not in the map that chose it", call.shard))
        })?;
        let uri = format!("{}{}", url.trim_end_matches('/'), ask.path);
        let ms_left = self.clock.until(call.answer_by).as_millis().max(1) as u64;
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(uri)
            .header(MAP_VERSION, call.version.0)
            .header(SHARD, call.shard.0)
            .header(TIMEOUT_MS, ms_left);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(body).map_err(|error| {
            let id = call.shard;
            Problem::internal(format!(
                "{id} can't be asked at {url:?}: {error}; nothing was applied"
            ))
        })
    }
}

fn failure(error: &TransportError) -> Outcome {
    tracing::debug!(%error, "a shard did not answer");
    if error.surely_not_sent() { Outcome::NotSent } else { Outcome::Lost }
}

/// What a whole answer means.
fn judge(
    ask: &Ask,
    call: &Call,
    version: Option<MapVersion>,
    answer: Response<Bytes>,
) -> (Outcome, Option<Reply>) {
    let status = answer.status();
    if status.is_success() {
        // Who names no version has no gate in front, and can't be older or newer than its asker.
        let version = version.unwrap_or(call.version);
        return (Outcome::Done { version }, Some(Reply::Whole(answer)));
    }
    if let Ok(Refused { refusal }) = serde_json::from_slice(answer.body()) {
        metrics::refusal(Role::Router, &refusal);
        return (Outcome::Refused(refusal), None);
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (Outcome::Failed, Some(own_reply(wrong_key(call.shard))))
        }
        StatusCode::NOT_IMPLEMENTED => (Outcome::Failed, Some(Reply::Whole(answer))),
        StatusCode::GATEWAY_TIMEOUT => (Outcome::Lost, None),
        // A read that is broken there will be as broken the next time; a write may have been half done.
        status if status.is_server_error() && ask.reads => {
            (Outcome::Failed, Some(Reply::Whole(answer)))
        }
        status if status.is_client_error() => (Outcome::Failed, Some(Reply::Whole(answer))),
        _ => (Outcome::Lost, None),
    }
}

/// The router's own answer in place of a shard's.
fn own_reply(problem: Problem) -> Reply {
    let status = problem.status;
    let body = Bytes::from(problem.to_json());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(PROBLEM_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Reply::Whole(response)
}

fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|bytes| bytes > ANSWER_BYTES_MAX)
}

fn too_large(shard: ShardId) -> Problem {
    let detail = format!(
        "the answer of {shard} alone is larger than {ANSWER_BYTES_MAX} bytes; ask for fewer points, or leave out vectors and payloads"
    );
    Problem::bad_request(detail)
}

fn wrong_key(shard: ShardId) -> Problem {
    let detail = format!(
        "{shard} doesn't accept this router's key, so nothing was applied; give both the same peer key"
    );
    Problem::new(StatusCode::BAD_GATEWAY, detail)
}

/// How long is left of an operation, for calls that don't go through it.
pub(super) fn limits(clock: Clock, until: Time) -> Limits {
    Limits { timeout: clock.until(until), answer_bytes_max: ANSWER_BYTES_MAX }
}
