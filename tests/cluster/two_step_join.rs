//! A join by hand copies and waits: it commits when it is promoted and has converged, and never before.

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::{Cluster, Operator, Shape};

const COLLECTION: &str = "joined";
const KEYS: u64 = 300;

async fn filled() -> Cluster {
    let cluster = Cluster::start(Shape::of(2, 1)).await;
    cluster.create_collection(COLLECTION).await;
    write_all(&cluster, 0).await;
    cluster
}

async fn write_all(cluster: &Cluster, stamp: u64) {
    let points: Vec<(String, u64)> = (0..KEYS).map(|n| (format!("j-{n}"), stamp + n)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
}

fn converged(running: &Value) -> bool {
    let pairs = running["pairs"].as_array().cloned().unwrap_or_default();
    !pairs.is_empty() && pairs.iter().all(|pair| pair["state"] == "converged")
}

async fn expect_still_joining(operator: &Operator, version: u64) {
    let map = operator.map().await;
    assert_eq!(map["version"], version, "it committed without being told");
    assert_eq!(map["joining"], json!([3]));
    assert_eq!(operator.shard_ids().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_by_hand_copies_waits_and_commits_when_it_is_promoted() {
    let mut cluster = filled().await;
    let operator = cluster.operator();
    let version = operator.version().await;
    let (transition, shard) = operator.join(&cluster.nodes[2].url).await;
    assert_eq!(shard, 3);
    operator.running("the copy has converged", converged).await;
    // It goes on following the writes, and goes no further.
    for round in 1..=20 {
        write_all(&cluster, round * 1_000).await;
        expect_still_joining(&operator, version).await;
    }
    let running = operator.running("it has converged again", converged).await;
    assert_eq!(running["phase"], "copy", "{running}");
    assert_eq!(running["attempt"], 0, "it was fenced without being told: {running}");
    let waits = running["waiting_for"].to_string();
    assert!(waits.contains("promotion"), "it doesn't say what it waits for: {waits}");

    operator.promote(shard).await;
    let _ = operator.ended(transition, 30).await.expect_committed();
    assert_eq!(operator.shard_ids().await, [1, 2, 3]);
    operator.idle().await;
    assert_eq!(operator.verify().await, KEYS);
    let found = cluster.router(1).fetch(COLLECTION, 10_000).await.expect("every shard is up");
    assert!(found.iter().all(|(_, stamp)| *stamp >= 20_000), "an acknowledged write is lost");
    let answer = operator.client.post("/cluster/shards/3/promote", &Value::Null).await;
    answer.expect("it answers").expect_problem(409, "promote of a shard that has joined");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_before_the_copy_has_converged_waits_for_it() {
    let mut cluster = filled().await;
    let operator = cluster.operator();
    let version = operator.version().await;
    let body = json!({ "primary_url": cluster.nodes[2].url, "limits": { "points_per_s_max": 1 } });
    let accepted = operator.change(Method::POST, "/cluster/shards/joining", &body).await;
    let transition = accepted["transition"].as_u64().expect("it is accepted");
    operator.steer(transition, "pause").await;
    operator.promote(3).await;
    operator.promote(3).await;
    for round in 1..=10 {
        write_all(&cluster, round * 1_000).await;
        expect_still_joining(&operator, version).await;
    }
    let running = operator.running("it is still there", |_| true).await;
    assert!(!converged(&running), "nothing was to be copied: {running}");
    operator.throttle(transition, 100_000).await;
    operator.steer(transition, "resume").await;
    let _ = operator.ended(transition, 30).await.expect_committed();
    operator.idle().await;
    assert_eq!(operator.verify().await, KEYS);
    for unknown in [4, 1] {
        let path = format!("/cluster/shards/{unknown}/promote");
        let answer = operator.client.post(&path, &Value::Null).await.expect("it answers");
        answer.expect_problem(409, &path);
    }
    cluster.expect_all_alive();
}
