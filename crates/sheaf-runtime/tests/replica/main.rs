//! A replica's shell: at which versions of the map it answers searches, and when it leaves them to others. Time is paused.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sheaf_engines::{Bodies, EngineError, Follower, Hit, Reply, Search};
use sheaf_map::{Collection, Map, ShardEntry, Weight};
use sheaf_protocol::Refusal;
use sheaf_runtime::Clock;
use sheaf_runtime::gate::{NotServed, Served};
use sheaf_runtime::replica::{Primary, ReplicaHost, ReplicaParts, VersionReply};
use sheaf_runtime::router::{KeeperOptions, MapReply, MapSource, RouterHost};
use sheaf_types::{
    ClusterId, CollectionId, MapVersion, PlacementKey, PointId, ShardId, StoreId, Time,
    TransitionId,
};

const ME: ShardId = ShardId(1);
const POINTS: u64 = 40;

fn map(version: u64, shards: u64) -> Map {
    let entry = |id| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://shard-{id}"),
        replica_urls: Vec::new(),
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{id}")),
    };
    let config = serde_json::from_str(r#"{"name": "c", "dim": 1}"#).unwrap();
    let collection = Collection { id: CollectionId(1), config: Arc::new(config) };
    let shards = (1..=shards).map(entry).collect();
    let cluster = ClusterId::from("cluster");
    Map::new(cluster, MapVersion(version), TransitionId(0), shards, vec![collection]).unwrap()
}

/// What is around the replica.
struct State {
    /// Of the coordinator; `None`: it is away.
    map: Option<Map>,
    /// What the gate serves; `None`: it is away.
    gate: Option<u64>,
    follows: bool,
    /// What the gate serves once the next search is under way.
    gate_then: Option<u64>,
}

struct World(Mutex<State>);

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn commit(&self, version: u64, shards: u64) {
        self.state().map = Some(map(version, shards));
    }
}

impl MapSource for World {
    fn coordinators(&self) -> usize {
        1
    }

