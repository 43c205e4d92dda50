//! Hybrid search of a cluster, beside a real Quiver server with the same points: the answers are the same.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use sheaf_tests::{Client, Cluster, QuiverServer, Shape};

const DIM: usize = 8;
const POINTS: usize = 400;
const WORDS: [&str; 24] = [
    "connection",
    "Connected",
    "connecting",
    "dog",
    "dogs",
    "the",
    "of",
    "running",
    "runner",
    "ran",
    "ponies",
    "pony",
    "generously",
    "Ünïcode",
    "42",
    "x-ray",
    "naïve",
    "happily",
    "happiness",
    "a",
    "vector",
    "databases",
    "database",
    "über",
];

/// Draws points and questions.
struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    fn text(&mut self) -> String {
        let length = self.below(12);
        let words: Vec<&str> =
            (0..length).filter_map(|_| WORDS.choose(&mut self.0).copied()).collect();
        words.join([" ", ", ", "-", " / "][self.below(4)])
    }

    /// Halves, so that sums are the same in any order and points tie.
    fn sparse(&mut self) -> (Vec<u32>, Vec<f32>) {
        let indices: Vec<u32> = (0..12).filter(|_| self.below(4) == 0).collect();
        let values = indices.iter().map(|_| self.below(9) as f32 / 2.0 - 1.0).collect();
        (indices, values)
    }

    fn payload(&mut self) -> Value {
        let mut payload = Map::new();
        if self.below(10) == 0 {
            return Value::Null;
        }
        payload.insert("n".to_owned(), json!(self.below(50)));
        payload.insert("tag".to_owned(), json!(*["a", "b", "c"].choose(&mut self.0).expect("one")));
        if self.below(2) == 0 {
            let (indices, values) = self.sparse();
            let sparse = match self.below(12) {
                0 => json!({"indices": indices, "values": [1]}),
                1 => json!({"indices": [1, 1], "values": [1, 2]}),
                2 => json!("none"),
                _ => json!({"indices": indices, "values": values}),
            };
            payload.insert("__quiver_sparse__".to_owned(), sparse);
        }
        if self.below(3) > 0 {
            let text = if self.below(15) == 0 { json!(7) } else { json!(self.text()) };
            payload.insert("__quiver_text__".to_owned(), text);
        }
        Value::Object(payload)
    }

    fn filter(&mut self) -> Value {
        let value = self.below(50);
        match self.below(4) {
            0 => json!({"eq": {"field": "tag", "value": "b"}}),
            1 => json!({"lt": {"field": "n", "value": value}}),
            2 => json!({"not": {"eq": {"field": "tag", "value": "a"}}}),
            _ => json!({"eq": {"field": "n", "value": value}}),
        }
    }

    fn question(&mut self) -> Value {
        let kinds = 1 + self.below(7);
        let mut question = json!({
            "k": *[0, 1, 5, 10, 40].choose(&mut self.0).expect("one"),
            "ef_search": POINTS,
            "with_payload": self.below(3) > 0,
            "with_vector": self.below(3) == 0,
        });
        if kinds & 1 != 0 {
            question["vector"] = json!(self.vector());
        }
        if kinds & 2 != 0 {
            let (indices, values) = self.sparse();
            question["sparse_indices"] = json!(indices);
            question["sparse_values"] = json!(values);
        }
        if kinds & 4 != 0 {
            question["query_text"] = json!(self.text());
        }
        if self.below(2) == 0 {
            question["filter"] = self.filter();
        }
        if self.below(4) == 0 {
            question["rrf_k0"] = json!(*[0.0, -3.0, 1.5, 1000.0].choose(&mut self.0).expect("one"));
        }
        question
    }
}

fn points(draw: &mut Draw) -> Vec<Value> {
    let mut point =
        |n| json!({"id": format!("p{n}"), "vector": draw.vector(), "payload": draw.payload()});
    (0..POINTS).map(&mut point).collect()
}

async fn create(client: &Client, name: &str, metric: &str) {
    let body = json!({"name": name, "dim": DIM, "metric": metric});
    client.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
}

async fn write(client: &Client, name: &str, points: &[Value]) {
    let path = format!("/v1/collections/{name}/points");
    let written = client.post(&path, &json!({ "points": points })).await;
    written.expect("it answers").expect_ok("upsert");
}

