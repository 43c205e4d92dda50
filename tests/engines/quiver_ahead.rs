//! What a recipient's engine does before it is asked to: it makes a write's requests, which are sent together, and lists Quiver's ids
//! while the last points are still on their way.

use sheaf_engines::{Accept, Engine, EngineError, Quiver, QuiverOptions, Scan, Write};
use sheaf_tests::QuiverServer;
use sheaf_types::{CollectionId, PointId, StoredPoint};

use crate::quiver::{config, open, options, point, with_grpc};
use crate::requests::{Fault, Requests};

const ID: CollectionId = CollectionId(1);
const RANGE_POINTS: usize = 200;
const PAGES: &str = "POST /v1/collections/sheaf-c1/fetch";
const BULKS: &str = "POST /v1/collections/sheaf-c1/points:bulk";

fn points(range: usize) -> Vec<StoredPoint> {
    let first = range * RANGE_POINTS;
    let made = |n: usize| point(ID, &format!("p{n:05}"), &[n as f32, 1.0], None);
    (first..first + RANGE_POINTS).map(made).collect()
}

/// As a gate carries out a donor's frame: looks what is there, and writes.
async fn take(engine: &Quiver, range: usize, is_last: bool) {
    let points = points(range);
    engine.foresee(ID, &points, is_last);
    let after = (range > 0).then(|| points[0].id.clone());
    let through = (!is_last).then(|| points[RANGE_POINTS - 1].id.clone());
    assert_eq!(ids(engine, after, through).await, Vec::<PointId>::new());
    let writes = points.into_iter().map(Write::Upsert).collect();
    engine.apply(ID, writes).await.expect("it takes them");
}

async fn ids(engine: &Quiver, after: Option<PointId>, through: Option<PointId>) -> Vec<PointId> {
    let (points_max, bytes_max) = (1_000_000, 1 << 20);
    let scan = Scan {
        after,
        through,
        points_max,
        bytes_max,
        bodies: false,
        accept: Accept::All,
        filter: None,
    };
    let page = engine.scan(ID, scan).await.expect("a page");
    assert_eq!(page.looked_through, None, "it is one page");
    page.points.into_iter().map(|point| point.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ids_are_listed_while_the_last_points_come_and_none_is_missing() {
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let many_reads = with_grpc(&server, server.grpc_url()).many_reads;
    let engine = open(QuiverOptions { many_reads, ..options(&wire.url) }).await.unwrap();
    engine.create_collection(ID, config(2)).await.unwrap();
    for range in 0..3 {
        take(&engine, range, false).await;
    }
    // Both writes are sent while the page is on its way.
    wire.delay(50);
    engine.foresee(ID, &points(4), true);
    take(&engine, 3, false).await;
    take(&engine, 4, true).await;
    wire.delay(0);
    let before = wire.seen(PAGES);
    let all: Vec<PointId> = (0..5).flat_map(points).map(|point| point.id).collect();
    assert_eq!(ids(&engine, None, None).await, all);
    assert_eq!(wire.seen(PAGES), before, "it was listed before");
    assert_eq!(wire.seen(BULKS), 10, "each write is two requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_two_requests_is_unknown_when_one_fails_and_is_whole_when_that_is_said() {
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let many_reads = with_grpc(&server, server.grpc_url()).many_reads;
    let engine = open(QuiverOptions { many_reads, ..options(&wire.url) }).await.unwrap();
    engine.create_collection(ID, config(2)).await.unwrap();
    let faults = [Fault::AnswerLost, Fault::Lost, Fault::Refused(500), Fault::Refused(400)];
    for (range, fault) in faults.into_iter().enumerate() {
        let points = points(range);
        let all: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
        let writes: Vec<Write> = points.iter().cloned().map(Write::Upsert).collect();
        engine.foresee(ID, &points, false);
        wire.set(fault, BULKS, 1);
        let answer = engine.apply(ID, writes.clone()).await;
        assert!(matches!(answer, Err(EngineError::Unknown(_))), "{fault:?}: {answer:?}");
        assert_eq!(wire.done(), range + 1, "the fault was met");
        let after = (range > 0).then(|| PointId::from(format!("p{:05}", range * RANGE_POINTS - 1)));
        assert_eq!(ids(&engine, after, None).await, all, "{fault:?}");
        engine.apply(ID, writes).await.expect("it takes them again");
    }
}
