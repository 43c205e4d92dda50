//! Text calls: a router has texts embedded by the same kind of server that a Quiver node asks, and answers what that node answers.

use serde_json::{Value, json};
use sheaf_tests::embedder::Embedder;
use sheaf_tests::{Client, Cluster, Node, QuiverServer, Role, Shape};

const WORDS: [&str; 16] = [
    "apple", "boat", "cloud", "dog", "elm", "fox", "gold", "hill", "ink", "jar", "kite", "lamp",
    "moon", "nest", "oak", "pond",
];

/// No two have the same words.
fn text(n: usize) -> String {
    let words = (0..3 + n % 5).map(|at| WORDS[(n * (at + 1) + at * at + n / 16) % WORDS.len()]);
    format!("{} number{n}", words.collect::<Vec<_>>().join(" "))
}

async fn post(client: &Client, path: &str, body: &Value) -> sheaf_tests::Answer {
    client.post(&format!("/v1/collections/docs{path}"), body).await.expect("it answers")
}

async fn fill(client: &Client) {
    let create = json!({"name": "docs", "dim": 8, "metric": "cosine"});
    client.post("/v1/collections", &create).await.expect("it answers").expect_ok("create");
    let point = |n: usize| match n % 3 {
        0 => json!({"id": format!("p{n}"), "text": text(n)}),
        1 => {
            json!({"id": format!("p{n}"), "text": text(n), "payload": {"n": n, "even": n.is_multiple_of(2)}})
        }
        // For keywords it has another text.
        _ => {
            json!({"id": format!("p{n}"), "text": text(n), "payload": {"n": n, "__quiver_text__": "zebra"}})
        }
    };
    let points: Vec<Value> = (0..150).map(point).collect();
    let answer = post(client, "/points:text", &json!({ "points": points })).await;
    assert_eq!(answer.expect_ok("upsert")["upserted"], 150);
}

/// Hits with their scores to six places.
fn rounded(mut answer: Value) -> Value {
    for hit in answer["matches"].as_array_mut().into_iter().flatten() {
        let score = hit["score"].as_f64().unwrap_or(f64::NAN);
        hit["score"] = json!((score * 1e6).round());
    }
    answer
}

/// A cluster of three shards, with a router that knows the model.
async fn cluster(embedder: &Embedder) -> (Cluster, Client) {
    let mut cluster = Cluster::start(Shape { routers: 0, ..Shape::of(3, 0) }).await;
    let embedding = format!("docs=words@{}", embedder.url());
    let coordinator = cluster.coordinator.url.clone();
    let words = ["--coordinator", &coordinator, "--embedding", &embedding];
    let router = Node::start(Role::Router, "router-text", cluster.folder(), &words).await;
    let client = Client::new(&router.url);
    cluster.daemon_is_ready(&router).await;
    cluster.routers.push(router);
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_written_and_found_as_one_quiver_node_writes_and_finds_them() {
    let embedder = Embedder::start().await;
    let models = format!(
        r#"{{docs={{provider="http",model="words",endpoint="{}",dim=8}}}}"#,
        embedder.url()
    );
    let quiver = QuiverServer::start_as(&[("QUIVER_EMBEDDING", &models)]).await;
    let single = Client::new(&quiver.url());
    let (mut cluster, router) = cluster(&embedder).await;
    fill(&single).await;
    fill(&router).await;
    for n in 0..40 {
        let mut question = json!({"text": text(n * 7), "k": 1 + n % 12, "with_vector": n % 2 == 0});
        if n % 3 == 0 {
            question["filter"] = json!({"lt": {"field": "n", "value": 100}});
        }
        let expected = post(&single, "/query/text", &question).await.expect_ok("Quiver");
        let found = post(&router, "/query/text", &question).await.expect_ok("Sheaf");
        assert_eq!(rounded(found), rounded(expected), "{question}");
    }
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_cannot_be_embedded_is_refused_and_nothing_is_written() {
    let embedder = Embedder::start().await;
    let (mut cluster, router) = cluster(&embedder).await;
    fill(&router).await;
    embedder.break_down(true);
    let body = json!({"points": [{"id": "new", "text": "apple"}, {"id": "p1", "text": "moon"}]});
    let refused = post(&router, "/points:text", &body).await;
    refused.expect_problem(502, "a model that is down");
    assert!(refused.detail().contains("no model is loaded"), "{}", refused.detail());
    let refused = post(&router, "/query/text", &json!({"text": "apple"})).await;
    refused.expect_problem(502, "a model that is down");
    embedder.break_down(false);
    assert_eq!(cluster.operator().verify().await, 150);
    let shown = router.get("/v1/collections/docs/points/p1").await.expect("it answers");
    assert_eq!(shown.expect_ok("get")["payload"]["__quiver_text__"], text(1));
    let ranked_again = json!({"text": "apple", "rerank": true});
    post(&router, "/query/text", &ranked_again).await.expect_problem(501, "a second model");
    for (path, body) in [
        ("/points:text", json!({"points": [{"id": "a"}]})),
        ("/points:text", json!({"points": [{"id": "a", "text": "b", "payload": 7}]})),
        ("/query/text", json!({"text": "apple", "k": 0.5})),
        ("/query/text", json!({"text": "apple", "colour": "red"})),
        ("/query/text", json!({"k": 3})),
    ] {
        post(&router, path, &body).await.expect_problem(400, &body.to_string());
    }
    let other = json!({"name": "other", "dim": 8});
    router.post("/v1/collections", &other).await.expect("it answers").expect_ok("create");
    let text = json!({"text": "apple"});
    let refused = router.post("/v1/collections/other/query/text", &text).await;
    let refused = refused.expect("it answers");
    refused.expect_problem(501, "no model");
    assert!(refused.detail().contains("--embedding 'other="), "{}", refused.detail());
    cluster.expect_all_alive();
}