async fn ask(client: &Client, name: &str, question: &Value) -> Value {
    let path = format!("/v1/collections/{name}/query/hybrid");
    let answer = client.post(&path, question).await;
    answer.expect("it answers").expect_ok("a hybrid search")
}

/// The same points at a single server, and hundreds of questions with its answers.
async fn asked_of_quiver(
    name: &str,
    metric: &str,
    points: &[Value],
    draw: &mut Draw,
    questions: usize,
) -> Vec<(Value, Value)> {
    let server = QuiverServer::start().await;
    let quiver = Client::new(&server.url());
    create(&quiver, name, metric).await;
    write(&quiver, name, points).await;
    let mut asked = Vec::new();
    let mut hits = 0;
    for _ in 0..questions {
        let question = draw.question();
        let answer = ask(&quiver, name, &question).await;
        hits += answer["matches"].as_array().map_or(0, Vec::len);
        asked.push((question, answer));
    }
    assert!(hits > questions, "{hits} hits of {questions} questions say nothing");
    asked
}

/// Writes the points as a life of a cluster does: others before, overwritten, and some that go again.
async fn live_up_to(client: &Client, name: &str, points: &[Value], draw: &mut Draw) {
    let mut older: Vec<Value> = points.iter().step_by(3).cloned().collect();
    for point in &mut older {
        point["payload"] = draw.payload();
        point["vector"] = json!(draw.vector());
    }
    let gone: Vec<String> = (0..50).map(|n| format!("gone{n}")).collect();
    for id in &gone {
        older.push(json!({"id": id, "vector": draw.vector(), "payload": draw.payload()}));
    }
    write(client, name, &older).await;
    // The index is there before the last writes are.
    let _ = ask(
        client,
        name,
        &json!({"query_text": "dog", "sparse_indices": [1], "sparse_values": [1.0]}),
    )
    .await;
    write(client, name, points).await;
    let path = format!("/v1/collections/{name}/points");
    let deleted = client.delete(&path, &json!({ "ids": gone })).await;
    deleted.expect("it answers").expect_ok("delete");
}

async fn expect_same(client: &Client, name: &str, asked: &[(Value, Value)]) {
    for (n, (question, expected)) in asked.iter().enumerate() {
        let answer = ask(client, name, question).await;
        assert_eq!(&answer, expected, "question {n}: {question}");
    }
}

