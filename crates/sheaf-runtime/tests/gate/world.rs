//! A gate on engines, ledgers and peers that do as they are told.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sheaf_engines::{
    Accept, Change, Engine, EngineError, EngineStats, Filter, Hit, Memory, Reply, Scan, ScanPage,
    Search, Write,
};
use sheaf_map::{Collection, Map, ShardEntry, Weight};
use sheaf_protocol::{CopyOptions, Directive, Frame, GateReport, Order, Stage};
use sheaf_runtime::Clock;
use sheaf_runtime::gate::{
    FrameAnswer, GateHost, GateParts, Go, NotServed, Operation, Peers, Request, Seen, Served,
};
use sheaf_stores::MemoryStore;
use sheaf_types::{
    Attempt, ClusterId, CollectionConfig, CollectionId, MapVersion, PointBody, PointId, Revision,
    ShardId, StoreId, StoredPoint, Term, Time, TransitionId,
};
use tokio::sync::Semaphore;

pub const COLLECTION: CollectionId = CollectionId(1);
pub const NAME: &str = "words";

pub struct World {
    pub engine: Arc<TestEngine>,
    pub store: Arc<MemoryStore>,
    pub peers: Arc<TestPeers>,
    pub host: GateHost,
    revision: Mutex<u64>,
}

impl World {
    /// A gate that has never heard from anybody.
    pub async fn new() -> Self {
        let engine = Arc::new(TestEngine::default());
        let store = Arc::new(MemoryStore::new());
        let peers = Arc::new(TestPeers::default());
        let host = open(&engine, &store, &peers).await.unwrap();
        Self { engine, store, peers, host, revision: Mutex::new(0) }
    }

    /// A gate that is shard 1, alone, at map 2.
    pub async fn serving() -> Self {
        let world = Self::new().await;
        world.direct(map(2, &[1]), None).await.unwrap();
        world
    }

    /// A point that came into the engine past the gate.
    pub async fn fill(&self, id: &str) {
        let map = map(2, &[1]);
        let config = map.collections()[0].config.clone();
        self.engine.create_collection(COLLECTION, config).await.unwrap();
        self.engine.apply(COLLECTION, vec![Write::Upsert(point(id))]).await.unwrap();
    }

    /// A later directive, answered once it is followed.
    pub async fn direct(&self, map: Map, order: Option<Order>) -> Option<GateReport> {
        let revision = {
            let mut revision = self.revision.lock().unwrap();
            *revision += 1;
            Revision(*revision)
        };
        let directive = Directive {
            cluster_id: map.cluster_id().clone(),
            term: Term(1),
            revision,
            shard: ShardId(1),
            store_id: StoreId::from("store-1"),
            map: Arc::new(map),
            order,
            sweep: true,
            retired: false,
            unproven: false,
        };
        let deadline = self.in_ms(1_000);
        let report = self.host.direct(directive, Seen::default(), deadline).await.unwrap().unwrap();
        (report.revision == revision).then_some(report)
    }

    pub fn in_ms(&self, ms: u64) -> Time {
        self.host.clock().now().plus_ms(ms)
    }

    pub fn request(&self, operation: Operation, ms: u64) -> Request {
        Request {
            version: None,
            shard: None,
            collection: NAME.to_owned(),
            operation,
            deadline: self.in_ms(ms),
        }
    }

    pub async fn write(&self, id: &str, ms: u64) -> Result<Served<()>, NotServed> {
        let ids = vec![PointId::from(id)];
        let writes = vec![Write::Upsert(point(id))];
        let work =
            move |go: Go| async move { go.engine.apply(go.collection, writes).await.map(|_| ()) };
        self.host
            .serve(
                self.request(
                    Operation::Write { ids, change: sheaf_runtime::gate::Change::Upsert },
                    ms,
                ),
                work,
            )
            .await
    }

    pub async fn read(&self, id: &str, ms: u64) -> Result<Served<bool>, NotServed> {
        let ids = vec![PointId::from(id)];
        let operation = Operation::Read { ids: ids.clone() };
        let work = move |go: Go| async move {
            go.engine.get(go.collection, ids).await.map(|found| found[0].is_some())
        };
        self.host.serve(self.request(operation, ms), work).await
    }

    pub async fn count(&self, ms: u64) -> Result<Served<u64>, NotServed> {
        let work =
            |go: Go| async move { go.engine.count(go.collection, go.accept.clone(), None).await };
        self.host.serve(self.request(Operation::Gather, ms), work).await
    }
}

pub async fn open(
    engine: &Arc<TestEngine>,
    store: &Arc<MemoryStore>,
    peers: &Arc<TestPeers>,
) -> Result<GateHost, sheaf_runtime::gate::OpenError> {
    GateHost::open(GateParts {
        clock: Clock::starting_at(Time(1_000)),
        ledger: store.clone(),
        engine: engine.clone(),
        peers: peers.clone(),
        new_store_id: StoreId::from("store-1"),
    })
    .await
}

