//! What a server must be, what its rows must be, and how it is asked: by its indexes.

use sheaf_engines::{Accept, Bodies, Engine, EngineError, Scan, Search, Write};
use sheaf_pgvector::PgVector;
use sheaf_tests::Postgres;
use sheaf_types::{PointBody, PointId, StoredPoint};

use crate::{ID, config, open, options, read, with_collection, write};

async fn refused(url: &str) -> String {
    match PgVector::open(options(url)).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_could_lose_acknowledged_writes_is_refused() {
    let server = Postgres::start_with(&["fsync=off"]).await;
    let url = server.database("careless").await;
    assert!(refused(&url).await.contains("fsync"));
    let admin = server.admin("postgres").await;
    let sql = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0";
    admin.batch_execute(sql).await.expect("it can be made");
    assert!(refused(&server.url(&server.address(), "latin")).await.contains("UTF8"));
    let why = refused(&server.url(&server.address(), "nowhere")).await;
    assert!(why.contains("create the database"), "{why}");
    drop(server);
    let why = refused("postgres://u@127.0.0.1:1/d").await;
    assert!(why.contains("can't be asked") && why.contains("Nothing was changed"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_what_it_lacks() {
    let server = Postgres::start().await;
    server.database("locked").await;
    let admin = server.admin("locked").await;
    admin.batch_execute("CREATE ROLE app LOGIN").await.expect("a superuser may");
    let url = format!("postgres://app@{}/locked", server.address());
    let why = refused(&url).await;
    assert!(why.contains("CREATE EXTENSION vector"), "{why}");
    admin.batch_execute("CREATE EXTENSION vector").await.expect("a superuser may");
    let why = refused(&url).await;
    assert!(why.contains("grant"), "{why}");
    admin.batch_execute("GRANT CREATE ON DATABASE locked TO app").await.expect("a superuser may");
    let engine = with_collection(&url, 2).await;
    write(&engine, "a", 1).await.expect("these rights are enough");
    assert_eq!(read(&engine, "a").await, Ok(Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_changed_past_sheaf_is_damage_not_an_answer() {
    let server = Postgres::start().await;
    let engine = with_collection(&server.database("changed").await, 2).await;
    for id in ["a", "b"] {
        write(&engine, id, 1).await.expect("writing");
    }
    let admin = server.admin("changed").await;
    let change = "UPDATE sheaf.c7 SET payload = '{\"value\":2}' WHERE id = 'a'";
    admin.batch_execute(change).await.expect("a superuser may");
    let answer = read(&engine, "a").await;
    assert!(
        matches!(&answer, Err(EngineError::Damaged(why)) if why.contains("\"a\"")),
        "{answer:?}"
    );
    assert_eq!(read(&engine, "b").await, Ok(Some(1)));
    write(&engine, "a", 3).await.expect("a write puts it right");
    assert_eq!(read(&engine, "a").await, Ok(Some(3)));
}

fn wide(n: u64, dim: usize) -> StoredPoint {
    let number = |at: usize| ((n.wrapping_mul(2_654_435_761) >> (at % 29)) % 97) as f32 / 97.0;
    let vector: Vec<f32> = (0..dim).map(number).collect();
    let id = PointId::from(format!("p{n:06}"));
    StoredPoint::new(ID, id, PointBody::encode(&vector, Some("{\"kind\":\"wide\"}")))
}

fn question(k: usize, accept: Accept) -> Search {
    Search {
        vector: wide(1, 16).body.vector(),
        k,
        ef: 100,
        accept,
        filter: None,
        vector_json: None,
        bodies: Bodies::Whole,
    }
}

/// Pages cost what they hold, not what is before them, and searches go on until enough owned points were found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_collections_are_read_by_their_indexes_and_searched_until_enough_is_found() {
    const POINTS: u64 = 20_000;
    let server = Postgres::start().await;
    let url = server.database("large").await;
    let mut indexed = options(&url);
    indexed.exact_floats_max = 0;
    let engine = open(indexed).await;
    engine.create_collection(ID, config(16)).await.expect("creating it");
    for first in (0..POINTS).step_by(1_000) {
        let writes = (first..first + 1_000).map(|n| Write::Upsert(wide(n, 16))).collect();
        engine.apply(ID, writes).await.expect("writing");
    }
    let admin = server.admin("large").await;
    // Sequential scans of the table so far, by the server's own count.
    let scanned = async || -> i64 {
        admin.batch_execute("SELECT pg_stat_force_next_flush()").await.expect("it can be asked");
        let sql = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'c7'";
        admin.query_one(sql, &[]).await.expect("the table is there").get(0)
    };
    let hits = engine.search(ID, question(10, Accept::All)).await.expect("searching");
    assert_eq!((hits[0].id.as_str(), hits[0].score), ("p000001", 0.0));
    // One of two thousand: the index ends before ten are found, and the rest is gone through.
    let few =
        Accept::Only(std::sync::Arc::new(|key: sheaf_types::PlacementKey| key.0 % 1_000 == 3));
    let hits = engine.search(ID, question(10, few)).await.expect("searching");
    assert_eq!(hits.len(), 10, "owned hits are found, however few they are");
    let (mut pages, mut found, mut after) = (0, 0, None);
    let before = scanned().await;
    loop {
        let scan = Scan {
            after,
            through: None,
            points_max: 500,
            bytes_max: 1 << 20,
            bodies: true,
            accept: Accept::All,
            filter: None,
        };
        let page = engine.scan(ID, scan).await.expect("a page");
        found += page.points.len() as u64;
        pages += 1;
        match page.looked_through {
            Some(through) => after = Some(through),
            None => break,
        }
    }
    assert_eq!((found, pages), (POINTS, POINTS / 500));
    // Its sessions tell their counts when they are idle: what was read before may be told late.
    let after = scanned().await;
    assert!(after - before <= 2, "{} sequential scans for {pages} pages", after - before);
}