async fn a_cluster_answers_as_quiver_does(cluster: &mut Cluster, seed: u64) {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let router = cluster.router(0);
    for metric in ["l2", "cosine"] {
        let name = format!("hybrid-{metric}");
        let points = points(&mut draw);
        create(&router.client, &name, metric).await;
        live_up_to(&router.client, &name, &points, &mut draw).await;
        let asked = asked_of_quiver(&name, metric, &points, &mut draw, 250).await;
        expect_same(&router.client, &name, &asked).await;
    }
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_embedded_shards_answer_a_hybrid_search_as_one_quiver_node_does() {
    let mut cluster = Cluster::start(Shape::of(3, 0)).await;
    a_cluster_answers_as_quiver_does(&mut cluster, 51).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_on_quiver_answer_a_hybrid_search_as_one_quiver_node_does() {
    let servers = [QuiverServer::start().await, QuiverServer::start().await];
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    for server in &servers {
        let on_quiver = ["--engine", "quiver", "--engine-url", &server.url()];
        let node = cluster.add_node_with(&on_quiver).await;
        cluster.operator().add_first_shard(&cluster.nodes[node].url).await;
    }
    a_cluster_answers_as_quiver_does(&mut cluster, 52).await;
}

/// The node that is no shard yet joins, and the first shard leaves.
async fn grows_and_shrinks(cluster: &Cluster) {
    let operator = cluster.operator();
    let grow = operator.grow_slowly(&cluster.nodes[2].url, 50).await;
    let _ = operator.ended(grow, 120).await.expect_committed();
    let drain = operator.drain(1).await;
    let _ = operator.ended(drain, 120).await.expect_committed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hybrid_search_is_the_same_while_a_cluster_grows_and_shrinks() {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(53));
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let points = points(&mut draw);
    let router = cluster.router(0);
    create(&router.client, "moving", "l2").await;
    live_up_to(&router.client, "moving", &points, &mut draw).await;
    let asked = asked_of_quiver("moving", "l2", &points, &mut draw, 60).await;
    let mut answered = 0;
    let asking = async {
        for question in asked.iter().cycle() {
            expect_same(&router.client, "moving", std::slice::from_ref(question)).await;
            answered += 1;
        }
    };
    tokio::select! {
        biased;
        () = grows_and_shrinks(&cluster) => {}
        () = asking => {}
    }
    assert!(answered > 20, "the changes were over after {answered} questions");
    expect_same(&router.client, "moving", &asked).await;
    cluster.expect_all_alive();
}

/// What a search for this word shows.
async fn found(client: &Client, word: &str) -> Vec<Value> {
    let answer = ask(client, "words", &json!({"query_text": word, "k": 10})).await;
    answer["matches"].as_array().cloned().unwrap_or_default()
}

/// Writes, overwrites and deletes points of its own, and looks for each right after it was answered, at another router.
async fn write_and_look(writer: &Client, reader: &Client, own: usize) {
    let point = |n: usize, word: &str| {
        let payload = json!({"__quiver_text__": word, "n": n});
        json!({"id": format!("{own}/{n}"), "vector": vec![1.0; DIM], "payload": payload})
    };
    for n in 0.. {
        let (first, second) = (format!("first{own}x{n}"), format!("second{own}x{n}"));
        write(writer, "words", &[point(n, &first)]).await;
        let hits = found(reader, &first).await;
        assert_eq!(hits.len(), 1, "{first} was written: {hits:?}");
        assert_eq!(hits[0]["payload"]["n"], n);
        write(writer, "words", &[point(n, &second)]).await;
        let gone = found(reader, &first).await;
        assert!(gone.is_empty(), "{first} was overwritten: {gone:?}");
        assert_eq!(found(reader, &second).await.len(), 1, "{second} was written");
        if n % 2 == 0 {
            let ids = json!({"ids": [format!("{own}/{n}")]});
            let deleted = writer.delete("/v1/collections/words/points", &ids).await;
            deleted.expect("it answers").expect_ok("delete");
            let gone = found(reader, &second).await;
            assert!(gone.is_empty(), "{second} was deleted: {gone:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hybrid_search_shows_each_answered_write_and_no_deleted_point_while_points_move() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let (one, other) = (cluster.router(0).client, cluster.router(1).client);
    create(&one, "words", "l2").await;
    cluster.collection_is_known(&cluster.router(1), "words").await;
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(54));
    write(&one, "words", &points(&mut draw)).await;
    tokio::select! {
        biased;
        () = grows_and_shrinks(&cluster) => {}
        () = write_and_look(&one, &other, 1) => {}
        () = write_and_look(&other, &one, 2) => {}
    }
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hybrid_search_that_cannot_be_right_is_refused() {
    let cluster = Cluster::start(Shape::of(2, 0)).await;
    let router = cluster.router(0);
    create(&router.client, "flat", "l2").await;
    let many: Vec<u32> = (0..4_097).collect();
    for (what, question) in [
        ("nothing is asked", json!({"k": 3})),
        ("values without indices", json!({"sparse_values": [1]})),
        ("one value is missing", json!({"sparse_indices": [1, 2], "sparse_values": [1]})),
        ("a wrong dimension", json!({"vector": [1]})),
        ("too many terms", json!({"sparse_indices": many, "sparse_values": vec![1; 4_097]})),
        ("too large a k", json!({"query_text": "dog", "k": 10_001})),
        ("no filter", json!({"query_text": "dog", "filter": {"nonsense": 1}})),
        ("an unknown member", json!({"query_text": "dog", "rerank": true})),
        ("a negative index", json!({"sparse_indices": [-1], "sparse_values": [1]})),
    ] {
        let path = "/v1/collections/flat/query/hybrid";
        let answer = router.client.post(path, &question).await.expect("it answers");
        answer.expect_problem(400, what);
    }
    let path = "/v1/collections/none/query/hybrid";
    let answer = router.client.post(path, &json!({"query_text": "dog"})).await.expect("it answers");
    answer.expect_problem(404, "an unknown collection");
    let node = cluster.client(&cluster.nodes[0].url);
    let path = "/v1/collections/flat/query/hybrid";
    // A shard that is asked without a version answers for the whole cluster, as a router does.
    let answer = node.post(path, &json!({"query_text": "dog"})).await.expect("it answers");
    assert_eq!(answer.expect_ok("a shard")["matches"], json!([]));
}
