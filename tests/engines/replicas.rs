//! Replicas: searches that may be a little old, from followers of Quiver servers, and what they must show all the same.

use serde_json::json;
use sheaf_tests::points::{point, vector};
use sheaf_tests::{Cluster, QuiverServer, Shape, eventually, pause_ms};

use crate::eventual::{
    SEARCH, STILL, answered, grow_and_drain, is_asked, new_points_show_up, set_replica, shows_all,
    take_turns, write,
};

/// A cluster of one shard on Quiver, and the shard's server.
async fn cluster_on_quiver() -> (Cluster, QuiverServer) {
    let leader = QuiverServer::start().await;
    let mut cluster = Cluster::start(Shape { routers: 1, ..Shape::of(0, 0) }).await;
    let node = add_node(&mut cluster, &leader).await;
    cluster.operator().add_first_shard(&cluster.nodes[node].url).await;
    cluster.create_collection("points").await;
    write(&cluster, 0..STILL).await;
    (cluster, leader)
}

async fn add_node(cluster: &mut Cluster, server: &QuiverServer) -> usize {
    cluster.add_node_with(&["--engine", "quiver", "--engine-url", &server.url()]).await
}

async fn add_replica(
    cluster: &mut Cluster,
    of: u64,
    leader: &QuiverServer,
    follower: &QuiverServer,
) -> usize {
    let (url, leader_url) = (follower.url(), leader.url());
    cluster.add_replica(of, &["--engine-url", &url, "--leader-url", &leader_url]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_may_be_old_take_turns_and_all_others_ask_the_shard() {
    let (mut cluster, leader) = cluster_on_quiver().await;
    let follower = QuiverServer::start_follower(&leader).await;
    let replica = add_replica(&mut cluster, 1, &leader, &follower).await;
    set_replica(&cluster, 1, replica).await;
    take_turns(&cluster, replica).await;
    let wrong = "/v1/collections/points/query?consistency=any";
    let wrong = cluster.router(0).client.post(wrong, &json!({ "vector": vector(1) })).await;
    wrong.expect("it answers").expect_problem(400, "a consistency that there is not");
    new_points_show_up(&cluster).await;
    // Who asks the replica itself, as routers of Quiver's do, is answered for the cluster; it takes writes to their owner.
    let client = cluster.client(&cluster.replicas[replica].url);
    let body = json!({ "points": [point("by-replica", 7)] });
    let written = client.post("/v1/collections/points/points", &body).await.expect("it answers");
    assert_eq!(written.expect_ok("upsert")["upserted"], 1);
    let shown = cluster.router(0).get("points", "by-replica").await.expect("it answers");
    assert_eq!(shown, Some(7));
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_may_be_old_go_on_without_the_gate_or_with_a_follower_that_is_behind() {
    let (mut cluster, leader) = cluster_on_quiver().await;
    let mut follower = QuiverServer::start_follower(&leader).await;
    let replica = add_replica(&mut cluster, 1, &leader, &follower).await;
    set_replica(&cluster, 1, replica).await;
    // The gate is away: the replica answers alone, longer than a proof lasts.
    cluster.nodes[0].kill().await;
    let before = answered(&cluster, replica).await;
    for _ in 0..8 {
        shows_all(&cluster, SEARCH).await;
        pause_ms(1_000).await;
    }
    assert_eq!(answered(&cluster, replica).await, before + 8);
    cluster.nodes[0].restart().await;
    eventually("the gate serves", 30, || async {
        let found = cluster.router(0).count("points").await.map_err(|miss| miss.why)?;
        if found == STILL { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    // The follower starts anew, and has nothing for a while.
    follower.kill().await;
    shows_all(&cluster, SEARCH).await;
    follower.restart_empty().await;
    for _ in 0..20 {
        shows_all(&cluster, SEARCH).await;
        pause_ms(50).await;
    }
    is_asked(&cluster, replica).await;
    // One that doesn't answer, and a replica that is gone, are left out.
    follower.freeze();
    for _ in 0..3 {
        shows_all(&cluster, SEARCH).await;
    }
    follower.thaw();
    cluster.replicas[replica].kill().await;
    for _ in 0..4 {
        shows_all(&cluster, SEARCH).await;
    }
    cluster.replicas[replica].restart().await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_of_replicas_miss_no_point_while_shards_join_and_leave() {
    let (mut cluster, first) = cluster_on_quiver().await;
    let second = QuiverServer::start().await;
    let followers =
        [QuiverServer::start_follower(&first).await, QuiverServer::start_follower(&second).await];
    let node = add_node(&mut cluster, &second).await;
    add_replica(&mut cluster, 1, &first, &followers[0]).await;
    add_replica(&mut cluster, 2, &second, &followers[1]).await;
    grow_and_drain(&mut cluster, node).await;
}
