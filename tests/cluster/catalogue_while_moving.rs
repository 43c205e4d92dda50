//! Collections that are created, used and dropped in the middle of a transition end up right on every shard.

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::points::DIM;
use sheaf_tests::{Cluster, Router, Shape, eventually};

const KEYS: u64 = 400;
/// Points per second: the copy of a third of the points lasts much longer than the test.
const SLOWLY: u64 = 3;
/// There before, and dropped in the middle; there before, and kept; new in the middle; new and dropped in the middle.
const DROPPED: &str = "dropped";
const KEPT: &str = "kept";
const NEW: &str = "new";
const BRIEF: &str = "brief";

async fn create(router: &Router, name: &str) {
    let config = json!({ "name": name, "dim": DIM, "metric": "l2" });
    router.client.post("/v1/collections", &config).await.expect("it answers").expect_ok("create");
}

async fn drop_collection(router: &Router, name: &str) {
    let path = format!("/v1/collections/{name}");
    let dropped = router.client.delete(&path, &Value::Null).await.expect("it answers");
    assert_eq!(dropped.expect_ok("drop"), json!({ "existed": true }));
}

async fn fill(router: &Router, name: &str, stamp: u64) {
    let points: Vec<(String, u64)> =
        (0..KEYS).map(|n| (format!("{name}-{n}"), stamp + n)).collect();
    router.put(name, &points).await.expect("every shard is up");
}

async fn expect_full(cluster: &Cluster, name: &str, stamp: u64) {
    for router in cluster.all_routers() {
        let found = router.fetch(name, 10_000).await.expect("every shard is up");
        assert_eq!(found.len() as u64, KEYS, "{name}");
        assert!(found.iter().all(|(_, shown)| *shown >= stamp), "{name}: an old write came back");
    }
}

/// No router and no node has a collection of this name.
async fn expect_gone(cluster: &Cluster, name: &str) {
    let urls = cluster.routers.iter().chain(&cluster.nodes).map(|node| node.url.clone());
    for url in urls {
        let client = cluster.client(&url);
        let path = format!("/v1/collections/{name}");
        eventually(&format!("{url} knows that {name} is gone"), 20, || async {
            let list = client.get("/v1/collections").await.map_err(|gone| gone.to_string())?;
            let named = list.body.as_array().cloned().unwrap_or_default();
            let named = named.iter().any(|collection| collection["name"] == name);
            let shown = client.get(&path).await.map_err(|gone| gone.to_string())?;
            // A node that has left or not joined serves nothing at all.
            let gone = matches!(shown.status.as_u16(), 404 | 503);
            if gone && !named { Ok(()) } else { Err(format!("{list} {shown}")) }
        })
        .await;
    }
}

/// All that can happen to the catalogue in the middle of a transition.
async fn change_catalogue(cluster: &Cluster) {
    let [one, two] = [cluster.router(0), cluster.router(1)];
    create(&one, NEW).await;
    fill(&two, NEW, 1_000).await;
    fill(&one, NEW, 2_000).await;
    drop_collection(&two, DROPPED).await;
    create(&two, BRIEF).await;
    fill(&one, BRIEF, 1_000).await;
    drop_collection(&one, BRIEF).await;
    fill(&two, KEPT, 3_000).await;
    for name in [DROPPED, BRIEF] {
        let path = format!("/v1/collections/{name}");
        for router in [&one, &two] {
            let shown = router.client.get(&path).await.expect("it answers");
            shown.expect_problem(404, "a dropped collection");
        }
    }
    // The name is free again, and nothing of the old collection comes back with it.
    create(&one, BRIEF).await;
    assert_eq!(two.count(BRIEF).await.expect("every shard is up"), 0);
}

async fn expect_right(cluster: &mut Cluster) {
    cluster.operator().idle().await;
    expect_full(cluster, NEW, 2_000).await;
    expect_full(cluster, KEPT, 3_000).await;
    expect_gone(cluster, DROPPED).await;
    for router in cluster.all_routers() {
        assert_eq!(router.count(BRIEF).await.expect("every shard is up"), 0);
        assert!(router.fetch(BRIEF, 10).await.expect("every shard is up").is_empty());
    }
    // The audit also looks for collections that a shard has and the map hasn't.
    assert_eq!(cluster.operator().verify().await, 2 * KEYS);
    create(&cluster.router(1), DROPPED).await;
    assert_eq!(cluster.router(0).count(DROPPED).await.expect("every shard is up"), 0);
    fill(&cluster.router(0), DROPPED, 9_000).await;
    expect_full(cluster, DROPPED, 9_000).await;
    cluster.expect_all_alive();
}

async fn filled(shape: Shape) -> Cluster {
    let cluster = Cluster::start(shape).await;
    for name in [DROPPED, KEPT] {
        create(&cluster.router(0), name).await;
        fill(&cluster.router(1), name, 0).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_changes_in_the_middle_of_a_copy_is_right_after_the_commit() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let transition = operator.grow_slowly(&cluster.nodes[2].url, SLOWLY).await;
    change_catalogue(&cluster).await;
    let running = operator.running("it still copies", |running| running["phase"] == "copy").await;
    assert_eq!(running["id"], transition, "the change was made in the middle");
    operator.throttle(transition, 1_000_000).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    assert_eq!(operator.shard_ids().await, [1, 2, 3]);
    expect_right(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_changes_while_a_copy_waits_for_its_promotion_is_right_after_it() {
    let mut cluster = filled(Shape::of(1, 1)).await;
    let operator = cluster.operator();
    let (transition, shard) = operator.join(&cluster.nodes[1].url).await;
    operator
        .running("it has converged", |running| running["pairs"][0]["state"] == "converged")
        .await;
    change_catalogue(&cluster).await;
    assert_eq!(operator.shard_ids().await, [1], "the change was made in the middle");
    operator.promote(shard).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    assert_eq!(operator.shard_ids().await, [1, 2]);
    expect_right(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_changes_in_the_middle_of_a_copy_is_right_after_it_is_cancelled() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let transition = operator.grow_slowly(&cluster.nodes[2].url, SLOWLY).await;
    change_catalogue(&cluster).await;
    operator.change(Method::POST, "/cluster/transitions/current/cancel", &Value::Null).await;
    let ended = operator.ended(transition, 60).await;
    assert_eq!(ended.report["outcome"], "aborted", "{}", ended.report);
    assert_eq!(operator.shard_ids().await, [1, 2]);
    expect_right(&mut cluster).await;
}
