//! A cluster moves between databases: embedded shards and PostgreSQL, under load.

use serde_json::{Value, json};
use sheaf_tests::{Cluster, Postgres, Shape, load::Workload, under_load};

const COLLECTION: &str = "kept";

/// A cluster of one embedded shard, and a node on PostgreSQL that is in no map.
async fn mixed(server: &Postgres) -> Cluster {
    let url = server.database("shard").await;
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    cluster.add_node_with(&["--engine", "pgvector", "--engine-url", &url]).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_from_the_embedded_engine_into_postgresql_and_back_under_load() {
    let server = Postgres::start().await;
    let mut cluster = mixed(&server).await;
    let load = under_load(&mut cluster, Workload::seeded(61), async |cluster, _| {
        let operator = cluster.operator();
        let (grow, _) = operator.grow(&[&cluster.nodes[1].url]).await;
        let grown = operator.ended(grow, 60).await.expect_committed();
        assert!(grown.report["points"].as_u64() > Some(0), "nothing moved: {}", grown.report);
        let drain = operator.drain(1).await;
        let _ = operator.ended(drain, 60).await.expect_committed();
        assert_eq!(operator.shard_ids().await, [2], "all points are in PostgreSQL");
        operator.verify().await;
        let (back, _) = operator.grow(&[&cluster.nodes[0].url]).await;
        let _ = operator.ended(back, 60).await.expect_committed();
    })
    .await;
    load.expect_no_failure();
    cluster.expect_all_alive();
}

/// Points that databases like to change on their way.
fn odd_points() -> Vec<Value> {
    let vectors = [[0.1, -0.0, 1e-45, 1.5], [16_777_217.0, 1e18, -2.5e-30, 0.333_333_34]];
    let payloads = [
        json!({"n": 9_007_199_254_740_993_u64, "u": u64::MAX, "f": 1.0, "e": 1e300, "z": -0.0}),
        json!({"text": "a\u{0}b \u{10ffff} \" \\ \n", "": {"a.b": [null, true, {}]}, "b": 1, "a": 2}),
        json!({"long": "é".repeat(20_000)}),
    ];
    let ids = ["", "a/b#?", "\u{0}", "😀", "null"].map(str::to_owned);
    let ids = ids.into_iter().chain((0..60).map(|n| format!("{}{n}", "x".repeat(4_000))));
    let point = |(n, id): (usize, String)| {
        let (vector, payload) = (&vectors[n % 2], &payloads[n % 3]);
        json!({ "id": id, "vector": vector, "payload": payload })
    };
    ids.enumerate().map(point).collect()
}

async fn all_points(cluster: &Cluster) -> Vec<Value> {
    let path = format!("/v1/collections/{COLLECTION}/fetch");
    let body = json!({ "limit": 1_000, "with_vector": true, "with_payload": true });
    let answer = cluster.router(0).client.post(&path, &body).await.expect("it answers");
    let mut points = answer.expect_ok("fetch")["points"].as_array().cloned().unwrap_or_default();
    points.sort_by_key(|point| point["id"].as_str().map(str::to_owned));
    points
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_points_arrive_in_postgresql_as_they_were() {
    let server = Postgres::start().await;
    let mut cluster = mixed(&server).await;
    let body = json!({ "name": COLLECTION, "dim": 4, "metric": "l2", "filterable": [{"path": "a.b", "field_type": "numeric"}] });
    let made = cluster.router(0).client.post("/v1/collections", &body).await.expect("it answers");
    made.expect_ok("create");
    cluster.collection_is_known(&cluster.router(0), COLLECTION).await;
    let points = odd_points();
    let path = format!("/v1/collections/{COLLECTION}/points");
    let put = cluster.router(0).client.post(&path, &json!({ "points": points })).await;
    put.expect("it answers").expect_ok("upsert");
    let before = all_points(&cluster).await;
    assert_eq!(before.len(), points.len());
    let operator = cluster.operator();
    let (grow, _) = operator.grow(&[&cluster.nodes[1].url]).await;
    let _ = operator.ended(grow, 60).await.expect_committed();
    let drain = operator.drain(1).await;
    let _ = operator.ended(drain, 60).await.expect_committed();
    operator.idle().await;
    assert_eq!(operator.verify().await, points.len() as u64);
    let after = all_points(&cluster).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.to_string(), after.to_string(), "to the last digit");
    }
    assert_eq!(before.len(), after.len());
    let sql = "SELECT count(*) FROM sheaf.c1";
    let counted: i64 =
        server.admin("shard").await.query_one(sql, &[]).await.expect("its table").get(0);
    assert_eq!(counted as usize, points.len(), "they are in PostgreSQL");
    cluster.expect_all_alive();
}
