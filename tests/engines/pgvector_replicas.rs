//! Replicas of shards on PostgreSQL: searches that may be a little old, from hot standbys, and what they must show all the same.

use sheaf_tests::{Cluster, Postgres, Shape, eventually, pause_ms};

use crate::eventual::{
    SEARCH, STILL, answered, grow_and_drain, is_asked, new_points_show_up, set_replica, shows_all,
    take_turns, write,
};

/// A cluster of one shard on PostgreSQL, and the shard's server.
async fn cluster_on_postgres() -> (Cluster, Postgres) {
    let primary = Postgres::start().await;
    let mut cluster = Cluster::start(Shape { routers: 1, ..Shape::of(0, 0) }).await;
    let node = add_node(&mut cluster, &primary).await;
    cluster.operator().add_first_shard(&cluster.nodes[node].url).await;
    cluster.create_collection("points").await;
    write(&cluster, 0..STILL).await;
    (cluster, primary)
}

async fn add_node(cluster: &mut Cluster, primary: &Postgres) -> usize {
    let url = primary.database("shard").await;
    cluster.add_node_with(&["--engine", "pgvector", "--engine-url", &url]).await
}

async fn add_replica(
    cluster: &mut Cluster,
    of: u64,
    primary: &Postgres,
    standby: &Postgres,
) -> usize {
    let at = |server: &Postgres| server.url(&server.address(), "shard");
    let (url, leader_url) = (at(standby), at(primary));
    let engine = ["--engine", "pgvector", "--engine-url", &url, "--leader-url", &leader_url];
    cluster.add_replica(of, &engine).await
}

/// A cluster of one shard with a replica that is asked.
async fn with_replica() -> (Cluster, Postgres, Postgres, usize) {
    let (mut cluster, primary) = cluster_on_postgres().await;
    let standby = primary.start_standby(&[]).await;
    let replica = add_replica(&mut cluster, 1, &primary, &standby).await;
    set_replica(&cluster, 1, replica).await;
    (cluster, primary, standby, replica)
}

/// Waits until this replica says that it has not caught up.
async fn is_behind(cluster: &Cluster, replica: usize) {
    let client = cluster.client(&cluster.replicas[replica].url);
    eventually("the replica has noticed", 30, || async {
        shows_all(cluster, SEARCH).await;
        let answer = client.get("/readyz").await.map_err(|gone| gone.to_string())?;
        if answer.status.is_success() { Err("it is ready".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// Searches go on, and none is answered by the replica.
async fn is_left_out(cluster: &Cluster, replica: usize) {
    let before = answered(cluster, replica).await;
    for _ in 0..10 {
        shows_all(cluster, SEARCH).await;
    }
    assert_eq!(answered(cluster, replica).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_may_be_old_take_turns_between_a_shard_and_its_standby() {
    let (mut cluster, _primary, _standby, replica) = with_replica().await;
    take_turns(&cluster, replica).await;
    new_points_show_up(&cluster).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_behind_or_gone_is_left_out_until_it_has_caught_up() {
    let (mut cluster, _primary, mut standby, replica) = with_replica().await;
    let admin = standby.admin("postgres").await;
    admin.batch_execute("SELECT pg_wal_replay_pause()").await.expect("a standby can be paused");
    is_behind(&cluster, replica).await;
    is_left_out(&cluster, replica).await;
    admin.batch_execute("SELECT pg_wal_replay_resume()").await.expect("it is paused");
    is_asked(&cluster, replica).await;
    standby.kill().await;
    is_left_out(&cluster, replica).await;
    write(&cluster, 0..STILL).await;
    standby.restart().await;
    for _ in 0..20 {
        shows_all(&cluster, SEARCH).await;
        pause_ms(50).await;
    }
    is_asked(&cluster, replica).await;
    // One that doesn't answer.
    standby.freeze();
    for _ in 0..3 {
        shows_all(&cluster, SEARCH).await;
    }
    is_behind(&cluster, replica).await;
    is_left_out(&cluster, replica).await;
    standby.thaw();
    is_asked(&cluster, replica).await;
    // The replica's own life changes nothing about it.
    cluster.replicas[replica].kill().await;
    for _ in 0..4 {
        shows_all(&cluster, SEARCH).await;
    }
    cluster.replicas[replica].restart().await;
    is_asked(&cluster, replica).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_of_a_standby_go_on_without_the_gate_and_end_when_it_is_promoted() {
    let (mut cluster, mut primary, standby, replica) = with_replica().await;
    // The gate is away: the replica answers alone, longer than a proof lasts.
    cluster.nodes[0].kill().await;
    let before = answered(&cluster, replica).await;
    for _ in 0..8 {
        shows_all(&cluster, SEARCH).await;
        pause_ms(1_000).await;
    }
    assert_eq!(answered(&cluster, replica).await, before + 8);
    // The gate finds the marks in its database and doesn't mind.
    cluster.nodes[0].restart().await;
    eventually("the gate serves", 30, || async {
        let found = cluster.router(0).count("points").await.map_err(|miss| miss.why)?;
        if found == STILL { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    // Its server is started anew, and the standby follows again by itself.
    primary.kill().await;
    primary.restart().await;
    eventually("the gate serves", 30, || async {
        let found = cluster.router(0).count("points").await.map_err(|miss| miss.why)?;
        if found == STILL { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    is_asked(&cluster, replica).await;
    let admin = standby.admin("postgres").await;
    admin.batch_execute("SELECT pg_promote(true, 60)").await.expect("a standby can be promoted");
    is_left_out(&cluster, replica).await;
    is_behind(&cluster, replica).await;
    is_left_out(&cluster, replica).await;
    let log = cluster.replicas[replica].log();
    assert!(log.contains("was promoted"), "{log}");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_of_standbys_miss_no_point_while_shards_join_and_leave() {
    let (mut cluster, first) = cluster_on_postgres().await;
    let second = Postgres::start().await;
    let node = add_node(&mut cluster, &second).await;
    let standbys = [first.start_standby(&[]).await, second.start_standby(&[]).await];
    add_replica(&mut cluster, 1, &first, &standbys[0]).await;
    add_replica(&mut cluster, 2, &second, &standbys[1]).await;
    grow_and_drain(&mut cluster, node).await;
}
