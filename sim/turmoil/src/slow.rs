//! An engine that takes its time: the real one, with a wait before and after each call.
//!
//! In production the engine works on threads of its own, so other requests go on meanwhile; without a wait each call here
//! would be one indivisible step of the host, and no crash could fall into it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_engines::{
    Accept, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan, ScanPage, Search,
    Write,
};
use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};

use crate::dice::Dice;

/// How slow a host's engine is, through all of the host's lives.
#[derive(Debug)]
pub struct Pace {
    mean_us: AtomicU64,
    dice: Mutex<Dice>,
}

impl Pace {
    pub fn new(dice: Dice, mean_us: u64) -> Self {
        Self { mean_us: AtomicU64::new(mean_us), dice: Mutex::new(dice) }
    }

    pub fn set(&self, mean_us: u64) {
        self.mean_us.store(mean_us, Ordering::SeqCst);
    }

    pub async fn wait(&self) {
        let mean_us = self.mean_us.load(Ordering::SeqCst);
        let us = self.dice.lock().unwrap_or_else(PoisonError::into_inner).around(mean_us);
        if us > 0 {
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
    }
}

pub struct SlowEngine<E> {
    pub inner: E,
    pub pace: Arc<Pace>,
}

impl<E: Engine> SlowEngine<E> {
    fn slowly<'a, T: Send + 'a>(&'a self, call: Reply<'a, T>) -> Reply<'a, T> {
        Box::pin(async move {
            self.pace.wait().await;
            let answer = call.await;
            self.pace.wait().await;
            answer
        })
    }
}

impl<E: Engine> Engine for SlowEngine<E> {
    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        self.slowly(self.inner.create_collection(id, config))
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        self.slowly(self.inner.drop_collection(id))
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        self.slowly(self.inner.collections())
    }

    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        self.slowly(self.inner.apply(collection, writes))
    }

    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>> {
        self.slowly(self.inner.get(collection, ids))
    }

    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        self.slowly(self.inner.scan(collection, scan))
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        self.slowly(self.inner.search(collection, search))
    }

    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64> {
        self.slowly(self.inner.count(collection, accept, filter))
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        self.slowly(self.inner.stats())
    }

    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        self.inner.holds(config)
    }

    fn snapshot(&self, into: PathBuf, final_folder: PathBuf) -> Reply<'_, Option<PathBuf>> {
        self.slowly(self.inner.snapshot(into, final_folder))
    }
}
