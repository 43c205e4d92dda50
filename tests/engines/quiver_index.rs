//! Searches in collections that Quiver searches by its index: that index lags, what Sheaf answers doesn't.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sheaf_engines::{
    Accept, Bodies, Engine, EngineError, Hit, Quiver, QuiverOptions, Search, Write,
};
use sheaf_tests::{QuiverServer, eventually, pause_ms};
use sheaf_types::{CollectionId, PointId, StoredPoint};

use crate::quiver::{config, open, options, point};
use crate::requests::Requests;

const COLLECTION: CollectionId = CollectionId(1);
/// Together more numbers than Sheaf searches by itself.
const POINTS: usize = 2_000;
const DIM: usize = 64;

/// A vector that no other number has, all of about the same length.
fn vector(number: u64) -> Vec<f32> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2_001) as f32 / 1_000.0 - 1.0
    };
    (0..DIM).map(|_| next()).collect()
}

fn numbered(id: usize, number: u64) -> StoredPoint {
    let payload = format!(r#"{{"even":{},"n":{number}}}"#, number.is_multiple_of(2));
    point(COLLECTION, &format!("p{id:05}"), &vector(number), Some(&payload))
}

async fn loaded(server: &QuiverServer) -> Arc<Quiver> {
    loaded_through(&server.url()).await
}

async fn loaded_through(url: &str) -> Arc<Quiver> {
    let quick = QuiverOptions { read_deadline: Duration::from_secs(5), ..options(url) };
    let engine = open(quick).await.unwrap();
    engine.create_collection(COLLECTION, config(DIM as u32)).await.unwrap();
    for first in (0..POINTS).step_by(500) {
        let writes = (first..first + 500).map(|id| Write::Upsert(numbered(id, id as u64)));
        engine.apply(COLLECTION, writes.collect()).await.unwrap();
    }
    Arc::new(engine)
}

async fn nearest(engine: &Quiver, number: u64, k: usize) -> Result<Vec<Hit>, EngineError> {
    let vector = vector(number);
    let (accept, filter) = (Accept::All, None);
    engine
        .search(
            COLLECTION,
            Search { vector, k, ef: 100, accept, filter, vector_json: None, bodies: Bodies::Whole },
        )
        .await
}

async fn put(engine: &Quiver, id: usize, number: u64) {
    engine.apply(COLLECTION, vec![Write::Upsert(numbered(id, number))]).await.unwrap();
}

/// Quiver's own answer: whether its index already has the point there.
async fn is_in_the_index(server: &QuiverServer, number: u64, id: &str) -> bool {
    let client = sheaf_tests::Client::new(&server.url());
    let body = serde_json::json!({"vector": vector(number), "k": 1});
    let answer = client.post("/v1/collections/sheaf-c1/query", &body).await.expect("it answers");
    answer.body["matches"][0]["id"] == id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_is_found_as_soon_as_it_was_overwritten_though_the_index_lags() {
    let server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    nearest(&engine, 0, 1).await.unwrap();
    let mut lagged = 0;
    for round in 0..60_usize {
        let (id, number) = (round * 31 % POINTS, 1_000_000 + round as u64);
        put(&engine, id, number).await;
        lagged += usize::from(!is_in_the_index(&server, number, &format!("p{id:05}")).await);
        let hits = nearest(&engine, number, 3).await.unwrap();
        assert_eq!(hits[0].id.as_str(), format!("p{id:05}"), "round {round}");
        assert_eq!(hits[0].body, Some(numbered(id, number).body));
    }
    assert!(lagged > 0, "the index never lagged, so nothing was tested");
}

/// Without vectors Quiver's scores are taken as they are, so nothing shows that a hit of its index is gone or was elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_without_vectors_shows_neither_what_is_gone_nor_where_a_point_was() {
    let server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    nearest(&engine, 0, 1).await.unwrap();
    for round in 0..60_usize {
        let (id, number) = (round * 31 % POINTS, 1_000_000 + round as u64);
        let is_deleted = round % 2 == 1;
        if is_deleted {
            let gone = PointId::from(format!("p{id:05}"));
            engine.apply(COLLECTION, vec![Write::Delete(gone)]).await.unwrap();
        } else {
            put(&engine, id, number).await;
        }
        for (bodies, near) in [(Bodies::None, id as u64), (Bodies::Payloads, number)] {
            let (accept, filter) = (Accept::All, None);
            let search = Search {
                vector: vector(near),
                k: 3,
                ef: 100,
                accept,
                filter,
                vector_json: None,
                bodies,
            };
            let hits = engine.search(COLLECTION, search).await.unwrap();
            assert_eq!(hits.len(), 3);
            let shown = hits.iter().find(|hit| hit.id.as_str() == format!("p{id:05}"));
            assert!(!is_deleted || shown.is_none(), "round {round}: it is gone");
            if near == number && !is_deleted {
                let shown = hits[0].body.as_ref().and_then(|body| body.payload());
                assert_eq!(shown, numbered(id, number).body.payload(), "round {round}");
            } else {
                assert!(hits[0].score > 0.0, "round {round}: nothing is there any more: {hits:?}");
            }
        }
    }
}

/// Its question is on its way to Quiver while the write is carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_shows_points_as_they_were_before_or_after_a_write_that_came_meanwhile() {
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let engine = loaded_through(&wire.url).await;
    let search = async |number: u64, bodies: Bodies| {
        let (accept, filter) = (Accept::All, None);
        let vector = vector(number);
        let search = Search { vector, k: 3, ef: 100, accept, filter, vector_json: None, bodies };
        engine.search(COLLECTION, search).await.unwrap()
    };
    search(0, Bodies::None).await;
    let client = sheaf_tests::Client::new(&server.url());
    eventually("Quiver has an index", 20, || async {
        let shown = client.get("/v1/collections/sheaf-c1").await.expect("it answers").body;
        if shown["index_ready"] == true { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    for round in 0..8_usize {
        let (id, number) = (round * 31, 1_000_000 + round as u64);
        let bodies = if round < 4 { Bodies::Payloads } else { Bodies::None };
        let before = search(id as u64, bodies).await;
        assert_eq!(before[0].id.as_str(), format!("p{id:05}"));
        wire.delay(300);
        let meanwhile = async {
            pause_ms(100).await;
            wire.delay(0);
            let write = match round % 2 {
                0 => Write::Delete(before[0].id.clone()),
                _ => Write::Upsert(numbered(id, number)),
            };
            engine.apply(COLLECTION, vec![write]).await.unwrap();
        };
        let (found, ()) = tokio::join!(search(id as u64, bodies), meanwhile);
        let after = search(id as u64, bodies).await;
        assert!(found == before || found == after, "{round}: {before:?}, {found:?}, {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_under_writes_answers_searches_at_once() {
    let mut server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    nearest(&engine, 0, 1).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    server.kill().await;
    server.restart().await;
    // Quiver builds its index anew as long as writes come in between, and lets the first search wait for the end of that.
    let writing = tokio::spawn({
        let (engine, is_over) = (Arc::clone(&engine), Arc::clone(&is_over));
        async move {
            for round in 0_usize.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                put(&engine, round % POINTS, 2_000_000 + round as u64).await;
            }
        }
    });
    pause_ms(100).await;
    for _ in 0..10 {
        nearest(&engine, 1, 5).await.expect("it is answered in time");
    }
    is_over.store(true, Ordering::SeqCst);
    writing.await.unwrap();
}

/// Quiver's first search builds the index, anew as long as writes come in between; the searches behind it have another one built. What
/// the first had seen may come last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_two_build_the_first_index_under_writes_nothing_old_is_shown() {
    let mut server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    server.kill().await;
    server.restart().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let searching = tokio::spawn({
        let (engine, is_over) = (Arc::clone(&engine), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                nearest(&engine, 1, 5).await.expect("it is answered");
            }
        }
    });
    for round in 0..400_usize {
        let (id, number) = (round * 31 % POINTS, 4_000_000 + round as u64);
        let name = format!("p{id:05}");
        let gone = vec![Write::Delete(PointId::from(name.as_str()))];
        engine.apply(COLLECTION, gone).await.unwrap();
        let shown = without_vectors(&engine, id as u64).await;
        assert!(shown.iter().all(|hit| hit.id.as_str() != name), "round {round}: it is gone");
        let fresh = format!("q{round:05}");
        let written = point(COLLECTION, &fresh, &vector(number), None);
        engine.apply(COLLECTION, vec![Write::Upsert(written)]).await.unwrap();
        let shown = without_vectors(&engine, number).await;
        assert_eq!(shown[0].id.as_str(), fresh, "round {round}: it is there");
        put(&engine, id, id as u64).await;
        let shown = without_vectors(&engine, id as u64).await;
        assert_eq!(shown[0].id.as_str(), name, "round {round}: it is there again");
    }
    is_over.store(true, Ordering::SeqCst);
    searching.await.unwrap();
}

/// Searches until Quiver has an index.
async fn is_indexed(server: &QuiverServer, engine: &Quiver) {
    let client = sheaf_tests::Client::new(&server.url());
    let is_ready = async || {
        nearest(engine, 0, 1).await.unwrap();
        let shown = client.get("/v1/collections/sheaf-c1").await.expect("it answers");
        shown.body["index_ready"] == true
    };
    while !is_ready().await {
        pause_ms(10).await;
    }
    nearest(engine, 0, 1).await.unwrap();
}

/// A point that is written again proves nothing of an index that may have had it before the gate began to look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_was_restarted_shows_nothing_that_was_deleted_before_it_was() {
    let server = QuiverServer::start().await;
    let mut engine = loaded(&server).await;
    is_indexed(&server, &engine).await;
    for round in 0..10_usize {
        let (gone, again) = (round * 2, round * 2 + 1);
        // From here on the index is behind, until searches have made Quiver build it anew.
        put(&engine, POINTS - 1, 5_000_000 + round as u64).await;
        for id in [gone, again] {
            let delete = Write::Delete(PointId::from(format!("p{id:05}")));
            engine.apply(COLLECTION, vec![delete]).await.unwrap();
        }
        engine = Arc::new(open(options(&server.url())).await.unwrap());
        put(&engine, again, again as u64).await;
        for _ in 0..20 {
            let shown = without_vectors(&engine, gone as u64).await;
            let name = format!("p{gone:05}");
            assert!(shown.iter().all(|hit| hit.id.as_str() != name), "round {round}: {shown:?}");
        }
    }
    // In the end it knows enough of the index to ask it alone.
    for number in 6_000_000.. {
        put(&engine, number, number as u64).await;
        let before = pages_read(&server).await;
        nearest(&engine, number as u64, 1).await.unwrap();
        if pages_read(&server).await == before {
            break;
        }
        pause_ms(20).await;
    }
}

/// Requests for pages of points that Quiver has had.
async fn pages_read(server: &QuiverServer) -> String {
    let client = sheaf_tests::Client::new(&server.url());
    let metrics = client.get("/metrics").await.expect("it answers").body;
    let metrics = metrics.as_str().expect("lines").to_owned();
    let route = r#"quiver_http_requests_total{method="POST",route="/v1/collections/{name}/fetch"}"#;
    let count = metrics.lines().find(|line| line.starts_with(route));
    count.expect("there were some").to_owned()
}

async fn without_vectors(engine: &Quiver, number: u64) -> Vec<Hit> {
    let (accept, filter, bodies) = (Accept::All, None, Bodies::None);
    let search =
        Search { vector: vector(number), k: 3, ef: 100, accept, filter, vector_json: None, bodies };
    engine.search(COLLECTION, search).await.unwrap()
}

/// One hit more than is wanted is asked for: whether there are others as good as the last one shows in that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_hits_as_good_as_the_last_one_the_first_ids_are_shown() {
    let server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    is_indexed(&server, &engine).await;
    let search = |k| Search {
        vector: vec![0.0; DIM],
        vector_json: None,
        k,
        ef: 100,
        accept: Accept::All,
        filter: None,
        bodies: Bodies::None,
    };
    // All as far from the middle, which is far from all others. Quiver shows them in the order in which its index got them.
    for (at, id) in ["q3", "q2", "q1"].into_iter().enumerate() {
        let mut beside = vec![0.0; DIM];
        beside[at] = 1.0;
        let write = Write::Upsert(point(COLLECTION, id, &beside, None));
        engine.apply(COLLECTION, vec![write]).await.unwrap();
    }
    // Until Sheaf has seen that the index has them; what it knows to be written lately it looks at itself.
    for _ in 0..6 {
        let hits = engine.search(COLLECTION, search(3)).await.unwrap();
        assert!(hits.iter().all(|hit| hit.score == 1.0));
        pause_ms(300).await;
    }
    for k in 1..=3_usize {
        let hits = engine.search(COLLECTION, search(k)).await.unwrap();
        let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
        assert_eq!(ids, ["q1", "q2", "q3"][..k]);
    }
}

