//! What a router can't do it refuses: the right status, a problem with words that help, and nothing changed.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, Shape};

const ADMIN: &str = "the-admin-key";
const READ: &str = "the-read-key";
const WRITE: &str = "the-write-key";
const SCOPED: &str = "the-scoped-key";

/// One wrong request, and the status of its answer.
type Case = (&'static str, Method, &'static str, Body, u16);

/// A body: a text that stands here, or one that is too long for that.
enum Body {
    Text(&'static str),
    Made(Bytes),
}

use Body::{Made, Text};

const POINTS: &str = "/v1/collections/flat/points";
const BULK: &str = "/v1/collections/flat/points:bulk";
const QUERY: &str = "/v1/collections/flat/query";
const FETCH: &str = "/v1/collections/flat/fetch";
const COUNT: &str = "/v1/collections/flat/count";
const COLLECTIONS: &str = "/v1/collections";
const ANGLES: &str = "/v1/collections/angle/points";

fn shape() -> Shape {
    let keys = [
        format!("{ADMIN}:admin"),
        format!("{READ}:read"),
        format!("{WRITE}:write"),
        format!("{SCOPED}:write:other,mine*"),
    ];
    let mut all = vec!["--peer-key".to_owned(), "the-peer-key".to_owned()];
    all.extend(keys.into_iter().flat_map(|key| ["--api-key".to_owned(), key]));
    Shape { all, key: Some(ADMIN.to_owned()), ..Shape::of(2, 0) }
}

/// Two collections with a few points.
async fn started() -> Cluster {
    let cluster = Cluster::start(shape()).await;
    let client = cluster.router(0).client;
    for (name, metric) in [("flat", "l2"), ("angle", "cosine")] {
        let config = json!({ "name": name, "dim": 2, "metric": metric });
        client.post(COLLECTIONS, &config).await.expect("it answers").expect_ok("create");
        let points: Vec<Value> = (0..20)
            .map(|n| json!({ "id": format!("p{n}"), "vector": [n + 1, 1], "payload": { "n": n } }))
            .collect();
        let path = format!("/v1/collections/{name}/points");
        let body = json!({ "points": points });
        client.post(&path, &body).await.expect("it answers").expect_ok("upsert");
    }
    cluster
}

/// Everything that the cluster holds, and its map.
async fn everything(cluster: &Cluster) -> Value {
    let client = cluster.router(1).client;
    let mut all = vec![cluster.state().await];
    for name in ["flat", "angle"] {
        let body = json!({ "limit": 10_000, "with_vector": true });
        let path = format!("/v1/collections/{name}/fetch");
        all.push(client.post(&path, &body).await.expect("it answers").expect_ok("fetch"));
    }
    Value::from(all)
}

/// Sends each, with these headers too, and judges each answer.
async fn expect_refused(client: &Client, headers: &[(&str, &str)], cases: Vec<Case>) {
    for (what, method, path, body, status) in cases {
        let body = match body {
            Text(text) => Bytes::from_static(text.as_bytes()),
            Made(bytes) => bytes,
        };
        let what = format!("{what} ({method} {path})");
        let answer = client.send(method, path, headers, body).await;
        let answer = answer.unwrap_or_else(|gone| panic!("{what}: {gone}"));
        answer.expect_problem(status, &what);
    }
}

/// An upsert of one point with this vector.
fn of_vector(vector: &str) -> Body {
    Made(Bytes::from(format!(r#"{{"points":[{{"id":"bad","vector":{vector}}}]}}"#)))
}

/// An upsert of this many small points.
fn of_points(count: usize) -> Body {
    let points: Vec<String> =
        (0..count).map(|n| format!(r#"{{"id":"n{n}","vector":[0,1]}}"#)).collect();
    Made(Bytes::from(format!(r#"{{"points":[{}]}}"#, points.join(","))))
}

/// An upsert of one point with an id and a payload of these many bytes.
fn of_sizes(id: usize, payload: usize) -> Body {
    let point =
        json!({ "id": "i".repeat(id), "vector": [1, 1], "payload": { "t": "t".repeat(payload) } });
    Made(Bytes::from(json!({ "points": [point] }).to_string()))
}

fn bad_points() -> Vec<Case> {
    let post = || Method::POST;
    vec![
        ("no JSON", post(), POINTS, Text("points"), 400),
        ("broken off", post(), POINTS, Text(r#"{"points":[{"id":"bad","vector":[1,"#), 400),
        ("nothing", post(), POINTS, Text(""), 400),
        ("a list", post(), POINTS, Text("[]"), 400),
        ("no points", post(), POINTS, Text("{}"), 400),
        ("two values", post(), POINTS, Text(r#"{"points":[]} {"points":[]}"#), 400),
        ("an unknown field", post(), POINTS, Text(r#"{"points":[],"upsert":true}"#), 400),
        (
            "an unknown field of a point",
            post(),
            POINTS,
            Text(r#"{"points":[{"id":"bad","vector":[1,1],"payloads":{}}]}"#),
            400,
        ),
        ("no id", post(), POINTS, Text(r#"{"points":[{"vector":[1,1]}]}"#), 400),
        ("a number as id", post(), POINTS, Text(r#"{"points":[{"id":7,"vector":[1,1]}]}"#), 400),
        ("no vector", post(), POINTS, Text(r#"{"points":[{"id":"bad"}]}"#), 400),
        (
            "a payload that is no object",
            post(),
            POINTS,
            Text(r#"{"points":[{"id":"bad","vector":[1,1],"payload":[1]}]}"#),
            400,
        ),
        (
            "half a surrogate",
            post(),
            POINTS,
            Text(r#"{"points":[{"id":"\ud800","vector":[1,1]}]}"#),
            400,
        ),
        (
            "no UTF-8",
            post(),
            POINTS,
            Made(Bytes::from_static(b"{\"points\":[{\"id\":\"\xff\",\"vector\":[1,1]}]}")),
            400,
        ),
        ("a short vector", post(), POINTS, of_vector("[1]"), 400),
        ("a long vector", post(), POINTS, of_vector("[1,1,1]"), 400),
        ("an empty vector", post(), POINTS, of_vector("[]"), 400),
        ("a vector of texts", post(), POINTS, of_vector(r#"["1","1"]"#), 400),
        ("a vector with null", post(), POINTS, of_vector("[1,null]"), 400),
        ("NaN", post(), POINTS, of_vector("[NaN,1]"), 400),
        ("Infinity", post(), POINTS, of_vector("[Infinity,1]"), 400),
        ("-Infinity", post(), POINTS, of_vector("[-Infinity,1]"), 400),
        ("NaN as text", post(), POINTS, of_vector(r#"["NaN",1]"#), 400),
        ("beyond any float", post(), POINTS, of_vector("[1e999,1]"), 400),
        ("beyond a 32-bit float", post(), POINTS, of_vector("[1e39,1]"), 400),
        ("zero under cosine", post(), ANGLES, of_vector("[0,0]"), 400),
        ("minus zero under cosine", post(), ANGLES, of_vector("[-0.0,0.0]"), 400),
        ("1,001 points", post(), POINTS, of_points(1_001), 400),
        ("50,001 points", post(), BULK, of_points(50_001), 400),
        (
            "a body of more than 32 MiB",
            post(),
            BULK,
            Made(Bytes::from(vec![b' '; (32 << 20) + 1])),
            413,
        ),
        ("a payload of more than 64 KiB", post(), POINTS, of_sizes(3, 70_000), 400),
        ("an id of more than 8 KiB", post(), POINTS, of_sizes(9_000, 1), 400),
        ("no ids", Method::DELETE, POINTS, Text("{}"), 400),
        ("ids that are none", Method::DELETE, POINTS, Text(r#"{"ids":[1]}"#), 400),
        ("an unknown field", Method::DELETE, POINTS, Text(r#"{"ids":["p1"],"filter":{}}"#), 400),
    ]
}

fn bad_questions() -> Vec<Case> {
    let post = || Method::POST;
    vec![
        ("no vector", post(), QUERY, Text("{}"), 400),
        ("no JSON", post(), QUERY, Text("{"), 400),
        ("a misspelt field", post(), QUERY, Text(r#"{"vector":[1,1],"limit":3}"#), 400),
        ("a short vector", post(), QUERY, Text(r#"{"vector":[1]}"#), 400),
        ("NaN", post(), QUERY, Text(r#"{"vector":[NaN,1]}"#), 400),
        ("beyond any float", post(), QUERY, Text(r#"{"vector":[1e999,1]}"#), 400),
        (
            "zero under cosine",
            post(),
            "/v1/collections/angle/query",
            Text(r#"{"vector":[0,0]}"#),
            400,
        ),
        ("a huge k", post(), QUERY, Text(r#"{"vector":[1,1],"k":10001}"#), 400),
        ("a monstrous k", post(), QUERY, Text(r#"{"vector":[1,1],"k":1e30}"#), 400),
        (
            "a k beyond any number",
            post(),
            QUERY,
            Text(r#"{"vector":[1,1],"k":99999999999999999999999}"#),
            400,
        ),
        ("a negative k", post(), QUERY, Text(r#"{"vector":[1,1],"k":-1}"#), 400),
        ("half a k", post(), QUERY, Text(r#"{"vector":[1,1],"k":1.5}"#), 400),
        ("a huge ef_search", post(), QUERY, Text(r#"{"vector":[1,1],"ef_search":4097}"#), 400),
        (
            "two operators",
            post(),
            QUERY,
            Text(
                r#"{"vector":[1,1],"filter":{"eq":{"field":"n","value":1},"not":{"exists":{"field":"n"}}}}"#,
            ),
            400,
        ),
        (
            "an unknown operator",
            post(),
            QUERY,
            Text(r#"{"vector":[1,1],"filter":{"like":{"field":"n"}}}"#),
            400,
        ),
        ("a deep filter", post(), QUERY, deep_filter(), 400),
        ("a filter that is none", post(), FETCH, Text(r#"{"filter":7}"#), 400),
        ("a huge limit", post(), FETCH, Text(r#"{"limit":10001}"#), 400),
        ("a negative offset", post(), FETCH, Text(r#"{"offset":-1}"#), 400),
        ("a misspelt field", post(), FETCH, Text(r#"{"k":3}"#), 400),
        ("a filter that is none", post(), COUNT, Text(r#"{"filter":{"eq":{}}}"#), 400),
    ]
}

fn deep_filter() -> Body {
    let deep =
        format!("{}{}{}", r#"{"not":"#.repeat(200), r#"{"exists":{"field":"n"}}"#, "}".repeat(200));
    Made(Bytes::from(format!(r#"{{"vector":[1,1],"filter":{deep}}}"#)))
}

fn bad_places() -> Vec<Case> {
    let (get, post) = (|| Method::GET, || Method::POST);
    let create = |config: &'static str, status| {
        ("a collection", Method::POST, COLLECTIONS, Text(config), status)
    };
    vec![
        ("unknown collection", post(), "/v1/collections/none/points", of_vector("[1,1]"), 404),
        (
            "unknown collection",
            Method::DELETE,
            "/v1/collections/none/points",
            Text(r#"{"ids":["a"]}"#),
            404,
        ),
        ("unknown collection", get(), "/v1/collections/none/points/a", Text(""), 404),
        (
            "unknown collection",
            post(),
            "/v1/collections/none/query",
            Text(r#"{"vector":[1,1]}"#),
            404,
        ),
        ("unknown collection", post(), "/v1/collections/none/fetch", Text("{}"), 404),
        ("unknown collection", get(), "/v1/collections/none", Text(""), 404),
        ("absent point", get(), "/v1/collections/flat/points/none", Text(""), 404),
        ("a slash in an id", get(), "/v1/collections/flat/points/a/b", Text(""), 404),
        ("no UTF-8 in an id", get(), "/v1/collections/flat/points/%ff", Text(""), 400),
        ("no UTF-8 in a name", get(), "/v1/collections/%ff", Text(""), 400),
        ("no such path", get(), "/v2/collections", Text(""), 404),
        ("no such path", get(), "/v1/collectionss", Text(""), 404),
        ("no such path", post(), "/cluster/shards/grow", Text("{}"), 404),
        ("no such method", Method::PUT, POINTS, Text("{}"), 405),
        ("no such method", Method::PATCH, COLLECTIONS, Text("{}"), 405),
        ("a snapshot nowhere", post(), "/v1/snapshot", Text(""), 400),
        ("no text", post(), "/v1/collections/flat/query/text", Text("{}"), 501),
        ("no text", post(), "/v1/collections/flat/points:text", Text("{}"), 501),
        ("a hybrid of nothing", post(), "/v1/collections/flat/query/hybrid", Text("{}"), 400),
        ("no documents", post(), "/v1/collections/flat/documents", Text("{}"), 400),
        create("", 400),
        create("{", 400),
        create(r#"{"name":"new"}"#, 400),
        create(r#"{"dim":2}"#, 400),
        create(r#"{"name":"new","dim":0}"#, 400),
        create(r#"{"name":"new","dim":-2}"#, 400),
        create(r#"{"name":"new","dim":8193}"#, 400),
        create(r#"{"name":"","dim":2}"#, 400),
        create(r#"{"name":"new","dim":2,"metric":"taxi"}"#, 400),
        create(r#"{"name":"new","dim":2,"metrics":"l2"}"#, 400),
        create(r#"{"name":"flat","dim":2}"#, 409),
        create(r#"{"name":"flat","dim":3,"metric":"dot"}"#, 409),
        create(r#"{"name":"new","dim":2,"index":"vamana"}"#, 501),
        create(r#"{"name":"new","dim":2,"multivector":true}"#, 400),
        (
            "a long name",
            post(),
            COLLECTIONS,
            Made(Bytes::from(json!({ "name": "n".repeat(256), "dim": 2 }).to_string())),
            400,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_refuses_wrong_requests_in_words_that_help_and_changes_nothing() {
    let mut cluster = started().await;
    let before = everything(&cluster).await;
    let client = cluster.router(0).client;
    expect_refused(&client, &[], bad_points()).await;
    expect_refused(&client, &[], bad_questions()).await;
    expect_refused(&client, &[], bad_places()).await;
    for (name, value) in [("sheaf-timeout-ms", "soon"), ("sheaf-timeout-ms", "-1")] {
        let cases = vec![("a bad header", Method::POST, POINTS, of_vector("[1,1]"), 400)];
        expect_refused(&client, &[(name, value)], cases).await;
    }
    assert_eq!(everything(&cluster).await, before, "a refused request changed something");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_lets_each_key_do_what_it_is_for_and_nothing_else() {
    let mut cluster = started().await;
    let before = everything(&cluster).await;
    let url = cluster.routers[0].url.clone();
    let upsert = || ("an upsert", Method::POST, POINTS, of_vector("[1,1]"));
    let delete = || ("a deletion", Method::DELETE, POINTS, Text(r#"{"ids":["p1"]}"#));
    let query = || ("a search", Method::POST, QUERY, Text(r#"{"vector":[1,1]}"#));
    let get = || ("a get", Method::GET, "/v1/collections/flat/points/p1", Text(""));
    let create = || ("a creation", Method::POST, COLLECTIONS, Text(r#"{"name":"mine","dim":2}"#));
    let drop = || ("a drop", Method::DELETE, "/v1/collections/flat", Text(""));
    let list = || ("a list", Method::GET, COLLECTIONS, Text(""));
    type Ask = (&'static str, Method, &'static str, Body);
    let with = |asks: Vec<Ask>, status: u16| -> Vec<Case> {
        asks.into_iter()
            .map(|(what, method, path, body)| (what, method, path, body, status))
            .collect()
    };
    let all = || vec![upsert(), delete(), query(), get(), create(), drop(), list()];
    let nobody = Client::new(&url);
    expect_refused(&nobody, &[], with(all(), 401)).await;
    for wrong in [
        "Basic dGhlLWFkbWluLWtleQ==",
        "Bearer",
        "Bearer the-admin-key2",
        "the-admin-key",
        "Bearer \t",
    ] {
        expect_refused(&nobody, &[("authorization", wrong)], with(all(), 401)).await;
    }
    let keyed = |key: &str| Client::new(&url).with_key(key);
    expect_refused(&keyed(READ), &[], with(vec![upsert(), delete(), create(), drop()], 403)).await;
    expect_refused(&keyed(WRITE), &[], with(vec![create(), drop()], 403)).await;
    let foreign = vec![upsert(), delete(), query(), get(), create(), drop()];
    expect_refused(&keyed(SCOPED), &[], with(foreign, 403)).await;
    for key in [READ, WRITE] {
        let shown = keyed(key).get("/v1/collections/flat/points/p1").await.expect("it answers");
        shown.expect_ok("a key that may read");
    }
    let seen = keyed(SCOPED).get(COLLECTIONS).await.expect("it answers").expect_ok("list");
    assert_eq!(seen, json!([]), "a list shows only what the key may see");
    assert_eq!(everything(&cluster).await, before, "a refused request changed something");
    cluster.expect_all_alive();
}
