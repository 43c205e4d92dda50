//! The coordinator's HTTP API over a store in memory and model gates: paths, status codes, JSON, keys.

#[path = "../../../sheaf-runtime/tests/coordinator/gates.rs"]
mod gates;
mod several;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use gates::{ModelGates, open, until, url};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sheaf_http::auth::Keys;
use sheaf_http::coordinator::{CoordinatorApiParts, coordinator};
use sheaf_runtime::coordinator::CoordinatorHost;
use sheaf_stores::MemoryStore;
use sheaf_transport::{Limits, Reply, Transport, TransportError};
use tower::ServiceExt;

/// No node can be reached.
struct Nowhere;

impl Transport for Nowhere {
    fn call(&self, request: Request<Bytes>, _limits: Limits) -> Reply<'_> {
        let to = request.uri().to_string();
        let error = TransportError::NotSent { to, reason: "there is no network".to_owned() };
        Box::pin(async move { Err(error) })
    }
}

struct Api {
    routes: Router,
    host: CoordinatorHost,
    gates: Arc<ModelGates>,
}

/// What a call was answered with.
struct Answer {
    status: u16,
    json: Value,
}

impl Api {
    async fn of_shards(shards: u64) -> Self {
        Self::with_keys(shards, Keys::open()).await
    }

