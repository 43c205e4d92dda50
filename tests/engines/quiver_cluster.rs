//! Whole clusters with shards in front of Quiver servers, alone and beside embedded ones.

use serde_json::json;
use sheaf_tests::load::Workload;
use sheaf_tests::points::DIM;
use sheaf_tests::{Cluster, QuiverServer, Shape, under_load};

/// Starts a node in front of this server.
async fn add_quiver_node(cluster: &mut Cluster, server: &QuiverServer) -> usize {
    cluster.add_node_with(&server.shard_arguments().each_ref().map(String::as_str)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_quiver_servers_grows_under_load_and_loses_nothing() {
    let servers = [QuiverServer::start().await, QuiverServer::start().await];
    let mut cluster = Cluster::start(Shape::of(0, 0)).await;
    let first = add_quiver_node(&mut cluster, &servers[0]).await;
    let second = add_quiver_node(&mut cluster, &servers[1]).await;
    cluster.operator().add_first_shard(&cluster.nodes[first].url).await;
    let load = under_load(&mut cluster, Workload::seeded(21), async |cluster, _| {
        let operator = cluster.operator();
        let (transition, _) = operator.grow(&[&cluster.nodes[second].url]).await;
        let ended = operator.ended(transition, 120).await.expect_committed();
        assert!(ended.report["points"].as_u64() > Some(0), "nothing moved: {}", ended.report);
    })
    .await;
    load.expect_no_failure();
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_move_between_an_embedded_shard_and_quiver_and_back_to_the_bit() {
    let server = QuiverServer::start().await;
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let quiver = add_quiver_node(&mut cluster, &server).await;
    cluster.create_collection("points").await;
    let router = cluster.router(0);
    let odd = [0.1_f32, -0.0, f32::MIN_POSITIVE, 1e-45, 1.0 / 3.0, 16_777_217.0, 1.0e18, 7.0];
    let payloads = [
        json!(null),
        json!({}),
        json!({"f": 0.1 + 0.2, "g": 1e300, "i": 9_007_199_254_740_993_i64, "u": u64::MAX}),
        json!({"text": "é\"\\\n€😀", "list": [1, 2.5, null], "deep": {"a.b": {"": 1}}}),
    ];
    let ids = ["", "a/b", "..", "doc#3", "%2F", "é", "😀", "a b"];
    let mut points = Vec::new();
    for n in 0..300_usize {
        let vector: Vec<f32> = (0..DIM).map(|at| odd[(n + at) % odd.len()]).collect();
        let id = ids.get(n).map_or_else(|| format!("p{n}"), ToString::to_string);
        points.push(json!({"id": id, "vector": vector, "payload": payloads[n % payloads.len()]}));
    }
    let body = json!({ "points": points });
    let written = router.client.post("/v1/collections/points/points", &body).await;
    written.expect("it answers").expect_ok("upsert");
    let all = async |what: &str| {
        let body = json!({"limit": 10_000, "with_vector": true, "with_payload": true});
        let found = router.client.post("/v1/collections/points/fetch", &body).await;
        found.expect("it answers").expect_ok(what)
    };
    let before = all("fetch").await;
    assert_eq!(before["points"].as_array().map(Vec::len), Some(300));
    let operator = cluster.operator();
    let (grow, ids) = operator.grow(&[&cluster.nodes[quiver].url]).await;
    let ended = operator.ended(grow, 120).await.expect_committed();
    assert!(ended.report["points"].as_u64() > Some(50), "{}", ended.report);
    assert_eq!(all("after the grow").await, before);
    // Now all of them go to Quiver, and all of them come back.
    let drain = operator.drain(1).await;
    let _ = operator.ended(drain, 120).await.expect_committed();
    assert_eq!(all("on Quiver alone").await, before);
    assert_eq!(operator.verify().await, 300);
    let (grow, _) = operator.grow(&[&cluster.nodes[0].url]).await;
    let _ = operator.ended(grow, 120).await.expect_committed();
    let drain = operator.drain(ids[0]).await;
    let _ = operator.ended(drain, 120).await.expect_committed();
    assert_eq!(all("back").await, before);
    assert_eq!(operator.verify().await, 300);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_on_quiver_is_started_from_its_snapshot_and_has_what_it_had() {
    let mut server = QuiverServer::start().await;
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let quiver = add_quiver_node(&mut cluster, &server).await;
    cluster.operator().add_first_shard(&cluster.nodes[quiver].url).await;
    cluster.create_collection("points").await;
    let router = cluster.router(0);
    let write = async |from: u64, count: u64| {
        let points: Vec<_> = (from..from + count).map(|n| (format!("p{n}"), n)).collect();
        router.put("points", &points).await.expect("every shard is up");
    };
    write(0, 300).await;
    // No snapshot is made while the shards are swept behind the commit.
    cluster.operator().idle().await;
    let folder = cluster.folder().join("snapshot");
    let body = json!({ "destination": folder });
    let made = router.client.post("/v1/snapshot", &body).await.expect("it answers");
    let made = made.expect_ok("snapshot");
    // A second one there is refused, and Quiver goes on writing: its log isn't taken for torn.
    let again = router.client.post("/v1/snapshot", &body).await.expect("it answers");
    again.expect_problem(409, "the same destination");
    write(300, 100).await;
    assert_eq!(cluster.operator().verify().await, 400);
    for (number, shard) in made["shards"].as_array().expect("shards").iter().enumerate() {
        let node = &mut cluster.nodes[number];
        node.kill().await;
        std::fs::remove_dir_all(node.data_dir()).expect("the folder is the test's own");
        let copy = shard["data_dir"].as_str().expect("a path");
        std::fs::rename(copy, node.data_dir()).expect("both are in temporary folders");
        if let Some(copy) = shard["engine"].as_str() {
            server.kill().await;
            std::fs::remove_dir_all(server.data_dir()).expect("the folder is the test's own");
            std::fs::rename(copy, server.data_dir()).expect("both are in temporary folders");
            server.restart().await;
        }
    }
    cluster.coordinator.kill().await;
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.coordinator.restart().await;
    let found = sheaf_tests::eventually("the restored shards are audited", 60, || async {
        let audit = cluster.operator().client.get("/cluster/verify").await;
        let audit = audit.map_err(|gone| gone.to_string())?.body;
        if audit["ok"] == true { Ok(audit) } else { Err(audit.to_string()) }
    })
    .await;
    let points = found["shards"].as_array().expect("shards").iter();
    assert_eq!(points.filter_map(|shard| shard["points"].as_u64()).sum::<u64>(), 300);
    cluster.expect_all_alive();
}