/// The vector as its client wrote it is what Quiver reads: it is what the router has, so it isn't written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reaches_quiver_as_its_client_wrote_it() {
    let server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    is_indexed(&server, &engine).await;
    let before = pages_read(&server).await;
    let spaced = vector(7).iter().map(|number| format!(" {number:?} ")).collect::<Vec<_>>();
    let search = Search {
        vector: vector(7),
        vector_json: Some(format!("[{}]", spaced.join(",\n")).into()),
        k: 1,
        ef: 100,
        accept: Accept::All,
        filter: None,
        bodies: Bodies::Payloads,
    };
    let hits = engine.search(COLLECTION, search).await.unwrap();
    let body = hits[0].body.as_ref().unwrap();
    assert_eq!((hits[0].id.as_str(), hits[0].score), ("p00007", 0.0));
    assert_eq!(body.payload(), numbered(7, 7).body.payload());
    assert_eq!(pages_read(&server).await, before, "the index was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_are_exact_about_what_was_deleted_filtered_and_owned_elsewhere() {
    let server = QuiverServer::start().await;
    let engine = loaded(&server).await;
    nearest(&engine, 0, 1).await.unwrap();
    for round in 0..20_usize {
        let (id, number) = (round * 17 % POINTS, 3_000_001 + 2 * round as u64);
        put(&engine, id, number).await;
        let even = serde_json::json!({"eq": {"field": "even", "value": true}});
        let search = Search {
            vector: vector(number),
            k: 3,
            ef: 100,
            accept: Accept::All,
            filter: Some(sheaf_engines::Filter::from_json(&even).unwrap()),
            vector_json: None,
            bodies: Bodies::None,
        };
        let name = format!("p{id:05}");
        let filtered = engine.search(COLLECTION, search.clone()).await.unwrap();
        assert!(filtered.iter().all(|hit| hit.id.as_str() != name), "its number is odd");
        let key = PointId::from(name.as_str()).placement_key();
        let accept = Accept::Only(Arc::new(move |other| other != key));
        let owned = engine.search(COLLECTION, Search { accept, filter: None, ..search }).await;
        assert!(owned.unwrap().iter().all(|hit| hit.id.as_str() != name), "it is not ours");
        let delete = vec![Write::Delete(PointId::from(name.as_str()))];
        engine.apply(COLLECTION, delete).await.unwrap();
        let hits = nearest(&engine, number, 3).await.unwrap();
        assert!(hits.len() == 3 && hits.iter().all(|hit| hit.id.as_str() != name), "it is gone");
        put(&engine, id, number + 1).await;
        assert_eq!(nearest(&engine, number + 1, 1).await.unwrap()[0].id.as_str(), name);
    }
}
