//! The suite that every engine passes, on a real Quiver server; and what is Quiver's own.

use std::sync::Arc;
use std::time::Duration;

use sheaf_engines::conformance;
use sheaf_engines::{
    Accept, Bodies, Engine, EngineError, Quiver, QuiverOptions, Scan, Search, Write,
};
use sheaf_quiver_grpc::{GrpcReads, GrpcReadsOptions};
use sheaf_tests::QuiverServer;
use sheaf_transport::{HttpOptions, HyperTransport};
use sheaf_types::{CollectionConfig, CollectionId, Metric, PointBody, PointId, StoredPoint};

use crate::requests::Requests;

/// The engine as a shard opens it.
pub async fn open(options: QuiverOptions) -> Result<Quiver, EngineError> {
    Quiver::open(Arc::new(HyperTransport::aborting(HttpOptions::default())), options).await
}

pub fn options(url: &str) -> QuiverOptions {
    QuiverOptions::new(url, None, "this shard")
}

pub fn config(dim: u32) -> Arc<CollectionConfig> {
    Arc::new(serde_json::from_value(serde_json::json!({"name": "docs", "dim": dim})).unwrap())
}

pub fn point(
    collection: CollectionId,
    id: &str,
    vector: &[f32],
    payload: Option<&str>,
) -> StoredPoint {
    StoredPoint::new(collection, PointId::from(id), PointBody::encode(vector, payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quiver_engine_conforms() {
    let server = QuiverServer::start().await;
    let url = server.url();
    conformance::run(CollectionId(1), async || open(options(&url)).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quiver_engine_conforms_with_small_pages() {
    let server = QuiverServer::start().await;
    let url = server.url();
    let open = async || open(QuiverOptions { page_points_max: 16, ..options(&url) }).await.unwrap();
    conformance::run(CollectionId(1), open).await;
}

/// Options of an engine that reads points over gRPC.
pub fn with_grpc(server: &QuiverServer, url: String) -> QuiverOptions {
    let read_deadline = Duration::from_secs(30);
    let reads = GrpcReadsOptions { url, key: None, read_deadline };
    let many_reads = GrpcReads::new(&reads).expect("a URL");
    QuiverOptions { many_reads: Some(Arc::new(many_reads)), ..options(&server.url()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quiver_engine_conforms_when_points_are_read_over_grpc() {
    let server = QuiverServer::start().await;
    let grpc = || with_grpc(&server, server.grpc_url());
    let open = async || open(QuiverOptions { page_points_max: 50, ..grpc() }).await.unwrap();
    conformance::run(CollectionId(1), open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_interface_of_another_server_is_refused() {
    let [server, other] = [QuiverServer::start().await, QuiverServer::start().await];
    for url in [other.grpc_url(), "http://127.0.0.1:1".to_owned()] {
        let why = open(with_grpc(&server, url)).await.err().expect("refused").to_string();
        assert!(why.contains("gRPC"), "{why}");
    }
    let theirs = QuiverOptions { owner: "another".to_owned(), ..options(&other.url()) };
    drop(open(theirs).await.unwrap());
    let why = open(with_grpc(&server, other.grpc_url())).await.err().expect("refused").to_string();
    assert!(why.contains("--engine-grpc-url") && why.contains("another owner"), "{why}");
    open(with_grpc(&server, server.grpc_url())).await.expect("its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_writes_that_wait_go_in_one_request_and_a_refused_one_takes_no_other_along() {
    const WRITES: usize = 200;
    let server = QuiverServer::start_as(&[("QUIVER_MAX_PAYLOAD_BYTES", "1000")]).await;
    let wire = Requests::to(&server.address()).await;
    let engine = Arc::new(open(options(&wire.url)).await.unwrap());
    let id = CollectionId(1);
    engine.create_collection(id, config(2)).await.unwrap();
    let put = |n: usize| {
        let engine = Arc::clone(&engine);
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
        let payload = (n == 77).then_some(long.as_str());
        let point = point(id, &format!("p{n}"), &[n as f32, 1.0], payload);
        tokio::spawn(async move { engine.apply(id, vec![Write::Upsert(point)]).await })
    };
    let putting: Vec<_> = (0..WRITES).map(put).collect();
    for (n, put) in putting.into_iter().enumerate() {
        match put.await.unwrap() {
            Ok(changes) => assert!(n != 77 && changes[0].old.is_none() && changes[0].new.is_some()),
            Err(EngineError::Invalid(why)) => assert!(n == 77 && why.contains("payload"), "{why}"),
            Err(other) => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(WRITES as u64 - 1));
    let requests = wire.seen("POST /v1/collections/sheaf-c1/points");
    assert!(requests < WRITES, "{requests} requests for {WRITES} writes");
}

/// Pages of Quiver's cost a scan of all that is before them, so there may be few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_scan_asks_quiver_for_few_pages() {
    const POINTS: usize = 100_000;
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let many_reads = with_grpc(&server, server.grpc_url()).many_reads;
    let engine = open(QuiverOptions { many_reads, ..options(&wire.url) }).await.unwrap();
    conformance::long_scans_take_full_pages(&engine, CollectionId(1), POINTS).await;
    let pages = wire.seen("POST /v1/collections/sheaf-c1/fetch");
    assert!(pages <= POINTS / 10_000 + 6, "{pages} pages for {POINTS} points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_belongs_to_one_shard_and_to_whom_it_gives_its_key() {
    let server = QuiverServer::start_with_key("secret").await;
    let refused = |answer: Result<Quiver, EngineError>| answer.err().expect("refused").to_string();
    let without = refused(open(options(&server.url())).await);
    assert!(without.contains("--engine-key"), "{without}");
    let keyed = QuiverOptions { key: Some("secret".to_owned()), ..options(&server.url()) };
    let engine = open(keyed.clone()).await.unwrap();
    engine.create_collection(CollectionId(3), config(2)).await.unwrap();
    let other = refused(open(QuiverOptions { owner: "another".to_owned(), ..keyed.clone() }).await);
    assert!(other.contains("belongs to another shard"), "{other}");
    let again = open(keyed).await.unwrap();
    assert_eq!(again.collections().await.unwrap(), [(CollectionId(3), config(2))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_server_was_emptied_does_not_start_empty() {
    let server = QuiverServer::start().await;
    let bound = QuiverOptions { may_claim: false, ..options(&server.url()) };
    let lost = open(bound.clone()).await.err().expect("refused").to_string();
    assert!(lost.contains("has lost"), "{lost}");
    drop(open(options(&server.url())).await.unwrap());
    open(bound).await.expect("its own server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_quiver_cannot_hold_is_refused_with_the_reason() {
    let server = QuiverServer::start().await;
    let engine = open(options(&server.url())).await.unwrap();
    let config = |json: serde_json::Value| -> Arc<CollectionConfig> {
        Arc::new(serde_json::from_value(json).unwrap())
    };
    let refused = [
        serde_json::json!({"name": "a", "dim": 2, "index": "ivf", "metric": "dot"}),
        serde_json::json!({"name": "a", "dim": 2, "index": "vamana", "metric": "dot", "multivector": true}),
    ];
    for json in refused {
        match engine.create_collection(CollectionId(1), config(json.clone())).await {
            Err(EngineError::Unsupported(reason)) => assert!(reason.contains("hnsw"), "{reason}"),
            other => panic!("{json}: {other:?}"),
        }
    }
    let whole = config(serde_json::json!({
        "name": "Größe/1", "dim": 8, "metric": "cosine", "index": "disk_vamana", "pq_subspaces": 4, "binary": false,
        "filterable": [{"path": "a.b", "field_type": "keyword"}],
    }));
    engine.create_collection(CollectionId(2), Arc::clone(&whole)).await.unwrap();
    let again = open(options(&server.url())).await.unwrap();
    assert_eq!(again.collections().await.unwrap(), [(CollectionId(2), whole)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_by_the_index_finds_what_a_gate_owns_with_scores_of_ours() {
    let server = QuiverServer::start().await;
    let by_index = QuiverOptions { exact_floats_max: 0, ..options(&server.url()) };
    let (engine, exact) = (open(by_index).await.unwrap(), open(options(&server.url())).await);
    drop(exact);
    let id = CollectionId(1);
    engine.create_collection(id, config(2)).await.unwrap();
    let points: Vec<StoredPoint> =
        (0..400).map(|n| point(id, &format!("p{n:03}"), &[n as f32, 0.0], None)).collect();
    engine.apply(id, points.iter().cloned().map(Write::Upsert).collect()).await.unwrap();
    let odd = Accept::Only(Arc::new(|key| key.0 % 2 == 1));
    let search = Search {
        vector: vec![7.25, 0.0],
        k: 9,
        ef: 64,
        accept: odd.clone(),
        filter: None,
        vector_json: None,
        bodies: Bodies::Whole,
    };
    let hits = engine.search(id, search).await.unwrap();
    let mut expected: Vec<&StoredPoint> =
        points.iter().filter(|point| odd.takes(point.id.placement_key())).collect();
    let distance = |point: &StoredPoint| (point.body.vector()[0] - 7.25).powi(2);
    expected.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    assert_eq!(hits.len(), 9);
    for (hit, point) in hits.iter().zip(expected) {
        assert_eq!((&hit.id, hit.score), (&point.id, distance(point)));
        assert_eq!(hit.body.as_ref(), Some(&point.body));
    }
    // More than the index would ever propose that is owned: every point is looked at.
    let nobody = Accept::Only(Arc::new(|_| false));
    let search = Search {
        vector: vec![1.0, 0.0],
        k: 5,
        ef: 64,
        accept: nobody,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    };
    assert_eq!(engine.search(id, search).await, Ok(Vec::new()));
    let metric = engine.collections().await.unwrap()[0].1.metric;
    assert_eq!(metric, Metric::L2);
    let scan = Scan {
        after: None,
        through: None,
        points_max: 10,
        bytes_max: 0,
        bodies: false,
        accept: Accept::All,
        filter: None,
    };
    assert_eq!(engine.scan(id, scan).await.unwrap().points.len(), 10);
}
