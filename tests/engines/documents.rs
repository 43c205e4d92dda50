//! Documents of several vectors: a cluster beside a real Quiver server, while it grows; and nodes whose engines can't hold a collection.

use http::Method;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, Postgres, QuiverServer, Shape};

pub const DIM: usize = 4;
const DOCUMENTS: usize = 300;
pub const PATH: &str = "/v1/collections/passages/documents";

pub fn vectors(rng: &mut ChaCha8Rng, count: usize) -> Vec<Vec<f32>> {
    (0..count).map(|_| (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
}

fn documents(rng: &mut ChaCha8Rng) -> Vec<Value> {
    let document = |n: usize| {
        let count = rng.random_range(1..9);
        let payload = if n.is_multiple_of(7) {
            Value::Null
        } else {
            json!({"n": n % 10, "title": format!("é{n}")})
        };
        json!({"id": format!("d/{n}"), "vectors": vectors(rng, count), "payload": payload})
    };
    (0..DOCUMENTS).map(document).collect()
}

pub async fn create(client: &Client, index: &str) {
    let body = json!({"name": "passages", "dim": DIM, "metric": "cosine", "multivector": true, "index": index});
    client.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
}

pub async fn write(client: &Client, documents: &[Value]) {
    let body = json!({ "documents": documents });
    let answer = client.post(PATH, &body).await.expect("it answers").expect_ok("upsert");
    assert_eq!(answer, json!({"upserted": documents.len()}));
}

pub async fn ask(client: &Client, question: &Value) -> Vec<Value> {
    let answer = client.post(&format!("{PATH}/query"), question).await.expect("it answers");
    answer.expect_ok("query")["matches"].as_array().cloned().expect("matches")
}

/// Everything, to the bit: vectors and payloads of all documents, in the order of ids.
pub async fn all(client: &Client) -> Vec<Value> {
    let question = json!({"query": [[1.0, 0.0, 0.0, 0.0]], "k": 1_000, "with_vector": true});
    let mut matches = ask(client, &question).await;
    matches.sort_by_key(|found| found["id"].as_str().unwrap_or_default().to_owned());
    matches
}

/// The same hits in the same order; scores but for rounding, which engines do in orders of their own.
fn expect_same(found: &[Value], expected: &[Value], question: &Value) {
    let without_score = |hits: &[Value]| -> Vec<Value> {
        let mut hits = hits.to_vec();
        hits.iter_mut().for_each(|hit| drop(hit.as_object_mut().map(|hit| hit.remove("score"))));
        hits
    };
    assert_eq!(without_score(found), without_score(expected), "{question}");
    for (found, expected) in found.iter().zip(expected) {
        let score = |hit: &Value| hit["score"].as_f64().expect("a score");
        assert!((score(found) - score(expected)).abs() < 1e-4, "{found} {expected}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_ranked_as_one_quiver_node_ranks_them_and_move_to_the_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(71);
    let server = QuiverServer::start().await;
    let quiver = Client::new(&server.url());
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let router = cluster.router(0).client;
    let documents = documents(&mut rng);
    for client in [&quiver, &router] {
        create(client, "colbert").await;
        write(client, &documents).await;
        // A shorter one in the place of a longer one, and some that go.
        write(client, &[json!({"id": "d/1", "vectors": [[0.0, 1.0, -0.0, 0.5]]})]).await;
        let gone = json!({"ids": ["d/2", "d/3", "none"]});
        let deleted = client.delete(PATH, &gone).await.expect("it answers").expect_ok("delete");
        assert_eq!(deleted, json!({"deleted": 2}));
    }
    let mut questions = Vec::new();
    for n in 0..60 {
        let count = rng.random_range(1..5);
        let k = [1, 5, 20][n % 3];
        let mut question = json!({
            "query": vectors(&mut rng, count), "k": k,
            "with_payload": n % 2 == 0, "with_vector": n % 4 == 0,
        });
        if n % 3 == 0 {
            question["filter"] = json!({"lt": {"field": "n", "value": 4}});
        }
        let expected = ask(&quiver, &question).await;
        expect_same(&ask(&router, &question).await, &expected, &question);
        questions.push((question, expected));
    }
    let before = all(&router).await;
    assert_eq!(before.len(), DOCUMENTS - 2);
    let operator = cluster.operator();
    let url = cluster.nodes[2].url.clone();
    let changes = async {
        let grow = operator.grow_slowly(&url, 40).await;
        let ended = operator.ended(grow, 120).await.expect_committed();
        assert!(ended.report["points"].as_u64() > Some(50), "{}", ended.report);
        let drain = operator.drain(1).await;
        let _ = operator.ended(drain, 120).await.expect_committed();
    };
    let asking = async {
        for (question, expected) in questions.iter().cycle() {
            expect_same(&ask(&router, question).await, expected, question);
        }
    };
    tokio::select! {
        biased;
        () = changes => {}
        () = asking => {}
    }
    assert_eq!(all(&router).await, before);
    assert_eq!(operator.verify().await, before.len() as u64);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_points_and_of_documents_are_kept_apart_and_wrong_documents_change_nothing() {
    let cluster = Cluster::start(Shape::of(2, 0)).await;
    let router = cluster.router(0).client;
    create(&router, "hnsw").await;
    let flat = json!({"name": "flat", "dim": DIM, "metric": "cosine"});
    router.post("/v1/collections", &flat).await.expect("it answers").expect_ok("create");
    let (one, other) = ("/v1/collections/passages", "/v1/collections/flat");
    let vector = json!([1.0, 0.0, 0.0, 0.0]);
    let long = vec![vec![1.0; DIM]; 70_000];
    for (method, path, body) in [
        (Method::POST, format!("{one}/points"), json!({"points": [{"id": "a", "vector": vector}]})),
        (Method::POST, format!("{one}/query"), json!({"vector": vector})),
        (Method::POST, format!("{one}/query/hybrid"), json!({"vector": vector})),
        (Method::POST, format!("{one}/query/hybrid"), json!({"query_text": "dog"})),
        (Method::POST, format!("{one}/fetch"), json!({})),
        (Method::DELETE, format!("{one}/points"), json!({"ids": ["a"]})),
        (Method::GET, format!("{one}/points/a"), Value::Null),
        (
            Method::POST,
            format!("{other}/documents"),
            json!({"documents": [{"id": "a", "vectors": [vector]}]}),
        ),
        (Method::POST, format!("{other}/documents/query"), json!({"query": [vector]})),
        (Method::DELETE, format!("{other}/documents"), json!({"ids": ["a"]})),
        (
            Method::POST,
            format!("{one}/documents"),
            json!({"documents": [{"id": "a", "vectors": []}]}),
        ),
        (
            Method::POST,
            format!("{one}/documents"),
            json!({"documents": [{"id": "a", "vectors": [vector, [1.0]]}]}),
        ),
        (
            Method::POST,
            format!("{one}/documents"),
            json!({"documents": [{"id": "a", "vectors": [[0, 0, 0, 0]]}]}),
        ),
        (
            Method::POST,
            format!("{one}/documents"),
            json!({"documents": [{"id": "a", "vectors": long}]}),
        ),
        (
            Method::POST,
            format!("{one}/documents"),
            json!({"documents": [{"id": "a", "vectors": [vector], "payload": 7}]}),
        ),
        (Method::POST, format!("{one}/documents/query"), json!({"query": [[1.0]]})),
        (Method::POST, format!("{one}/documents/query"), json!({"query": [vector], "k": 10_001})),
    ] {
        let answer = router.json(method.clone(), &path, &[], &body).await.expect("it answers");
        let body: String = body.to_string().chars().take(200).collect();
        answer.expect_problem(400, &format!("{method} {path} {body}"));
    }
    assert_eq!(all(&router).await, Vec::<Value>::new());
    for (what, body) in [
        ("by distance", json!({"name": "x", "dim": DIM, "multivector": true, "metric": "l2"})),
        ("an index for documents", json!({"name": "x", "dim": DIM, "index": "colbert"})),
    ] {
        let answer = router.post("/v1/collections", &body).await.expect("it answers");
        answer.expect_problem(400, what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_engine_cannot_hold_a_collection_is_refused_before_anything_begins() {
    let quiver = QuiverServer::start().await;
    let postgres = Postgres::start().await;
    let database = postgres.database("shard").await;
    let mut cluster = Cluster::start(Shape::of(0, 0)).await;
    let on_quiver = ["--engine", "quiver", "--engine-url", &quiver.url()];
    let first = cluster.add_node_with(&on_quiver).await;
    cluster.operator().add_first_shard(&cluster.nodes[first].url).await;
    let nodes = [
        cluster.add_node().await,
        cluster.add_node_with(&["--engine", "pgvector", "--engine-url", &database]).await,
    ];
    let router = cluster.router(0).client;
    let body = json!({"name": "graph", "dim": DIM, "metric": "cosine", "index": "vamana"});
    router.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
    let coordinator = cluster.operator().client;
    let before = cluster.state().await;
    let shard = cluster.operator().shard_ids().await[0];
    let replace = format!("/cluster/shards/{shard}/replace");
    for node in nodes {
        let url = &cluster.nodes[node].url;
        for (path, body) in [
            ("/cluster/plan", json!({"kind": "grow", "shards": [{"primary_url": url}]})),
            ("/cluster/plan", json!({"kind": "replace", "shard": shard, "primary_url": url})),
            ("/cluster/shards", json!({"primary_url": url})),
            ("/cluster/shards/grow", json!({"primary_url": url})),
            ("/cluster/shards/joining", json!({"primary_url": url})),
            (replace.as_str(), json!({"primary_url": url})),
        ] {
            let answer = coordinator.post(path, &body).await.expect("it answers");
            answer.expect_problem(409, path);
            let detail = answer.detail();
            assert!(detail.contains("\"graph\"") && detail.contains(url.as_str()), "{detail}");
        }
    }
    assert_eq!(cluster.state().await, before);
    // Without that collection they may come; then no such collection may.
    let dropped = router.delete("/v1/collections/graph", &Value::Null).await;
    dropped.expect("it answers").expect_ok("drop");
    let operator = cluster.operator();
    let (grow, _) = operator.grow(&[&cluster.nodes[nodes[0]].url]).await;
    let _ = operator.ended(grow, 120).await.expect_committed();
    let answer = router.post("/v1/collections", &body).await.expect("it answers");
    answer.expect_problem(501, "an embedded shard");
    assert!(answer.detail().contains("hnsw"), "{}", answer.detail());
    cluster.expect_all_alive();
}
