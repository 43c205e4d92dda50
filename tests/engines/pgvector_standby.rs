//! A standby of PostgreSQL as the port to followers has it: what is searched there, and when it is refused.

use std::sync::{Arc, Mutex};

use sheaf_engines::{Accept, Bodies, Engine, EngineError, Filter, Follower, Hit, Search, Write};
use sheaf_pgvector::{PgFollower, PgFollowerOptions, PgVector};
use sheaf_tests::{Postgres, eventually};
use sheaf_types::CollectionId;

use crate::{ID, config, open, options, point};

/// A database behind an engine, and its standby.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    engine: PgVector,
}

/// Points `p0` to `p299` in the collection `ID`.
async fn pair(settings: &[&str]) -> Pair {
    let primary = Postgres::start().await;
    let url = primary.database("shard").await;
    let standby = primary.start_standby(settings).await;
    let engine = open(options(&url)).await;
    engine.create_collection(ID, config(2)).await.expect("creating it");
    let points = (0..300).map(|n| Write::Upsert(point(&format!("p{n}"), n)));
    engine.apply(ID, points.collect()).await.expect("writing them");
    Pair { primary, standby, engine }
}

impl Pair {
    fn follower(&self) -> PgFollower {
        self.follower_with(|_| {})
    }

    fn follower_with(&self, change: impl FnOnce(&mut PgFollowerOptions)) -> PgFollower {
        follower(&self.primary, &self.standby, change)
    }

    async fn caught_up(&self) -> PgFollower {
        let follower = self.follower();
        catches_up(&follower).await;
        follower
    }
}

fn follower(
    primary: &Postgres,
    standby: &Postgres,
    change: impl FnOnce(&mut PgFollowerOptions),
) -> PgFollower {
    let at = |server: &Postgres| options(&server.url(&server.address(), "shard"));
    let name = format!("{}-{}", standby.address(), std::process::id());
    let mut given = PgFollowerOptions { standby: at(standby), leader: at(primary), name };
    change(&mut given);
    PgFollower::new(given).unwrap_or_else(|why| panic!("{why}"))
}

/// A busy machine may need longer than one try takes.
async fn catches_up(follower: &PgFollower) {
    eventually("the standby has caught up", 30, || follower.catch_up()).await;
}

