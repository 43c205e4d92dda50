//! Documents on a real Quiver server: as large as they may be, those that it has no room for, and its own.

use std::sync::Arc;

use serde_json::json;
use sheaf_engines::{Accept, Engine, EngineError, QuiverOptions, Scan, Write, conformance};
use sheaf_tests::{Client, QuiverServer};
use sheaf_types::limits::DOCUMENT_NUMBERS_MAX;
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId, StoredPoint};

use crate::quiver::{open, options};

const ID: CollectionId = CollectionId(1);
/// What makes room for any document.
const ROOM: [(&str, &str); 1] = [("QUIVER_MAX_PAYLOAD_BYTES", "2097152")];

fn of_documents(name: &str) -> Arc<CollectionConfig> {
    let config = json!({"name": name, "dim": 2, "metric": "dot", "multivector": true});
    Arc::new(serde_json::from_value(config).unwrap())
}

fn document(name: &str, numbers: usize, payload: Option<&str>) -> StoredPoint {
    let numbers: Vec<f32> = (0..numbers).map(|n| 1.0 / (n as f32 + 0.3)).collect();
    StoredPoint::new(ID, PointId::from(name), PointBody::encode(&numbers, payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_documents_are_kept_by_a_server_that_has_room_and_read_in_pages() {
    let mut server = QuiverServer::start_as(&ROOM).await;
    let engine = open(options(&server.url())).await.unwrap();
    conformance::the_largest_document_is_kept(&engine, CollectionId(9)).await;
    engine.create_collection(ID, of_documents("large")).await.unwrap();
    // Together more than one answer may have, behind small ones that say nothing of their size.
    let small = (0..70).map(|n| document(&format!("a{n:02}"), 2, None));
    let large = (0..50).map(|n| document(&format!("b{n:02}"), DOCUMENT_NUMBERS_MAX - 2 * n, None));
    let all: Vec<StoredPoint> = small.chain(large).collect();
    engine.apply(ID, all.iter().cloned().map(Write::Upsert).collect()).await.unwrap();
    server.kill().await;
    server.restart().await;
    let engine = open(options(&server.url())).await.unwrap();
    let (mut after, mut seen) = (None, 0);
    loop {
        let scan = Scan {
            after,
            through: None,
            points_max: 512,
            bytes_max: 1 << 20,
            bodies: true,
            accept: Accept::All,
            filter: None,
        };
        let page = engine.scan(ID, scan).await.unwrap();
        for found in page.points {
            assert_eq!((&found.id, found.hash), (&all[seen].id, all[seen].hash));
            assert_eq!(found.body.as_ref(), Some(&all[seen].body));
            seen += 1;
        }
        let Some(through) = page.looked_through else { break };
        after = Some(through);
    }
    assert_eq!(seen, all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_the_server_has_no_room_for_is_refused_whole_and_no_start_is_kept_waiting() {
    let server = QuiverServer::start().await;
    let engine = open(options(&server.url())).await.unwrap();
    let points = CollectionId(2);
    engine.create_collection(ID, of_documents("documents")).await.unwrap();
    engine.create_collection(points, crate::quiver::config(1)).await.unwrap();
    // Base64 of 12,200 vectors but one, and of the few that fit beside the name of their member.
    let (fits, large) = (document("fits", 12_200, None), document("large", 12_300, None));
    let batch = [document("small", 2, None), large, document("other", 4, None)];
    let batch = batch.into_iter().map(Write::Upsert).collect();
    match engine.apply(ID, batch).await {
        Err(EngineError::Invalid(why)) => {
            assert!(
                why.contains("large") && why.contains("QUIVER_MAX_PAYLOAD_BYTES=2097152"),
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.count(ID, Accept::All, None).await, Ok(0), "nothing of the batch");
    // A payload of a point, too, may take more in Quiver than by itself.
    let text = format!(r#"{{"f":0.30000000000000004,"t":"{}"}}"#, "x".repeat(40_000));
    let body = PointBody::encode(&[1.0], Some(&text));
    let point = StoredPoint::new(points, PointId::from("p"), body);
    let refused = engine.apply(points, vec![Write::Upsert(point)]).await;
    assert!(matches!(refused, Err(EngineError::Invalid(_))), "{refused:?}");
    let again = open(options(&server.url())).await.expect("no write was failed");
    again.apply(ID, vec![Write::Upsert(fits.clone())]).await.unwrap();
    assert_eq!(again.get(ID, vec![fits.id.clone()]).await, Ok(vec![Some(fits)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quivers_own_documents_are_not_adopted_and_left_alone() {
    let server = QuiverServer::start().await;
    let client = Client::new(&server.url());
    let own = json!({"name": "own", "dim": 2, "metric": "dot", "multivector": true});
    client.post("/v1/collections", &own).await.unwrap().expect_ok("create");
    let path = "/v1/collections/own/documents";
    let body = json!({"documents": [{"id": "d", "vectors": [[1.0, 2.0], [3.0, 4.0]]}]});
    client.post(path, &body).await.unwrap().expect_ok("upsert");
    let adopting = QuiverOptions { adopts: true, ..options(&server.url()) };
    let engine = open(adopting).await.unwrap();
    let found = engine.adoptable().await.unwrap();
    let why = found[0].obstacle.clone().expect("an obstacle");
    assert!(why.contains("documents in Quiver's own form"), "{why}");
    let refused = engine.create_collection(ID, of_documents("own")).await;
    assert_eq!(refused, Err(EngineError::Unsupported(why)));
    assert_eq!(engine.collections().await, Ok(Vec::new()));
    let question = json!({"query": [[1.0, 0.0]], "k": 1});
    let answer = client.post(&format!("{path}/query"), &question).await.unwrap();
    assert_eq!(answer.expect_ok("query")["matches"][0]["id"], "d");
}
