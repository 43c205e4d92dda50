//! Answers that get lost at COMMIT: the outcome is unknown, and once that is said nothing follows.

use sheaf_engines::{Accept, Engine, EngineError};
use sheaf_pgvector::PgVector;
use sheaf_tests::{Postgres, eventually};

use crate::wire::{Mischief, Wire};
use crate::{ID, config, open, options, read, with_collection, write};

async fn through(server: &Postgres, database: &str) -> (Wire, PgVector) {
    server.database(database).await;
    let wire = Wire::to(&server.address()).await;
    let engine = with_collection(&server.url(&wire.address, database), 2).await;
    write(&engine, "a", 1).await.expect("nothing is wrong yet");
    (wire, engine)
}

async fn expect_unknown(engine: &PgVector, value: u64) {
    let answer = write(engine, "a", value).await;
    assert!(matches!(answer, Err(EngineError::Unknown(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_unknown_and_was_applied() {
    let server = Postgres::start().await;
    let (wire, engine) = through(&server, "mute").await;
    for value in 2..10 {
        wire.set(Mischief::Mute);
        expect_unknown(&engine, value).await;
        assert_eq!(read(&engine, "a").await, Ok(Some(value)));
    }
    assert_eq!(wire.done(), 8);
    write(&engine, "b", 1).await.expect("it goes on");
    assert_eq!(engine.stats().await.expect("it counts anew").points, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrives_is_unknown_and_was_not_applied() {
    let server = Postgres::start().await;
    let (wire, engine) = through(&server, "lost").await;
    for value in 2..10 {
        wire.set(Mischief::Lost);
        expect_unknown(&engine, value).await;
        assert_eq!(read(&engine, "a").await, Ok(Some(1)));
    }
    assert_eq!(wire.done(), 8);
    assert_eq!(engine.stats().await.expect("it counts").points, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_comes_late_is_never_seen_after_the_answer() {
    let server = Postgres::start().await;
    let (wire, engine) = through(&server, "late").await;
    for value in 2..6 {
        wire.set(Mischief::Late);
        expect_unknown(&engine, value).await;
        let seen = read(&engine, "a").await;
        write(&engine, "b", value).await.expect("other ids aren't held up");
        wire.deliver();
        // Whatever the server made of it is there before a session that began later has ended.
        let after = with_later_session(&server, "late").await;
        assert_eq!(read(&engine, "a").await, seen, "{after} sessions were left");
        let changes = write(&engine, "a", value * 10).await.expect("the id is free again");
        assert!(changes[0].old.is_some());
    }
    assert_eq!(wire.done(), 4);
}

/// Waits until no transaction of before is left; returns how many sessions there are.
async fn with_later_session(server: &Postgres, database: &str) -> i64 {
    let admin = server.admin(database).await;
    eventually("no transaction is left open", 30, || async {
        let sql = "SELECT count(*) FILTER (WHERE state LIKE 'idle in%'), count(*) FROM pg_stat_activity \
                   WHERE application_name = 'sheaf'";
        let row = admin.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 0 { Ok(row.get(1)) } else { Err("there is one".to_owned()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_collections_there_are_is_read_again_after_a_lost_answer() {
    let server = Postgres::start().await;
    let (wire, engine) = through(&server, "catalogue").await;
    let other = sheaf_types::CollectionId(8);
    for (mischief, is_made) in [(Mischief::Lost, false), (Mischief::Mute, true)] {
        wire.set(mischief);
        let answer = engine.create_collection(other, config(3)).await;
        assert!(matches!(answer, Err(EngineError::Unknown(_))), "{answer:?}");
        let listed = engine.collections().await.expect("listing");
        assert_eq!(listed.len(), 1 + usize::from(is_made), "{mischief:?}");
    }
    assert_eq!(engine.count(other, Accept::All, None).await, Ok(0));
    wire.set(Mischief::Mute);
    assert!(matches!(engine.drop_collection(other).await, Err(EngineError::Unknown(_))));
    assert_eq!(engine.collections().await.expect("listing").len(), 1);
    assert_eq!(read(&engine, "a").await, Ok(Some(1)));
    engine.create_collection(ID, config(2)).await.expect("it is there");
    drop(engine);
    let again = open(options(&server.url(&server.address(), "catalogue"))).await;
    assert_eq!(again.collections().await.expect("listing").len(), 1);
}
