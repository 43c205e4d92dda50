//! A router of Quiver's own in front of Sheaf's gates: it sends requests that name no version, by a map that may be old.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sheaf_tests::load::Workload;
use sheaf_tests::{Client, Cluster, QuiverServer, Router, Shape, eventually, under_load_on};

fn of_quiver(server: &QuiverServer) -> Router {
    Router::of_quiver(Client::new(&server.url()))
}

/// Waits until this router has a map of Sheaf's coordinator.
async fn follows(server: &QuiverServer, cluster: &Cluster) {
    let version = cluster.operator().map().await["version"].clone();
    let client = Client::new(&server.url());
    eventually("Quiver's router has the map", 30, || async {
        let map = client.get("/cluster/map").await.map_err(|gone| gone.to_string())?;
        if map.body["version"] == version { Ok(()) } else { Err(map.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_through_quivers_routers_while_shards_join_and_leave() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url.clone()).collect();
    let seeds = [urls[0].as_str(), urls[1].as_str()];
    // One hears of new maps two seconds late. The other never does, and numbers its shards otherwise: it is wrong about
    // most of the points.
    let late = QuiverServer::start_router(&seeds, Some(&cluster.coordinator.url)).await;
    let stale = QuiverServer::start_router(&seeds, None).await;
    follows(&late, &cluster).await;
    let routers = [of_quiver(&late), of_quiver(&stale)];
    let load =
        under_load_on(&routers, &mut cluster, Workload::seeded(31), async |cluster, load| {
            let operator = cluster.operator();
            let (grow, joined) = operator.grow(&[&urls[2]]).await;
            let ended = operator.ended(grow, 120).await.expect_committed();
            assert!(ended.report["points"].as_u64() > Some(0), "nothing moved: {}", ended.report);
            load.until_acknowledged(100).await;
            let drain = operator.drain(1).await;
            let _ = operator.ended(drain, 120).await.expect_committed();
            load.until_acknowledged(100).await;
            // Back to a map in which even the late one knows the way.
            let (grow, _) = operator.grow(&[&urls[0]]).await;
            let _ = operator.ended(grow, 120).await.expect_committed();
            let drain = operator.drain(joined[0]).await;
            let _ = operator.ended(drain, 120).await.expect_committed();
        })
        .await;
    load.expect_no_failure();
    let tally = load.tally();
    assert!(tally.searches > 20 && tally.gets > 100, "too little was asked: {tally:?}");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_of_quivers_serves_its_clients_from_sheafs_gates() {
    let mut cluster = Cluster::start(Shape::of(3, 0)).await;
    let urls: Vec<&str> = cluster.nodes.iter().map(|node| node.url.as_str()).collect();
    let server = QuiverServer::start_router(&urls, Some(&cluster.coordinator.url)).await;
    follows(&server, &cluster).await;
    let client = Client::new(&server.url());
    let fields = json!([{"path": "n", "field_type": "numeric"}]);
    let collection = json!({"name": "words", "dim": 2, "metric": "cosine", "filterable": fields});
    // It asks each shard for the same collection, and for the same drop.
    let created = client.post("/v1/collections", &collection).await.expect("it answers");
    assert_eq!(created.expect_ok("create")["metric"], "cosine");
    let known = cluster.router(0).client.get("/v1/collections/words").await.expect("it answers");
    assert_eq!(known.expect_ok("show")["filterable"], fields);
    // The same once more is no other collection; another one by this name is.
    let again = client.post("/v1/collections", &collection).await.expect("it answers");
    let _ = again.expect_ok("create again");
    let other = json!({"name": "words", "dim": 3, "metric": "cosine"});
    let other = client.post("/v1/collections", &other).await.expect("it answers");
    assert_eq!(other.status, StatusCode::INTERNAL_SERVER_ERROR, "{other}");
    let points: Vec<Value> = (0..60)
        .map(|n| json!({"id": format!("p{n}"), "vector": [1.0, f64::from(n)], "payload": {"n": n}}))
        .collect();
    let path = "/v1/collections/words/points";
    let written = client.post(path, &json!({ "points": points })).await.expect("it answers");
    assert_eq!(written.expect_ok("upsert"), json!({"upserted": 60}));
    let found = client.get(&format!("{path}/p7")).await.expect("it answers").expect_ok("get");
    assert_eq!((&found["vector"], &found["payload"]), (&json!([1.0, 7.0]), &json!({"n": 7})));
    let gone = client.delete(path, &json!({"ids": ["p7", "p8", "none"]})).await;
    assert_eq!(gone.expect("it answers").expect_ok("delete"), json!({"deleted": 2}));
    let absent = client.get(&format!("{path}/p7")).await.expect("it answers");
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    // It doesn't encode ids in paths: what is behind the # never reaches a gate.
    let odd = json!({"points": [{"id": "doc#3", "vector": [1.0, 1.0]}]});
    let _ = client.post(path, &odd).await.expect("it answers").expect_ok("upsert an odd id");
    let found = client.get(&format!("{path}/doc%233")).await.expect("it answers");
    assert_eq!(found.status, StatusCode::NOT_FOUND, "{found}");
    let found = cluster.router(0).client.get(&format!("{path}/doc%233")).await;
    let _ = found.expect("it answers").expect_ok("get an odd id from Sheaf's router");
    let question =
        json!({"vector": [0.0, 1.0], "k": 3, "filter": {"lt": {"field": "n", "value": 50}}});
    let hits = client.post("/v1/collections/words/query", &question).await;
    let hits = hits.expect("it answers").expect_ok("query");
    let ids: Vec<&str> = hits["matches"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|hit| hit["id"].as_str())
        .collect();
    assert_eq!(ids, ["p49", "p48", "p47"]);
    let dropped = client.json(Method::DELETE, "/v1/collections/words", &[], &Value::Null).await;
    assert_eq!(dropped.expect("it answers").expect_ok("drop"), json!({"existed": true}));
    let listed = cluster.router(0).client.get("/v1/collections").await;
    assert_eq!(listed.expect("it answers").expect_ok("list"), json!([]));
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_answers_who_names_no_version_for_the_whole_cluster_or_refuses_whole() {
    let mut cluster = Cluster::start(Shape::of(3, 1)).await;
    cluster.create_collection("points").await;
    let points: Vec<Value> =
        (0..90).map(|n| sheaf_tests::points::point(&format!("p{n}"), n)).collect();
    // A standby, too: it may have been a shard of an old map.
    for (number, points) in points.chunks(23).enumerate() {
        let gate = cluster.client(&cluster.nodes[number].url);
        let path = "/v1/collections/points/points";
        let written = gate.post(path, &json!({ "points": points })).await.expect("it answers");
        assert_eq!(written.expect_ok("upsert")["upserted"], points.len());
    }
    for node in &cluster.nodes {
        let gate = cluster.client(&node.url);
        let question = json!({"vector": sheaf_tests::points::vector(3), "k": 100});
        let hits = gate.post("/v1/collections/points/query", &question).await;
        let hits = hits.expect("it answers").expect_ok("query");
        assert_eq!(hits["matches"].as_array().map(Vec::len), Some(90));
        let listed = gate.get("/v1/collections/points").await.expect("it answers");
        assert_eq!(listed.expect_ok("show")["count"], 90);
        for n in 0..90 {
            let found = gate.get(&format!("/v1/collections/points/points/p{n}")).await;
            assert_eq!(found.expect("it answers").expect_ok("get")["payload"]["stamp"], n);
        }
        let deleted = gate.delete("/v1/collections/points/points", &json!({"ids": ["none"]})).await;
        assert_eq!(deleted.expect("it answers").expect_ok("delete"), json!({"deleted": 0}));
    }
    // Who names a shard or a version gets that shard's points alone.
    let gate = cluster.client(&cluster.nodes[0].url);
    let path = "/v1/collections/points/count";
    let counted = gate.json(Method::POST, path, &[("sheaf-shard", "1")], &json!({})).await;
    let counted = counted.expect("it answers").expect_ok("count")["count"].as_u64();
    assert!((1..90).contains(&counted.unwrap_or(0)), "{counted:?}");
    // With one shard away, a batch is not a success, and says what was done with the rest.
    cluster.nodes[1].kill().await;
    let body = json!({ "points": points });
    let headers = [("sheaf-timeout-ms", "1500")];
    let path = "/v1/collections/points/points";
    let answer = gate.json(Method::POST, path, &headers, &body).await.expect("it answers");
    answer.expect_problem(503, "a batch of which a part has no owner at hand");
    let (applied, not) = (answer.body["applied"].as_u64(), answer.body["not_applied"].as_u64());
    assert!(applied > Some(0) && not > Some(0), "{answer}");
    assert_eq!(applied.unwrap_or(0) + not.unwrap_or(0), 90, "{answer}");
    let question = json!({"vector": sheaf_tests::points::vector(3), "k": 100});
    let hits = gate.json(Method::POST, "/v1/collections/points/query", &headers, &question).await;
    assert!(!hits.expect("it answers").status.is_success(), "a search without all points");
}
