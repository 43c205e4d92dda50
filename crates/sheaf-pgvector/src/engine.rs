//! The engine: its parts put together, and the port.
//!
//! Every call has a deadline. A write runs in a task of its own, so that nobody who gives up waiting can leave it half-way.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use deadpool::managed::Pool;
use sheaf_engines::{
    Accept, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan, ScanPage, Search,
    Write,
};
use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Error};
use tracing::info;

use crate::collection::{Collection, Tally, table};
use crate::error::{damaged, is_missing_table, too_late, unapplied};
use crate::options::PgOptions;
use crate::owner::Owner;
use crate::row::Reader;
use crate::schema;
use crate::session::{Lease, Sessions};
use crate::stripes::Stripes;

/// A shard's points in a database of PostgreSQL.
pub struct PgVector {
    inner: Arc<Inner>,
}

pub struct Inner {
    pub options: PgOptions,
    pub pool: Pool<Sessions>,
    pub owner: Owner,
    pub stripes: Stripes,
    /// Held while collections are made or dropped.
    pub defining: Mutex<()>,
    collections: RwLock<BTreeMap<CollectionId, Arc<Collection>>>,
    /// Which collections there are isn't known: the answer to a COMMIT was lost.
    is_stale: AtomicBool,
}

impl PgVector {
    /// Takes the database over, makes Sheaf's tables in it where they are missing, and counts the points.
    ///
    /// # Errors
    /// `Unavailable`: it can't be reached, or another gate has it. `Unsupported`: it can't be trusted with points, or lacks pgvector.
    pub async fn open(options: PgOptions) -> Result<Self, EngineError> {
        let deadline = options.open_deadline;
        let place = options.place.clone();
        let opened = tokio::time::timeout(deadline, Self::try_open(options)).await;
        opened.map_err(|_| too_late(&place))?
    }

    async fn try_open(options: PgOptions) -> Result<Self, EngineError> {
        let place = &options.place;
        let sessions = Sessions::new(options.clone());
        let first = sessions.connect().await?;
        schema::check_server(&first.client, place).await?;
        let owner = Owner::claim(first, &options).await?;
        let pool = sessions.pool()?;
        let stripes = Stripes::new();
        let (defining, collections) = (Mutex::default(), RwLock::default());
        let is_stale = AtomicBool::new(true);
        let inner = Inner { options, pool, owner, stripes, defining, collections, is_stale };
        inner.refresh().await?;
        let place = inner.place();
        info!(%place, collections = inner.all().len(), "the database is this gate's");
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What tells this database from any other, for ever: a gate's data belongs to one.
    pub fn database(&self) -> &str {
        self.inner.owner.database()
    }

    /// Reads, within the deadline.
    async fn read<'a, T>(
        &'a self,
        work: impl Future<Output = Result<T, EngineError>> + Send + 'a,
    ) -> Result<T, EngineError> {
        let read = tokio::time::timeout(self.inner.options.deadline, work).await;
        read.map_err(|_| too_late(self.inner.place()))?
    }

    /// Writes, in a task of its own.
    async fn write<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let written = tokio::spawn(work(Arc::clone(&self.inner))).await;
        written.unwrap_or_else(|error| {
            Err(EngineError::Damaged(format!(
                "the engine broke off a write: {error}; restart this gate"
            )))
        })
    }
}

impl Inner {
    pub fn place(&self) -> &str {
        &self.options.place
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader { place: self.place() }
    }

    /// A session, while the database is ours.
    pub async fn lease(&self) -> Result<Lease, EngineError> {
        self.owner.is_held(&self.pool).await?;
        Lease::of(&self.pool, self.place()).await
    }

