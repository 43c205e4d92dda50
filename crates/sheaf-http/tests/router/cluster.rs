//! A coordinator and shards in memory, behind a transport, and a client of the router in front of them.
//!
//! The shards obey placement and refuse what isn't theirs, but neither fence nor persist: that is the gate's affair.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sheaf_http::auth::Keys;
use sheaf_http::router::{Coordinators, RouterParts, router};
use sheaf_map::{Collection, Map, ShardEntry, Weight};
use sheaf_runtime::Clock;
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_transport::{Limits, Reply, Transport, TransportError};
use sheaf_types::{
    ClusterId, CollectionConfig, CollectionId, MapVersion, PlacementKey, ShardId, StoreId, Time,
    TransitionId,
};
use tower::ServiceExt;

/// What a shard does with the next requests instead of serving them.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Nothing listens.
    Away,
    /// It never answers; whether it applied is not told.
    Silent,
    /// Answers this status and problem.
    Says(u16, Value),
}

#[derive(Default)]
pub struct State {
    pub map: Option<Map>,
    /// Points of each shard: collection, id, whole point.
    pub points: BTreeMap<u64, BTreeMap<(String, String), Value>>,
    pub trouble: BTreeMap<u64, Trouble>,
    /// Method, path and body of every request that reached a shard.
    pub seen: Vec<(u64, String, Bytes)>,
    /// The map by which shards judge; `None`: the current one.
    pub coordinator_away: bool,
}

#[derive(Clone, Default)]
pub struct Cluster(pub Arc<Mutex<State>>);

pub fn map_of(version: u64, shards: u64, collections: &[Value]) -> Map {
    let entry = |id| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://shard-{id}"),
        replica_urls: Vec::new(),
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{id}")),
    };
    let collection = |(id, config): (usize, &Value)| Collection {
        id: CollectionId(id as u64 + 1),
        config: Arc::new(serde_json::from_value::<CollectionConfig>(config.clone()).unwrap()),
    };
    let collections = collections.iter().enumerate().map(collection).collect();
    let shards = (1..=shards).map(entry).collect();
    let cluster = ClusterId::from("test");
    Map::new(cluster, MapVersion(version), TransitionId(0), shards, collections).unwrap()
}

pub fn words() -> Value {
    json!({ "name": "words", "dim": 2 })
}

