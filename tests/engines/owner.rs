//! One gate writes to a database: a second one is refused, and one that was replaced changes nothing.

use std::time::Duration;

use sheaf_engines::{Engine, EngineError};
use sheaf_pgvector::PgVector;
use sheaf_tests::{Postgres, eventually};
use tokio_postgres::Client;

use crate::{ID, options, point, read, with_collection, write};

/// Seconds for what an engine does by itself.
const ITSELF_SECS_MAX: u64 = 30;
/// Ends the session that holds the database.
const END_HOLDER: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0";

/// Whose session holds it.
const HOLDER: &str =
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 0 AND granted";

async fn holder(admin: &Client) -> Option<i32> {
    admin.query_opt(HOLDER, &[]).await.expect("it can be asked").map(|row| row.get(0))
}

async fn refusal(url: &str) -> String {
    let mut options = options(url);
    options.take_over = Duration::ZERO;
    match PgVector::open(options).await {
        Err(EngineError::Unavailable(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a second gate got the database"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gate_is_refused_with_the_holder_and_gets_the_database_once_the_first_has_gone() {
    let server = Postgres::start().await;
    let url = server.database("owned").await;
    let first = with_collection(&url, 2).await;
    write(&first, "a", 1).await.expect("the first writes");
    let why = refusal(&url).await;
    assert!(why.contains("another gate writes") && why.contains("process "), "{why}");
    write(&first, "a", 2).await.expect("the first goes on");
    drop(first);
    let second = with_collection(&url, 2).await;
    assert_eq!(read(&second, "a").await, Ok(Some(2)));
    let other = server.database("other").await;
    let other = with_collection(&other, 2).await;
    assert_ne!(second.database(), other.database());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_loses_the_lock_takes_it_again_by_itself_when_nobody_else_came() {
    let server = Postgres::start().await;
    let url = server.database("lost").await;
    let engine = with_collection(&url, 2).await;
    let admin = server.admin("lost").await;
    for value in 1..=5 {
        let lost = holder(&admin).await;
        admin.batch_execute(END_HOLDER).await.expect("a superuser may");
        // A write may pass before the loss is noticed: nobody else can have come, or it would be refused.
        eventually("it holds the database again", ITSELF_SECS_MAX, || async {
            write(&engine, "a", value).await.map_err(|error| error.to_string())?;
            let now = holder(&admin).await;
            if now.is_some() && now != lost { Ok(()) } else { Err(format!("{now:?} holds it")) }
        })
        .await;
        let why = refusal(&url).await;
        assert!(why.contains("another gate writes"), "{why}");
    }
    assert_eq!(read(&engine, "a").await, Ok(Some(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_was_replaced_writes_nothing_and_says_so() {
    let server = Postgres::start().await;
    let url = server.database("taken").await;
    let first = with_collection(&url, 2).await;
    write(&first, "a", 1).await.expect("the first writes");
    let admin = server.admin("taken").await;
    // The second comes in between: it is there when the first looks for its lock.
    admin.batch_execute(END_HOLDER).await.expect("a superuser may");
    let second = with_collection(&url, 2).await;
    write(&second, "a", 2).await.expect("the second writes");
    for _ in 0..3 {
        let answer = write(&first, "a", 3).await;
        assert!(matches!(answer, Err(EngineError::Unavailable(_))), "{answer:?}");
        assert!(read(&first, "a").await.is_err(), "it reads what another may change");
    }
    drop(second);
    // Nobody holds it now, and still it isn't the first one's.
    eventually("it says that it was replaced", ITSELF_SECS_MAX, || async {
        let answer = write(&first, "a", 4).await;
        let said = answer.expect_err("it may not write").to_string();
        if said.contains("was taken over") { Ok(()) } else { Err(said) }
    })
    .await;
    let third = with_collection(&url, 2).await;
    assert_eq!(read(&third, "a").await, Ok(Some(2)));
}

/// The lock's session lives on, only the token says that the database has another owner: as for a gate that was cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_does_not_know_that_it_was_replaced_cannot_write() {
    let server = Postgres::start().await;
    let url = server.database("fenced").await;
    let engine = with_collection(&url, 2).await;
    write(&engine, "a", 1).await.expect("it writes");
    let admin = server.admin("fenced").await;
    let take = "UPDATE sheaf.owner SET token = gen_random_uuid()";
    admin.batch_execute(take).await.expect("a superuser may");
    let answer = write(&engine, "a", 2).await;
    let said = answer.expect_err("it may not write").to_string();
    assert!(said.contains("was taken over"), "{said}");
    assert!(engine.drop_collection(ID).await.is_err());
    let sql = "SELECT encode(hash, 'hex') FROM sheaf.c7";
    let rows = admin.query(sql, &[]).await.expect("the table is still there");
    let hashes: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(hashes, [format!("{:?}", point("a", 1).hash)]);
}
