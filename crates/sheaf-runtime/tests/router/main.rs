//! The router's shell: which maps it keeps, and how it carries requests. Time is paused: nothing here waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sheaf_map::{Map, ShardEntry, Weight};
use sheaf_protocol::Refusal;
use sheaf_router::{Call, Op, Outcome, Reason, Verdict};
use sheaf_runtime::Clock;
use sheaf_runtime::router::{KeeperOptions, MapReply, MapSource, RouterHost};
use sheaf_types::{ClusterId, MapVersion, PlacementKey, ShardId, StoreId, Time, TransitionId};

fn map(cluster: &str, version: u64, shards: u64) -> Map {
    let entry = |id| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://shard-{id}"),
        replica_urls: Vec::new(),
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{id}")),
    };
    let shards = (1..=shards).map(entry).collect();
    Map::new(ClusterId::from(cluster), MapVersion(version), TransitionId(0), shards, vec![])
        .unwrap()
}

/// Coordinators that answer with what they were given; one without a map can't be asked.
#[derive(Default)]
struct Coordinators {
    maps: Mutex<Vec<Option<Map>>>,
    /// The coordinator, the version and the wait of each question.
    asked: Mutex<Vec<(usize, u64, Duration)>>,
}

impl Coordinators {
    fn new(maps: Vec<Option<Map>>) -> Arc<Self> {
        Arc::new(Self { maps: Mutex::new(maps), asked: Mutex::default() })
    }

    fn set(&self, coordinator: usize, map: Option<Map>) {
        self.maps.lock().unwrap()[coordinator] = map;
    }
}

impl MapSource for Coordinators {
    fn coordinators(&self) -> usize {
        self.maps.lock().unwrap().len()
    }

    fn map(&self, coordinator: usize, after: MapVersion, wait: Duration) -> MapReply<'_> {
        self.asked.lock().unwrap().push((coordinator, after.0, wait));
        Box::pin(async move {
            let mut left = wait;
            loop {
                let map = self.maps.lock().unwrap()[coordinator].clone();
                let map = map.ok_or("it is away")?;
                if map.version() > after || left.is_zero() {
                    return Ok(map);
                }
                let step = left.min(Duration::from_millis(5));
                tokio::time::sleep(step).await;
                left -= step;
            }
        })
    }
}

fn host(source: &Arc<Coordinators>) -> RouterHost {
    let clock = Clock::starting_at(Time(1_000));
    let (host, keeper) = RouterHost::new(clock, source.clone(), KeeperOptions::default(), 7);
    tokio::spawn(keeper);
    host
}

async fn at_least(host: &RouterHost, version: u64) -> Option<u64> {
    let deadline = host.clock().now().plus_ms(30_000);
    let map = host.map_of_at_least(MapVersion(version), deadline).await;
    map.map(|map| map.version().0)
}

