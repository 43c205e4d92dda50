//! What a client is told when something goes wrong: honestly, and what to do.

use serde_json::{Value, json};

use crate::cluster::{Client, Cluster, Trouble, ids};

fn refusal(kind: &str) -> Trouble {
    let refusal = match kind {
        "engine_unavailable" => json!({ "kind": kind, "reason": "the disk is full" }),
        kind => json!({ "kind": kind }),
    };
    Trouble::Says(503, json!({ "status": 503, "refusal": refusal }))
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_until_the_deadline_is_503_and_says_how_much_was_applied() {
    let mut client = Client::new(Cluster::of(3)).await;
    client.timeout_ms = Some(400);
    client.cluster.trouble(2, refusal("engine_unavailable"));
    let begun = client.clock.now();
    let answer = client.upsert(ids(60)).await;
    assert_eq!(client.clock.now().ms_since(begun), 400);
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let problem = answer.json();
    assert!(answer.detail().contains("the disk is full"), "{problem}");
    let counts = ["applied", "not_applied", "unknown"].map(|name| problem[name].as_u64().unwrap());
    assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_comes_back_in_time_is_no_error() {
    let client = Client::new(Cluster::of(3)).await;
    client.cluster.trouble(2, Trouble::Away);
    let cluster = client.cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        cluster.state().trouble.clear();
    });
    assert_eq!(client.upsert(ids(60)).await.json(), json!({ "upserted": 60 }));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_504_and_was_sent_once() {
    let mut client = Client::new(Cluster::of(3)).await;
    client.timeout_ms = Some(1_000);
    client.cluster.trouble(1, Trouble::Silent);
    let answer = client.upsert(ids(60)).await;
    assert_eq!(answer.status, 504);
    let problem = answer.json();
    assert!(
        problem["unknown"].as_u64() > Some(0) && problem["applied"].as_u64() > Some(0),
        "{problem}"
    );
    let sent = client.cluster.seen();
    assert_eq!(sent.iter().filter(|seen| seen.0 == 1).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_a_shard_does_not_know_is_unknown_to_the_client() {
    let client = Client::new(Cluster::of(1)).await;
    for status in [500, 502, 504] {
        client.cluster.trouble(1, Trouble::Says(status, json!({ "detail": "?" })));
        let answer = client.upsert(ids(3)).await;
        assert_eq!((answer.status.as_u16(), answer.json()["unknown"].as_u64()), (504, Some(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_with_a_silent_shard_is_504_and_no_part_of_an_answer() {
    let mut client = Client::new(Cluster::of(3)).await;
    client.timeout_ms = Some(500);
    client.upsert(ids(9)).await;
    client.cluster.trouble(3, Trouble::Silent);
    let answer = client.post("/v1/collections/words/query", &json!({ "vector": [0, 0] })).await;
    assert_eq!(answer.status, 504);
    assert!(answer.detail().contains("s3"), "{}", answer.detail());
}

#[tokio::test(start_paused = true)]
async fn a_shards_final_error_is_handed_on_with_what_was_applied_besides() {
    let client = Client::new(Cluster::of(3)).await;
    let wrong =
        json!({ "status": 400, "title": "Bad Request", "detail": "the vector has 3 numbers" });
    client.cluster.trouble(2, Trouble::Says(400, wrong.clone()));
    let answer = client.upsert(ids(60)).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.detail().contains("the vector has 3 numbers")
            && answer.detail().contains("of the 60 points")
    );
    assert!(answer.json()["applied"].as_u64() > Some(0));
    client.cluster.trouble(1, Trouble::Says(400, wrong.clone()));
    client.cluster.trouble(3, Trouble::Says(400, wrong.clone()));
    let answer = client.upsert(ids(60)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (400, wrong));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_know_the_routers_key_is_the_operators_affair() {
    let client = Client::new(Cluster::of(1)).await;
    client.cluster.trouble(1, Trouble::Says(401, Value::Null));
    let answer = client.get("/v1/collections/words/points/a").await;
    assert_eq!(answer.status, 502);
    assert!(answer.detail().contains("peer key"));
}

#[tokio::test(start_paused = true)]
async fn malformed_bodies_are_problems_that_name_what_is_wrong() {
    let client = Client::new(Cluster::of(2)).await;
    let points = "/v1/collections/words/points";
    for (method, body, named) in [
        ("POST", "{\"points\":[{\"vector\":[1]}]}", "id"),
        ("POST", "{\"points\":[{\"id\":7,\"vector\":[1]}]}", "string"),
        ("POST", "not json", "points"),
        ("POST", "", "points"),
        ("DELETE", "{\"ids\":[1]}", "string"),
        ("DELETE", "{\"ids\":[],\"id\":\"a\"}", "id"),
    ] {
        let answer = client.ask(method, points, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.detail().contains(named), "{}", answer.detail());
    }
    assert_eq!(client.upsert(ids(1_001)).await.status, 400);
    let large = vec![b' '; 32 * 1024 * 1024 + 1];
    assert_eq!(client.ask("POST", points, large).await.status, 413);
    assert_eq!(client.cluster.seen(), []);
}

#[tokio::test(start_paused = true)]
async fn before_the_first_map_the_router_is_not_ready_and_says_so() {
    let cluster = Cluster::of(2);
    cluster.state().coordinator_away = true;
    let client = Client::early(cluster, &[]);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 503);
    let answer = client.get("/v1/collections/words/points/a").await;
    assert_eq!(answer.status, 503);
    assert!(answer.detail().contains("coordinator"));
}

#[tokio::test(start_paused = true)]
async fn without_a_coordinator_everything_that_is_known_is_served() {
    let client = Client::new(Cluster::of(3)).await;
    client.cluster.state().coordinator_away = true;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(client.upsert(ids(30)).await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_eq!(client.get("/v1/collections/words").await.json()["count"], 30);
}

#[tokio::test(start_paused = true)]
async fn text_without_a_model_is_501_with_the_reason_and_metrics_are_open() {
    let client = Client::with_keys(Cluster::of(1), &["k:write"]).await;
    let refused = client.get("/v1/collections/words").await;
    assert_eq!(refused.status, 401);
    let metrics = client.get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("sheaf_requests_total"), "{text}");
    let client = Client { key: Some("k"), ..client };
    for path in ["/v1/collections/words/query/text", "/v1/collections/words/points:text"] {
        let answer = client.post(path, &json!({})).await;
        assert_eq!(answer.status, 501, "{path}");
        assert!(!answer.detail().is_empty());
    }
}
