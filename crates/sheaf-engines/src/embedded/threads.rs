//! The embedded engine with its threads: one writes groups, a few read, one indexes.
//!
//! Decides what waits for what: every queue is bounded, a caller waits for a place in it. Never touches a point.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use sheaf_types::{CollectionConfig, CollectionId, PointId, StoredPoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::database::{Command, Database, Done};
use super::options::{EmbeddedOptions, Work};
use crate::{
    Accept, Change, Engine, EngineError, EngineStats, Filter, Hit, Reply, Scan, ScanPage, Search,
    Write, validate,
};

/// Calls that wait to be written.
const QUEUED_CALLS_MAX: usize = 1_024;
/// KiB of bodies that wait to be written.
const QUEUED_KIB_MAX: usize = 128 * 1024;
/// Writes that share one durable commit; a larger call has one for itself. About 30 ms of work.
const GROUP_WRITES_MAX: usize = 1_024;
/// Scans and searches that wait for a thread or run.
const QUEUED_READS_MAX: usize = 1_024;
/// Ids that are read in the caller's task; more are read on a thread.
const INLINE_GETS_MAX: usize = 64;

/// The default engine of a shard. Dropping it waits for what was queued and closes the file.
pub struct Embedded {
    database: Arc<Database>,
    /// `None`: all work is done in the call.
    threads: Option<Threads>,
}

struct Threads {
    writes: Option<mpsc::Sender<Request>>,
    queued_kib: Arc<Semaphore>,
    reads: Option<Sender<Job>>,
    queued_reads: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

struct Request {
    command: Command,
    answer: oneshot::Sender<Result<Done, EngineError>>,
    _kib: OwnedSemaphorePermit,
}

type Job = Box<dyn FnOnce() + Send>;

impl Embedded {
    /// Opens the database and starts the threads. Reads all vectors into memory: seconds for a million.
    ///
    /// # Errors
    /// As for [`Database::open`].
    pub fn open(options: EmbeddedOptions) -> Result<Self, EngineError> {
        let work = options.work;
        let database = Arc::new(Database::open(options)?);
        let threads = match work {
            Work::Inline => None,
            Work::Threads { readers } => {
                Some(Threads::start(&database, readers).map_err(|error| {
                    EngineError::Unavailable(format!(
                        "the engine's threads can't be started: {error}. Nothing was changed"
                    ))
                })?)
            }
        };
        Ok(Self { database, threads })
    }