    fn all(&self) -> BTreeMap<CollectionId, Arc<Collection>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn collection(&self, id: CollectionId) -> Result<Arc<Collection>, EngineError> {
        let all = self.collections.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).cloned().ok_or(EngineError::NoCollection(id))
    }

    pub fn know(&self, collection: Arc<Collection>) {
        let mut all = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(collection.id, collection);
    }

    pub fn forget(&self, id: CollectionId) {
        self.collections.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// What an error of PostgreSQL in a call on a collection means.
    pub fn error_in(&self, id: CollectionId, error: &Error) -> EngineError {
        match (is_missing_table(error), self.collection(id)) {
            // It was dropped while the call ran.
            (true, Err(missing)) => missing,
            (true, Ok(_)) => self.lacks_table(id),
            (false, _) => unapplied(self.place(), error),
        }
    }

    /// The error of a collection that nobody dropped.
    pub fn lacks_table(&self, id: CollectionId) -> EngineError {
        damaged(self.place(), &format!("{} is missing", table(id)))
    }

    /// The collections must be read again.
    pub fn is_listed_anew(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Reads which collections there are, if that isn't known.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        if !self.is_stale.load(Ordering::Acquire) {
            return Ok(());
        }
        let lease = self.lease().await?;
        let failed = |error: Error| unapplied(self.place(), &error);
        // Counting takes as long as it takes; opening as a whole has its deadline.
        lease
            .client
            .batch_execute("BEGIN; SET LOCAL statement_timeout = 0")
            .await
            .map_err(failed)?;
        let listed =
            lease.client.query("SELECT id, config FROM sheaf.collections ORDER BY id", &[]).await;
        let (known, mut found) = (self.all(), BTreeMap::new());
        for row in listed.map_err(failed)? {
            let id = CollectionId(row.get::<_, i64>(0).unsigned_abs());
            // Its tally and its writers' lock are in use.
            if let Some(known) = known.get(&id) {
                found.insert(id, Arc::clone(known));
                continue;
            }
            let config: CollectionConfig = serde_json::from_str(row.get(1)).map_err(|error| {
                damaged(self.place(), &format!("the configuration of {id}: {error}"))
            })?;
            let tally =
                tally(&lease.client, id).await.map_err(|error| match is_missing_table(&error) {
                    true => self.lacks_table(id),
                    false => failed(error),
                })?;
            found.insert(id, Arc::new(Collection::new(id, Arc::new(config), tally)));
        }
        lease.client.batch_execute("COMMIT").await.map_err(failed)?;
        lease.give_back();
        *self.collections.write().unwrap_or_else(PoisonError::into_inner) = found;
        self.is_stale.store(false, Ordering::Release);
        Ok(())
    }

    async fn stats(&self) -> Result<EngineStats, EngineError> {
        let collections = self.all();
        for collection in collections.values().filter(|collection| collection.is_doubtful()) {
            self.recount(collection).await?;
        }
        let lease = self.lease().await?;
        let sql = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class \
                   WHERE relnamespace = 'sheaf'::regnamespace AND relkind = 'r'";
        let row = lease.client.query_one(sql, &[]).await;
        let disk: i64 = row.map_err(|error| unapplied(self.place(), &error))?.get(0);
        lease.give_back();
        let mut stats = EngineStats { disk_bytes: disk.unsigned_abs(), ..EngineStats::default() };
        for collection in collections.values() {
            let tally = collection.tally();
            stats.points += u64::try_from(tally.points).unwrap_or(0);
            stats.bytes += u64::try_from(tally.bytes).unwrap_or(0);
        }
        Ok(stats)
    }
}

/// Counts a collection.
pub async fn tally(client: &Client, id: CollectionId) -> Result<Tally, Error> {
    let sql = format!("SELECT count(*), coalesce(sum(bytes), 0)::int8 FROM {}", table(id));
    let row = client.query_one(&sql, &[]).await?;
    Ok(Tally { points: row.get(0), bytes: row.get(1) })
}

impl Engine for PgVector {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        schema::check(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        Box::pin(self.write(move |inner| async move { inner.create(id, config).await }))
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        Box::pin(self.write(move |inner| async move { inner.drop_collection(id).await }))
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        Box::pin(self.read(async {
            let _one = self.inner.defining.lock().await;
            self.inner.refresh().await?;
            let all = self.inner.all().into_values();
            Ok(all.map(|collection| (collection.id, Arc::clone(&collection.config))).collect())
        }))
    }

    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        Box::pin(self.write(move |inner| async move { inner.apply(collection, writes).await }))
    }

    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>> {
        Box::pin(self.read(async move { self.inner.get(collection, &ids).await }))
    }

    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        Box::pin(self.read(async move { self.inner.scan(collection, &scan).await }))
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(self.read(async move { self.inner.search(collection, &search).await }))
    }

    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64> {
        Box::pin(
            self.read(async move { self.inner.count(collection, &accept, filter.as_ref()).await }),
        )
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        Box::pin(self.read(self.inner.stats()))
    }

    fn snapshot(&self, _: PathBuf, _: PathBuf) -> Reply<'_, Option<PathBuf>> {
        let refusal = "points in PostgreSQL are backed up with its own tools, such as pg_dump, together with the shard's data directory";
        Box::pin(std::future::ready(Err(EngineError::Unsupported(refusal.to_owned()))))
    }
}
