//! A real Quiver 1.1 server behind the gate, over its REST API.
//!
//! Decides how the port's promises are kept on top of Quiver's: what a write changed (it reads before it writes; the gate is the only
//! writer), when a write whose answer was lost is settled, and how pages stay whole though Quiver counts offsets. Keeps no
//! point on this side for longer than a scan needs it. docs/engines/quiver.md has the limits.

mod adopt;
mod apply;
mod catalogue;
mod combine;
mod documents;
mod follower;
mod foreseen;
mod index;
mod log;
mod look;
mod many;
mod pages;
mod payload;
mod pushdown;
mod recent;
mod search;
mod server;
mod snapshot;
mod windows;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sheaf_transport::Transport;
use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};

use crate::{
    Accept, Adoptable, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan,
    ScanPage, Search, ShownPoint, Write,
};
pub use follower::{QuiverFollower, QuiverFollowerOptions};
pub use many::{ManyReads, ReadError, ReadPoint, ReadingMany};

use apply::Stripes;
use catalogue::Entry;
use combine::Queue;
use foreseen::Foreseen;
use index::IndexState;
use log::Log;
use look::Lookers;
use payload::PayloadLimit;
use server::{CallError, Server};
use windows::Windows;

/// Points that are read at the same time: Quiver gives out one in a request.
const READS_AT_ONCE: usize = 32;

/// Where the server is, and how it is used.
#[derive(Clone, Debug)]
pub struct QuiverOptions {
    /// `http://HOST:PORT` of a single Quiver node.
    pub url: String,
    /// A key with the role admin for all collections.
    pub key: Option<String>,
    /// A text that this shard alone has, always the same: no other shard may use the server.
    pub owner: String,
    /// Whether a server that knows no owner may be taken: not by a shard that had points in one before.
    pub may_claim: bool,
    /// Whether collections that are there already may be taken over, each under its own name.
    pub adopts: bool,
    /// Until a read is given up.
    pub read_deadline: Duration,
    /// Until a write's answer counts as lost. It stays in flight until it is settled.
    pub write_deadline: Duration,
    /// Collections with this many floats at most are searched exactly, beside Quiver's index.
    pub exact_floats_max: usize,
    /// Points in one page of a scan; at most the server's `max_fetch_limit`.
    pub page_points_max: usize,
    /// A faster way to read points by their ids, if there is one.
    pub many_reads: Option<Arc<dyn ManyReads>>,
}

impl QuiverOptions {
    pub fn new(url: impl Into<String>, key: Option<String>, owner: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key,
            owner: owner.into(),
            may_claim: true,
            adopts: false,
            read_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(30),
            exact_floats_max: 64 * 1024,
            page_points_max: 10_000,
            many_reads: None,
        }
    }
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Quiver {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    options: QuiverOptions,
    held: Mutex<BTreeMap<CollectionId, Arc<Held>>>,
    /// Held while a write is under way.
    log: tokio::sync::Mutex<Log>,
    /// By name.
    adoptable: Mutex<BTreeMap<String, Adoptable>>,
    /// One creation or drop at a time.
    changing: tokio::sync::Mutex<()>,
    payloads: PayloadLimit,
}

/// A collection that exists.
struct Held {
    entry: Entry,
    windows: Windows,
    stripes: Stripes,
    queue: Queue,
    foreseen: Foreseen,
    lookers: Lookers,
    /// About how many points there are: decides only how a search is carried out.
    points: AtomicU64,
    is_dropping: AtomicBool,
    index: IndexState,
    /// Of documents, bytes of one in the last page that was read.
    document_bytes: AtomicUsize,
}

impl Held {
    fn new(entry: Entry, points: u64, is_new: bool) -> Self {
        let (windows, stripes, queue) = (Windows::default(), Stripes::default(), Queue::default());
        let (points, is_dropping) = (AtomicU64::new(points), AtomicBool::new(false));
        let (index, document_bytes) = (IndexState::new(is_new), AtomicUsize::new(0));
        Self {
            entry,
            windows,
            stripes,
            queue,
            foreseen: Foreseen::default(),
            lookers: Lookers::default(),
            points,
            is_dropping,
            index,
            document_bytes,
        }
    }

