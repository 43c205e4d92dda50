//! An engine with an inverted index beside it, made when it is first asked for and kept up to date by every write.
//!
//! The index is never older than an answered write: a write leaves its ids behind before it is answered, and who asks reads
//! these points again first. It is kept in memory alone, bounded, and made anew after a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};
use tokio::sync::RwLock;

use super::index::{Index, Ranked};
use super::{SparseQuery, SparseVector, Statistics};
use crate::{
    Accept, Adoptable, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan,
    ScanPage, Search, ShownPoint, Write,
};

/// Entries of all indexes of a shard: about 600 MiB. A text of a hundred different words has a hundred.
const ENTRIES_MAX: usize = 64 << 20;
/// Ids that were written since somebody asked; with more, the index is made anew.
const CHANGED_MAX: usize = 1 << 16;
/// Points read at once.
const PAGE_POINTS: usize = 256;
const PAGE_BYTES: usize = 8 << 20;

/// An engine that also ranks points by the sparse vectors and texts in their payloads.
pub struct SparseEngine {
    engine: Arc<dyn Engine>,
    entries_max: usize,
    indexes: Mutex<BTreeMap<CollectionId, Arc<Indexed>>>,
}

/// The index of one collection.
#[derive(Default)]
struct Indexed {
    /// Ids written since the index read them, each with the number of its last write.
    changed: Mutex<Changed>,
    contents: RwLock<Contents>,
}

#[derive(Default)]
struct Changed {
    writes: u64,
    ids: BTreeMap<PointId, u64>,
}

#[derive(Default)]
struct Contents {
    index: Index,
    /// How far the first scan has come; `None`: not begun.
    scanned: Option<PointId>,
    /// Whether the first scan is over.
    whole: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SparseEngine {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self::with_entries_max(engine, ENTRIES_MAX)
    }

    /// With another bound on the entries of all its indexes.
    pub fn with_entries_max(engine: Arc<dyn Engine>, entries_max: usize) -> Self {
        Self { engine, entries_max, indexes: Mutex::default() }
    }

    /// What BM25 has to know of the accepted points.
    ///
    /// # Errors
    /// The engine's own; `Unsupported` when the index would be too large.
    pub async fn statistics(
        &self,
        collection: CollectionId,
        terms: Vec<u32>,
        accept: Accept,
    ) -> Result<Statistics, EngineError> {
        let indexed = self.up_to_date(collection).await?;
        let contents = indexed.contents.read().await;
        Ok(contents.index.statistics(&terms, &accept))
    }

