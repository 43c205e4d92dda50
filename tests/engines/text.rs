//! Text calls: a router has texts embedded, and hits ranked again, by the same server that a Quiver node asks, and answers what that
//! node answers.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::python::quiver_client;
use sheaf_tests::{
    Certificates, Client, Cluster, Mischief, ModelServer, Node, QuiverServer, Role, Shape,
};

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

/// A cluster of three shards, with a router that is told of models so.
async fn cluster(models: &[&str]) -> (Cluster, Client) {
    let mut cluster = Cluster::start(Shape { routers: 0, ..Shape::of(3, 0) }).await;
    let coordinator = cluster.coordinator.url.clone();
    let words = [&["--coordinator", &*coordinator], models].concat();
    let router = Node::start(Role::Router, "router-text", cluster.folder(), &words).await;
    let client = Client::new(&router.url);
    cluster.daemon_is_ready(&router).await;
    cluster.routers.push(router);
    (cluster, client)
}

fn embedding(models: &ModelServer) -> String {
    format!("docs=words@{}", models.embeddings())
}

fn reranker(models: &ModelServer) -> String {
    format!("docs=ranks@{}", models.rerank())
}

/// A Quiver node that asks the same models.
async fn quiver(models: &ModelServer) -> QuiverServer {
    let embedding = format!(
        r#"{{docs={{provider="http",model="words",endpoint="{}",dim=8}}}}"#,
        models.embeddings()
    );
    let rerank = format!(
        r#"{{docs={{provider="cohere",model="ranks",endpoint="{}",api_key_env="RANKS_KEY"}}}}"#,
        models.rerank()
    );
    let settings = [
        ("QUIVER_EMBEDDING", embedding.as_str()),
        ("QUIVER_RERANK", rerank.as_str()),
        ("RANKS_KEY", "hush"),
    ];
    QuiverServer::start_as(&settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_written_and_found_as_one_quiver_node_writes_and_finds_them() {
    let models = ModelServer::start().await;
    let quiver = quiver(&models).await;
    let single = Client::new(&quiver.url());
    let (mut cluster, router) = cluster(&["--embedding", &embedding(&models)]).await;
    fill(&single).await;
    fill(&router).await;
    for n in 0..40 {
        let mut question = json!({"text": text(n * 7), "k": 1 + n % 12, "with_vector": n % 2 == 0});
        if n % 3 == 0 {
            question["filter"] = json!({"lt": {"field": "n", "value": 100}});
        }
        let expected = post(&single, "/query/text", &question).await.expect_ok("Quiver");
        let mut question_of_sheaf = question.clone();
        // This router has no model that ranks: as on a Quiver node without one, the order stays as it is.
        question_of_sheaf["rerank"] = json!(n % 4 == 0);
        let found = post(&router, "/query/text", &question_of_sheaf).await.expect_ok("Sheaf");
        assert_eq!(rounded(found), rounded(expected), "{question}");
    }
    assert_eq!(models.rankings(), 0);
    cluster.expect_all_alive();
}

/// Points of all kinds that a model may have to read: without a payload, without a text, and with a text that is none.
async fn fill_oddly(client: &Client) {
    fill(client).await;
    let point = |n: usize| {
        // No two are equally near.
        let vector: Vec<f64> =
            (0..8).map(|at| (n * 7 + at * 3) as f64 % 5.0 + n as f64 / 64.0 - 2.0).collect();
        let mut point = json!({"id": format!("odd{n}"), "vector": vector});
        match n % 4 {
            0 => {}
            1 => point["payload"] = json!({"z": n, "a": {"é": [1.0, -0.5e-9, null]}, "n": 1e21}),
            2 => point["payload"] = json!({"__quiver_text__": n, "m": "moon"}),
            _ => point["payload"] = json!({}),
        }
        point
    };
    let points: Vec<Value> = (0..24).map(point).collect();
    post(client, "/points", &json!({ "points": points })).await.expect_ok("upsert");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_are_ranked_again_as_one_quiver_node_ranks_them() {
    let models = ModelServer::start().await;
    let quiver = quiver(&models).await;
    let single = Client::new(&quiver.url());
    let (embedding, reranker) = (embedding(&models), reranker(&models));
    let words = ["--embedding", &embedding, "--reranker", &reranker, "--reranker-key", "hush"];
    let (mut cluster, router) = cluster(&words).await;
    fill_oddly(&single).await;
    fill_oddly(&router).await;
    let (mut ties, mut moved, mut odd) = (0, 0, 0);
    for n in 0..60 {
        let k = [1, 3, 10, 49, 50, 51, 80][n % 7];
        let mut question = json!({"text": text(n * 7), "k": k, "rerank": true, "with_vector": n % 5 == 0, "with_payload": n % 2 == 0});
        if n % 3 == 0 {
            question["filter"] = json!({"not": {"gt": {"field": "n", "value": 100}}});
        }
        let expected = post(&single, "/query/text", &question).await.expect_ok("Quiver");
        assert_eq!(models.authorization(), "Bearer hush");
        let found = post(&router, "/query/text", &question).await.expect_ok("Sheaf");
        assert_eq!(models.authorization(), "Bearer hush");
        assert_eq!(found, expected, "{question}");
        question["rerank"] = json!(false);
        let plain = post(&router, "/query/text", &question).await.expect_ok("Sheaf");
        let ids = |answer: &Value| -> Vec<String> {
            let hits = answer["matches"].as_array().into_iter().flatten();
            hits.map(|hit| hit["id"].to_string()).collect()
        };
        moved += usize::from(ids(&plain) != ids(&found));
        let hits = found["matches"].as_array().expect("a list");
        ties += hits.windows(2).filter(|two| two[0]["score"] == two[1]["score"]).count();
        odd += hits
            .iter()
            .filter(|hit| hit["id"].as_str().is_some_and(|id| id.starts_with("odd")))
            .count();
    }
    assert!(
        ties > 20 && moved > 30 && odd > 20,
        "{ties} ties, {moved} moved, {odd} odd: it shows too little"
    );
    assert_eq!(models.rankings(), 120);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quivers_clients_write_texts_and_rank_hits_again_as_at_a_quiver_node() {
    let models = ModelServer::start().await;
    let quiver = quiver(&models).await;
    let (embedding, reranker) = (embedding(&models), reranker(&models));
    let (mut cluster, _) = cluster(&["--embedding", &embedding, "--reranker", &reranker]).await;
    let expected = quiver_client(&quiver.url(), "any", "texts").await;
    let ranked = models.rankings();
    let told = quiver_client(&cluster.routers[0].url, "any", "texts").await;
    assert_eq!(told, expected);
    assert_eq!((expected.len(), ranked, models.rankings()), (18, 8, 16));
    let errors = expected.iter().filter(|step| step["said"]["error"].is_number()).count();
    assert_eq!(errors, 2, "{expected:?}");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_ranks_wrongly_is_an_error_and_never_an_answer() {
    let models = ModelServer::start().await;
    let (embedding, reranker) = (embedding(&models), reranker(&models));
    let away = "away=ranks@http://127.0.0.1:1/v1/rerank";
    let of_away = format!("away=words@{}", models.embeddings());
    let words = [
        "--embedding",
        &embedding,
        "--reranker",
        &reranker,
        "--reranker",
        away,
        "--embedding",
        &of_away,
    ];
    let (mut cluster, router) = cluster(&words).await;
    fill(&router).await;
    let question = json!({"text": "apple moon", "rerank": true});
    for (mischief, says) in [
        (Mischief::LeavesOneOut, "49 scores for 50 texts"),
        (Mischief::ScoresOneTwice, "two scores"),
        (Mischief::ScoresAnother, "the text 50 of 50"),
        (Mischief::ScoresNull, "none of the rerank API"),
        (Mischief::ScoresInfinity, "out of range"),
    ] {
        models.does(mischief);
        let refused = post(&router, "/query/text", &question).await;
        refused.expect_problem(502, says);
        let detail = refused.detail();
        assert!(detail.contains(says) && detail.contains("ranks at http"), "{detail}");
        assert!(detail.contains("leave `rerank` out"), "{detail}");
        // Who doesn't ask for it doesn't suffer.
        post(&router, "/query/text", &json!({"text": "apple moon"})).await.expect_ok("plain");
    }
    models.does(Mischief::None);
    post(&router, "/query/text", &question).await.expect_ok("ranked");
    for body in [
        json!({"text": "apple", "rerank": "yes"}),
        json!({"text": "apple", "rerank": true, "k": 0.5}),
        json!({"text": "apple", "rerank": true, "k": 10_001}),
        json!({"text": "apple", "rerank": true, "with_payload": 1}),
        json!({"text": "apple", "rerank": true, "colour": "red"}),
    ] {
        post(&router, "/query/text", &body).await.expect_problem(400, &body.to_string());
    }
    let other = json!({"name": "away", "dim": 8});
    router.post("/v1/collections", &other).await.expect("it answers").expect_ok("create");
    let ask = async || {
        let answer = router.post("/v1/collections/away/query/text", &question).await;
        answer.expect("it answers")
    };
    // Nothing was found, so there is nothing to rank.
    assert_eq!(ask().await.expect_ok("an empty collection")["matches"], json!([]));
    let points = json!({"points": [{"id": "a", "text": "apple"}]});
    let written = router.post("/v1/collections/away/points:text", &points).await;
    written.expect("it answers").expect_ok("upsert");
    let refused = ask().await;
    refused.expect_problem(502, "a model that isn't there");
    assert!(refused.detail().contains("127.0.0.1:1 can't be reached"), "{}", refused.detail());
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_text_than_a_request_may_have_is_not_sent_to_a_model() {
    let models = ModelServer::start().await;
    let (embedding, reranker) = (embedding(&models), reranker(&models));
    let (mut cluster, router) =
        cluster(&["--embedding", &embedding, "--reranker", &reranker]).await;
    let create = json!({"name": "docs", "dim": 8});
    router.post("/v1/collections", &create).await.expect("it answers").expect_ok("create");
    let long = "x".repeat(60_000);
    for part in 0..3 {
        let point = |n: usize| json!({"id": format!("p{n}"), "vector": [n, 0, 0, 0, 0, 0, 0, 0], "payload": {"long": long}});
        let points: Vec<Value> = (part * 200..(part + 1) * 200).map(point).collect();
        post(&router, "/points", &json!({ "points": points })).await.expect_ok("upsert");
    }
    let ask = async |k: usize| {
        let question = json!({"text": "apple", "k": k, "rerank": true, "with_payload": false});
        post(&router, "/query/text", &question).await
    };
    let refused = ask(600).await;
    refused.expect_problem(400, "36 MB");
    assert!(refused.detail().contains("ask for fewer"), "{}", refused.detail());
    assert_eq!(models.rankings(), 0);
    assert_eq!(ask(500).await.expect_ok("30 MB")["matches"].as_array().map(Vec::len), Some(500));
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_hangs_is_given_up_at_the_callers_deadline() {
    let models = ModelServer::start().await;
    let hanging = ModelServer::start().await;
    hanging.does(Mischief::Hangs);
    let (embedding, reranker) = (embedding(&models), reranker(&hanging));
    let (mut cluster, router) =
        cluster(&["--embedding", &embedding, "--reranker", &reranker]).await;
    fill(&router).await;
    let question = json!({"text": "apple moon", "rerank": true});
    let headers = [("sheaf-timeout-ms", "1500")];
    let path = "/v1/collections/docs/query/text";
    let refused = router.json(Method::POST, path, &headers, &question);
    let refused = tokio::time::timeout(Duration::from_secs(5), refused).await;
    let refused = refused.expect("its own deadline counts").expect("it answers");
    refused.expect_problem(502, "a model that hangs");
    assert!(refused.detail().contains("no answer within"), "{}", refused.detail());
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_asked_over_tls_and_only_where_their_certificate_is_believed() {
    let folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let other_folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let files = Certificates::issue(folder.path());
    let other = Certificates::issue(other_folder.path());
    let models = ModelServer::start_with_tls(&files).await;
    let (embedding, reranker) = (embedding(&models), reranker(&models));
    let models_of = |ca: &std::path::Path| {
        let ca = ca.display().to_string();
        let words = ["--embedding", &embedding, "--reranker", &reranker, "--model-ca", &ca];
        let words = [&words[..], &["--embedding-key", "e", "--reranker-key", "r"]].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let question = json!({"text": "apple moon", "rerank": true});
    for (ca, is_believed) in [(&files.ca, true), (&other.ca, false)] {
        let words = models_of(ca);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (mut cluster, router) = cluster(&words).await;
        if is_believed {
            fill(&router).await;
            assert_eq!(models.authorization(), "Bearer e");
            post(&router, "/query/text", &question).await.expect_ok("ranked");
            assert_eq!((models.authorization().as_str(), models.rankings()), ("Bearer r", 1));
        } else {
            let create = json!({"name": "docs", "dim": 8});
            router.post("/v1/collections", &create).await.expect("it answers").expect_ok("create");
            let refused = post(&router, "/query/text", &question).await;
            refused.expect_problem(502, "another authority");
            assert!(refused.detail().contains("invalid peer certificate"), "{}", refused.detail());
            assert_eq!(models.authorization(), "Bearer r", "it was shown nothing more");
        }
        cluster.expect_all_alive();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_cannot_be_embedded_is_refused_and_nothing_is_written() {
    let models = ModelServer::start().await;
    let (mut cluster, router) = cluster(&["--embedding", &embedding(&models)]).await;
    fill(&router).await;
    models.does(Mischief::Refuses);
    let body = json!({"points": [{"id": "new", "text": "apple"}, {"id": "p1", "text": "moon"}]});
    let refused = post(&router, "/points:text", &body).await;
    refused.expect_problem(502, "a model that is down");
    assert!(refused.detail().contains("no model is loaded"), "{}", refused.detail());
    let refused = post(&router, "/query/text", &json!({"text": "apple"})).await;
    refused.expect_problem(502, "a model that is down");
    models.does(Mischief::None);
    assert_eq!(cluster.operator().verify().await, 150);
    let shown = router.get("/v1/collections/docs/points/p1").await.expect("it answers");
    assert_eq!(shown.expect_ok("get")["payload"]["__quiver_text__"], text(1));
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