    fn id(&self) -> CollectionId {
        self.entry.id
    }

    fn name(&self) -> &str {
        &self.entry.quiver
    }

    fn config(&self) -> &Arc<CollectionConfig> {
        &self.entry.config
    }

    fn is_dropping(&self) -> bool {
        self.is_dropping.load(Ordering::Acquire)
    }
}

impl Quiver {
    /// Takes the server for this shard, and waits until nothing of an earlier life of it can follow.
    ///
    /// # Errors
    /// It doesn't answer, is no Quiver server, is another shard's, or has lost a collection.
    pub async fn open(
        transport: Arc<dyn Transport>,
        options: QuiverOptions,
    ) -> Result<Self, EngineError> {
        let server = Server::new(transport, &options.url, options.key.as_deref())?;
        let (held, changing) = (Mutex::default(), tokio::sync::Mutex::default());
        let log = tokio::sync::Mutex::new(Log::Sound);
        let (adoptable, payloads) = (Mutex::default(), PayloadLimit::default());
        let inner = Inner { server, options, held, log, adoptable, changing, payloads };
        inner.first_look_at_log().await.map_err(CallError::into_engine_error)?;
        let entries = inner.open_catalogue().await?;
        inner.check_many_reads().await?;
        for (entry, points) in entries {
            let held = Arc::new(Held::new(entry, points, false));
            inner.all().insert(held.id(), held);
        }
        inner.find_adoptable().await?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn all(&self) -> MutexGuard<'_, BTreeMap<CollectionId, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, id: CollectionId) -> Result<Arc<Held>, EngineError> {
        self.all().get(&id).cloned().ok_or(EngineError::NoCollection(id))
    }

    async fn get(&self, path: &str) -> Result<Bytes, CallError> {
        self.server.call(Method::GET, path, Bytes::new(), self.options.read_deadline).await
    }

    async fn fetch(&self, quiver: &str, body: &Value) -> Result<Bytes, CallError> {
        let path = format!("{}/fetch", catalogue::path_of(quiver));
        let body = Bytes::from(body.to_string());
        self.server.call(Method::POST, &path, body, self.options.read_deadline).await
    }

    async fn read_one(
        &self,
        held: &Held,
        id: &PointId,
    ) -> Result<Option<StoredPoint>, EngineError> {
        let row = if id.as_str().is_empty() {
            // No path names it. It is the first in the order of ids.
            let body = json!({"offset": 0, "limit": 1, "with_payload": true, "with_vector": true});
            let answer = self.fetch(held.name(), &body).await;
            let answer = answer.map_err(|error| self.missing(held, error))?;
            let rows = wire::read_rows_of(held.config(), &answer)?;
            rows.into_iter().next().filter(|row| row.id == *id)
        } else {
            let answer = self.answer_of(held, id).await?;
            answer.map(|answer| wire::read_row(held.config(), &answer)).transpose()?
        };
        Ok(row.and_then(|row| row.into_point(held.id())))
    }

