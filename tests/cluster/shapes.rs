//! The map and the health have the fields and types that existing clients read, whatever is under way.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sheaf_tests::{Cluster, Shape, eventually};

const COLLECTION: &str = "shaped";

async fn filled(shape: Shape) -> Cluster {
    let cluster = Cluster::start(shape).await;
    cluster.create_collection(COLLECTION).await;
    let points: Vec<(String, u64)> = (0..400).map(|n| (format!("s-{n}"), n)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
    cluster
}

/// All that wire.md says of a map, and nothing of it under another name or type.
fn expect_map(map: &Value) {
    assert!(map["version"].is_u64(), "{map}");
    for list in ["joining", "leaving"] {
        let ids = map[list].as_array().unwrap_or_else(|| panic!("{list} is no list: {map}"));
        assert!(ids.iter().all(Value::is_u64), "{map}");
    }
    let shards = map["shards"].as_array().unwrap_or_else(|| panic!("shards is no list: {map}"));
    for shard in shards {
        assert!(shard["id"].is_u64(), "{map}");
        let url = shard["primary_url"].as_str().unwrap_or_default();
        assert!(url.starts_with("http://"), "{map}");
        assert!(shard["replica_urls"].is_array(), "{map}");
    }
    let ids: BTreeSet<u64> = shards.iter().filter_map(|shard| shard["id"].as_u64()).collect();
    assert_eq!(ids.len(), shards.len(), "an id is there twice: {map}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_has_the_public_shape_at_rest_while_a_shard_joins_and_while_one_leaves() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let map = operator.map().await;
    expect_map(&map);
    let urls: Vec<&str> = cluster.nodes[..2].iter().map(|node| node.url.as_str()).collect();
    let shards = map["shards"].as_array().cloned().unwrap_or_default();
    for (number, shard) in shards.iter().enumerate() {
        assert_eq!(shard["id"], number + 1);
        assert_eq!(shard["primary_url"], urls[number]);
        assert_eq!(shard["replica_urls"], json!([]));
    }
    assert_eq!((&map["joining"], &map["leaving"]), (&json!([]), &json!([])));

    let (transition, _) = operator.join(&cluster.nodes[2].url).await;
    operator.running("it copies", |running| running["phase"] == "copy").await;
    let map = operator.map().await;
    expect_map(&map);
    assert_eq!((&map["joining"], &map["leaving"]), (&json!([3]), &json!([])));
    assert_eq!(operator.shard_ids().await, [1, 2], "a shard that joins owns nothing yet");
    operator.promote(3).await;
    let _ = operator.ended(transition, 30).await.expect_committed();

    let drain = json!({ "limits": { "points_per_s_max": 2 } });
    let path = "/cluster/shards/1/drain";
    let accepted = operator.change(http::Method::POST, path, &drain).await;
    let transition = accepted["transition"].as_u64().expect("it is accepted");
    operator.running("it copies", |running| running["phase"] == "copy").await;
    let map = operator.map().await;
    expect_map(&map);
    // Routers that were made for Quiver would write its points twice if it stood under `leaving`.
    assert_eq!((&map["draining"], &map["leaving"]), (&json!([1]), &json!([])));
    assert_eq!(operator.shard_ids().await, [1, 2, 3], "a shard that leaves owns its part");
    operator.throttle(transition, 1_000_000).await;
    let _ = operator.ended(transition, 30).await.expect_committed();
    let map = operator.map().await;
    expect_map(&map);
    assert_eq!((&map["joining"], &map["leaving"]), (&json!([]), &json!([])));
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_of_the_map_is_answered_by_the_next_version_or_by_the_present_one() {
    let cluster = filled(Shape::of(1, 1)).await;
    let operator = cluster.operator();
    let version = operator.version().await;
    let same = operator.read(&format!("/cluster/map?after={version}&wait=0.1")).await;
    assert_eq!(same["version"], version);
    let waiting = {
        let operator = operator.clone();
        tokio::spawn(async move {
            operator.read(&format!("/cluster/map?after={version}&wait=25")).await
        })
    };
    let (transition, _) = operator.grow(&[&cluster.nodes[1].url]).await;
    let map = waiting.await.expect("the client lives");
    expect_map(&map);
    assert!(map["version"].as_u64() > Some(version), "{map}");
    let _ = operator.ended(transition, 30).await.expect_committed();
    for wrong in ["after=x", "wait=-1", "wait=nan", "wait=9e9", "after=1&wait=1e400", "until=3"] {
        let path = format!("/cluster/map?{wrong}");
        let answer = operator.client.get(&path).await.expect("it answers");
        answer.expect_problem(400, &path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_says_of_each_shard_of_the_map_whether_it_is_up() {
    let mut cluster = filled(Shape::of(2, 1)).await;
    let operator = cluster.operator();
    let wanted = async |wanted: Value| {
        eventually("the health is right", 20, || async {
            let health = operator.read("/cluster/health").await;
            if health == wanted { Ok(()) } else { Err(health.to_string()) }
        })
        .await;
    };
    wanted(json!({ "1": true, "2": true })).await;
    cluster.nodes[1].kill().await;
    wanted(json!({ "1": true, "2": false })).await;
    cluster.nodes[1].restart().await;
    wanted(json!({ "1": true, "2": true })).await;
    let (transition, _) = operator.grow(&[&cluster.nodes[2].url]).await;
    let _ = operator.ended(transition, 30).await.expect_committed();
    wanted(json!({ "1": true, "2": true, "3": true })).await;
    cluster.expect_all_alive();
}
