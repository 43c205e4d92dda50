//! An operator's hand on a running transition: pause, resume, throttle and cancel do what API.md says, and harm no point.

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::{Cluster, Operator, Shape, eventually};

const COLLECTION: &str = "steered";
const KEYS: u64 = 600;
/// Points per second: a copy lasts longer than the test unless it is let go.
const SLOWLY: u64 = 3;

async fn filled(shape: Shape) -> Cluster {
    let cluster = Cluster::start(shape).await;
    cluster.create_collection(COLLECTION).await;
    write_all(&cluster, 0).await;
    cluster
}

async fn write_all(cluster: &Cluster, stamp: u64) {
    let points: Vec<(String, u64)> = (0..KEYS).map(|n| (format!("s-{n}"), stamp + n)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
}

async fn expect_all(cluster: &Cluster, stamp: u64) {
    for router in cluster.all_routers() {
        let found = router.fetch(COLLECTION, 10_000).await.expect("every shard is up");
        assert_eq!(found.len() as u64, KEYS);
        assert!(found.iter().all(|(_, shown)| *shown >= stamp), "an acknowledged write is lost");
    }
    cluster.operator().idle().await;
    assert_eq!(cluster.operator().verify().await, KEYS);
}

/// The refusal of a change that can't be made.
async fn refused(operator: &Operator, path: &str, body: &Value, status: u16) -> Value {
    let answer = operator.client.json(Method::POST, path, &[], body).await.expect("it answers");
    answer.expect_problem(status, path);
    answer.body
}

async fn options(operator: &Operator) -> Value {
    operator.running("it runs", |_| true).await["options"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_transition_stands_still_until_it_is_resumed_even_over_a_restart() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let version = operator.version().await;
    let transition = operator.grow_slowly(&cluster.nodes[2].url, SLOWLY).await;
    operator.steer(transition, "pause").await;
    operator.steer(transition, "pause").await;
    operator.throttle(transition, 1_000_000).await;
    assert_eq!(options(&operator).await["copy"]["paused"], true);
    cluster.coordinator.kill().await;
    cluster.coordinator.restart().await;
    for round in 1..=10 {
        write_all(&cluster, round * 1_000).await;
    }
    let running = operator.running("it is there again", |_| true).await;
    assert_eq!(running["options"]["copy"]["paused"], true, "a restart forgot it: {running}");
    assert_eq!(running["options"]["copy"]["points_per_s_max"], 1_000_000, "{running}");
    assert_eq!(operator.version().await, version, "it committed while it was paused");
    operator.steer(transition, "resume").await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    expect_all(&cluster, 10_000).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttle_sets_all_limits_at_once_and_what_it_does_not_name_is_free() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let transition = operator.grow_slowly(&cluster.nodes[2].url, SLOWLY).await;
    let path = format!("/cluster/transitions/{transition}/throttle");
    let limits =
        json!({ "points_per_s_max": 2, "bytes_per_s_max": 4_096, "request_p99_ms_max": 900 });
    operator.change(Method::POST, &path, &limits).await;
    let copy = options(&operator).await["copy"].clone();
    for (name, value) in limits.as_object().expect("it is an object") {
        assert_eq!(&copy[name], value, "{copy}");
    }
    for wrong in [
        json!({ "points_per_s": 5 }),
        json!({ "points_per_s_max": -1 }),
        json!({ "bytes_per_s_max": "1k" }),
    ] {
        refused(&operator, &path, &wrong, 400).await;
    }
    assert_eq!(options(&operator).await["copy"], copy, "a refusal changed something");
    operator.change(Method::POST, &path, &json!({})).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    expect_all(&cluster, 0).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_transition_leaves_the_map_and_an_empty_node_that_can_be_used_again() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let before = operator.map().await;
    let url = cluster.nodes[2].url.clone();
    let first = operator.grow_slowly(&url, SLOWLY).await;
    // One that waits for its turn can be cancelled too, and the running one goes on.
    let queued = operator.drain(1).await;
    operator.steer(queued, "cancel").await;
    assert_eq!(operator.ended(queued, 10).await.report["outcome"], "cancelled");
    assert_eq!(operator.running("it runs", |_| true).await["id"], first);
    write_all(&cluster, 1_000).await;
    operator.steer(first, "cancel").await;
    let ended = operator.ended(first, 30).await;
    assert_eq!(ended.report["outcome"], "aborted", "{}", ended.report);
    let reason = ended.report["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("operator"), "the report doesn't say who ended it: {}", ended.report);
    operator.idle().await;
    let after = operator.map().await;
    assert_eq!(
        (&after["shards"], &after["collections"]),
        (&before["shards"], &before["collections"])
    );
    expect_all(&cluster, 1_000).await;
    expect_empty(&cluster, &url).await;

    let (second, ids) = operator.grow(&[&url]).await;
    assert_eq!(ids, [4], "the id of a join that was given up is never used again");
    let _ = operator.ended(second, 60).await.expect_committed();
    expect_all(&cluster, 1_000).await;
    cluster.expect_all_alive();
}

async fn expect_empty(cluster: &Cluster, url: &str) {
    let node = cluster.client(url);
    eventually("the node is swept", 20, || async {
        let report = node.get("/internal/report").await.map_err(|gone| gone.to_string())?;
        let points = report.body["load"]["points"].as_u64();
        if points == Some(0) { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_can_not_be_cancelled_paused_resumed_or_throttled() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[2].url]).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    operator.idle().await;
    let before = cluster.state().await;
    for word in ["cancel", "pause", "resume", "throttle"] {
        let body = if word == "throttle" { json!({}) } else { Value::Null };
        let path = format!("/cluster/transitions/{transition}/{word}");
        let problem = refused(&operator, &path, &body, 409).await;
        assert_eq!(problem["refusal"]["kind"], "committed", "{path}: {problem}");
        let path = format!("/cluster/transitions/99/{word}");
        refused(&operator, &path, &body, 404).await;
        let path = format!("/cluster/transitions/current/{word}");
        refused(&operator, &path, &body, 404).await;
    }
    assert_eq!(cluster.state().await, before, "a refusal changed something");
    cluster.expect_all_alive();
}