    /// Quiver's answer to a get of this point, `None` when there is none. The id isn't empty.
    async fn answer_of(&self, held: &Held, id: &PointId) -> Result<Option<Bytes>, EngineError> {
        match self.get(&catalogue::point_path(held.name(), id)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::Refused { status: StatusCode::NOT_FOUND, detail })
                if detail.is_empty() =>
            {
                Ok(None)
            }
            Err(error) => Err(self.missing(held, error)),
        }
    }

    /// The point as Quiver has it: to read and write all numbers of a vector costs more than to hand it on.
    async fn show(&self, held: &Held, id: &PointId) -> Result<Option<ShownPoint>, EngineError> {
        if id.as_str().is_empty() || held.config().holds_documents() {
            let point = self.read_one(held, id).await?;
            return Ok(point.map(|point| ShownPoint::Body(point.body)));
        }
        let answer = self.answer_of(held, id).await?;
        answer.map_or(Ok(None), |answer| wire::read_shown(&answer))
    }

    async fn create(
        &self,
        id: CollectionId,
        config: Arc<CollectionConfig>,
    ) -> Result<(), EngineError> {
        let _one_at_a_time = self.changing.lock().await;
        if self.all().contains_key(&id) {
            return Ok(());
        }
        catalogue::check(&config)?;
        if let Some(held) = self.adopt(id, &config).await? {
            self.all().insert(id, Arc::new(held));
            return Ok(());
        }
        let entry = Entry { id, quiver: catalogue::name_of(id), config, dropping: false };
        self.create_entry(&entry).await?;
        self.all().insert(id, Arc::new(Held::new(entry, 0, true)));
        Ok(())
    }

    async fn drop_held(&self, id: CollectionId) -> Result<(), EngineError> {
        let _one_at_a_time = self.changing.lock().await;
        let Ok(held) = self.held(id) else { return Ok(()) };
        held.is_dropping.store(true, Ordering::Release);
        self.drop_entry(&held.entry).await?;
        self.all().remove(&id);
        Ok(())
    }

    async fn stats(&self) -> Result<EngineStats, EngineError> {
        let shown = self.shown().await?;
        let mut stats = EngineStats::default();
        for held in self.all().values() {
            let Some(shown) = shown.iter().find(|shown| shown.name == held.name()) else {
                continue;
            };
            held.points.store(shown.count, Ordering::Relaxed);
            stats.points += shown.count;
            stats.bytes += shown.count * (4 + 4 * u64::from(held.config().dim));
        }
        let waiting = |shown: &&catalogue::Shown| self.is_adoptable(&shown.name);
        for found in shown.iter().filter(waiting) {
            stats.points += found.count;
            stats.bytes += found.count * (4 + 4 * u64::from(found.dim));
        }
        // Quiver doesn't tell what its files take; at least the vectors are in them.
        stats.disk_bytes = stats.bytes;
        Ok(stats)
    }
}

impl Engine for Quiver {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        catalogue::check(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        Box::pin(self.inner.create(id, config))
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        Box::pin(self.inner.drop_held(id))
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        let all = self.inner.all();
        let found = all.values().map(|held| (held.id(), Arc::clone(held.config()))).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn apply(&self, id: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        // A task of its own: whoever stops waiting must not keep a lost write from being settled.
        let inner = Arc::clone(&self.inner);
        let applying = tokio::spawn(async move { inner.apply(id, writes).await });
        Box::pin(async move {
            applying.await.unwrap_or_else(|error| {
                Err(EngineError::Unknown(format!("the write broke off: {error}")))
            })
        })
    }

    fn foresee(&self, id: CollectionId, points: &[StoredPoint], are_last: bool) {
        let Ok(held) = self.inner.held(id) else { return };
        held.foreseen.add(held.config(), points);
        if are_last {
            self.inner.load_ahead(&held);
        }
    }

    fn get(&self, id: CollectionId, ids: Vec<PointId>) -> Reply<'_, Vec<Option<StoredPoint>>> {
        Box::pin(async move { self.inner.read(&*self.inner.held(id)?, ids).await })
    }

    fn show(&self, id: CollectionId, point: PointId) -> Reply<'_, Option<ShownPoint>> {
        Box::pin(async move { self.inner.show(&*self.inner.held(id)?, &point).await })
    }

    fn scan(&self, id: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        Box::pin(async move { self.inner.scan(&*self.inner.held(id)?, scan).await })
    }

    fn search(&self, id: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(async move { self.inner.search(&self.inner.held(id)?, search).await })
    }

    fn count(&self, id: CollectionId, accept: Accept, filter: Option<Filter>) -> Reply<'_, u64> {
        Box::pin(async move { self.inner.count(&*self.inner.held(id)?, accept, filter).await })
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        Box::pin(self.inner.stats())
    }

    fn place(&self) -> Option<String> {
        Some(self.inner.server.url().to_owned())
    }

    fn adoptable(&self) -> Reply<'_, Vec<Adoptable>> {
        let found = self.inner.adoptable.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(std::future::ready(Ok(found.values().cloned().collect())))
    }

    fn snapshot(&self, _: PathBuf, final_folder: PathBuf) -> Reply<'_, Option<PathBuf>> {
        Box::pin(self.inner.snapshot(final_folder))
    }
}