fn search(k: usize) -> Search {
    let (accept, filter, bodies) = (Accept::All, None, Bodies::Whole);
    Search { vector: vec![100.25, 1.0], vector_json: None, k, ef: 100, accept, filter, bodies }
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

/// Says why it refuses.
fn refused<T>(outcome: Result<T, EngineError>) -> String {
    match outcome {
        Err(EngineError::Unavailable(why)) => why,
        Err(other) => panic!("refused in another way: {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_has_caught_up_finds_what_its_primary_finds() {
    let pair = pair(&[]).await;
    let exact = pair.caught_up().await;
    let by_index = pair.follower_with(|given| given.standby.exact_floats_max = 0);
    catches_up(&by_index).await;
    let even = |key: sheaf_types::PlacementKey| key.0.is_multiple_of(2);
    let wanted = [
        search(10),
        search(400),
        Search { accept: Accept::Only(Arc::new(even)), ..search(20) },
        Search {
            filter: Some(Filter::Eq { field: "value".to_owned(), value: 99.into() }),
            ..search(5)
        },
        Search { bodies: Bodies::None, ..search(1) },
        search(0),
    ];
    for wanted in wanted {
        let found = pair.engine.search(ID, wanted.clone()).await.expect("the engine finds");
        assert_eq!(exact.search(ID, wanted.clone()).await.as_ref(), Ok(&found));
        assert_eq!(by_index.search(ID, wanted).await.as_ref(), Ok(&found));
    }
    let nearest = exact.search(ID, search(2)).await.expect("it finds");
    assert_eq!(ids(&nearest), ["p100", "p101"]);
    // What it isn't asked rightly, or doesn't have, costs it nothing.
    let wrong = Search { vector: vec![1.0], ..search(1) };
    assert!(matches!(exact.search(ID, wrong).await, Err(EngineError::Invalid(_))));
    let other = CollectionId(99);
    assert_eq!(exact.search(other, search(1)).await, Err(EngineError::NoCollection(other)));
    // The gate comes back to the same database, in which it finds the marks, and drops a collection.
    pair.engine.drop_collection(ID).await.expect("dropping it");
    drop(pair.engine);
    let url = pair.primary.url(&pair.primary.address(), "shard");
    let again = open(options(&url)).await;
    assert_eq!(again.collections().await.map(|all| all.len()), Ok(0));
    catches_up(&exact).await;
    assert_eq!(exact.search(ID, search(1)).await, Err(EngineError::NoCollection(ID)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_replay_is_paused_is_not_caught_up_until_it_goes_on() {
    let pair = pair(&[]).await;
    let follower = pair.caught_up().await;
    let admin = pair.standby.admin("postgres").await;
    admin.batch_execute("SELECT pg_wal_replay_pause()").await.expect("a standby can be paused");
    let new = Write::Upsert(point("new", 100));
    pair.engine.apply(ID, vec![new]).await.expect("writing it");
    let why = refused(follower.catch_up().await);
    assert!(why.contains("its replay is paused"), "{why}");
    // It has what it had.
    let found = follower.search(ID, search(1)).await.expect("it finds");
    assert_eq!(ids(&found), ["p100"]);
    admin.batch_execute("SELECT pg_wal_replay_resume()").await.expect("it is paused");
    catches_up(&follower).await;
    let found = follower.search(ID, search(1)).await.expect("it finds");
    assert_eq!(found.len(), 1);
    let found = follower.search(ID, search(2)).await.expect("it finds");
    assert!(ids(&found).contains(&"new"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_without_the_mark_is_never_searched() {
    let pair = pair(&[]).await;
    let never = pair.follower();
    assert!(refused(never.search(ID, search(1)).await).contains("isn't known to have caught up"));
    let follower = pair.caught_up().await;
    // As if another standby answered at its address, that was made before.
    let admin = pair.primary.admin("shard").await;
    let set_back = "UPDATE sheaf.marks SET number = number - 1";
    admin.batch_execute(set_back).await.expect("the superuser may");
    eventually("the standby has heard of it", 30, || async {
        match follower.search(ID, search(1)).await {
            Ok(_) => Err("it has not".to_owned()),
            Err(EngineError::Unavailable(why)) if why.contains("doesn't show what it had") => {
                Ok(())
            }
            Err(other) => panic!("{other}"),
        }
    })
    .await;
    let why = refused(follower.search(ID, search(1)).await);
    assert!(why.contains("isn't known to have caught up"), "a proof that failed is over: {why}");
    catches_up(&follower).await;
    assert!(follower.search(ID, search(1)).await.is_ok());
    // Without the table it makes it again.
    admin.batch_execute("DROP TABLE sheaf.marks").await.expect("the superuser may");
    eventually("the standby has heard of it", 30, || async {
        match follower.search(ID, search(1)).await {
            Ok(_) => Err("it has not".to_owned()),
            Err(EngineError::Unavailable(_)) => Ok(()),
            Err(other) => panic!("{other}"),
        }
    })
    .await;
    catches_up(&follower).await;
    assert!(follower.search(ID, search(1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_replicas_may_ask_one_standby_and_a_restart_of_either_server_is_outlived() {
    let mut pair = pair(&[]).await;
    let first = pair.caught_up().await;
    let second = pair.follower_with(|given| given.name = "another life".to_owned());
    catches_up(&second).await;
    catches_up(&first).await;
    for follower in [&first, &second] {
        assert!(follower.search(ID, search(1)).await.is_ok());
    }
    pair.standby.kill().await;
    refused(first.search(ID, search(1)).await);
    refused(first.catch_up().await);
    pair.standby.restart().await;
    catches_up(&first).await;
    assert!(first.search(ID, search(1)).await.is_ok());
    pair.primary.kill().await;
    refused(first.catch_up().await);
    // What it had it still has, and that is all that it promises.
    assert!(first.search(ID, search(1)).await.is_ok());
    pair.primary.restart().await;
    catches_up(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_no_follower_any_more() {
    let pair = pair(&[]).await;
    let follower = pair.caught_up().await;
    let admin = pair.standby.admin("postgres").await;
    admin.batch_execute("SELECT pg_promote(true, 60)").await.expect("a standby can be promoted");
    let why = refused(follower.search(ID, search(1)).await);
    assert!(why.contains("was promoted"), "{why}");
    let why = refused(follower.search(ID, search(1)).await);
    assert!(why.contains("isn't known to have caught up"), "{why}");
    let why = refused(follower.catch_up().await);
    assert!(why.contains("was promoted"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_standby_the_right_to_read_is_enough() {
    let primary = Postgres::start().await;
    let _ = primary.database("shard").await;
    let admin = primary.admin("shard").await;
    let roles = "CREATE EXTENSION vector; CREATE ROLE gate LOGIN; CREATE ROLE reader LOGIN; GRANT CREATE ON DATABASE shard TO gate";
    admin.batch_execute(roles).await.expect("the superuser may");
    let standby = primary.start_standby(&[]).await;
    let at = |server: &Postgres, role: &str| {
        options(&format!("postgres://{role}@{}/shard", server.address()))
    };
    let engine = open(at(&primary, "gate")).await;
    let (before, after) = (ID, CollectionId(8));
    engine.create_collection(before, config(2)).await.expect("creating it");
    let (standby, leader) = (at(&standby, "reader"), at(&primary, "gate"));
    let name = "a life".to_owned();
    let follower = PgFollower::new(PgFollowerOptions { standby, leader, name });
    let follower = follower.unwrap_or_else(|why| panic!("{why}"));
    let why = refused(follower.catch_up().await);
    assert!(why.contains("grant the user what it lacks"), "{why}");
    // As docs/engines/pgvector.md has it.
    let grants = "SET ROLE gate; GRANT USAGE ON SCHEMA sheaf TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA sheaf TO reader; \
                  ALTER DEFAULT PRIVILEGES IN SCHEMA sheaf GRANT SELECT ON TABLES TO reader";
    admin.batch_execute(grants).await.expect("the gate's role may");
    engine.create_collection(after, config(2)).await.expect("creating it");
    catches_up(&follower).await;
    for id in [before, after] {
        assert_eq!(follower.search(id, search(1)).await, Ok(Vec::new()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_not_what_the_settings_say_are_refused_with_what_to_give() {
    let pair = pair(&[]).await;
    // Both the primary, by two names.
    let both = follower(&pair.primary, &pair.primary, |_| {});
    let why = refused(both.catch_up().await);
    assert!(why.contains("is not a standby"), "{why}");
    let turned = follower(&pair.standby, &pair.primary, |_| {});
    let why = refused(turned.catch_up().await);
    assert!(why.contains("is a standby itself"), "{why}");
    let elsewhere = pair.primary.database("empty").await;
    let empty = pair.follower_with(|given| given.leader = options(&elsewhere));
    let why = refused(empty.catch_up().await);
    assert!(why.contains("is no shard's database"), "{why}");
    // A server of its own, which never hears of the mark.
    let stranger = Postgres::start().await;
    let _ = stranger.database("shard").await;
    let strange = follower(&pair.primary, &stranger, |_| {});
    let why = refused(strange.catch_up().await);
    assert!(why.contains("is not a standby") || why.contains("hasn't got"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_a_standby_breaks_off_for_its_replay_is_refused_and_the_next_one_is_answered()
{
    let pair = pair(&["max_standby_streaming_delay=0", "hot_standby_feedback=off"]).await;
    let follower = Arc::new(pair.caught_up().await);
    let (begins, begun) = tokio::sync::oneshot::channel();
    let (goes_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let at_first_row = Mutex::new(Some((begins, may_go_on)));
    let held = move |_| {
        let first = at_first_row.lock().ok().and_then(|mut first| first.take());
        if let Some((begins, may_go_on)) = first {
            let _ = begins.send(());
            // Until the other end says so, or is gone.
            let _ = tokio::task::block_in_place(|| may_go_on.recv());
        }
        true
    };
    let slow = Search { accept: Accept::Only(Arc::new(held)), ..search(200) };
    let asked = tokio::spawn({
        let follower = Arc::clone(&follower);
        async move { follower.search(ID, slow).await }
    });
    begun.await.expect("the search has rows");
    // What the search sees is removed for good.
    let gone = (0..300).map(|n| Write::Delete(point(&format!("p{n}"), n).id));
    pair.engine.apply(ID, gone.collect()).await.expect("deleting them");
    let admin = pair.primary.admin("shard").await;
    admin.batch_execute("VACUUM sheaf.c7").await.expect("the superuser may");
    // A commit takes the rest of the log along.
    let new = vec![Write::Upsert(point("new", 1))];
    pair.engine.apply(ID, new).await.expect("writing it");
    eventually("the standby has broken the search off", 30, || async {
        let log = pair.standby.log();
        if log.contains("due to conflict with recovery") { Ok(()) } else { Err(log) }
    })
    .await;
    drop(goes_on);
    let why = refused(asked.await.expect("it doesn't panic"));
    assert!(why.contains("conflict with recovery") || why.contains("closed"), "{why}");
    catches_up(&follower).await;
    let found = follower.search(ID, search(10)).await.expect("it finds");
    assert_eq!(ids(&found), ["new"]);
}
