//! How a group of commands becomes one durable transaction, and what happens when the disk fails.
//!
//! Decides the outcome that is answered: after a failed commit the database is opened again, and the counter of
//! commits in it tells whether the commit happened. Never answers success before the data is durable.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Durability, ReadableDatabase, StorageBackend, WriteTransaction};
use sheaf_types::{CollectionId, PointHash, PointId, StoredPoint};

use super::database::{Command, Database, Done};
use super::disk::{Health, Watched};
use super::graph::Graph;
use super::options::{EmbeddedOptions, Work};
use super::snapshot::{Collection, Snapshot};
use super::tables::{self, COLLECTIONS, FORMAT, META, META_COMMITS, META_FORMAT, Names, Stored};
use super::vectors::Vectors;
use crate::{Change, EngineError, Write, validate};

type Collections = BTreeMap<CollectionId, Arc<Collection>>;

/// Bytes that are rewritten at once after a failed sync.
const REWRITE_BYTES: usize = 1024 * 1024;

/// The only writer of a database.
pub struct Writer {
    options: EmbeddedOptions,
    disk: String,
    /// `None` after an error of the disk, until it can be opened again.
    store: Option<Store>,
    /// Durable commits so far.
    commits: u64,
    next_slot: u64,
    /// The collections as they are if the commit happened whose outcome isn't known yet.
    unresolved: Option<Draft>,
    /// A sync failed since all of the file was last known to be on the disk.
    rewrite: bool,
}

struct Store {
    db: redb::Database,
    health: Arc<Health>,
}

/// The collections as they will be when the transaction is durable.
struct Draft {
    collections: Collections,
    next_slot: u64,
}

/// How far a transaction came before it failed.
enum Failed {
    /// Nothing of it can ever be seen.
    Before(String),
    /// It may have become durable.
    Committing(String),
}

impl Writer {
    /// Opens the disk and loads all collections.
    pub fn open(options: &EmbeddedOptions) -> Result<(Self, Snapshot), EngineError> {
        let mut writer = Self {
            options: options.clone(),
            disk: options.disk.name(),
            store: None,
            commits: 0,
            next_slot: 0,
            unresolved: None,
            rewrite: false,
        };
        let (store, commits) = writer.open_store()?;
        writer.commits = commits;
        let read = store.db.begin_read().map_err(|e| writer.error(e))?;
        let mut snapshot =
            Snapshot { disk: writer.disk.clone(), txn: read, collections: Collections::new() };
        for (id, config) in tables::read_collections(&snapshot.txn, &writer.disk)? {
            let graph = Arc::new(writer.graph(&config));
            let collection = Collection::load(&snapshot, id, Arc::new(config), graph)?;
            let last = collection.vectors.last_slot();
            writer.next_slot = writer.next_slot.max(last.map_or(0, |slot| slot + 1));
            snapshot.collections.insert(id, Arc::new(collection));
        }
        writer.store = Some(store);
        Ok((writer, snapshot))
    }

    /// Opens redb, prepares a new file, and reads the counter of commits.
    fn open_store(&mut self) -> Result<(Store, u64), EngineError> {
        let backend = self.options.disk.open().map_err(|e| self.error(redb::Error::Io(e)))?;
        if self.rewrite {
            rewrite(&*backend).map_err(|e| self.error(redb::Error::Io(e)))?;
            self.rewrite = false;
        }
        let (backend, health) = Watched::new(backend);
        let mut builder = redb::Builder::new();
        builder.set_cache_size(self.options.cache_bytes);
        // Damage is found now, not when a page is needed; a file opened again after an error is checked anyway.
        builder.set_check_integrity_on_open(self.commits == 0);
        let db = builder.create_with_backend(backend).map_err(|e| self.error(e))?;
        let commits = match tables::read_meta(&db).map_err(|e| self.error(e))? {
            Some((FORMAT, commits)) => commits,
            Some((format, _)) => return Err(self.error(redb::Error::UpgradeRequired(format as u8))),
            None => {
                initialise(&db).map_err(|e| self.error(e))?;
                0
            }
        };
        Ok((Store { db, health }, commits))
    }

