//! What the topics measure on: clusters of real processes, loaded and at rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sheaf_tests::cluster::{Cluster, Shape};
use sheaf_tests::{Client, eventually};

use crate::stopwatch::Stopwatch;
use crate::synthetic;

/// The one collection of a bench.
pub const COLLECTION: &str = "bench";
/// Seconds until a shard has indexed what it holds; building an index of 200,000 points takes minutes.
const REST_SECS_MAX: u64 = 900;
/// Bulk requests that are under way at a time.
const BULK_IN_FLIGHT: usize = 2;
/// Points in a bulk request where nobody measures the load.
const BATCH_POINTS: usize = 1_000;

/// A cluster with the collection.
pub async fn cluster(shards: usize, standbys: usize, routers: usize) -> Cluster {
    let mut shape = Shape::of(shards, standbys);
    shape.routers = routers;
    let cluster = Cluster::start(shape).await;
    let body = json!({ "name": COLLECTION, "dim": synthetic::DIM, "metric": "cosine" });
    cluster.operator().change(Method::POST, "/cluster/collections", &body).await;
    let nodes = cluster.nodes.iter().take(shards);
    for node in nodes.chain(&cluster.routers) {
        let client = cluster.client(&node.url);
        eventually("the collection is known", 30, || async {
            let answer = client.get(&format!("/v1/collections/{COLLECTION}")).await;
            let answer = answer.map_err(|gone| gone.to_string())?;
            if answer.status.is_success() { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
    cluster
}

/// The bodies of bulk requests for these points.
pub fn bulk_bodies(points: &[usize], batch: usize) -> Vec<Bytes> {
    points.chunks(batch).map(synthetic::upsert).collect()
}

/// Sends these bodies to one server, a few at a time, and says how long that took.
///
/// # Panics
/// One isn't accepted.
pub async fn bulk(client: &Client, bodies: &[Bytes]) -> Duration {
    let bodies: Arc<[Bytes]> = bodies.into();
    let watch = Stopwatch::start();
    let workers = (0..BULK_IN_FLIGHT).map(|worker| {
        let (client, bodies) = (client.clone(), Arc::clone(&bodies));
        async move {
            for body in bodies.iter().skip(worker).step_by(BULK_IN_FLIGHT) {
                let path = format!("/v1/collections/{COLLECTION}/points:bulk");
                let answer = client.send(Method::POST, &path, &[], body.clone()).await;
                answer.expect("it answers").expect_ok("bulk");
            }
        }
    });
    futures_util::future::join_all(workers).await;
    watch.elapsed()
}

/// Loads the points with the numbers below `points` through this server, without measuring.
pub async fn load(client: &Client, points: usize) {
    let numbers: Vec<usize> = (0..points).collect();
    // By and by, so that a large load doesn't have to be in memory.
    for part in numbers.chunks(20 * BATCH_POINTS) {
        bulk(client, &bulk_bodies(part, BATCH_POINTS)).await;
    }
}

/// Waits until these shards, all of their cluster, have nothing left to index of what it was loaded with: what a report says is up to a
/// second old, so it counts once the reports are of all points.
pub async fn at_rest(shards: &[Client]) {
    eventually("the shards have indexed all", REST_SECS_MAX, || async {
        let path = format!("/v1/collections/{COLLECTION}");
        let (mut points, mut unindexed) = (0, 0);
        for shard in shards {
            let answer = shard.get("/internal/report").await.map_err(|gone| gone.to_string())?;
            let load = |what: &str| answer.body.pointer(&format!("/load/{what}"))?.as_u64();
            points += load("points").ok_or_else(|| answer.to_string())?;
            unindexed += load("unindexed_points").ok_or_else(|| answer.to_string())?;
        }
        let shown = shards[0].get(&path).await.map_err(|gone| gone.to_string())?;
        let are_of_now = shown.body["count"].as_u64() == Some(points);
        if are_of_now && unindexed == 0 {
            Ok(())
        } else {
            Err(format!("{points} points, {unindexed} to index; {shown}"))
        }
    })
    .await;
}

/// What a transition's report says of time: from the request to the commit, milliseconds.
pub fn commit_ms(report: &Value) -> f64 {
    let at = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"));
    at("committed") - at("requested")
}
