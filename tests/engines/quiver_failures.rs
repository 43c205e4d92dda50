//! A Quiver server that is killed, frozen, cut off: what was answered stays, and what is unknown is settled.

use std::sync::Arc;
use std::time::Duration;

use sheaf_engines::{Engine, EngineError, Quiver, QuiverOptions, Write};
use sheaf_tests::{QuiverServer, eventually, pause_ms};
use sheaf_types::{CollectionId, PointId, StoredPoint};

use crate::quiver::{config, open, options, point};
use crate::requests::{Fault, Requests};

const COLLECTION: CollectionId = CollectionId(1);
/// Kills in one test.
const ROUNDS: u64 = 5;
/// Lost answers in one test.
const LOST_ROUNDS: u64 = 12;

async fn opened(url: &str) -> Arc<Quiver> {
    let quick = QuiverOptions { write_deadline: Duration::from_secs(2), ..options(url) };
    let engine = open(quick).await.unwrap();
    engine.create_collection(COLLECTION, config(2)).await.unwrap();
    Arc::new(engine)
}

fn numbered(id: &str, number: u64) -> StoredPoint {
    point(COLLECTION, id, &[number as f32, 1.0], Some(&format!(r#"{{"n":{number}}}"#)))
}

async fn read(engine: &Quiver, id: &str) -> Option<StoredPoint> {
    engine.get(COLLECTION, vec![PointId::from(id)]).await.unwrap().remove(0)
}

/// Writes one id with rising numbers until there is no answer that it was done; the last one that was, and that answer.
async fn write_on(
    engine: Arc<Quiver>,
    id: String,
    first: u64,
) -> (Option<StoredPoint>, StoredPoint, EngineError) {
    let mut done = None;
    for number in first.. {
        let next = numbered(&id, number);
        match engine.apply(COLLECTION, vec![Write::Upsert(next.clone())]).await {
            Ok(_) => done = Some(next),
            Err(error) => return (done, next, error),
        }
    }
    unreachable!("numbers don't end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_writes_loses_nothing_that_was_answered() {
    let mut server = QuiverServer::start().await;
    let engine = opened(&server.url()).await;
    let (mut answered, mut unknown) = (0, 0);
    for round in 0..ROUNDS {
        let first = round * 1_000_000;
        let writers: Vec<_> = (0..4)
            .map(|writer| tokio::spawn(write_on(Arc::clone(&engine), format!("w{writer}"), first)))
            .collect();
        pause_ms(300 + round * 37).await;
        server.kill().await;
        pause_ms(100).await;
        server.restart().await;
        for (writer, written) in writers.into_iter().enumerate() {
            let (done, open, error) = written.await.unwrap();
            let found = read(&engine, &format!("w{writer}")).await;
            answered += u64::from(done.is_some());
            match error {
                EngineError::Unknown(_) => {
                    unknown += 1;
                    assert!(found == done || found.as_ref() == Some(&open), "{found:?}");
                }
                EngineError::Unavailable(_) => {
                    assert!(found == done || done.is_none(), "{found:?}")
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(
        answered > 0 && unknown > 0,
        "{answered} answered, {unknown} unknown: nothing was tested"
    );
}

/// The requests that write points into the collection.
const POINTS: &str = "POST /v1/collections/sheaf-c1/points";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_unknown_and_never_follows_a_later_one() {
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let engine = opened(&wire.url).await;
    engine.apply(COLLECTION, vec![Write::Upsert(numbered("p", 0))]).await.unwrap();
    for round in 1..=LOST_ROUNDS {
        let (one, two) = (numbered("p", round * 2), numbered("p", round * 2 + 1));
        // Carried out or not, and the write that settles it may meet the same.
        let fault = if round.is_multiple_of(2) { Fault::AnswerLost } else { Fault::Lost };
        let times = 1 + (round / 2 % 2) as usize;
        let done = wire.done();
        wire.set(fault, POINTS, times);
        let answer = engine.apply(COLLECTION, vec![Write::Upsert(one.clone())]).await;
        assert!(matches!(answer, Err(EngineError::Unknown(_))), "round {round}: {answer:?}");
        assert_eq!(wire.done() - done, times, "round {round} met its fault");
        // It was settled by being written once more.
        assert_eq!(read(&engine, "p").await.as_ref(), Some(&one));
        engine.apply(COLLECTION, vec![Write::Upsert(two.clone())]).await.unwrap();
        for _ in 0..5 {
            assert_eq!(read(&engine, "p").await.as_ref(), Some(&two), "an older write came later");
            pause_ms(2).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_a_frozen_server_has_is_carried_out_before_the_write_is_settled() {
    let server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let engine = opened(&wire.url).await;
    engine.apply(COLLECTION, vec![Write::Upsert(numbered("p", 0))]).await.unwrap();
    for round in 1..=ROUNDS {
        let (one, two) = (numbered("p", round * 2), numbered("p", round * 2 + 1));
        let done = wire.done();
        wire.set(Fault::Late, POINTS, 1);
        let writing = tokio::spawn({
            let (engine, one) = (Arc::clone(&engine), one.clone());
            async move { engine.apply(COLLECTION, vec![Write::Upsert(one)]).await }
        });
        eventually("the wire has the write", 10, || async {
            if wire.done() > done { Ok(()) } else { Err("not yet") }
        })
        .await;
        // It goes to a server that looks at it only after its connection has gone.
        server.freeze();
        wire.deliver();
        pause_ms(50).await;
        server.thaw();
        let answer = writing.await.unwrap();
        assert!(matches!(answer, Err(EngineError::Unknown(_))), "round {round}: {answer:?}");
        engine.apply(COLLECTION, vec![Write::Upsert(two.clone())]).await.unwrap();
        for _ in 0..20 {
            assert_eq!(read(&engine, "p").await.as_ref(), Some(&two), "an older write came later");
            pause_ms(5).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_leaves_a_write_unknown_once_it_is_settled_and_not_before() {
    let server = QuiverServer::start().await;
    let engine = opened(&server.url()).await;
    let first = numbered("p", 1);
    engine.apply(COLLECTION, vec![Write::Upsert(first.clone())]).await.unwrap();
    let second = numbered("p", 2);
    let writing = tokio::spawn({
        let (engine, second) = (Arc::clone(&engine), second.clone());
        async move { engine.apply(COLLECTION, vec![Write::Upsert(second)]).await }
    });
    server.freeze();
    // Longer than the write's deadline.
    pause_ms(3_000).await;
    let settled_early = writing.is_finished();
    server.thaw();
    let answer = writing.await.unwrap();
    let found = read(&engine, "p").await;
    match answer {
        Ok(_) => assert_eq!(found.as_ref(), Some(&second)),
        Err(EngineError::Unknown(_)) => {
            assert!(!settled_early, "a frozen server can't have settled anything");
            assert!(found.as_ref() == Some(&first) || found.as_ref() == Some(&second), "{found:?}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_leaves_everything_as_it_was() {
    let mut server = QuiverServer::start().await;
    let engine = opened(&server.url()).await;
    let first = numbered("p", 1);
    engine.apply(COLLECTION, vec![Write::Upsert(first.clone())]).await.unwrap();
    server.kill().await;
    let answer = engine.apply(COLLECTION, vec![Write::Upsert(numbered("p", 2))]).await;
    assert!(matches!(answer, Err(EngineError::Unavailable(_))), "{answer:?}");
    server.restart().await;
    assert_eq!(read(&engine, "p").await, Some(first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_its_disk_was_full_quiver_must_be_restarted_before_a_write_is_answered() {
    let mut server = QuiverServer::start().await;
    let engine = opened(&server.url()).await;
    let put = async |id: &str, number: u64| {
        engine.apply(COLLECTION, vec![Write::Upsert(numbered(id, number))]).await
    };
    put("before", 1).await.unwrap();
    server.limit_files(Some(200)).await;
    let failing = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.apply(COLLECTION, vec![Write::Upsert(numbered("failing", 2))]).await }
    });
    pause_ms(500).await;
    server.limit_files(None).await;
    // There is room again, but what Quiver takes now would be gone at its next start.
    pause_ms(500).await;
    match put("after", 3).await {
        Err(EngineError::Unavailable(reason)) => assert!(reason.contains("restart"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(!failing.is_finished(), "nothing settles it before the restart");
    let refused = open(options(&server.url())).await.err().expect("refused").to_string();
    assert!(refused.contains("restart"), "{refused}");
    server.kill().await;
    server.restart().await;
    let failed = failing.await.unwrap();
    assert!(matches!(failed, Err(EngineError::Unknown(_))), "{failed:?}");
    put("after", 4).await.unwrap();
    server.kill().await;
    server.restart().await;
    for (id, number) in [("before", 1), ("failing", 2), ("after", 4)] {
        assert_eq!(read(&engine, id).await, Some(numbered(id, number)), "{id}");
    }
}