    /// See [`Database::commit`].
    pub fn commit(
        &mut self,
        database: &Database,
        commands: &[Command],
    ) -> Vec<Result<Done, EngineError>> {
        if let Err(error) = self.settle(database) {
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
        let Some(store) = &self.store else { return Vec::new() };
        let snapshot = database.snapshot();
        let mut draft =
            Draft { collections: snapshot.collections.clone(), next_slot: self.next_slot };
        let mut answers = Vec::with_capacity(commands.len());
        let written = catch_unwind(AssertUnwindSafe(|| {
            self.write(&store.db, &mut draft, commands, &mut answers)
        }));
        let failed = match written {
            Ok(Ok(())) => match publish(&self.disk, store, database, &draft) {
                Ok(()) => {
                    self.commits += 1;
                    self.next_slot = draft.next_slot;
                    return answers;
                }
                Err(error) => Failed::Committing(error.to_string()),
            },
            Ok(Err(failed)) => failed,
            Err(_) => Failed::Committing("the storage panicked".into()),
        };
        self.resolve(database, draft, failed, commands.len(), answers)
    }

    fn write(
        &self,
        db: &redb::Database,
        draft: &mut Draft,
        commands: &[Command],
        answers: &mut Vec<Result<Done, EngineError>>,
    ) -> Result<(), Failed> {
        let before = |error: redb::Error| Failed::Before(error.to_string());
        let mut txn = db.begin_write().map_err(|e| before(e.into()))?;
        txn.set_durability(Durability::Immediate).map_err(|e| before(e.into()))?;
        for command in commands {
            answers.push(self.perform(&txn, draft, command).map_err(before)?);
        }
        let count = || -> Stored<()> {
            txn.open_table(META)?.insert(META_COMMITS, self.commits + 1)?;
            Ok(())
        };
        count().map_err(before)?;
        txn.commit().map_err(|error| Failed::Committing(error.to_string()))
    }

    /// After a failure: finds out what happened, and answers the truth.
    fn resolve(
        &mut self,
        database: &Database,
        draft: Draft,
        failed: Failed,
        commands: usize,
        answers: Vec<Result<Done, EngineError>>,
    ) -> Vec<Result<Done, EngineError>> {
        self.rewrite |= self.store.as_ref().is_some_and(|store| store.health.sync_failed());
        let commits = self.commits;
        let (reason, draft) = match failed {
            Failed::Before(reason) => (reason, None),
            Failed::Committing(reason) => (reason, Some(draft)),
        };
        tracing::warn!(disk = self.disk, reason, "a commit failed; opening the database again");
        let may_be_applied = draft.is_some();
        self.unresolved = draft;
        database.unsettled.store(may_be_applied, Ordering::Release);
        let error = match self.reopen(database) {
            Ok(()) if may_be_applied && self.commits > commits => return answers,
            Ok(()) => EngineError::Unavailable(format!(
                "writing to {} failed: {reason}. Nothing was applied; ask again later, and look at the disk \
                 and its free space if it stays",
                self.disk
            )),
            Err(error) if may_be_applied => EngineError::Unknown(format!(
                "writing to {} failed: {reason}; then: {error}. The writes may or may not be there once the \
                 disk can be read again",
                self.disk
            )),
            Err(error) => error,
        };
        (0..commands).map(|_| Err(error.clone())).collect()
    }

    /// Makes sure that the database is open and the outcome of every commit is known.
    pub fn settle(&mut self, database: &Database) -> Result<(), EngineError> {
        if self.store.is_some() { Ok(()) } else { self.reopen(database) }
    }

    /// Opens the database anew when readers can't use this snapshot, unless that was done meanwhile.
    pub fn heal(&mut self, database: &Database, failing: &Arc<Snapshot>) {
        if Arc::ptr_eq(failing, &database.snapshot())
            && let Err(error) = self.reopen(database)
        {
            tracing::warn!(disk = self.disk, %error, "the database can't be opened again yet");
        }
    }

    /// Opens the database anew after a failure; publishes a snapshot that can be read.
    fn reopen(&mut self, database: &Database) -> Result<(), EngineError> {
        // Closes the backend, which gives back its lock.
        self.store = None;
        let disk = self.disk.clone();
        let (store, after) = super::database::guarded(&disk, || self.open_store())?;
        let draft = match (after.checked_sub(self.commits), self.unresolved.take()) {
            (Some(1), Some(happened)) => happened,
            (Some(0), _) => Draft {
                collections: database.snapshot().collections.clone(),
                next_slot: self.next_slot,
            },
            (_, unresolved) => {
                self.unresolved = unresolved;
                let what = format!("it shows commit {after} where {} was expected", self.commits);
                return Err(tables::damaged(&disk, &what));
            }
        };
        if let Err(error) = publish(&disk, &store, database, &draft) {
            self.unresolved = Some(draft).filter(|_| after > self.commits);
            return Err(self.error(error));
        }
        self.commits = after;
        self.next_slot = draft.next_slot;
        self.store = Some(store);
        database.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    fn graph(&self, config: &sheaf_types::CollectionConfig) -> Graph {
        let readers = match self.options.work {
            Work::Threads { readers } => readers,
            Work::Inline => 1,
        };
        Graph::new(config, self.options.index_floats_min, readers)
    }

    fn error(&self, error: impl Into<redb::Error>) -> EngineError {
        tables::read_error(&self.disk, error.into())
    }
}

/// Lets readers see the draft, which is durable.
fn publish(disk: &str, store: &Store, database: &Database, draft: &Draft) -> Stored<()> {
    let txn = store.db.begin_read()?;
    let collections = draft.collections.clone();
    database.publish(Snapshot { disk: disk.to_owned(), txn, collections });
    Ok(())
}

/// What each command does to the tables and to the draft.
impl Writer {
    /// The outer error is the disk's and ends the transaction, the inner one refuses this command only.
    fn perform(
        &self,
        txn: &WriteTransaction,
        draft: &mut Draft,
        command: &Command,
    ) -> Stored<Result<Done, EngineError>> {
        match command {
            Command::Create { collection, config } => {
                if draft.collections.contains_key(collection) {
                    return Ok(Ok(Done::Created));
                }
                if let Err(refusal) = validate::collection(config) {
                    return Ok(Err(refusal));
                }
                let json = serde_json::to_vec(&**config).map_err(std::io::Error::other)?;
                txn.open_table(COLLECTIONS)?.insert(collection.0, json.as_slice())?;
                let names = Names::of(*collection);
                txn.open_table(names.points())?;
                txn.open_table(names.rows())?;
                let created = Collection {
                    id: *collection,
                    config: Arc::clone(config),
                    vectors: Vectors::of(config),
                    bytes: 0,
                    graph: Arc::new(self.graph(config)),
                };
                draft.collections.insert(*collection, Arc::new(created));
                Ok(Ok(Done::Created))
            }
            Command::Drop { collection } => {
                if draft.collections.remove(collection).is_some() {
                    txn.open_table(COLLECTIONS)?.remove(collection.0)?;
                    let names = Names::of(*collection);
                    txn.delete_table(names.points())?;
                    txn.delete_table(names.rows())?;
                }
                Ok(Ok(Done::Dropped))
            }
            Command::Apply { collection, writes } => {
                let Some(target) = draft.collections.get_mut(collection) else {
                    return Ok(Err(EngineError::NoCollection(*collection)));
                };
                if let Err(refusal) = validate::writes(*collection, &target.config, writes) {
                    return Ok(Err(refusal));
                }
                let target = Arc::make_mut(target);
                let changes = apply(txn, target, &mut draft.next_slot, writes)?;
                Ok(Ok(Done::Applied(changes)))
            }
        }
    }
}

fn apply(
    txn: &WriteTransaction,
    target: &mut Collection,
    next_slot: &mut u64,
    writes: &[Write],
) -> Stored<Vec<Change>> {
    let names = Names::of(target.id);
    let mut points = txn.open_table(names.points())?;
    let mut rows = txn.open_table(names.rows())?;
    let mut changes = Vec::with_capacity(writes.len());
    for write in writes {
        let (id, new): (&PointId, Option<&StoredPoint>) = match write {
            Write::Upsert(point) => (&point.id, Some(point)),
            Write::Delete(id) => (id, None),
        };
        let key = id.as_str().as_bytes();
        let old = match new {
            Some(point) => {
                let bytes = tables::row_bytes(id, &point.body);
                let entry = (*next_slot, bytes as u32, point.hash.0);
                let old = points.insert(key, entry)?.map(|entry| entry.value());
                rows.insert(*next_slot, tables::encode_row(id, &point.body).as_slice())?;
                target.vectors.put(*next_slot, id.clone(), &point.body);
                target.bytes += bytes;
                *next_slot += 1;
                old
            }
            None => points.remove(key)?.map(|entry| entry.value()),
        };
        if let Some((slot, bytes, _)) = old {
            rows.remove(slot)?;
            target.vectors.remove(slot);
            target.bytes = target.bytes.saturating_sub(u64::from(bytes));
        }
        let old = old.map(|(_, _, hash)| PointHash(hash));
        changes.push(Change { old, new: new.map(|point| point.hash) });
    }
    Ok(changes)
}

/// Writes the layout's version into a new file.
fn initialise(db: &redb::Database) -> Stored<()> {
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_COMMITS, 0)?;
        txn.open_table(COLLECTIONS)?;
    }
    Ok(txn.commit()?)
}

/// Writes every byte again and syncs: after a failed sync the system may show data that never reached the disk and
/// that it wouldn't write again by itself.
fn rewrite(backend: &dyn StorageBackend) -> std::io::Result<()> {
    let length = backend.len()?;
    let mut block = vec![0; REWRITE_BYTES];
    let mut offset = 0;
    while offset < length {
        let bytes = (length - offset).min(REWRITE_BYTES as u64) as usize;
        backend.read(offset, &mut block[..bytes])?;
        backend.write(offset, &block[..bytes])?;
        offset += bytes as u64;
    }
    backend.sync_data()
}
