//! What a client of Sheaf does over HTTP, and what it may conclude from the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use sheaf_checkers::{Answer, Stamp};
use sheaf_transport::{Limits, Transport, TransportError, call_whole};
use sheaf_types::PointId;

use crate::net;

/// The one collection. It is never dropped.
pub const COLLECTION: &str = "things";
/// Numbers of a vector.
pub const DIM: usize = 4;
/// More than there are points.
const ALL: usize = 10_000;
/// Milliseconds by which a client is more patient than it tells the router.
const GRACE_MS: u64 = 300;

/// What a client asks a router for.
#[derive(Clone, Debug)]
pub enum Work {
    Upsert(Vec<(PointId, Stamp)>),
    Delete(Vec<PointId>),
    Get(PointId),
    /// All points, as a search finds them.
    Search,
    /// All points, as a listing shows them.
    Fetch,
}

/// One client's way to the cluster.
pub struct Caller {
    transport: Arc<dyn Transport>,
}

/// What came back.
pub struct Came {
    pub answer: Answer,
    /// What a person wants to see of it.
    pub words: String,
    /// A point that no write can have made.
    pub nonsense: Option<String>,
}

/// The vector that the write of this stamp gives to this point.
fn vector(id: &PointId, stamp: Stamp) -> Vec<f32> {
    let sum = id.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
    vec![stamp as f32, (sum % 1_000) as f32 / 8.0, (stamp % 97) as f32 / 4.0, 1.0]
}

/// Every byte but letters and digits is escaped.
fn encoded(id: &str) -> String {
    let mut text = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl Caller {
    pub fn new() -> Self {
        Self { transport: Arc::new(net::transport()) }
    }

    /// One request and its answer, whole.
    pub async fn call(
        &self,
        method: Method,
        url: String,
        body: Option<Value>,
        timeout_ms: u64,
        headers: &[(&str, String)],
    ) -> Result<(StatusCode, Value), TransportError> {
        let mut request = Request::builder().method(method).uri(url);
        request = request.header("content-type", "application/json");
        request = request.header("sheaf-timeout-ms", timeout_ms.to_string());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(bytes).expect("made of parts that are valid in any request");
        let timeout = Duration::from_millis(timeout_ms + GRACE_MS);
        let limits = Limits { timeout, answer_bytes_max: 64 * 1024 * 1024 };
        let (parts, body) = call_whole(&*self.transport, request, limits).await?.into_parts();
        Ok((parts.status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Asks a router.
    pub async fn ask(&self, router: &str, work: &Work, timeout_ms: u64) -> Came {
        let collection = format!("{}/v1/collections/{COLLECTION}", net::url(router));
        let (method, url, body) = match work {
            Work::Upsert(points) => {
                let point = |(id, stamp): &(PointId, Stamp)| json!({ "id": id.as_str(), "vector": vector(id, *stamp), "payload": { "stamp": stamp } });
                let points: Vec<Value> = points.iter().map(point).collect();
                let body = json!({ "points": points });
                (Method::POST, format!("{collection}/points"), Some(body))
            }
            Work::Delete(ids) => {
                let ids: Vec<&str> = ids.iter().map(PointId::as_str).collect();
                (Method::DELETE, format!("{collection}/points"), Some(json!({ "ids": ids })))
            }
            Work::Get(id) => {
                (Method::GET, format!("{collection}/points/{}", encoded(id.as_str())), None)
            }
            Work::Search => {
                let body = json!({ "vector": vec![0.0; DIM], "k": ALL, "with_vector": true });
                (Method::POST, format!("{collection}/query"), Some(body))
            }
            Work::Fetch => {
                let body = json!({ "limit": ALL, "with_vector": true });
                (Method::POST, format!("{collection}/fetch"), Some(body))
            }
        };
        match self.call(method, url, body, timeout_ms, &[]).await {
            Ok((status, body)) => conclude(work, status, &body),
            Err(error) => {
                let answer =
                    if error.surely_not_sent() { Answer::Refused } else { Answer::Unknown };
                Came { answer, words: error.to_string(), nonsense: None }
            }
        }
    }
}

/// What the client may conclude.
fn conclude(work: &Work, status: StatusCode, body: &Value) -> Came {
    let detail = body["detail"].as_str().unwrap_or_default();
    let mut came =
        Came { answer: Answer::Unknown, words: format!("{status} {detail}"), nonsense: None };
    if status.is_success() {
        came.answer = match work {
            Work::Upsert(_) | Work::Delete(_) => Answer::Done,
            Work::Get(id) => match stamp(body, Some(id)) {
                Ok((_, stamp)) => Answer::Point(Some(stamp)),
                Err(what) => nonsense(&mut came.nonsense, what),
            },
            Work::Search => found(&body["matches"], &mut came.nonsense),
            Work::Fetch => found(&body["points"], &mut came.nonsense),
        };
        return came;
    }
    let part_applied = body["applied"].as_u64().unwrap_or(0) > 0;
    came.answer = match (work, status) {
        (Work::Get(_), StatusCode::NOT_FOUND) if detail.contains("no point") => Answer::Point(None),
        _ if part_applied => Answer::Unknown,
        // What these statuses mean for a write is promised: nothing was applied.
        _ if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE => {
            Answer::Refused
        }
        _ => Answer::Unknown,
    };
    came
}

fn nonsense(place: &mut Option<String>, what: String) -> Answer {
    *place = Some(what);
    Answer::Unknown
}

fn found(points: &Value, place: &mut Option<String>) -> Answer {
    let points = points.as_array().map(|points| points.iter().map(|point| stamp(point, None)));
    match points.map(Iterator::collect::<Result<Vec<_>, String>>) {
        Some(Ok(points)) => Answer::Points(points),
        Some(Err(what)) => nonsense(place, what),
        None => nonsense(place, "an answer without points".to_owned()),
    }
}

/// A point's id and stamp; an error when its vector and payload are not of one write.
fn stamp(point: &Value, wanted: Option<&PointId>) -> Result<(PointId, Stamp), String> {
    let parts = (point["id"].as_str(), point["payload"]["stamp"].as_u64());
    let (Some(id), Some(stamp)) = parts else {
        return Err(format!("a point without id or stamp: {point}"));
    };
    let id = PointId::from(id);
    if wanted.is_some_and(|wanted| *wanted != id) {
        return Err(format!("{wanted:?} was asked for, {id:?} came"));
    }
    let numbers = point["vector"].as_array().into_iter().flatten();
    let numbers: Vec<f32> = numbers.filter_map(Value::as_f64).map(|number| number as f32).collect();
    if numbers != vector(&id, stamp) {
        return Err(format!("{id:?} has the payload of {stamp}, but the vector {numbers:?}"));
    }
    Ok((id, stamp))
}
