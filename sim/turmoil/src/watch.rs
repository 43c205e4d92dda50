//! Windows into the real ports: what a store holds, what a coordinator sends, what a gate hears and answers.
//!
//! Decides nothing and changes nothing; each hands on what it was given and writes down the fact.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sheaf_checkers::{Fact, NodeId, PointAt};
use sheaf_coordinator::{CoordinatorRecord, Identity, Outgoing, PollAnswer};
use sheaf_gate::GateRecord;
use sheaf_http::wire;
use sheaf_http::wire::peer::DirectiveReply;
use sheaf_protocol::Directive;
use sheaf_runtime::coordinator::{GateReply, Gates};
use sheaf_sim::gate_node::held;
use sheaf_sim::store::decided;
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};
use sheaf_types::{PointId, ShardId};

use crate::book::Book;

/// Whose record a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Coordinator,
    Gate(u32),
}

/// A store whose states are written down, each once, as soon as it is known to be durable.
pub struct WatchedStore<S> {
    inner: S,
    book: Arc<Book>,
    owner: Owner,
}

impl<S> WatchedStore<S> {
    pub fn new(inner: S, book: Arc<Book>, owner: Owner) -> Self {
        Self { inner, book, owner }
    }

    fn durable(&self, bytes: &[u8]) {
        match self.owner {
            Owner::Coordinator => {
                let Ok(record) = serde_json::from_slice::<CoordinatorRecord>(bytes) else { return };
                let known = self.book.record();
                let stamp = |record: &CoordinatorRecord| (record.term, record.revision);
                if known.as_deref().map(stamp) >= Some(stamp(&record)) {
                    return;
                }
                let record = Arc::new(record);
                self.book.fact(Fact::Stored { decided: Box::new(decided(&record)) });
                self.book.stored(record);
            }
            Owner::Gate(node) => {
                let Ok(record) = serde_json::from_slice::<GateRecord>(bytes) else { return };
                let known = self.book.ledger(node);
                if known.as_ref() == Some(&record) {
                    return;
                }
                let held = held(&record);
                let node_id = NodeId(node);
                let restarted = known.is_none_or(|known| known.incarnation != record.incarnation);
                self.book.fact(if restarted {
                    Fact::GateStarted { node: node_id, held }
                } else {
                    Fact::Persisted { node: node_id, held }
                });
                self.book.kept(node, record);
            }
        }
    }
}

impl<S: Store> Store for WatchedStore<S> {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            let loaded = self.inner.load().await;
            if let Ok(Some(loaded)) = &loaded {
                self.durable(&loaded.bytes);
            }
            loaded
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move {
            let outcome = self.inner.compare_and_set(expected, bytes.clone()).await;
            if let StoreOutcome::Done(_) = outcome {
                self.durable(&bytes);
            }
            outcome
        })
    }
}

/// The coordinator's way to the gates, with each directive written down.
pub struct WatchedGates<G> {
    pub inner: G,
    pub book: Arc<Book>,
}

impl<G: Gates> Gates for WatchedGates<G> {
    fn direct(&self, outgoing: Outgoing) -> GateReply<'_, PollAnswer> {
        let directive = Box::new((*outgoing.directive).clone());
        self.book.fact(Fact::DirectiveSent { directive });
        self.inner.direct(outgoing)
    }

    fn identify(&self, url: String) -> GateReply<'_, Identity> {
        self.inner.identify(url)
    }
}

/// Where a gate's requests and answers are written down.
#[derive(Clone)]
pub struct AtGate {
    pub book: Arc<Book>,
    pub node: u32,
}

/// Around a gate's routes: what a directive said and what was reported, and which writes were acknowledged.
pub async fn at_gate(State(at): State<AtGate>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let written =
        path.strip_prefix("/v1/collections/").and_then(|rest| rest.strip_suffix("/points"));
    if path == "/internal/directive" {
        return directive(&at, request, next).await;
    }
    match written {
        Some(collection) => write(&at, collection, request, next).await,
        None => next.run(request).await,
    }
}

/// The whole request, and its body; an answer that nobody will read when the body broke off.
async fn whole(request: Request) -> Result<(Request, Bytes), Response> {
    let (parts, body) = request.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(bytes) => Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes)),
        Err(_) => Err(StatusCode::BAD_REQUEST.into_response()),
    }
}

async fn directive(at: &AtGate, request: Request, next: Next) -> Response {
    let (request, body) = match whole(request).await {
        Ok(whole) => whole,
        Err(broken) => return broken,
    };
    let node = NodeId(at.node);
    if let Ok(directive) = serde_json::from_slice::<Directive>(&body) {
        at.book.fact(Fact::Directed { node, directive: Box::new(directive) });
    }
    let (parts, body) = next.run(request).await.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    if let Ok(DirectiveReply::Report(report)) = serde_json::from_slice(&bytes) {
        at.book.fact(Fact::Reported { node, report });
    }
    Response::from_parts(parts, Body::from(bytes))
}

async fn write(at: &AtGate, collection: &str, request: Request, next: Next) -> Response {
    let (request, body) = match whole(request).await {
        Ok(whole) => whole,
        Err(broken) => return broken,
    };
    let shard = request.headers().get(wire::SHARD).and_then(|text| text.to_str().ok());
    let shard = shard.and_then(|text| text.parse().ok()).map(ShardId);
    let response = next.run(request).await;
    let version = wire::map_version(response.headers());
    if let (true, Some(version)) = (response.status().is_success(), version) {
        let map = at.book.record().map(|record| Arc::clone(&record.map));
        let entry = map.as_ref().and_then(|map| map.collection(collection).cloned());
        let points = ids(&body).into_iter();
        let points = entry
            .map(|entry| points.map(|id| PointAt { collection: entry.id, id }).collect::<Vec<_>>());
        let points = points.unwrap_or_default();
        at.book.fact(Fact::Acknowledged { node: NodeId(at.node), shard, version, points });
    }
    response
}

/// The ids that an upsert or a deletion names.
fn ids(body: &[u8]) -> Vec<PointId> {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return Vec::new() };
    let id = |value: &serde_json::Value| value.as_str().map(PointId::from);
    let points = body["points"].as_array().into_iter().flatten();
    let points = points.filter_map(|point| id(&point["id"]));
    let deleted = body["ids"].as_array().into_iter().flatten().filter_map(id);
    points.chain(deleted).collect()
}
