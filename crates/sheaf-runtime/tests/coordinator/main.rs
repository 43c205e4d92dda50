//! A coordinator's shell over a store in memory and model gates: what reaches the store, and who is told.

mod gates;
mod several;
mod versions;

use std::sync::Arc;

use gates::{ModelGates, open, until, url};
use sheaf_coordinator::{Ask, AskRefusal, AskedOptions, NewShard, Reply};
use sheaf_runtime::coordinator::{CoordinatorHost, NotDone};
use sheaf_stores::{Failure, MemoryStore};
use sheaf_types::{ShardId, Term};

fn ids(host: &CoordinatorHost) -> Vec<u64> {
    host.look(|core| core.map().shards().iter().map(|shard| shard.id.0).collect())
}

async fn ask(host: &CoordinatorHost, ask: Ask) -> Result<Reply, NotDone> {
    host.ask(ask, None, None, host.clock().now().plus_ms(5_000)).await
}

fn grow(n: u64) -> Ask {
    Ask::Grow { shards: vec![NewShard::at(&url(n))], options: AskedOptions::default() }
}

/// A founded cluster of nodes 1 and 2, and two nodes besides.
async fn cluster() -> (Arc<MemoryStore>, Arc<ModelGates>, CoordinatorHost) {
    let (store, gates) = (Arc::new(MemoryStore::new()), ModelGates::new(4));
    let host = open(&store, &gates, 1).await;
    host.found(vec![url(1), url(2)]).await;
    (store, gates, host)
}

#[tokio::test(start_paused = true)]
async fn the_first_shards_are_taken_in_once_all_of_them_answer() {
    let (store, gates) = (Arc::new(MemoryStore::new()), ModelGates::new(2));
    gates.with(2, |gate| gate.alive = false);
    let host = open(&store, &gates, 1).await;
    let founding = tokio::spawn({
        let host = host.clone();
        async move { host.found(vec![url(1), url(2)]).await }
    });
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(ids(&host).is_empty());
    gates.with(2, |gate| gate.alive = true);
    founding.await.unwrap();
    assert_eq!(ids(&host), [1, 2]);
    assert_eq!(host.maps().borrow().as_ref().map(|map| map.shards().len()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_grow_runs_to_its_end_and_a_restarted_coordinator_knows_it() {
    let (store, gates, host) = cluster().await;
    let Ok(Reply::Accepted { transition, .. }) = ask(&host, grow(3)).await else {
        panic!("not accepted");
    };
    until(&host, |record| record.ended.iter().any(|report| report.id == transition)).await;
    assert_eq!(ids(&host), [1, 2, 3]);
    host.stop();
    assert_eq!(ask(&host, grow(4)).await, Err(NotDone::Stopping));

    let again = open(&store, &gates, 2).await;
    until(&again, |record| record.term == Term(2)).await;
    assert_eq!(ids(&again), [1, 2, 3]);
    assert_eq!(gates.with(3, |gate| gate.shard()), Some(ShardId(3)));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_store_fails_with_a_transition_ends_and_is_stored_once() {
    let (store, _gates, host) = cluster().await;
    let failures = [Failure::NotStored, Failure::UnknownStored, Failure::UnknownNotStored];
    for failure in failures.into_iter().cycle().take(12) {
        store.fail_next(failure);
    }
    ask(&host, grow(3)).await.unwrap();
    until(&host, |record| !record.ended.is_empty()).await;
    assert_eq!(ids(&host), [1, 2, 3]);
    assert_eq!(host.look(|core| core.record().ended.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_coordinator_on_the_same_store_deposes_the_first() {
    let (store, gates, first) = cluster().await;
    let second = open(&store, &gates, 2).await;
    until(&second, |record| record.term == Term(2)).await;
    let refused = ask(&first, grow(3)).await;
    assert_eq!(refused, Err(NotDone::Refused(AskRefusal::Deposed)));
    first.deposed().await;
    assert!(ask(&second, grow(3)).await.is_ok());
    until(&second, |record| !record.ended.is_empty()).await;
    assert_eq!((ids(&first), ids(&second)), (vec![1, 2], vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_for_a_map_hears_of_each_later_one() {
    let (_store, _gates, host) = cluster().await;
    let mut maps = host.maps();
    let before = maps.borrow_and_update().as_ref().unwrap().version();
    ask(&host, grow(3)).await.unwrap();
    let newer = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.version() > before)).await;
    assert_eq!(newer.unwrap().as_ref().map(|map| map.shards().len()), Some(3));
}
