//! A snapshot through a router: every shard's copy is one that the cluster can be started from.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, Shape, eventually};

const PATH: &str = "/v1/collections/kept";

fn points(range: std::ops::Range<usize>, value: usize) -> Value {
    let point = |n: usize| {
        let vector = [n as f32, value as f32 + 0.1];
        json!({"id": format!("p{n}"), "vector": vector, "payload": {"value": value}})
    };
    json!({"points": range.map(point).collect::<Vec<_>>()})
}

async fn write(client: &Client, points: &Value) {
    let answer = client.post(&format!("{PATH}/points"), points).await.expect("it answers");
    answer.expect_ok("upsert");
}

async fn all(client: &Client) -> Value {
    let body = json!({"limit": 10_000, "with_vector": true});
    eventually("the cluster serves", 30, || async {
        let answer = client.post(&format!("{PATH}/fetch"), &body).await;
        let answer = answer.map_err(|gone| gone.to_string())?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(answer.to_string()) }
    })
    .await
}

async fn snapshot(client: &Client, folder: &Path) -> sheaf_tests::Answer {
    client.post("/v1/snapshot", &json!({ "destination": folder })).await.expect("it answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_started_from_its_snapshot_and_has_what_it_had() {
    let mut cluster = Cluster::start(Shape::of(3, 0)).await;
    let router = cluster.router(0).client;
    let body = json!({"name": "kept", "dim": 2, "metric": "l2"});
    router.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
    write(&router, &points(0..500, 1)).await;
    write(&router, &points(100..200, 2)).await;
    let before = all(&router).await;
    let folder = cluster.folder().join("snapshot");
    let made = snapshot(&router, &folder).await.expect_ok("snapshot");
    assert_eq!(made["version"], cluster.operator().version().await);
    let shards = made["shards"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&Value> = shards.iter().map(|shard| &shard["shard"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    // What is written later isn't in it.
    write(&router, &points(400..600, 3)).await;
    let gone = json!({"ids": ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"]});
    router.delete(&format!("{PATH}/points"), &gone).await.expect("it answers").expect_ok("delete");
    assert_ne!(all(&router).await, before);
    // All of it is lost, but for the coordinator's record.
    cluster.coordinator.kill().await;
    for (node, shard) in cluster.nodes.iter_mut().zip(&shards) {
        node.kill().await;
        std::fs::remove_dir_all(node.data_dir()).expect("the folder is the test's own");
        let copy = shard["data_dir"].as_str().expect("a path");
        std::fs::rename(copy, node.data_dir()).expect("both are in the test's folder");
        node.restart().await;
    }
    cluster.coordinator.restart().await;
    assert_eq!(all(&router).await, before);
    eventually("the restored shards follow", 30, || async {
        let health = cluster.operator().read("/cluster/health").await;
        let up = json!({"1": true, "2": true, "3": true});
        if health == up { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    assert_eq!(cluster.operator().verify().await, 500);
    // It goes on as any cluster.
    write(&router, &points(0..10, 9)).await;
    let node = cluster.add_node().await;
    let operator = cluster.operator();
    let (grow, _) = operator.grow(&[&cluster.nodes[node].url]).await;
    let _ = operator.ended(grow, 60).await.expect_committed();
    assert_eq!(operator.verify().await, 500);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_whole_is_refused_and_says_what_was_written() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let router = cluster.router(0).client;
    let body = json!({"name": "kept", "dim": 2, "metric": "l2"});
    router.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
    write(&router, &points(0..900, 1)).await;
    let folder = cluster.folder().to_owned();
    let answer = snapshot(&router, Path::new("not/absolute")).await;
    answer.expect_problem(400, "a path that means another place on each machine");
    let answer = router.post("/v1/snapshot", &json!({})).await.expect("it answers");
    answer.expect_problem(400, "no destination");

    let tries = AtomicUsize::new(0);
    // The second shard has just joined.
    eventually("the shards are at rest", 30, || async {
        let number = tries.fetch_add(1, Ordering::Relaxed);
        let made = snapshot(&router, &folder.join(format!("rest-{number}"))).await;
        if made.status.is_success() { Ok(()) } else { Err(made.to_string()) }
    })
    .await;
    snapshot(&router, &folder.join("once")).await.expect_ok("the first");
    let again = snapshot(&router, &folder.join("once")).await;
    again.expect_problem(409, "the same destination");
    assert!(again.detail().contains("exists already"), "{}", again.detail());

    let operator = cluster.operator();
    let grow = operator.grow_slowly(&cluster.nodes[2].url, 100).await;
    operator.running("it copies", |running| running["phase"] == "copy").await;
    let moving = snapshot(&router, &folder.join("moving")).await;
    moving.expect_problem(409, "points move");
    assert!(moving.detail().contains("a transition is running"), "{}", moving.detail());
    operator.throttle(grow, 100_000).await;
    let _ = operator.ended(grow, 60).await.expect_committed();

    cluster.nodes[1].kill().await;
    let half = snapshot(&router, &folder.join("half")).await;
    half.expect_problem(503, "a shard is down");
    assert!(half.detail().contains("s2: it can't be reached"), "{}", half.detail());
    let written: Vec<&Value> =
        half.body["written"].as_array().into_iter().flatten().map(|one| &one["shard"]).collect();
    assert_eq!(written, [&json!(1), &json!(3)]);
}
