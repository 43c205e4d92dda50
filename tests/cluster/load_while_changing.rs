//! The main promise: a cluster grows and shrinks under load, and no client notices.

use sheaf_tests::{Cluster, Load, Shape, load::Workload, under_load};

/// What must hold after a change without any fault.
fn expect_no_harm(load: &Load) {
    load.expect_no_failure();
    let tally = load.tally();
    assert!(tally.gets > 0 && tally.searches > 0, "nobody read: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_by_one_under_load_loses_nothing_and_fails_no_request() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let load = under_load(&mut cluster, Workload::seeded(1), async |cluster, _| {
        let operator = cluster.operator();
        let (transition, ids) = operator.grow(&[&cluster.nodes[2].url]).await;
        assert_eq!(ids, [3], "ids are given out in order");
        let ended = operator.ended(transition, 60).await.expect_committed();
        assert!(ended.report["points"].as_u64() > Some(0), "nothing moved: {}", ended.report);
        assert_eq!(operator.shard_ids().await, [1, 2, 3]);
    })
    .await;
    expect_no_harm(&load);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_by_two_at_once_under_load_loses_nothing_and_fails_no_request() {
    let mut cluster = Cluster::start(Shape::of(1, 2)).await;
    let load = under_load(&mut cluster, Workload::seeded(2), async |cluster, _| {
        let operator = cluster.operator();
        let urls = [cluster.nodes[1].url.as_str(), cluster.nodes[2].url.as_str()];
        let (transition, ids) = operator.grow(&urls).await;
        assert_eq!(ids, [2, 3]);
        let _ = operator.ended(transition, 60).await.expect_committed();
        assert_eq!(operator.shard_ids().await, [1, 2, 3], "both joined in one transition");
    })
    .await;
    expect_no_harm(&load);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_under_load_loses_nothing_fails_no_request_and_leaves_the_node_empty() {
    let mut cluster = Cluster::start(Shape::of(3, 0)).await;
    let load = under_load(&mut cluster, Workload::seeded(3), async |cluster, _| {
        let operator = cluster.operator();
        let transition = operator.drain(2).await;
        let _ = operator.ended(transition, 60).await.expect_committed();
        assert_eq!(operator.shard_ids().await, [1, 3]);
    })
    .await;
    expect_no_harm(&load);
    // The node that left holds nothing, so it can be used again: with a new id.
    let operator = cluster.operator();
    let (transition, ids) = operator.grow(&[&cluster.nodes[1].url]).await;
    assert_eq!(ids, [4], "an id is never used again");
    let _ = operator.ended(transition, 60).await.expect_committed();
    load.check_at_rest(&cluster.all_routers()).await;
    load.expect_nothing_broken();
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transitions_that_are_asked_for_together_run_one_after_another() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let load = under_load(&mut cluster, Workload::seeded(4), async |cluster, _| {
        let operator = cluster.operator();
        let (grow, _) = operator.grow(&[&cluster.nodes[2].url]).await;
        // Queued, or refused until the first has ended: never at the same time.
        let drain = operator.drain(1).await;
        let grown = operator.ended(grow, 60).await.expect_committed();
        let drained = operator.ended(drain, 60).await.expect_committed();
        assert!(drained.report["committed"].as_u64() >= grown.report["committed"].as_u64());
        assert_eq!(operator.shard_ids().await, [2, 3]);
    })
    .await;
    expect_no_harm(&load);
    cluster.expect_all_alive();
}