    async fn with_keys(shards: u64, keys: Keys) -> Self {
        let (store, gates) = (Arc::new(MemoryStore::new()), ModelGates::new(shards + 2));
        let host = open(&store, &gates, 1).await;
        host.found((1..=shards).map(url).collect()).await;
        let parts = CoordinatorApiParts {
            host: host.clone(),
            transport: Arc::new(Nowhere),
            keys,
            authorization: None,
        };
        Self { routes: coordinator(parts), host, gates }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.routes.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(request.body(body).unwrap()).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, json: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    async fn ended(&self) {
        until(&self.host, |record| record.transition.is_none() && record.queue.is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_grow_is_accepted_followed_and_reported() {
    let api = Api::of_shards(2).await;
    let planned = json!({ "kind": "grow", "shards": [{ "primary_url": url(3) }] });
    let plan = api.call("POST", "/cluster/plan", planned).await;
    assert_eq!((plan.status, plan.json["pairs"].as_array().unwrap().len()), (200, 2));

    api.gates.with(1, |gate| gate.converges = false);
    let grow = json!({ "primary_url": url(3), "replica_urls": [] });
    let accepted = api.call("POST", "/cluster/shards/grow", grow).await;
    assert_eq!(
        (accepted.status, &accepted.json),
        (202, &json!({ "transition": 1, "shards": [3] }))
    );
    until(&api.host, |record| record.transition.as_ref().is_some_and(|t| t.copy_since.is_some()))
        .await;
    let running = api.get("/cluster/transitions/current").await;
    assert_eq!((running.status, &running.json["phase"]), (200, &json!("copy")));
    assert_eq!(running.json["request"]["kind"], "grow");
    let map = api.get("/cluster/map").await.json;
    assert_eq!((&map["joining"], &map["leaving"]), (&json!([3]), &json!([])));
    assert_eq!(api.get("/cluster/transitions/1/report").await.status, 409);

    for verb in ["pause", "resume"] {
        let path = format!("/cluster/transitions/1/{verb}");
        assert_eq!(api.call("POST", &path, Value::Null).await.status, 200);
    }
    let throttle = json!({ "points_per_s_max": 9 });
    assert_eq!(
        api.call("POST", "/cluster/transitions/current/throttle", throttle).await.status,
        200
    );
    api.gates.with(1, |gate| gate.converges = true);
    api.ended().await;
    let report = api.get("/cluster/transitions/1/report").await;
    assert_eq!((report.status, &report.json["outcome"]), (200, &json!("committed")));
    assert_eq!(api.get("/cluster/transitions/1").await.json, report.json);
    assert_eq!(api.get("/cluster/transitions/99").await.status, 404);
    assert_eq!(api.get("/cluster/transitions").await.json["ended"][0]["id"], 1);
    let health = api.get("/cluster/health").await.json;
    assert_eq!(health, json!({ "1": true, "2": true, "3": true }));
    assert!(api.get("/cluster/history").await.json.as_array().unwrap().len() > 5);
    let status = api.get("/cluster/status").await.json;
    assert_eq!(
        (&status["version"], &status["reigns"]),
        (&map["version"].as_u64().map(|v| json!(v + 1)).unwrap(), &json!(true))
    );
}

#[tokio::test(start_paused = true)]
async fn a_shard_added_to_an_empty_cluster_is_in_the_map_when_that_is_answered() {
    let api = Api::of_shards(1).await;
    let added = api.call("POST", "/cluster/shards", json!({ "primary_url": url(2) })).await;
    assert_eq!((added.status, &added.json["shards"]), (201, &json!([2])));
    let map = api.get("/cluster/map").await.json;
    assert_eq!(map["shards"][1]["primary_url"], url(2));
    assert_eq!(map["version"], added.json["version"]);
}

#[tokio::test(start_paused = true)]
async fn a_join_by_hand_waits_for_its_promotion_and_a_drain_takes_it_out_again() {
    let api = Api::of_shards(1).await;
    let joined =
        api.call("POST", "/cluster/shards/joining", json!({ "primary_url": url(2) })).await;
    assert_eq!(joined.status, 202);
    until(&api.host, |record| record.transition.as_ref().is_some_and(|t| t.copy_since.is_some()))
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(api.get("/cluster/map").await.json["joining"], json!([2]));
    assert_eq!(api.call("POST", "/cluster/shards/2/promote", Value::Null).await.status, 200);
    api.ended().await;
    let drained = api.call("POST", "/cluster/shards/s2/drain", Value::Null).await;
    assert_eq!((drained.status, &drained.json["transition"]), (202, &json!(2)));
    api.ended().await;
    assert_eq!(api.get("/cluster/map").await.json["shards"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_map_is_waited_for_and_the_current_one_comes_when_the_wait_is_over() {
    let api = Api::of_shards(1).await;
    let version = api.get("/cluster/map").await.json["version"].as_u64().unwrap();
    let path = format!("/cluster/map?after={version}&wait=30");
    let config = json!({ "name": "films", "dim": 4 });
    let (newer, created) =
        tokio::join!(api.get(&path), api.call("POST", "/cluster/collections", config.clone()));
    assert_eq!((created.status, created.json["version"].as_u64()), (201, Some(version + 1)));
    assert_eq!(newer.json["version"], version + 1);
    assert_eq!(newer.json["collections"][0]["config"]["name"], "films");
    let path = format!("/cluster/map?after={}&wait=0.5", version + 1);
    assert_eq!(api.get(&path).await.json["version"], version + 1);
    assert_eq!(api.get("/cluster/map?after=1&wait=-1").await.status, 400);
    assert_eq!(api.call("POST", "/cluster/collections", config).await.status, 409);
    let dropped = api.call("DELETE", "/cluster/collections/films", Value::Null).await;
    assert_eq!((dropped.status, &dropped.json["existed"]), (200, &json!(true)));
    let again = api.call("DELETE", "/cluster/collections/films", Value::Null).await;
    assert_eq!(again.json, json!({ "existed": false, "version": version + 2 }));
}

#[tokio::test(start_paused = true)]
async fn refusals_have_the_status_that_says_what_to_do() {
    let api = Api::of_shards(2).await;
    let cases = [
        ("POST", "/cluster/shards/grow", json!({}), 400),
        ("POST", "/cluster/shards/grow", json!({ "primary_url": "node" }), 400),
        ("POST", "/cluster/shards/grow", json!({ "primary_url": url(1) }), 409),
        ("POST", "/cluster/shards/grow", json!({ "primary_url": "http://nowhere" }), 409),
        ("POST", "/cluster/shards/grow", json!({ "primary": 1 }), 400),
        ("POST", "/cluster/shards/9/drain", Value::Null, 404),
        ("POST", "/cluster/shards/one/drain", Value::Null, 400),
        ("DELETE", "/cluster/shards/1", Value::Null, 409),
        ("DELETE", "/cluster/shards/1?accept_data_loss=maybe", Value::Null, 400),
        ("POST", "/cluster/shards/1/promote", Value::Null, 409),
        ("PUT", "/cluster/shards/1/weight", json!({ "weight": 0 }), 400),
        ("POST", "/cluster/transitions/current/pause", Value::Null, 404),
        ("POST", "/cluster/transitions/7/cancel", Value::Null, 404),
        ("POST", "/cluster/plan", json!({ "kind": "drain", "shard": 9 }), 404),
        ("GET", "/cluster/nothing", Value::Null, 404),
        ("PUT", "/cluster/status", Value::Null, 405),
    ];
    for (method, path, body, status) in cases {
        let answer = api.call(method, path, body.clone()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.json);
        assert!(answer.json["detail"].is_string(), "{method} {path}: a problem");
    }
    let removed = api.call("DELETE", "/cluster/shards/2?accept_data_loss=true", Value::Null).await;
    assert_eq!(removed.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_first_answer_and_a_stale_precondition_is_refused() {
    let api = Api::of_shards(1).await;
    let grow = || json!({ "primary_url": url(2) });
    let version = api.get("/cluster/map").await.json["version"].as_u64().unwrap();
    let stale = format!("\"{}\"", version - 1);
    let refused =
        api.call_with("POST", "/cluster/shards/grow", grow(), &[("if-match", &stale)]).await;
    assert_eq!((refused.status, &refused.json["refusal"]["kind"]), (412, &json!("other_version")));
    let exact = format!("\"{version}\"");
    let headers = [("if-match", exact.as_str()), ("idempotency-key", "k")];
    let first = api.call_with("POST", "/cluster/shards/grow", grow(), &headers).await;
    api.ended().await;
    let again = api.call_with("POST", "/cluster/shards/grow", grow(), &headers).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.json, again.json);
    let other = json!({ "primary_url": url(3) });
    let reused = api.call_with("POST", "/cluster/shards/grow", other, &headers[1..]).await;
    assert_eq!(reused.status, 409);
}

#[tokio::test(start_paused = true)]
async fn reading_needs_any_key_and_changing_needs_an_administrators() {
    let keys = Keys::closed(["r:read", "w:write", "a:admin", "s:admin:films"], Some("p")).unwrap();
    let api = Api::with_keys(1, keys).await;
    let call = async |method: &str, path: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let body =
            if method == "POST" { json!({ "name": "films", "dim": 2 }) } else { Value::Null };
        api.call_with(method, path, body, &[("authorization", &bearer)]).await.status
    };
    assert_eq!(api.get("/cluster/status").await.status, 401);
    assert_eq!(call("GET", "/cluster/status", "unknown").await, 401);
    for key in ["r", "w", "a", "p"] {
        assert_eq!(call("GET", "/cluster/status", key).await, 200);
        assert_eq!(call("GET", "/cluster/map", key).await, 200);
    }
    for key in ["r", "w", "s"] {
        assert_eq!(call("DELETE", "/cluster/shards/1", key).await, 403);
    }
    assert_eq!(call("DELETE", "/cluster/shards/1", "a").await, 409);
    assert_eq!(call("POST", "/cluster/collections", "w").await, 403);
    assert_eq!(call("POST", "/cluster/collections", "s").await, 201, "its own collection");
    assert_eq!(call("DELETE", "/cluster/collections/other", "s").await, 403);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(api.get(open).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_the_status_and_follow_each_decision() {
    let api = Api::of_shards(1).await;
    let request = Request::get("/cluster/events").body(Body::empty()).unwrap();
    let mut body = api.send(request).await.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(next().await.starts_with("event: status\ndata: {"));
    let config = json!({ "name": "films", "dim": 4 });
    let (created, event) = tokio::join!(api.call("POST", "/cluster/collections", config), next());
    assert_eq!(created.status, 201);
    assert!(event.contains("\"collections\":1"), "{event}");
}

#[tokio::test(start_paused = true)]
async fn an_audit_names_the_shards_that_could_not_be_asked() {
    let api = Api::of_shards(2).await;
    let verified = api.get("/cluster/verify").await;
    assert_eq!((verified.status, &verified.json["ok"]), (200, &json!(false)));
    let problems = verified.json["problems"].as_array().unwrap();
    assert!(problems.len() == 2 && problems[0].as_str().unwrap().starts_with("s1 was not audited"));
}
