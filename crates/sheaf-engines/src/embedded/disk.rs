//! Where the embedded engine's bytes live: a file by default, anything that redb can write to otherwise.
//!
//! The seam through which the engine runs on a simulated disk. Knows nothing of points.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const DATA_FILE: &str = "engine.redb";

/// A place for one database. It is opened again after an I/O error, so `open` may be called several times,
/// each time after the backend opened before was closed.
pub trait Disk: Send + Sync + 'static {
    /// What operators know the place by; error messages name it.
    fn name(&self) -> String;

    /// Opens what is there, or creates it empty. A backend that can be locked keeps others out by redb's locks.
    ///
    /// # Errors
    /// Whatever the place answers.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Bytes that it takes on disk; 0 when that can't be known.
    fn bytes(&self) -> u64;
}

/// One data file in a directory of its own.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
}

impl FileDisk {
    /// Nothing is touched before it is opened.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl Disk for FileDisk {
    fn name(&self) -> String {
        self.dir.join(DATA_FILE).display().to_string()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(DATA_FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // Without this a crash may forget the name of a file whose content is durable.
        File::open(&self.dir)?.sync_all()?;
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn bytes(&self) -> u64 {
        fs::metadata(self.dir.join(DATA_FILE)).map_or(0, |meta| meta.len())
    }
}

/// What happened to a backend since it was opened.
#[derive(Debug, Default)]
pub struct Health {
    sync_failed: AtomicBool,
}

impl Health {
    /// Whether data could not be made durable: what the system's cache shows may not be on the disk.
    pub fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }
}

/// A backend that remembers failed syncs, and is otherwise the backend inside.
#[derive(Debug)]
pub struct Watched {
    inner: Box<dyn StorageBackend>,
    health: Arc<Health>,
}

impl Watched {
    pub fn new(inner: Box<dyn StorageBackend>) -> (Self, Arc<Health>) {
        let health = Arc::new(Health::default());
        (Self { inner, health: Arc::clone(&health) }, health)
    }
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let failed = |_: &io::Error| self.health.sync_failed.store(true, Ordering::Release);
        self.inner.sync_data().inspect_err(failed)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.query_lock_range(start, end)
    }
}
