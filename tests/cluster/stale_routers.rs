//! A router that sleeps through a whole transition, or can't hear of it, does no harm when it writes again.

use sheaf_tests::router::Miss;
use sheaf_tests::{Cluster, Fate, Proxy, Record, Router, Shape, eventually};

const COLLECTION: &str = "late";
const KEYS: usize = 60;

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("late-{n}")).collect()
}

fn fate(answer: &Result<(), Miss>) -> Fate {
    match answer {
        Ok(()) => Fate::Acknowledged,
        Err(miss) if miss.unknown => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}

/// Writes every key once through this router, and counts the acknowledgements.
async fn write_all(record: &mut Record, router: &Router) -> Vec<Miss> {
    let mut misses = Vec::new();
    for key in keys() {
        let stamp = record.stamp();
        let write = record.begin_write(&key, Some(stamp));
        let answer = router.put(COLLECTION, &[(key.clone(), stamp)]).await;
        record.end_write(&key, write, fate(&answer));
        misses.extend(answer.err());
    }
    misses
}

/// Reads every key through each of these routers.
async fn read_all(record: &mut Record, routers: &[Router]) {
    for router in routers {
        for key in keys() {
            let reading = record.begin_read(&key);
            let shown = router.get(COLLECTION, &key).await.expect("every shard is up");
            record.end_read(&reading, &key, shown);
        }
    }
    assert_eq!(record.broken, [], "a stale router did harm");
}

async fn grow(cluster: &Cluster) {
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[2].url]).await;
    let ended = operator.ended(transition, 60).await.expect_committed();
    assert!(ended.report["points"].as_u64() > Some(0), "nothing moved: {}", ended.report);
    operator.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_frozen_across_a_whole_transition_still_writes_and_nothing_is_lost() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    cluster.create_collection(COLLECTION).await;
    let mut record = Record::default();
    let late = cluster.router(1);
    assert!(write_all(&mut record, &late).await.is_empty());

    cluster.routers[1].freeze();
    // Requests that reach it while it sleeps: it will send them under the map that it knows.
    let waiting: Vec<_> = keys()
        .into_iter()
        .take(10)
        .map(|key| {
            let stamp = record.stamp();
            let write = record.begin_write(&key, Some(stamp));
            let router = late.clone();
            let point = (key.clone(), stamp);
            let task = tokio::spawn(async move { router.put(COLLECTION, &[point]).await });
            (key, write, task)
        })
        .collect();
    grow(&cluster).await;
    read_all(&mut record, &[cluster.router(0)]).await;
    cluster.routers[1].thaw();

    for (key, write, task) in waiting {
        let answer = task.await.expect("the client lives");
        assert!(answer.is_ok(), "a request failed because of a transition: {answer:?}");
        record.end_write(&key, write, fate(&answer));
    }
    let misses = write_all(&mut record, &late).await;
    assert!(misses.is_empty(), "{misses:?}");
    read_all(&mut record, &[cluster.router(0), late.clone()]).await;
    delete_half_and_check(&mut record, &cluster, &late).await;
    assert_eq!(cluster.operator().verify().await, KEYS as u64 / 2);
    cluster.expect_all_alive();
}

/// Deletes through the late router stay deleted, and are counted.
async fn delete_half_and_check(record: &mut Record, cluster: &Cluster, late: &Router) {
    for key in keys().into_iter().step_by(2) {
        let write = record.begin_write(&key, None);
        let deleted = late.delete(COLLECTION, std::slice::from_ref(&key)).await;
        assert_eq!(deleted.expect("every shard is up"), 1, "{key:?} existed");
        record.end_write(&key, write, Fate::Acknowledged);
    }
    read_all(record, &[cluster.router(0), late.clone()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_cut_off_from_the_coordinator_loses_nothing_and_recovers_by_itself() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let proxy = Proxy::to(cluster.coordinator.address()).await;
    let number = cluster.add_router(&proxy.url).await;
    cluster.daemon_is_ready(&cluster.routers[number]).await;
    cluster.create_collection(COLLECTION).await;
    let mut record = Record::default();
    let late = cluster.router(number);
    assert!(write_all(&mut record, &late).await.is_empty());

    proxy.cut();
    grow(&cluster).await;
    // Only what moved may be refused; nothing that is refused may be applied, nothing acknowledged lost.
    let misses = write_some(&mut record, &late).await;
    assert!(misses < KEYS, "even points that didn't move were refused");
    read_all(&mut record, &[cluster.router(0)]).await;

    proxy.mend();
    let recovered = eventually("the router hears of the map again", 30, || async {
        let shown = late.get(COLLECTION, "late-0").await.map_err(|miss| miss.why)?;
        let count = late.count(COLLECTION).await.map_err(|miss| miss.why)?;
        if count == KEYS as u64 { Ok(shown) } else { Err(format!("{count} points")) }
    });
    recovered.await;
    let misses = write_all(&mut record, &late).await;
    assert!(misses.is_empty(), "{misses:?}");
    read_all(&mut record, &[cluster.router(0), late.clone()]).await;
    delete_half_and_check(&mut record, &cluster, &late).await;
    cluster.operator().verify().await;
    cluster.expect_all_alive();
}

/// Writes every key at the same time, since a refusal may take as long as a request may live. Counts what failed.
async fn write_some(record: &mut Record, router: &Router) -> usize {
    let mut tasks = Vec::new();
    for key in keys() {
        let stamp = record.stamp();
        let write = record.begin_write(&key, Some(stamp));
        let (router, point) = (router.clone(), (key.clone(), stamp));
        let task = tokio::spawn(async move { router.put(COLLECTION, &[point]).await });
        tasks.push((key, write, task));
    }
    let mut failed = 0;
    for (key, write, task) in tasks {
        let answer = task.await.expect("the client lives");
        record.end_write(&key, write, fate(&answer));
        failed += usize::from(answer.is_err());
    }
    failed
}