    /// The database without the threads.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    async fn write(&self, command: Command) -> Result<Done, EngineError> {
        let Some(threads) = &self.threads else {
            let mut answers = self.database.commit(&[command]);
            return answers.pop().unwrap_or_else(|| Err(stopped()));
        };
        let kib = kib_of(&command).min(QUEUED_KIB_MAX) as u32;
        let queued = Arc::clone(&threads.queued_kib).acquire_many_owned(kib).await;
        let (Ok(permit), Some(writes)) = (queued, &threads.writes) else { return Err(stopped()) };
        let (answer, answered) = oneshot::channel();
        let request = Request { command, answer, _kib: permit };
        writes.send(request).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| {
            Err(EngineError::Unknown("the engine stopped before it answered".to_owned()))
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let Some(threads) = &self.threads else { return work(&self.database) };
        let queued = Arc::clone(&threads.queued_reads).acquire_owned().await;
        let (Ok(permit), Some(reads)) = (queued, &threads.reads) else { return Err(stopped()) };
        let (answer, answered) = oneshot::channel();
        let database = Arc::clone(&self.database);
        let job = move || {
            let _permit = permit;
            // The caller may have given up while this waited.
            if !answer.is_closed() {
                let _ = answer.send(work(&database));
            }
        };
        reads.send(Box::new(job)).map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> EngineError {
    EngineError::Unavailable("the engine is stopping; nothing was applied".to_owned())
}

/// What a command takes of the queue's memory, roughly.
fn kib_of(command: &Command) -> usize {
    let bytes: usize = match command {
        Command::Create { .. } | Command::Drop { .. } => 0,
        Command::Apply { writes, .. } => writes
            .iter()
            .map(|write| match write {
                Write::Upsert(point) => point.id.as_str().len() + point.body.as_bytes().len(),
                Write::Delete(id) => id.as_str().len(),
            })
            .sum(),
    };
    bytes / 1024 + 1
}

impl Threads {
    fn start(database: &Arc<Database>, readers: usize) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut handles = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| -> std::io::Result<()> {
            handles.push(Builder::new().name(name.to_owned()).spawn(run)?);
            Ok(())
        };
        let (writes, requests) = mpsc::channel(QUEUED_CALLS_MAX);
        let (changed, nudges) = sync_channel(1);
        // The first nudge indexes what was on the disk.
        let _ = changed.try_send(());
        let writing = Arc::clone(database);
        spawn("engine-write", Box::new(move || write_groups(&writing, requests, &changed)))?;
        let (indexing, stopped) = (Arc::clone(database), Arc::clone(&stop));
        spawn("engine-index", Box::new(move || keep_indexed(&indexing, &nudges, &stopped)))?;
        let (reads, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..readers.max(1) {
            let jobs = Arc::clone(&jobs);
            spawn("engine-read", Box::new(move || perform(&jobs)))?;
        }
        Ok(Self {
            writes: Some(writes),
            queued_kib: Arc::new(Semaphore::new(QUEUED_KIB_MAX)),
            reads: Some(reads),
            queued_reads: Arc::new(Semaphore::new(QUEUED_READS_MAX)),
            stop,
            handles,
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.writes = None;
        self.reads = None;
        for handle in self.handles.drain(..) {
            // A thread that panicked has nothing left to wait for.
            let _ = handle.join();
        }
    }
}

/// Takes all that waits into one durable commit, then answers all.
fn write_groups(
    database: &Database,
    mut requests: mpsc::Receiver<Request>,
    changed: &SyncSender<()>,
) {
    let size = |command: &Command| match command {
        Command::Create { .. } | Command::Drop { .. } => 1,
        Command::Apply { writes, .. } => writes.len(),
    };
    let mut next = requests.blocking_recv();
    while let Some(first) = next.take() {
        let mut writes = size(&first.command);
        let (mut commands, mut waiting) = (vec![first.command], vec![(first.answer, first._kib)]);
        while let Ok(request) = requests.try_recv() {
            writes += size(&request.command);
            if writes > GROUP_WRITES_MAX {
                next = Some(request);
                break;
            }
            commands.push(request.command);
            waiting.push((request.answer, request._kib));
        }
        let answers = database.commit(&commands);
        for ((waiting, _kib), answer) in waiting.into_iter().zip(answers) {
            // A caller that gave up doesn't hear the outcome.
            let _ = waiting.send(answer);
        }
        // A nudge that waits already stands for this change too.
        let _ = changed.try_send(());
        next = next.or_else(|| requests.blocking_recv());
    }
}

fn keep_indexed(database: &Database, nudges: &Receiver<()>, stop: &AtomicBool) {
    while nudges.recv().is_ok() {
        while !stop.load(Ordering::Acquire) && database.index_step() {}
    }
}

fn perform(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Engine for Embedded {
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        validate::collection(config)
    }

    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()> {
        Box::pin(
            async move { self.write(Command::Create { collection: id, config }).await.map(|_| ()) },
        )
    }

    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()> {
        Box::pin(async move { self.write(Command::Drop { collection: id }).await.map(|_| ()) })
    }

    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>> {
        Box::pin(async move { Ok(self.database.collections()) })
    }

    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>> {
        Box::pin(async move {
            match self.write(Command::Apply { collection, writes }).await? {
                Done::Applied(changes) => Ok(changes),
                Done::Created | Done::Dropped => Err(stopped()),
            }
        })
    }

    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>> {
        Box::pin(async move {
            if ids.len() <= INLINE_GETS_MAX {
                let found = self.database.get_now(collection, &ids);
                if !matches!(found, Err(EngineError::Unavailable(_))) {
                    return found;
                }
            }
            self.read(move |database| database.get(collection, &ids)).await
        })
    }

    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage> {
        Box::pin(self.read(move |database| database.scan(collection, &scan)))
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(self.read(move |database| database.search(collection, &search)))
    }

    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64> {
        Box::pin(self.read(move |database| database.count(collection, &accept, filter.as_ref())))
    }

    fn stats(&self) -> Reply<'_, EngineStats> {
        Box::pin(async move { Ok(self.database.stats()) })
    }

    fn snapshot(&self, into: PathBuf, _: PathBuf) -> Reply<'_, Option<PathBuf>> {
        Box::pin(async move {
            self.read(move |database| database.copy(&into.join("engine"))).await.map(|()| None)
        })
    }
}
