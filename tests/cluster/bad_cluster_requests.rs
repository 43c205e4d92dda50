//! What a coordinator can't do it refuses: the right status, a problem with words that help, and nothing changed.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, Shape, eventually};

const ADMIN: &str = "the-admin-key";
const READ: &str = "the-read-key";
const WRITE: &str = "the-write-key";
const SCOPED: &str = "the-scoped-key";
const COLLECTION: &str = "flat";

/// One wrong request, and the status of its answer.
type Case = (&'static str, Method, String, String, u16);

fn shape(shards: usize, standbys: usize) -> Shape {
    let keys = [
        format!("{ADMIN}:admin"),
        format!("{READ}:read"),
        format!("{WRITE}:write"),
        format!("{SCOPED}:admin:mine*"),
    ];
    let mut all = vec!["--peer-key".to_owned(), "the-peer-key".to_owned()];
    all.extend(keys.into_iter().flat_map(|key| ["--api-key".to_owned(), key]));
    Shape { all, key: Some(ADMIN.to_owned()), ..Shape::of(shards, standbys) }
}

async fn started(shards: usize, standbys: usize) -> Cluster {
    let cluster = Cluster::start(shape(shards, standbys)).await;
    cluster.create_collection(COLLECTION).await;
    let points: Vec<(String, u64)> = (0..50).map(|n| (format!("b-{n}"), n)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
    // Nodes say from time to time how full they are; until then the cluster counts as empty, and a shard that is added "at
    // once" joins by a transition all the same.
    let operator = cluster.operator();
    eventually("the coordinator knows that there are points", 20, || async {
        let status = operator.read("/cluster/status").await;
        if status["points"] == 50 { Ok(()) } else { Err(status["points"].to_string()) }
    })
    .await;
    cluster
}

async fn everything(cluster: &Cluster) -> Value {
    let transitions = cluster.operator().read("/cluster/transitions").await;
    let points = cluster.router(1).fetch(COLLECTION, 10_000).await.expect("every shard is up");
    json!([cluster.state().await, transitions, points])
}

async fn expect_refused(client: &Client, headers: &[(&str, &str)], cases: Vec<Case>) {
    for (what, method, path, body, status) in cases {
        let what =
            format!("{what} ({method} {path} {})", body.chars().take(100).collect::<String>());
        let answer = client.send(method, &path, headers, Bytes::from(body)).await;
        let answer = answer.unwrap_or_else(|gone| panic!("{what}: {gone}"));
        answer.expect_problem(status, &what);
    }
}

fn post(what: &'static str, path: &str, body: impl ToString, status: u16) -> Case {
    (what, Method::POST, path.to_owned(), body.to_string(), status)
}

fn put(what: &'static str, path: &str, body: impl ToString, status: u16) -> Case {
    (what, Method::PUT, path.to_owned(), body.to_string(), status)
}

fn delete(what: &'static str, path: &str, status: u16) -> Case {
    (what, Method::DELETE, path.to_owned(), String::new(), status)
}

/// Wrong ways to name a new shard, for each of the calls that take one.
fn bad_joins(cluster: &Cluster) -> Vec<Case> {
    let (own, free) = (&cluster.nodes[0].url, &cluster.nodes[2].url);
    let mut cases = Vec::new();
    for call in ["", "/grow", "/joining"] {
        let path = format!("/cluster/shards{call}");
        let node = |url: &str| json!({ "primary_url": url });
        cases.extend([
            post("no JSON", &path, "grow", 400),
            post("broken off", &path, r#"{"primary_url":"http"#, 400),
            post("nothing", &path, "", 400),
            post("no shard", &path, "{}", 400),
            post("no shards", &path, r#"{"shards":[]}"#, 400),
            post("a number", &path, r#"{"primary_url":7}"#, 400),
            post("an unknown field", &path, json!({ "primary_url": free, "replicas": [] }), 400),
            post(
                "one and several",
                &path,
                json!({ "primary_url": free, "shards": [node(free)] }),
                400,
            ),
            post("twice in one call", &path, json!({ "shards": [node(free), node(free)] }), 409),
            post("double add", &path, node(own), 409),
            post("double add", &path, json!({ "shards": [node(free), node(own)] }), 409),
            post("nobody there", &path, node("http://127.0.0.1:1"), 409),
            post("no weight", &path, json!({ "primary_url": free, "weight": 0 }), 400),
            post("a negative weight", &path, json!({ "primary_url": free, "weight": -1 }), 400),
        ]);
        for url in BAD_URLS {
            cases.push(post("a bad URL", &path, node(url), 400));
        }
    }
    cases.push(post("not empty", "/cluster/shards", json!({ "primary_url": free }), 409));
    cases
}

const BAD_URLS: [&str; 11] = [
    "",
    "node",
    "127.0.0.1:80",
    "ftp://node",
    "http://",
    "http://:80",
    "http://node:0",
    "http://node:99999",
    "http://node/path",
    "http://me:secret@node",
    "http://a b",
];

fn bad_changes(own: &str, free: &str) -> Vec<Case> {
    let long = "u".repeat(400);
    vec![
        post("unknown shard", "/cluster/shards/9/drain", "", 404),
        post("no shard's id", "/cluster/shards/one/drain", "", 400),
        post("no shard's id", "/cluster/shards/-1/drain", "", 400),
        post("unknown field", "/cluster/shards/1/drain", r#"{"force":true}"#, 400),
        post(
            "a fence without end",
            "/cluster/shards/1/drain",
            r#"{"fence_budget_ms":600000}"#,
            400,
        ),
        post("not joining", "/cluster/shards/1/promote", "", 409),
        post("not joining", "/cluster/shards/9/promote", "", 409),
        post("by itself", "/cluster/shards/1/replace", json!({ "primary_url": own }), 409),
        post("unknown shard", "/cluster/shards/9/replace", json!({ "primary_url": free }), 404),
        post("by nobody", "/cluster/shards/1/replace", "{}", 400),
        post("a long URL", "/cluster/shards/1/replace", json!({ "primary_url": long }), 400),
        put("no weight", "/cluster/shards/1/weight", "{}", 400),
        put("zero", "/cluster/shards/1/weight", r#"{"weight":0}"#, 400),
        put("negative", "/cluster/shards/1/weight", r#"{"weight":-2}"#, 400),
        put("NaN", "/cluster/shards/1/weight", r#"{"weight":NaN}"#, 400),
        put("infinite", "/cluster/shards/1/weight", r#"{"weight":1e999}"#, 400),
        put("unknown shard", "/cluster/shards/9/weight", r#"{"weight":2}"#, 404),
        delete("it owns data", "/cluster/shards/1", 409),
        delete("it owns data", "/cluster/shards/1?accept_data_loss=false", 409),
        delete("not a yes", "/cluster/shards/1?accept_data_loss=perhaps", 400),
        delete("an unknown word", "/cluster/shards/1?force=true", 400),
        delete("unknown shard", "/cluster/shards/9", 404),
        post("unknown transition", "/cluster/transitions/99/cancel", "", 404),
        post("nothing runs", "/cluster/transitions/current/pause", "", 404),
        post("no transition's id", "/cluster/transitions/last/cancel", "", 400),
        post("no plan", "/cluster/plan", "", 400),
        post("an unknown plan", "/cluster/plan", r#"{"kind":"shrink"}"#, 400),
        post("unknown shard", "/cluster/plan", r#"{"kind":"drain","shard":9}"#, 404),
        post("no name", "/cluster/collections", r#"{"dim":2}"#, 400),
        post("no dimension", "/cluster/collections", r#"{"name":"new","dim":0}"#, 400),
        post("it exists", "/cluster/collections", json!({ "name": COLLECTION, "dim": 8 }), 409),
        post("a huge body", "/cluster/plan", " ".repeat((32 << 20) + 1), 413),
        post("no such path", "/cluster/shard", "{}", 404),
        post("no points here", "/v1/collections/flat/points", "{}", 404),
        post("no such method", "/cluster/map", "{}", 405),
        delete("no such method", "/cluster/shards", 405),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_refuses_wrong_requests_in_words_that_help_and_changes_nothing() {
    let mut cluster = started(2, 1).await;
    let operator = cluster.operator();
    let before = everything(&cluster).await;
    let (own, free) = (cluster.nodes[0].url.clone(), cluster.nodes[2].url.clone());
    expect_refused(&operator.client, &[], bad_joins(&cluster)).await;
    expect_refused(&operator.client, &[], bad_changes(&own, &free)).await;
    let grow = |status| {
        vec![post("a good body", "/cluster/shards/grow", json!({ "primary_url": free }), status)]
    };
    let version = operator.version().await.to_string();
    let long = "k".repeat(2_000);
    let headers = [
        ("if-match", "1", 412),
        ("if-match", "new", 400),
        ("idempotency-key", long.as_str(), 400),
        ("idempotency-key", "\u{e4}", 400),
        ("sheaf-timeout-ms", "soon", 400),
    ];
    for (name, value, status) in headers {
        expect_refused(&operator.client, &[(name, value)], grow(status)).await;
    }
    assert_eq!(everything(&cluster).await, before, "a refused request changed something");
    // The same body is good, with the right version; its key is then no key for something else.
    let good = [("if-match", version.as_str()), ("idempotency-key", "one")];
    let body = json!({ "primary_url": free });
    let accepted = operator.client.json(Method::POST, "/cluster/shards/grow", &good, &body).await;
    let accepted = accepted.expect("it answers").expect_ok("grow");
    let transition = accepted["transition"].as_u64().expect("it is accepted");
    let _ = operator.ended(transition, 30).await.expect_committed();
    let reused = vec![post("a key twice", "/cluster/shards/1/drain", "", 409)];
    expect_refused(&operator.client, &[("idempotency-key", "one")], reused).await;
    let path = format!("/cluster/transitions/{transition}/cancel");
    let late = vec![post("after the commit", &path, "", 409)];
    expect_refused(&operator.client, &[], late).await;
    assert_eq!(operator.shard_ids().await, [1, 2, 3]);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_shard_is_neither_drained_nor_removed() {
    let mut cluster = started(1, 0).await;
    let before = everything(&cluster).await;
    let cases = vec![
        post("drain", "/cluster/shards/1/drain", "", 409),
        delete("remove", "/cluster/shards/1", 409),
        post("plan", "/cluster/plan", r#"{"kind":"drain","shard":1}"#, 409),
    ];
    let operator = cluster.operator();
    expect_refused(&operator.client, &[], cases).await;
    assert_eq!(everything(&cluster).await, before, "a refused request changed something");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_lets_each_key_do_what_it_is_for_and_nothing_else() {
    let mut cluster = started(2, 1).await;
    let before = everything(&cluster).await;
    let url = cluster.coordinator.url.clone();
    let grow = json!({ "primary_url": cluster.nodes[2].url }).to_string();
    let changes = |status: u16| {
        vec![
            post("grow", "/cluster/shards/grow", &grow, status),
            post("add", "/cluster/shards", &grow, status),
            post("join", "/cluster/shards/joining", &grow, status),
            post("promote", "/cluster/shards/1/promote", "", status),
            post("drain", "/cluster/shards/1/drain", "", status),
            post("replace", "/cluster/shards/1/replace", &grow, status),
            put("weigh", "/cluster/shards/1/weight", r#"{"weight":2}"#, status),
            delete("remove", "/cluster/shards/1?accept_data_loss=true", status),
            post("cancel", "/cluster/transitions/1/cancel", "", status),
            post("throttle", "/cluster/transitions/1/throttle", "{}", status),
            post("create", "/cluster/collections", r#"{"name":"new","dim":2}"#, status),
            delete("drop", "/cluster/collections/flat", status),
        ]
    };
    let read = |path: &str, status| ("a read", Method::GET, path.to_owned(), String::new(), status);
    let reads = [
        "/cluster/map",
        "/cluster/status",
        "/cluster/health",
        "/cluster/history",
        "/cluster/transitions",
        "/cluster/autoscale",
        "/cluster/verify",
        "/cluster/events",
    ];
    let nobody = Client::new(&url);
    expect_refused(&nobody, &[], changes(401)).await;
    expect_refused(&nobody, &[], reads.map(|path| read(path, 401)).to_vec()).await;
    let wrong = Client::new(&url).with_key("the-admin-kez");
    expect_refused(&wrong, &[], changes(401)).await;
    for key in [READ, WRITE, SCOPED] {
        let client = Client::new(&url).with_key(key);
        expect_refused(&client, &[], changes(403)).await;
    }
    for key in [READ, WRITE] {
        let map = Client::new(&url).with_key(key).get("/cluster/map").await.expect("it answers");
        map.expect_ok("reads need any valid key");
    }
    // What nodes say to each other is for the peer key alone.
    let node = cluster.nodes[0].url.clone();
    for (client, status) in [(Client::new(&node), 401), (Client::new(&node).with_key(ADMIN), 403)] {
        let cases = vec![
            read("/internal/report", status),
            read("/internal/audit", status),
            post("a directive", "/internal/directive", "{}", status),
            post("a frame", "/internal/frame", "", status),
        ];
        expect_refused(&client, &[], cases).await;
    }
    assert_eq!(everything(&cluster).await, before, "a refused request changed something");
    cluster.expect_all_alive();
}