impl Cluster {
    pub fn of(shards: u64) -> Self {
        let cluster = Self::default();
        cluster.state().map = Some(map_of(5, shards, &[words()]));
        cluster
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn trouble(&self, shard: u64, trouble: Trouble) {
        self.state().trouble.insert(shard, trouble);
    }

    pub fn seen(&self) -> Vec<(u64, String, Bytes)> {
        std::mem::take(&mut self.state().seen)
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Option<Trouble>> {
        let host = request.uri().host().unwrap().to_owned();
        match host.strip_prefix("shard-") {
            Some(id) => self.shard(id.parse().unwrap(), request),
            None => Ok(self.coordinator(request).ok_or(Trouble::Away)?),
        }
    }

    fn coordinator(&self, request: &Request<Bytes>) -> Option<Response<Bytes>> {
        let mut state = self.state();
        if state.coordinator_away {
            return None;
        }
        let map = state.map.clone()?;
        let path = request.uri().path();
        let mut collections: Vec<Value> =
            map.collections().iter().map(|c| serde_json::to_value(&*c.config).unwrap()).collect();
        let version = map.version().0 + 1;
        let answer = match (request.method().as_str(), path) {
            ("GET", "/cluster/map") => (200, serde_json::to_value(&map).unwrap()),
            ("POST", "/cluster/collections") => {
                let config: Value = serde_json::from_slice(request.body()).unwrap();
                if collections.iter().any(|c| c["name"] == config["name"]) {
                    return Some(answer(409, &json!({ "detail": "it exists" })));
                }
                collections.push(config);
                state.map = Some(map_of(version, map.shards().len() as u64, &collections));
                (201, json!({ "version": version }))
            }
            ("DELETE", path) => {
                let name = path.strip_prefix("/cluster/collections/").unwrap();
                let before = collections.len();
                collections.retain(|c| c["name"] != name);
                let existed = collections.len() < before;
                state.map = Some(map_of(version, map.shards().len() as u64, &collections));
                (200, json!({ "existed": existed, "version": version }))
            }
            other => panic!("{other:?}"),
        };
        Some(self::answer(answer.0, &answer.1))
    }

    fn shard(&self, me: u64, request: &Request<Bytes>) -> Result<Response<Bytes>, Option<Trouble>> {
        let mut state = self.state();
        match state.trouble.get(&me).cloned() {
            Some(Trouble::Away) => return Err(Some(Trouble::Away)),
            Some(Trouble::Says(status, problem)) => return Ok(answer(status, &problem)),
            Some(Trouble::Silent) | None => {}
        }
        let line = format!("{} {}", request.method(), request.uri().path());
        state.seen.push((me, line, request.body().clone()));
        if state.trouble.get(&me) == Some(&Trouble::Silent) {
            return Err(None);
        }
        let map = state.map.clone().unwrap();
        let version = map.version().0;
        let path = request.uri().path().strip_prefix("/v1/collections/").unwrap();
        let (name, call) = path.split_once('/').unwrap();
        let refuse = |kind: &str| {
            let refusal = json!({ "kind": kind, "version": version });
            Ok(answer(421, &json!({ "status": 421, "refusal": refusal })))
        };
        if map.collection(name).is_none() {
            return refuse("no_collection");
        }
        if let Some(id) = call.strip_prefix("points/") {
            let id = percent_encoding::percent_decode_str(id).decode_utf8().unwrap().into_owned();
            return if map.owner(PlacementKey::of(&id)) != Some(ShardId(me)) {
                refuse("moved")
            } else {
                let mine = state.points.entry(me).or_default();
                Ok(match mine.get(&(name.to_owned(), id)) {
                    Some(point) => answer(200, point),
                    None => answer(404, &json!({ "detail": "no such point" })),
                })
            };
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let named =
            body["points"].as_array().map(|points| points.iter().map(|p| &p["id"]).collect());
        let named: Vec<&Value> =
            named.or_else(|| Some(body["ids"].as_array()?.iter().collect())).unwrap_or_default();
        let foreign =
            |id: &&Value| map.owner(PlacementKey::of(id.as_str().unwrap())) != Some(ShardId(me));
        if named.iter().any(foreign) {
            return refuse("moved");
        }
        let asked = request.headers().get("sheaf-map-version").unwrap().to_str().unwrap();
        if named.is_empty() && asked != version.to_string() {
            return refuse("other_version");
        }
        let mine = state.points.entry(me).or_default();
        Ok(serve(mine, request.method(), name, call, &body, version))
    }
}

fn serve(
    mine: &mut BTreeMap<(String, String), Value>,
    method: &Method,
    name: &str,
    call: &str,
    body: &Value,
    version: u64,
) -> Response<Bytes> {
    let key = |id: &Value| (name.to_owned(), id.as_str().unwrap().to_owned());
    let all =
        || mine.iter().filter(|((collection, _), _)| collection == name).map(|(_, p)| p.clone());
    let value = match (method.as_str(), call) {
        ("POST", "points" | "points:bulk") => {
            let points = body["points"].as_array().unwrap();
            points.iter().for_each(|point| drop(mine.insert(key(&point["id"]), point.clone())));
            json!({ "upserted": points.len() })
        }
        ("DELETE", "points") => {
            let ids = body["ids"].as_array().unwrap();
            json!({ "deleted": ids.iter().filter_map(|id| mine.remove(&key(id))).count() })
        }
        ("POST", "count") => json!({ "count": all().count() }),
        ("POST", "fetch") => {
            let limit = body["limit"].as_u64().unwrap() as usize;
            json!({ "points": all().skip(body["offset"].as_u64().unwrap() as usize).take(limit).collect::<Vec<_>>() })
        }
        // The score is the distance of the first numbers.
        ("POST", "query") => {
            let first = body["vector"][0].as_f64().unwrap();
            let mut hits: Vec<(f64, Value)> = all()
                .map(|p| {
                    let score = (p["vector"][0].as_f64().unwrap() - first).powi(2);
                    (score, json!({ "id": p["id"], "score": score, "payload": p["payload"] }))
                })
                .collect();
            hits.sort_by(|a, b| {
                a.0.total_cmp(&b.0).then(a.1["id"].as_str().cmp(&b.1["id"].as_str()))
            });
            hits.truncate(body["k"].as_u64().unwrap_or(10) as usize);
            json!({ "matches": hits.into_iter().map(|hit| hit.1).collect::<Vec<_>>() })
        }
        other => panic!("{other:?}"),
    };
    let mut answer = answer(200, &value);
    answer.headers_mut().insert("sheaf-map-version", version.into());
    answer
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Bytes::from(body.to_string())).unwrap()
}

impl Transport for Cluster {
    fn call(&self, request: Request<Bytes>, limits: Limits) -> Reply<'_> {
        let answer = self.answer(&request);
        let to = request.uri().host().unwrap().to_owned();
        let polls = request.uri().path() == "/cluster/map";
        Box::pin(async move {
            match answer {
                Ok(answer) => {
                    if polls {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    let full =
                        |body| Full::new(body).map_err(|never| match never {}).boxed_unsync();
                    Ok(answer.map(full))
                }
                Err(Some(_)) => {
                    Err(TransportError::NotSent { to, reason: "connection refused".into() })
                }
                Err(None) => {
                    tokio::time::sleep(limits.timeout).await;
                    Err(TransportError::Lost { to, reason: "no answer".into() })
                }
            }
        })
    }
}

/// A client of a router in front of a cluster.
pub struct Client {
    pub router: Router,
    pub cluster: Cluster,
    pub key: Option<&'static str>,
    pub timeout_ms: Option<u64>,
    pub clock: Clock,
}

pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn detail(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

impl Client {
    /// A router that accepts these keys, none: everybody; and knows the cluster's map.
    pub async fn with_keys(cluster: Cluster, keys: &[&str]) -> Self {
        let client = Self::early(cluster, keys);
        while client.get("/readyz").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        client
    }

    pub async fn new(cluster: Cluster) -> Self {
        Self::with_keys(cluster, &[]).await
    }

    /// A router that may not know a map yet.
    pub fn early(cluster: Cluster, keys: &[&str]) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(cluster.clone());
        let urls = ["http://coordinator".to_owned()];
        let coordinators = Coordinators::new(transport.clone(), &urls, Some("peer")).unwrap();
        let clock = Clock::starting_at(Time(1_000));
        let source = Arc::new(coordinators.clone());
        let (host, keeper) = RouterHost::new(clock, source, KeeperOptions::default(), 7);
        tokio::spawn(keeper);
        let accepted = keys.iter().copied();
        let keys =
            if keys.is_empty() { Keys::open() } else { Keys::closed(accepted, None).unwrap() };
        let peer_key = Some("peer".to_owned());
        let parts = RouterParts {
            host,
            transport,
            coordinators,
            keys,
            peer_key,
            models: Default::default(),
        };
        Self { router: router(parts).unwrap(), cluster, key: None, timeout_ms: None, clock }
    }

    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(ms) = self.timeout_ms {
            request = request.header("sheaf-timeout-ms", ms);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.ask("POST", path, body.to_string()).await
    }

    /// Upserts points with these ids; the vector of the n-th begins with n.
    pub async fn upsert(&self, ids: impl IntoIterator<Item = String>) -> Answered {
        let point =
            |(n, id): (usize, String)| json!({ "id": id, "vector": [n, 0], "payload": { "n": n } });
        let points: Vec<Value> = ids.into_iter().enumerate().map(point).collect();
        self.post("/v1/collections/words/points", &json!({ "points": points })).await
    }
}

pub fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("id-{n:04}"))
}
