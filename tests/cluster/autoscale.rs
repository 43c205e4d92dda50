//! Autoscale grows into standbys by itself, says why and why not, and remembers over a restart which it has used.

use serde_json::{Value, json};
use sheaf_tests::{Cluster, Operator, Shape, eventually};

const COLLECTION: &str = "growing";
const HIGH_WATER: u64 = 100;

async fn write(cluster: &Cluster, from: u64, until: u64) {
    let points: Vec<(String, u64)> = (from..until).map(|n| (format!("g-{n}"), n)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
}

/// Waits until the history has a line about autoscale with this text.
async fn explained(operator: &Operator, text: &str) {
    eventually(&format!("the history says {text:?}"), 30, || async {
        let lines = operator.history("autoscale").await;
        if lines.iter().any(|line| line.contains(text)) { Ok(()) } else { Err(lines.join(" | ")) }
    })
    .await;
}

async fn grown_to(operator: &Operator, ids: &[u64]) {
    eventually(&format!("the shards are {ids:?}"), 40, || async {
        let now = operator.shard_ids().await;
        if now == ids { Ok(()) } else { Err(operator.read("/cluster/status").await.to_string()) }
    })
    .await;
    operator.idle().await;
}

async fn autoscale(operator: &Operator) -> Value {
    operator.read("/cluster/autoscale").await
}

/// How often a transition was begun by autoscale.
async fn own_transitions(operator: &Operator) -> usize {
    let all = operator.read("/cluster/transitions").await;
    let ended = all["ended"].as_array().cloned().unwrap_or_default();
    ended.iter().filter(|report| report["origin"] == "autoscale").count()
}

async fn restart(cluster: &mut Cluster) {
    cluster.coordinator.kill().await;
    cluster.coordinator.restart().await;
    let operator = cluster.operator();
    eventually("the coordinator decides again", 20, || async {
        let ready = operator.client.get("/readyz").await.map_err(|gone| gone.to_string())?;
        if ready.status.is_success() { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
}

/// A cluster of one shard and two standbys, with an autoscale that looks each second.
async fn started() -> Cluster {
    let mut cluster = Cluster::start(Shape::of(1, 2)).await;
    let high = HIGH_WATER.to_string();
    let (first, second) = (cluster.nodes[1].url.clone(), cluster.nodes[2].url.clone());
    cluster.coordinator.add_arguments(&["--autoscale", "--autoscale-high-water-points", &high]);
    cluster.coordinator.add_arguments(&["--autoscale-interval-secs", "1"]);
    cluster.coordinator.add_arguments(&["--autoscale-cooldown-secs", "1"]);
    cluster.coordinator.add_arguments(&["--autoscale-standby-url", &first]);
    cluster.coordinator.add_arguments(&["--autoscale-standby-url", &second]);
    restart(&mut cluster).await;
    cluster.create_collection(COLLECTION).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscale_grows_into_each_standby_once_and_explains_itself_also_after_restarts() {
    let mut cluster = started().await;
    let operator = cluster.operator();
    let (first, second) = (cluster.nodes[1].url.clone(), cluster.nodes[2].url.clone());
    assert_eq!(autoscale(&operator).await["standbys"], json!([first, second]));
    write(&cluster, 0, HIGH_WATER / 2).await;
    explained(&operator, "no shard is above the high-water mark").await;
    assert_eq!(operator.shard_ids().await, [1], "it grew though there is room");

    write(&cluster, 0, HIGH_WATER + 40).await;
    grown_to(&operator, &[1, 2]).await;
    explained(&operator, "above the high-water mark 100").await;
    assert_eq!(operator.map().await["shards"][1]["primary_url"], first.as_str());

    // A restart takes the same settings: the first standby must not be taken in again, nor the second forgotten.
    restart(&mut cluster).await;
    assert_eq!(autoscale(&operator).await["standbys"], json!([second]));
    explained(&operator, "above the high-water mark 100").await;
    write(&cluster, 0, 4 * HIGH_WATER).await;
    grown_to(&operator, &[1, 2, 3]).await;
    assert_eq!(operator.map().await["shards"][2]["primary_url"], second.as_str());
    explained(&operator, "but there is no standby").await;

    restart(&mut cluster).await;
    assert_eq!(autoscale(&operator).await["standbys"], json!([]), "a standby was taken in twice");
    let before = operator.version().await;
    looked_twice(&operator).await;
    assert_eq!(own_transitions(&operator).await, 2);
    assert_eq!((operator.version().await, operator.shard_ids().await), (before, vec![1, 2, 3]));
    let router = cluster.router(0);
    assert_eq!(router.count(COLLECTION).await.expect("every shard is up"), 4 * HIGH_WATER);
    assert_eq!(operator.verify().await, 4 * HIGH_WATER);
    cluster.expect_all_alive();
}

/// Waits until autoscale has looked at the cluster more than once: what would be wrong had time to happen.
async fn looked_twice(operator: &Operator) {
    let start = now_ms(operator).await;
    eventually("autoscale has looked", 20, || async {
        let now = now_ms(operator).await;
        if now > start + 2_500 { Ok(()) } else { Err(format!("{} ms", now - start)) }
    })
    .await;
}

async fn now_ms(operator: &Operator) -> u64 {
    operator.read("/cluster/status").await["now"].as_u64().expect("a status has a time")
}