    /// The best `limit` of the accepted points that the filter holds for, best first; equal scores in the order of ids.
    ///
    /// # Errors
    /// As of [`SparseEngine::statistics`].
    pub async fn rank(
        &self,
        collection: CollectionId,
        query: SparseQuery,
        limit: usize,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Result<Vec<Ranked>, EngineError> {
        let indexed = self.up_to_date(collection).await?;
        let candidates = if filter.is_some() { usize::MAX } else { limit };
        let ranked = {
            let contents = indexed.contents.read().await;
            contents.index.rank(&query, &accept, candidates)
        };
        let Some(filter) = filter else { return Ok(ranked) };
        let mut kept = Vec::new();
        for some in ranked.chunks(PAGE_POINTS) {
            let ids = some.iter().map(|ranked| ranked.id.clone()).collect();
            let points = self.engine.get(collection, ids).await?;
            let pairs = some.iter().zip(points);
            kept.extend(pairs.filter(|(_, point)| holds(&filter, point)).map(|(r, _)| r.clone()));
            if kept.len() >= limit {
                break;
            }
        }
        kept.truncate(limit);
        Ok(kept)
    }

    /// The collection's index with every write in it that was answered before this call.
    async fn up_to_date(&self, collection: CollectionId) -> Result<Arc<Indexed>, EngineError> {
        let indexed = locked(&self.indexes).entry(collection).or_default().clone();
        let is_current =
            indexed.contents.read().await.whole && locked(&indexed.changed).ids.is_empty();
        if is_current {
            return Ok(indexed);
        }
        let mut contents = indexed.contents.write().await;
        let read = async {
            self.scan_rest(collection, &mut contents).await?;
            self.read_changed(collection, &indexed.changed, &mut contents).await
        };
        let read = read.await;
        drop(contents);
        if let Err(error) = read {
            if !matches!(error, EngineError::Unavailable(_)) {
                self.forget(collection);
            }
            return Err(error);
        }
        Ok(indexed)
    }

    /// Reads all points once. Who gives up half-way leaves what was read to the next who asks.
    async fn scan_rest(
        &self,
        collection: CollectionId,
        contents: &mut Contents,
    ) -> Result<(), EngineError> {
        while !contents.whole {
            let scan = Scan {
                after: contents.scanned.clone(),
                through: None,
                points_max: PAGE_POINTS,
                bytes_max: PAGE_BYTES,
                bodies: true,
                accept: Accept::All,
                filter: None,
            };
            let page = self.engine.scan(collection, scan).await?;
            for point in &page.points {
                let payload = point.body.as_ref().and_then(|body| body.payload());
                contents.index.put(&point.id, SparseVector::of_payload(payload));
            }
            self.check_size(&contents.index)?;
            contents.whole = page.looked_through.is_none();
            contents.scanned = page.looked_through;
        }
        Ok(())
    }

    /// Reads again what was written since it was last read.
    async fn read_changed(
        &self,
        collection: CollectionId,
        changed: &Mutex<Changed>,
        contents: &mut Contents,
    ) -> Result<(), EngineError> {
        let taken: Vec<(PointId, u64)> =
            locked(changed).ids.iter().map(|(id, write)| (id.clone(), *write)).collect();
        for some in taken.chunks(PAGE_POINTS) {
            let ids = some.iter().map(|(id, _)| id.clone()).collect();
            let points = self.engine.get(collection, ids).await?;
            for ((id, _), point) in some.iter().zip(&points) {
                let payload = point.as_ref().and_then(|point| point.body.payload());
                contents.index.put(id, SparseVector::of_payload(payload));
            }
            // One that was written meanwhile stays: what was read may be older.
            let mut changed = locked(changed);
            for (id, write) in some {
                if changed.ids.get(id) == Some(write) {
                    changed.ids.remove(id);
                }
            }
        }
        self.check_size(&contents.index)
    }

    /// Those of the other collections are only looked at where nobody is writing to them.
    fn check_size(&self, index: &Index) -> Result<(), EngineError> {
        let all: Vec<Arc<Indexed>> = locked(&self.indexes).values().cloned().collect();
        let others =
            all.iter().filter_map(|other| Some(other.contents.try_read().ok()?.index.entries()));
        let entries = others.sum::<usize>() + index.entries();
        if entries <= self.entries_max {
            return Ok(());
        }
        let max = self.entries_max;
        Err(EngineError::Unsupported(format!(
            "the texts and sparse vectors of this shard have more than {max} terms, too many for the index of hybrid search, which is kept in \
             memory; add shards, or leave `query_text` and the sparse vector out"
        )))
    }

    fn forget(&self, collection: CollectionId) {
        locked(&self.indexes).remove(&collection);
    }
}

fn holds(filter: &Filter, point: &Option<StoredPoint>) -> bool {
    point.as_ref().is_some_and(|point| filter.holds_for_text(point.body.payload()))
}

/// Leaves a write's ids behind when it ends, however it ends.
struct Leaving<'a> {
    engine: &'a SparseEngine,
    collection: CollectionId,
    ids: Vec<PointId>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let indexed = locked(&self.engine.indexes).get(&self.collection).cloned();
        let Some(indexed) = indexed else { return };
        let mut changed = locked(&indexed.changed);
        changed.writes += 1;
        let write = changed.writes;
        changed.ids.extend(std::mem::take(&mut self.ids).into_iter().map(|id| (id, write)));
        if changed.ids.len() > CHANGED_MAX {
            self.engine.forget(self.collection);
        }
    }
}

impl Engine for SparseEngine {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        self.engine.holds(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        self.engine.create_collection(id, config)
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        Box::pin(async move {
            let dropped = self.engine.drop_collection(id).await;
            self.forget(id);
            dropped
        })
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        self.engine.collections()
    }

    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        let id = |write: &Write| match write {
            Write::Upsert(point) => point.id.clone(),
            Write::Delete(id) => id.clone(),
        };
        let leaving = Leaving { engine: self, collection, ids: writes.iter().map(id).collect() };
        Box::pin(async move {
            let applied = self.engine.apply(collection, writes).await;
            drop(leaving);
            applied
        })
    }

    fn foresee(&self, collection: CollectionId, points: &[StoredPoint], are_last: bool) {
        self.engine.foresee(collection, points, are_last);
    }

    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>> {
        self.engine.get(collection, ids)
    }

    fn show(&self, collection: CollectionId, id: PointId) -> Reply<'_, Option<ShownPoint>> {
        self.engine.show(collection, id)
    }

    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        self.engine.scan(collection, scan)
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        self.engine.search(collection, search)
    }

    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64> {
        self.engine.count(collection, accept, filter)
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        self.engine.stats()
    }

    fn place(&self) -> Option<String> {
        self.engine.place()
    }

    fn adoptable(&self) -> Reply<'_, Vec<Adoptable>> {
        self.engine.adoptable()
    }

    fn snapshot(&self, into: PathBuf, final_folder: PathBuf) -> Reply<'_, Option<PathBuf>> {
        self.engine.snapshot(into, final_folder)
    }
}
