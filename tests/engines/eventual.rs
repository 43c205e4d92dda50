//! Searches that may be a little old, of clusters with replicas: what they must show all the same, and who answered them.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::points::{point, stamp_of, vector};
use sheaf_tests::{Cluster, eventually};

/// Points that are written once and never again: every search has to show each of them once.
pub const STILL: u64 = 240;
pub const SEARCH: &str = "/v1/collections/points/query?consistency=eventual";

pub async fn write(cluster: &Cluster, stamps: std::ops::Range<u64>) {
    let points: Vec<Value> = stamps.map(|n| point(&format!("p{n}"), n)).collect();
    let path = "/v1/collections/points/points";
    let answer = cluster.router(0).client.post(path, &json!({ "points": points })).await;
    let _ = answer.expect("it answers").expect_ok("upsert");
}

/// Waits until this replica has caught up.
async fn is_ready(cluster: &Cluster, replica: usize) {
    let client = cluster.client(&cluster.replicas[replica].url);
    eventually("the replica has caught up", 30, || async {
        let answer = client.get("/readyz").await.map_err(|gone| gone.to_string())?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

/// Searches that this replica has answered.
pub async fn answered(cluster: &Cluster, replica: usize) -> u64 {
    let client = cluster.client(&cluster.replicas[replica].url);
    let text = client.get("/metrics").await.expect("it answers").body;
    let parts = ["sheaf_requests_total{", "role=\"replica\"", "/query\"", "status=\"200\""];
    let is_count = |line: &&str| parts.iter().all(|part| line.contains(part));
    let count = text.as_str().unwrap_or_default().lines().find(is_count).map(str::to_owned);
    count.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// A search for all points shows every point that stays once, as it was written. Returns how many it shows.
pub async fn shows_all(cluster: &Cluster, path: &str) -> u64 {
    let body = json!({ "vector": vector(1), "k": 2_000 });
    let answer = cluster.router(0).client.post(path, &body).await;
    let answer = answer.expect("it answers").expect_ok(path);
    let mut found = BTreeMap::new();
    for hit in answer["matches"].as_array().into_iter().flatten() {
        let (id, stamp) = stamp_of(hit).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert_eq!(found.insert(id, stamp), None, "{hit} is there twice");
    }
    for n in 0..STILL {
        assert_eq!(found.get(&format!("p{n}")), Some(&n), "{path}: p{n} of {}", found.len());
    }
    found.len() as u64
}

pub async fn set_replica(cluster: &Cluster, shard: u64, replica: usize) {
    let body = json!({ "replica_urls": [cluster.replicas[replica].url] });
    let path = format!("/cluster/shards/{shard}/replicas");
    cluster.operator().change(Method::PUT, &path, &body).await;
    eventually("a search is answered by the replica", 30, || async {
        shows_all(cluster, SEARCH).await;
        if answered(cluster, replica).await > 0 { Ok(()) } else { Err("none yet") }
    })
    .await;
}

/// Searches until this transition has ended.
async fn search_until_committed(cluster: &Cluster, transition: u64) {
    let operator = cluster.operator();
    let path = format!("/cluster/transitions/{transition}/report");
    loop {
        shows_all(cluster, SEARCH).await;
        let answer = operator.client.get(&path).await.expect("it answers");
        if answer.status.is_success() && answer.body["outcome"].is_string() {
            break;
        }
    }
    let _ = operator.ended(transition, 60).await.expect_committed();
}

/// Searches that may be old are answered by the shard and its replica in turns, all others by the shard.
pub async fn take_turns(cluster: &Cluster, replica: usize) {
    let before = answered(cluster, replica).await;
    for _ in 0..20 {
        shows_all(cluster, SEARCH).await;
    }
    let by_replica = answered(cluster, replica).await - before;
    assert!((5..=15).contains(&by_replica), "of 20 searches the replica answered {by_replica}");
    // Who doesn't say so wants what is so now.
    for _ in 0..10 {
        shows_all(cluster, "/v1/collections/points/query").await;
        shows_all(cluster, "/v1/collections/points/query?consistency=strong").await;
    }
    assert_eq!(answered(cluster, replica).await, before + by_replica);
}

/// What was written shows up a little later at the latest.
pub async fn new_points_show_up(cluster: &Cluster) {
    write(cluster, STILL..STILL + 10).await;
    eventually("all searches show what was written", 10, || async {
        for _ in 0..4 {
            let found = shows_all(cluster, SEARCH).await;
            if found != STILL + 10 {
                return Err(found);
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until this replica answers searches again.
pub async fn is_asked(cluster: &Cluster, replica: usize) {
    let before = answered(cluster, replica).await;
    eventually("the replica is asked again", 30, || async {
        shows_all(cluster, SEARCH).await;
        if answered(cluster, replica).await > before { Ok(()) } else { Err("not yet") }
    })
    .await;
}

/// Replica 0 is of shard 1. Shard 2 joins, which is this node and has replica 1, and then shard 1 leaves.
pub async fn grow_and_drain(cluster: &mut Cluster, node: usize) {
    set_replica(cluster, 1, 0).await;
    let operator = cluster.operator();
    let (gate, replica) = (&cluster.nodes[node].url, &cluster.replicas[1].url);
    let joins = json!({ "primary_url": gate, "replica_urls": [replica] });
    let grow = operator.change(Method::POST, "/cluster/shards/grow", &joins).await;
    assert_eq!(grow["shards"], json!([2]));
    search_until_committed(cluster, grow["transition"].as_u64().expect("a transition")).await;
    is_ready(cluster, 1).await;
    // What moved away is gone from the first shard's servers by now.
    for _ in 0..40 {
        shows_all(cluster, SEARCH).await;
    }
    assert!(answered(cluster, 0).await > 0 && answered(cluster, 1).await > 0);
    let before = answered(cluster, 1).await;
    search_until_committed(cluster, operator.drain(1).await).await;
    eventually("the second replica answers for all", 30, || async {
        shows_all(cluster, SEARCH).await;
        if answered(cluster, 1).await > before + 5 { Ok(()) } else { Err("not yet") }
    })
    .await;
    cluster.expect_all_alive();
}
