//! A tiny exact engine in memory: the oracle of the conformance suite, and a stand-in for tests elsewhere.
//!
//! As plain as can be, so that it can be believed. Keeps nothing on a disk.

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};

use crate::score::{Best, Candidate, Query, norm};
use crate::{
    Accept, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan, ScanPage,
    ScannedPoint, Search, Write, validate,
};

/// All collections in memory. Every call is done when it returns, so its futures are ready at once.
#[derive(Debug, Default)]
pub struct Memory {
    collections: Mutex<BTreeMap<CollectionId, Collection>>,
}

#[derive(Debug)]
struct Collection {
    config: Arc<CollectionConfig>,
    points: BTreeMap<PointId, StoredPoint>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<CollectionId, Collection>> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        id: CollectionId,
        work: impl FnOnce(&mut Collection) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        work(self.all().get_mut(&id).ok_or(EngineError::NoCollection(id))?)
    }
}

/// Whether a call may see the point.
fn sees(accept: &Accept, filter: Option<&Filter>, point: &StoredPoint) -> bool {
    let holds = |filter: &Filter| filter.holds_for_text(point.body.payload());
    accept.takes(point.id.placement_key()) && filter.is_none_or(holds)
}

impl Collection {
    fn apply(&mut self, write: Write) -> Change {
        let (old, new) = match write {
            Write::Upsert(point) => {
                let hash = point.hash;
                (self.points.insert(point.id.clone(), point), Some(hash))
            }
            Write::Delete(id) => (self.points.remove(&id), None),
        };
        Change { old: old.map(|point| point.hash), new }
    }

    fn scan(&self, scan: &Scan) -> ScanPage {
        let after = scan.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = ScanPage::default();
        let mut bytes = 0;
        let in_range = |id: &PointId| scan.through.as_ref().is_none_or(|through| id <= through);
        let points = self.points.range((after, Bound::Unbounded));
        let mut last = None;
        for (id, point) in points.take_while(|(id, _)| in_range(id)) {
            if sees(&scan.accept, scan.filter.as_ref(), point) {
                let size = id.as_str().len() + point.body.as_bytes().len();
                let full = page.points.len() >= scan.points_max.max(1)
                    || scan.bodies && !page.points.is_empty() && bytes + size > scan.bytes_max;
                if full {
                    page.looked_through = last;
                    return page;
                }
                bytes += size;
                let body = scan.bodies.then(|| point.body.clone());
                page.points.push(ScannedPoint { id: id.clone(), hash: point.hash, body });
            }
            last = Some(id.clone());
        }
        page
    }

    fn search(&self, search: &Search) -> Result<Vec<Hit>, EngineError> {
        validate::search(&self.config, search)?;
        let query = Query::new(self.config.metric, search.vector.clone());
        let mut best = Best::new(search.k);
        for (slot, (id, point)) in self.points.iter().enumerate() {
            if sees(&search.accept, search.filter.as_ref(), point) {
                let vector = point.body.vector();
                let score = query.score(&vector, norm(&vector));
                let rank = query.rank(score);
                best.offer(Candidate { rank, score, id, slot: slot as u64 });
            }
        }
        let hit = |found: Candidate<'_>| Hit {
            id: found.id.clone(),
            score: found.score,
            body: search.bodies.any().then(|| self.points[found.id].body.clone()),
        };
        Ok(best.into_sorted().into_iter().map(hit).collect())
    }
}

impl Engine for Memory {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        validate::collection(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        let created = validate::collection(&config).map(|()| {
            self.all().entry(id).or_insert(Collection { config, points: BTreeMap::new() });
        });
        Box::pin(ready(created))
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        self.all().remove(&id);
        Box::pin(ready(Ok(())))
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        let all = self.all();
        let found = all.iter().map(|(id, held)| (*id, Arc::clone(&held.config))).collect();
        Box::pin(ready(Ok(found)))
    }

    fn apply(&self, id: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        Box::pin(ready(self.with(id, |collection| {
            validate::writes(id, &collection.config, &writes)?;
            Ok(writes.into_iter().map(|write| collection.apply(write)).collect())
        })))
    }

    fn get(&self, id: CollectionId, ids: Vec<PointId>) -> Reply<'_, Vec<Option<StoredPoint>>> {
        Box::pin(ready(self.with(id, |collection| {
            Ok(ids.iter().map(|id| collection.points.get(id).cloned()).collect())
        })))
    }

    fn scan(&self, id: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        Box::pin(ready(self.with(id, |collection| Ok(collection.scan(&scan)))))
    }

    fn search(&self, id: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(ready(self.with(id, |collection| collection.search(&search))))
    }

    fn count(&self, id: CollectionId, accept: Accept, filter: Option<Filter>) -> Reply<'_, u64> {
        Box::pin(ready(self.with(id, |collection| {
            let points = collection.points.values();
            Ok(points.filter(|point| sees(&accept, filter.as_ref(), point)).count() as u64)
        })))
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        let mut stats = EngineStats::default();
        for point in self.all().values().flat_map(|collection| collection.points.values()) {
            stats.points += 1;
            stats.bytes += (point.id.as_str().len() + point.body.as_bytes().len()) as u64;
        }
        Box::pin(ready(Ok(stats)))
    }

    fn snapshot(&self, _: PathBuf, _: PathBuf) -> Reply<'_, Option<PathBuf>> {
        let refusal = "an engine in memory has nothing to keep";
        Box::pin(ready(Err(EngineError::Unsupported(refusal.to_owned()))))
    }
}