    fn map(&self, _: usize, after: MapVersion, wait: Duration) -> MapReply<'_> {
        Box::pin(async move {
            let mut left = wait;
            loop {
                let map = self.state().map.clone().ok_or("it is away")?;
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

impl Primary for World {
    fn version(&self, url: String, shard: ShardId) -> VersionReply<'_> {
        assert_eq!((url.as_str(), shard), ("http://shard-1", ME));
        let version = self.state().gate.map(MapVersion);
        Box::pin(std::future::ready(version))
    }
}

impl Follower for World {
    fn catch_up(&self) -> Reply<'_, ()> {
        let behind = || EngineError::Unavailable("it is behind".to_owned());
        let answer = if self.state().follows { Ok(()) } else { Err(behind()) };
        Box::pin(std::future::ready(answer))
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        assert_eq!(collection, CollectionId(1));
        let mut state = self.state();
        if let Some(then) = state.gate_then.take() {
            state.gate = Some(then);
        }
        // It has what it had before points moved away, and more.
        let ids = (0..POINTS).map(|n| PointId::from(format!("p{n}")));
        let accepted = ids.filter(|id| search.accept.takes(id.placement_key()));
        let hits = accepted.map(|id| Hit { id, score: 0.0, body: None }).collect();
        Box::pin(std::future::ready(Ok(hits)))
    }
}

/// A replica that has had time to catch up, in a cluster whose map has version 3.
async fn replica() -> (Arc<World>, ReplicaHost) {
    let state = State { map: Some(map(3, 1)), gate: Some(3), follows: true, gate_then: None };
    let world = Arc::new(World(Mutex::new(state)));
    let clock = Clock::starting_at(Time(1_000));
    let (maps, keeper) = RouterHost::new(clock, world.clone(), KeeperOptions::default(), 7);
    tokio::spawn(keeper);
    let (follower, primary) = (world.clone(), world.clone());
    let (host, rounds) = ReplicaHost::new(ReplicaParts { shard: ME, follower, primary, maps });
    tokio::spawn(rounds);
    seconds(2).await;
    (world, host)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn search(host: &ReplicaHost, version: u64) -> Result<Vec<String>, NotServed> {
    let deadline = host.clock().now().plus_ms(5_000);
    let question = |accept| Search {
        vector: vec![1.0],
        k: 1_000,
        ef: 64,
        accept,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    };
    let served = host.search(MapVersion(version), Some(ME), "c", deadline, question).await;
    served.map(|Served { version: at, value }| {
        assert_eq!(at, MapVersion(version));
        value.iter().map(|hit| hit.id.as_str().to_owned()).collect()
    })
}

fn says(answer: Result<Vec<String>, NotServed>, words: &str) {
    match answer {
        Err(NotServed::Refused(Refusal::EngineUnavailable { reason })) => {
            assert!(reason.contains(words), "{reason}");
        }
        other => panic!("{words}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_shows_what_the_shard_owns_at_the_version_that_it_names() {
    let (world, host) = replica().await;
    assert_eq!(search(&host, 3).await.unwrap().len() as u64, POINTS);
    world.commit(4, 3);
    world.state().gate = Some(4);
    seconds(3).await;
    let map = map(4, 3);
    let mine = (0..POINTS).map(|n| format!("p{n}"));
    let mine: Vec<String> = mine.filter(|id| map.owner(PlacementKey::of(id)) == Some(ME)).collect();
    assert!(!mine.is_empty() && (mine.len() as u64) < POINTS);
    assert_eq!(search(&host, 4).await.unwrap(), mine);
    let older = search(&host, 3).await;
    let refusal = Refusal::OtherVersion { version: MapVersion(4) };
    assert_eq!(older, Err(NotServed::Refused(refusal)));
    let newer = search(&host, 5).await;
    let refusal = Refusal::Behind { version: MapVersion(4), wanted: MapVersion(5) };
    assert_eq!(newer, Err(NotServed::Refused(refusal)));
}

#[tokio::test(start_paused = true)]
async fn a_version_is_not_served_before_the_follower_has_what_moved_in_by_it() {
    let (world, host) = replica().await;
    // The coordinator has decided, the gate hasn't heard: what moves in may not even be in its engine as its own.
    world.commit(4, 1);
    seconds(3).await;
    says(search(&host, 4).await, "caught up with its shard at map");
    // The gate has, the follower hasn't.
    world.state().follows = false;
    world.state().gate = Some(4);
    seconds(3).await;
    says(search(&host, 4).await, "caught up with its shard at map");
    world.state().follows = true;
    seconds(2).await;
    assert_eq!(search(&host, 4).await.unwrap().len() as u64, POINTS);
}

#[tokio::test(start_paused = true)]
async fn a_search_during_which_the_gate_goes_on_to_another_version_is_not_answered() {
    let (world, host) = replica().await;
    world.state().gate_then = Some(4);
    says(search(&host, 3).await, "current still");
}

#[tokio::test(start_paused = true)]
async fn without_the_gate_a_coordinator_says_whether_the_version_is_current() {
    let (world, host) = replica().await;
    world.state().gate = None;
    assert_eq!(search(&host, 3).await.unwrap().len() as u64, POINTS);
    // For longer than a proof lasts.
    seconds(20).await;
    assert_eq!(search(&host, 3).await.unwrap().len() as u64, POINTS);
    world.state().map = None;
    says(search(&host, 3).await, "current still");
    seconds(20).await;
    says(search(&host, 3).await, "known to have caught up");
    world.commit(4, 1);
    seconds(20).await;
    says(search(&host, 4).await, "known to have caught up");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_falls_behind_is_soon_not_asked_any_more() {
    let (world, host) = replica().await;
    assert_eq!(host.version(), Some(MapVersion(3)));
    world.state().follows = false;
    seconds(7).await;
    assert_eq!(host.version(), None);
    says(search(&host, 3).await, "known to have caught up");
    world.state().follows = true;
    seconds(2).await;
    assert_eq!(search(&host, 3).await.unwrap().len() as u64, POINTS);
}