#[tokio::test(start_paused = true)]
async fn a_map_is_adopted_when_it_is_published_and_never_an_older_one() {
    let source = Coordinators::new(vec![Some(map("c", 3, 1))]);
    let host = host(&source);
    assert_eq!(host.map(), None);
    assert_eq!(at_least(&host, 3).await, Some(3));
    let before = host.clock().now();
    source.set(0, Some(map("c", 4, 2)));
    assert_eq!(at_least(&host, 4).await, Some(4));
    assert!(host.clock().now().ms_since(before) < 100, "the long poll was answered at once");
    source.set(0, Some(map("c", 2, 5)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(host.map().unwrap().version(), MapVersion(4));
}

#[tokio::test(start_paused = true)]
async fn a_map_of_another_cluster_is_ignored() {
    let source = Coordinators::new(vec![Some(map("mine", 3, 1)), Some(map("theirs", 9, 1))]);
    let host = host(&source);
    assert_eq!(at_least(&host, 3).await, Some(3));
    source.set(0, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(host.map().unwrap().cluster_id(), &ClusterId::from("mine"));
    assert!(source.asked.lock().unwrap().iter().any(|asked| asked.0 == 1));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_of_another_cluster_is_not_asked_in_a_loop() {
    let source = Coordinators::new(vec![Some(map("mine", 3, 1))]);
    let host = host(&source);
    at_least(&host, 3).await;
    source.set(0, Some(map("theirs", 9, 1)));
    source.asked.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = source.asked.lock().unwrap().len();
    assert!((20..120).contains(&asked), "{asked} questions in a minute");
    assert_eq!(host.map().unwrap().version(), MapVersion(3));
}

#[tokio::test(start_paused = true)]
async fn when_one_coordinator_is_away_the_other_is_asked() {
    let source = Coordinators::new(vec![None, Some(map("c", 3, 1))]);
    let host = host(&source);
    assert_eq!(at_least(&host, 3).await, Some(3));
    source.set(1, None);
    source.set(0, Some(map("c", 4, 1)));
    assert_eq!(at_least(&host, 4).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn while_no_coordinator_answers_questions_are_few() {
    let source = Coordinators::new(vec![None, None]);
    let _host = host(&source);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = source.asked.lock().unwrap().len();
    assert!((30..120).contains(&asked), "{asked} questions in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_look_ends_with_what_a_coordinator_has_now_or_after_its_patience() {
    let source = Coordinators::new(vec![Some(map("c", 3, 1))]);
    let host = host(&source);
    assert_eq!(at_least(&host, 3).await, Some(3));
    let patience = Duration::from_millis(500);
    let before = host.clock().now();
    let looked = host.look_for_newer_map(patience).await;
    assert_eq!(looked.map(|map| map.version()), Some(MapVersion(3)));
    assert!(host.clock().now().ms_since(before) < 100, "it did not wait for news");
    source.set(0, None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(host.look_for_newer_map(patience).await, None);
    assert_eq!(at_least(&host, 4).await, None, "a map that doesn't come is given up");
}

fn keys(count: u64) -> Vec<PlacementKey> {
    (0..count).map(|n| PlacementKey::of(&format!("point-{n}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_names_a_newer_map_leads_to_its_owner() {
    let source = Coordinators::new(vec![Some(map("c", 3, 1))]);
    let host = host(&source);
    at_least(&host, 3).await;
    let old = host.map().unwrap();
    let publish = source.clone();
    let sent = Mutex::new(Vec::new());
    let send = |call: Call, map: Arc<Map>| {
        assert_eq!(map.version(), call.version);
        sent.lock().unwrap().push((call.shard.0, call.version.0));
        let publish = publish.clone();
        async move {
            if call.version == MapVersion(3) {
                publish.set(0, Some(self::map("c", 4, 3)));
                return (Outcome::Refused(Refusal::Moved { version: MapVersion(4) }), None);
            }
            (Outcome::Done { version: call.version }, Some(call.items))
        }
    };
    let deadline = host.clock().now().plus_ms(10_000);
    let ended = host.run(old, Op::Write { keys: keys(40) }, deadline, send).await;
    let Verdict::Complete { version, calls } = ended.verdict else { panic!("{:?}", ended.verdict) };
    assert_eq!((version, calls.len()), (MapVersion(4), 3));
    let mut items: Vec<u32> = ended.replies.into_values().flatten().collect();
    items.sort_unstable();
    assert_eq!(items, (0..40).collect::<Vec<_>>());
    assert_eq!(*sent.lock().unwrap(), [(1, 3), (1, 4), (2, 4), (3, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_at_its_deadline_though_a_shard_never_answers() {
    let source = Coordinators::new(vec![Some(map("c", 3, 2))]);
    let host = host(&source);
    at_least(&host, 3).await;
    let begun = host.clock().now();
    let send = |call: Call, _: Arc<Map>| async move {
        if call.shard == ShardId(1) {
            std::future::pending::<()>().await;
        }
        (Outcome::Done { version: call.version }, Some(()))
    };
    let op = Op::Write { keys: keys(20) };
    let ended = host.run(host.map().unwrap(), op, begun.plus_ms(700), send).await;
    assert_eq!(host.clock().now().ms_since(begun), 700);
    let Verdict::Incomplete(incomplete) = ended.verdict else { panic!("{:?}", ended.verdict) };
    assert_eq!(incomplete.reason, Reason::Lost { shard: ShardId(1) });
    assert!(!incomplete.applied.is_empty() && !incomplete.unknown.is_empty());
}

#[tokio::test(start_paused = true)]
async fn replies_of_an_abandoned_round_are_not_part_of_the_answer() {
    let source = Coordinators::new(vec![Some(map("c", 3, 2))]);
    let host = host(&source);
    at_least(&host, 3).await;
    let publish = source.clone();
    let send = |call: Call, _: Arc<Map>| {
        let publish = publish.clone();
        async move {
            if call.version == MapVersion(3) && call.shard == ShardId(2) {
                tokio::time::sleep(Duration::from_millis(3)).await;
                publish.set(0, Some(self::map("c", 4, 2)));
                let refusal = Refusal::OtherVersion { version: MapVersion(4) };
                return (Outcome::Refused(refusal), None);
            }
            (Outcome::Done { version: call.version }, Some((call.shard.0, call.version.0)))
        }
    };
    let deadline = host.clock().now().plus_ms(10_000);
    let ended = host.run(host.map().unwrap(), Op::Gather, deadline, send).await;
    let replies: BTreeMap<u64, u64> = ended.replies.into_values().collect();
    assert_eq!(replies, BTreeMap::from([(1, 4), (2, 4)]));
    assert_eq!(ended.map.version(), MapVersion(4));
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_of_an_abandoned_round_is_not_part_of_the_answer() {
    let source = Coordinators::new(vec![Some(map("c", 3, 2))]);
    let host = host(&source);
    at_least(&host, 3).await;
    let publish = source.clone();
    let send = |call: Call, _: Arc<Map>| {
        let publish = publish.clone();
        async move {
            if call.version == MapVersion(3) && call.shard == ShardId(2) {
                publish.set(0, Some(self::map("c", 4, 2)));
                let refusal = Refusal::OtherVersion { version: MapVersion(4) };
                return (Outcome::Refused(refusal), None);
            }
            // The first shard's answer at the old version comes in the middle of the next round.
            let patience_ms = if call.version == MapVersion(3) { 300 } else { 600 };
            tokio::time::sleep(Duration::from_millis(patience_ms)).await;
            (Outcome::Done { version: call.version }, Some((call.shard.0, call.version.0)))
        }
    };
    let deadline = host.clock().now().plus_ms(10_000);
    let ended = host.run(host.map().unwrap(), Op::Gather, deadline, send).await;
    let replies: Vec<(u64, u64)> = ended.replies.into_values().collect();
    assert_eq!(replies, [(1, 4), (2, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_is_seldom_needed_asks_for_a_map_with_its_first_request() {
    let source = Coordinators::new(vec![Some(map("c", 3, 1))]);
    let options = KeeperOptions { on_demand: true, ..KeeperOptions::default() };
    let (host, keeper) =
        RouterHost::new(Clock::starting_at(Time(1_000)), source.clone(), options, 7);
    tokio::spawn(keeper);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(source.asked.lock().unwrap().is_empty());
    let found = host.look_for_newer_map(Duration::from_secs(1)).await;
    assert_eq!(found.map(|map| map.version()), Some(MapVersion(3)));
    source.set(0, Some(map("c", 4, 2)));
    assert_eq!(at_least(&host, 4).await, Some(4), "from then on it hears of new ones");
}
