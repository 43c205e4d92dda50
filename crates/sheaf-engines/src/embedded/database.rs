//! The embedded engine without its threads: every call does its work and returns.
//!
//! Holds the published snapshot; what a group of commands changes is decided in `writer.rs`. Never async.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};

use super::options::{EmbeddedOptions, Work};
use super::snapshot::Snapshot;
use super::writer::Writer;
use super::{copy, search, tables};
use crate::{Accept, Change, EngineError, EngineStats, Filter, Hit, Scan, ScanPage, Search, Write};

/// A change to the database.
#[derive(Clone, Debug)]
pub enum Command {
    Create { collection: CollectionId, config: Arc<CollectionConfig> },
    Drop { collection: CollectionId },
    Apply { collection: CollectionId, writes: Vec<Write> },
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Created,
    Dropped,
    Applied(Vec<Change>),
}

/// All collections of one engine, on one disk.
pub struct Database {
    pub(super) options: EmbeddedOptions,
    pub(super) snapshot: RwLock<Arc<Snapshot>>,
    writer: Mutex<Writer>,
    /// The outcome of a commit isn't known yet: a read could show what is not so any more.
    pub(super) unsettled: AtomicBool,
}

impl Database {
    /// Opens what is on the disk, reads all vectors into memory and checks every point against its hash.
    ///
    /// # Errors
    /// `Unavailable` when another process holds it or it can't be read, `Damaged` when it can't be right.
    pub fn open(mut options: EmbeddedOptions) -> Result<Self, EngineError> {
        if options.work == Work::Inline {
            // Without a thread that builds it there is no index.
            options.index_floats_min = usize::MAX;
        }
        let disk = options.disk.name();
        let (writer, snapshot) = guarded(&disk, || Writer::open(&options))?;
        let snapshot = RwLock::new(Arc::new(snapshot));
        Ok(Self {
            options,
            snapshot,
            writer: Mutex::new(writer),
            unsettled: AtomicBool::new(false),
        })
    }

    /// Performs the commands in order in one durable transaction, and answers each. A command that is refused
    /// leaves the others alone; when the disk fails, all fail.
    pub fn commit(&self, commands: &[Command]) -> Vec<Result<Done, EngineError>> {
        self.writer().commit(self, commands)
    }

    /// The latest published state.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let mut published = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *published, Arc::new(snapshot));
        drop(published);
        // Readers never wait for the memory of the old snapshot to be freed.
        drop(before);
    }

    pub fn collections(&self) -> Vec<(CollectionId, Arc<CollectionConfig>)> {
        let snapshot = self.snapshot();
        let entry = |(id, collection): (&CollectionId, &Arc<super::snapshot::Collection>)| {
            (*id, Arc::clone(&collection.config))
        };
        snapshot.collections.iter().map(entry).collect()
    }

    /// See [`crate::Engine::get`]. Microseconds for each id.
    ///
    /// # Errors
    /// `NoCollection`; `Unavailable` or `Damaged` when the disk fails.
    pub fn get(
        &self,
        collection: CollectionId,
        ids: &[PointId],
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        self.read(|snapshot| snapshot.get(collection, ids))
    }

    /// Like [`Database::get`], but answers `Unavailable` where that would open the disk again.
    pub(super) fn get_now(
        &self,
        collection: CollectionId,
        ids: &[PointId],
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        if self.unsettled.load(Ordering::Acquire) {
            let what = "the outcome of an earlier write isn't known yet; ask again";
            return Err(EngineError::Unavailable(what.to_owned()));
        }
        let snapshot = self.snapshot();
        guarded(&snapshot.disk, || snapshot.get(collection, ids))
    }

    /// See [`crate::Engine::scan`]. About 10 ms at most.
    ///
    /// # Errors
    /// As for [`Database::get`].
    pub fn scan(&self, collection: CollectionId, scan: &Scan) -> Result<ScanPage, EngineError> {
        self.read(|snapshot| snapshot.scan(collection, scan))
    }

    /// See [`crate::Engine::search`].
    ///
    /// # Errors
    /// As for [`Database::get`]; `Invalid` for a vector that doesn't fit the collection.
    pub fn search(
        &self,
        collection: CollectionId,
        search: &Search,
    ) -> Result<Vec<Hit>, EngineError> {
        self.read(|snapshot| search::search(snapshot, collection, search))
    }

    /// See [`crate::Engine::count`].
    ///
    /// # Errors
    /// As for [`Database::get`].
    pub fn count(
        &self,
        collection: CollectionId,
        accept: &Accept,
        filter: Option<&Filter>,
    ) -> Result<u64, EngineError> {
        self.read(|snapshot| snapshot.count(collection, accept, filter))
    }

    /// See [`crate::Engine::snapshot`].
    ///
    /// # Errors
    /// As for [`Database::get`]; `Invalid` when the folder exists.
    pub fn copy(&self, to: &Path) -> Result<(), EngineError> {
        // Settles first what isn't known, as any read does.
        let snapshot = self.read(|_| Ok(self.snapshot()))?;
        guarded(&snapshot.disk, || copy::copy(&snapshot, to))
    }

    pub fn stats(&self) -> EngineStats {
        self.snapshot().stats(self.options.disk.bytes())
    }

    /// Brings the indexes of all collections a bounded step forward; says whether there is more to do.
    pub fn index_step(&self) -> bool {
        let snapshot = self.snapshot();
        let mut more = false;
        for collection in snapshot.collections.values() {
            more |= collection.graph.step(&collection.vectors);
        }
        more
    }

    fn read<T>(
        &self,
        read: impl Fn(&Snapshot) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if self.unsettled.load(Ordering::Acquire) {
            self.writer().settle(self)?;
        }
        let snapshot = self.snapshot();
        let result = guarded(&snapshot.disk, || read(&snapshot));
        if !matches!(result, Err(EngineError::Unavailable(_))) {
            return result;
        }
        // An I/O error closes the database for all readers until it is opened anew.
        self.writer().heal(self, &snapshot);
        let newer = self.snapshot();
        if Arc::ptr_eq(&snapshot, &newer) { result } else { guarded(&newer.disk, || read(&newer)) }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic inside is caught before it could poison the lock with half a change.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns a panic into an error: redb may panic on pages that were damaged behind its back.
pub(super) fn guarded<T>(
    disk: &str,
    work: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(tables::damaged(disk, &format!("reading it ended in: {what}")))
    })
}