/// The map of these shards, with one collection.
pub fn map(version: u64, shards: &[u64]) -> Map {
    let shard = |&id: &u64| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://gate-{id}:7000"),
        replica_urls: Vec::new(),
        weight: Weight::default(),
        store_id: StoreId::from(format!("store-{id}")),
    };
    let config = CollectionConfig {
        name: NAME.to_owned(),
        dim: 2,
        metric: Default::default(),
        index: Default::default(),
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    };
    let collection = Collection { id: COLLECTION, config: Arc::new(config) };
    let cluster = ClusterId::from("cluster");
    let shards = shards.iter().map(shard).collect();
    Map::new(cluster, MapVersion(version), TransitionId(0), shards, vec![collection]).unwrap()
}

/// Shard 2 joins; with the fence, requests on its ids are held.
pub fn join(stage: Stage) -> Order {
    Order {
        transition: TransitionId(1),
        attempt: Attempt(1),
        stage,
        next: Arc::new(map(3, &[1, 2])),
        copy: CopyOptions::default(),
    }
}

/// An id that moves to shard 2 when that joins, or stays at shard 1.
pub fn id(moves: bool) -> String {
    let owner = ShardId(if moves { 2 } else { 1 });
    let next = map(3, &[1, 2]);
    let mut ids = (0..).map(|n| format!("p{n}"));
    ids.find(|id| next.owner(PointId::from(id.as_str()).placement_key()) == Some(owner)).unwrap()
}

fn point(id: &str) -> StoredPoint {
    StoredPoint::new(COLLECTION, PointId::from(id), PointBody::encode(&[1.0, 2.0], None))
}

/// An engine in memory whose calls wait at a gate of their own and fail when told to.
pub struct TestEngine {
    inner: Memory,
    /// Calls on points wait while it has no permit.
    pub open: Semaphore,
    pub began: AtomicUsize,
    pub failures: Mutex<VecDeque<EngineError>>,
}

impl Default for TestEngine {
    fn default() -> Self {
        Self {
            inner: Memory::new(),
            open: Semaphore::new(Semaphore::MAX_PERMITS),
            began: AtomicUsize::new(0),
            failures: Mutex::default(),
        }
    }
}

impl TestEngine {
    pub fn close(&self) {
        self.open.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn reopen(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Until this many calls on points have begun.
    pub async fn has_begun(&self, calls: usize) {
        while self.began.load(Ordering::SeqCst) < calls {
            tokio::task::yield_now().await;
        }
    }

    pub fn holds(&self, id: &str) -> bool {
        let get = self.inner.get(COLLECTION, vec![PointId::from(id)]);
        futures_util::FutureExt::now_or_never(get).unwrap().unwrap()[0].is_some()
    }

    fn gated<'a, T: Send + 'a>(&'a self, call: Reply<'a, T>) -> Reply<'a, T> {
        Box::pin(async move {
            self.began.fetch_add(1, Ordering::SeqCst);
            let _permit = self.open.acquire().await.unwrap();
            let failure = self.failures.lock().unwrap().pop_front();
            match failure {
                Some(failure) => Err(failure),
                None => call.await,
            }
        })
    }
}

impl Engine for TestEngine {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        self.inner.holds(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        self.inner.create_collection(id, config)
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        self.inner.drop_collection(id)
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        self.inner.collections()
    }

    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        // Lazily: what waits must not be applied yet.
        self.gated(Box::pin(async move { self.inner.apply(collection, writes).await }))
    }

    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>> {
        self.gated(Box::pin(async move { self.inner.get(collection, ids).await }))
    }

    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        self.inner.scan(collection, scan)
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        self.inner.search(collection, search)
    }

    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64> {
        self.gated(Box::pin(async move { self.inner.count(collection, accept, filter).await }))
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        self.inner.stats()
    }

    fn snapshot(&self, into: PathBuf, final_folder: PathBuf) -> Reply<'_, Option<PathBuf>> {
        self.inner.snapshot(into, final_folder)
    }
}

/// Peers of which nobody answers, but for the coordinator's map.
#[derive(Default)]
pub struct TestPeers {
    pub map: Mutex<Option<Map>>,
    pub frames: Mutex<Vec<Frame>>,
}

impl Peers for TestPeers {
    fn send_frame(
        &self,
        _url: String,
        frame: Frame,
    ) -> sheaf_runtime::gate::Reply<'_, FrameAnswer> {
        self.frames.lock().unwrap().push(frame);
        Box::pin(async { FrameAnswer::Lost })
    }

    fn fetch_map(&self, at_least: MapVersion) -> sheaf_runtime::gate::Reply<'_, Option<Arc<Map>>> {
        let map = self.map.lock().unwrap().clone();
        let map = map.filter(|map| map.version() >= at_least).map(Arc::new);
        Box::pin(async { map })
    }
}
