//! Gates in one process: the real routes on the real core, a memory engine, and a network that is a table of routers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sheaf_engines::{Engine, Memory};
use sheaf_http::auth::Keys;
use sheaf_http::gate::{HttpPeers, gate};
use sheaf_http::wire::map::{PublishedMap, Underway};
use sheaf_map::{Collection, Map, ShardEntry};
use sheaf_protocol::{Directive, GateReport, Order};
use sheaf_runtime::Clock;
use sheaf_runtime::gate::{GateHost, GateParts};
use sheaf_stores::MemoryStore;
use sheaf_transport::{Limits, Reply, Transport, TransportError};
use sheaf_types::{
    ClusterId, CollectionConfig, CollectionId, MapVersion, PointId, Revision, ShardId, StoreId,
    Term, Time, TransitionId,
};
use tower::ServiceExt;

pub const PEER_KEY: &str = "peer-key";

/// Who answers at which host.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<BTreeMap<String, Router>>>);

impl Network {
    pub fn add(&self, host: &str, router: Router) {
        self.0.lock().unwrap().insert(host.to_owned(), router);
    }

    /// A coordinator that publishes this map.
    pub fn publish(&self, map: &Map) {
        let json =
            serde_json::to_string(&PublishedMap { map, underway: Underway::new(vec![], vec![]) });
        let json = json.unwrap();
        let router = Router::new()
            .route("/cluster/map", axum::routing::get(move || async move { json.clone() }));
        self.add("coordinator", router);
    }
}

impl Transport for Network {
    fn call(&self, request: Request<Bytes>, limits: Limits) -> Reply<'_> {
        let to = request.uri().host().unwrap_or_default().to_owned();
        let router = self.0.lock().unwrap().get(&to).cloned();
        Box::pin(async move {
            let Some(router) = router else {
                let reason = "nobody listens".to_owned();
                return Err(TransportError::NotSent { to, reason });
            };
            let answer = router.oneshot(request.map(Body::from));
            match tokio::time::timeout(limits.timeout, answer).await {
                Ok(Ok(answer)) => {
                    let lost = |error: axum::Error| TransportError::Lost {
                        to: "peer".to_owned(),
                        reason: error.to_string(),
                    };
                    Ok(answer.map(|body| body.map_err(lost).boxed_unsync()))
                }
                Ok(Err(never)) => match never {},
                Err(_) => Err(TransportError::Lost { to, reason: "no answer".to_owned() }),
            }
        })
    }
}

/// One gate.
pub struct Node {
    pub router: Router,
    pub engine: Arc<Memory>,
    shard: u64,
    revision: Mutex<u64>,
}

impl Node {
    /// A standby that will be this shard.
    pub async fn new(network: &Network, shard: u64, keys: &Keys) -> Self {
        let peers = Arc::new(network.clone());
        let coordinators = ["http://coordinator".to_owned()];
        let peers = HttpPeers::new(peers, &coordinators, Some(PEER_KEY)).unwrap();
        let engine = Arc::new(Memory::new());
        let host = GateHost::open(GateParts {
            clock: Clock::starting_at(Time(1_000)),
            ledger: Arc::new(MemoryStore::new()),
            engine: engine.clone(),
            peers: Arc::new(peers),
            new_store_id: store(shard),
        })
        .await
        .unwrap();
        let router = gate(host, keys.clone());
        network.add(&format!("gate-{shard}"), router.clone());
        Self { router, engine, shard, revision: Mutex::new(0) }
    }

    /// A gate without keys that is shard 1, alone, at map 2.
    pub async fn serving(config: Value) -> Self {
        let node = Self::new(&Network::default(), 1, &Keys::open()).await;
        node.directive(&map(2, &[1], config), None).await;
        node
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        Answer::read(answer).await
    }

    /// Without a key.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.ask(Request::builder().method(method).uri(path).body(body).unwrap()).await
    }

    /// With the peer key.
    pub async fn peer(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {PEER_KEY}"));
        self.ask(request.body(body.into()).unwrap()).await
    }

    /// Sends a later directive until the gate follows it.
    pub async fn directive(&self, map: &Map, order: Option<Order>) -> GateReport {
        let revision = {
            let mut revision = self.revision.lock().unwrap();
            *revision += 1;
            *revision
        };
        self.directive_of(revision, map, order).await
    }

    /// Repeats the last directive, for what the gate has to say meanwhile.
    pub async fn again(&self, map: &Map, order: Option<Order>) -> GateReport {
        let revision = *self.revision.lock().unwrap();
        self.directive_of(revision, map, order).await
    }

    async fn directive_of(&self, revision: u64, map: &Map, order: Option<Order>) -> GateReport {
        let directive = Directive {
            cluster_id: map.cluster_id().clone(),
            term: Term(1),
            revision: Revision(revision),
            shard: ShardId(self.shard),
            store_id: store(self.shard),
            map: Arc::new(map.clone()),
            order,
            sweep: true,
            retired: false,
            unproven: false,
        };
        let body = serde_json::to_string(&directive).unwrap();
        let answer = self.peer("POST", "/internal/directive?wait_ms=500", body).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let report: GateReport = serde_json::from_value(answer.json["report"].clone()).unwrap();
        assert_eq!(report.revision, Revision(revision), "the directive is followed");
        report
    }

    /// Repeats a directive until the report is as wanted.
    pub async fn until(
        &self,
        map: &Map,
        order: &Order,
        wanted: impl Fn(&GateReport) -> bool,
    ) -> GateReport {
        for _ in 0..1_000 {
            let report = self.again(map, Some(order.clone())).await;
            if wanted(&report) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gate never gets there");
    }

    pub async fn holds(&self, id: &str) -> bool {
        let found = self.engine.get(CollectionId(1), vec![PointId::from(id)]).await.unwrap();
        found[0].is_some()
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: http::response::Parts,
    pub body: Bytes,
    /// `Null` when the body is no JSON.
    pub json: Value,
}

impl Answer {
    async fn read(answer: Response<Body>) -> Self {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Self { status: head.status.as_u16(), head, body, json }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn store(shard: u64) -> StoreId {
    StoreId::from(format!("store-{shard}"))
}

/// A configuration by its name and metric, of two dimensions.
pub fn config(name: &str, metric: &str) -> Value {
    json!({ "name": name, "dim": 2, "metric": metric })
}

/// The map of these shards, with one collection.
pub fn map(version: u64, shards: &[u64], config: Value) -> Map {
    let shard = |&id: &u64| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://gate-{id}"),
        replica_urls: Vec::new(),
        weight: Default::default(),
        store_id: store(id),
    };
    let config: CollectionConfig = serde_json::from_value(config).unwrap();
    let collection = Collection { id: CollectionId(1), config: Arc::new(config) };
    let cluster = ClusterId::from("cluster");
    let shards = shards.iter().map(shard).collect();
    Map::new(cluster, MapVersion(version), TransitionId(0), shards, vec![collection]).unwrap()
}

/// The path of a point.
pub fn path_of(id: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("/v1/collections/words/points/{id}")
}

/// Points with vectors (n, 1) and payloads {"n": n}.
pub fn points(ids: &[&str]) -> Value {
    let point =
        |(n, id): (usize, &&str)| json!({ "id": id, "vector": [n, 1], "payload": { "n": n } });
    json!({ "points": ids.iter().enumerate().map(point).collect::<Vec<_>>() })
}
