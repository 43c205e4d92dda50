//! What can be chosen when the embedded engine is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Disk;
use super::disk::FileDisk;

/// Bytes of pages that redb keeps in memory. The operating system caches the file as well.
/// Source: a copy reads its whole slice through this cache, and a donor's memory may grow by 64 MiB meanwhile;
/// `cargo xtask bench copy` found 153 MiB with 128 MiB of cache, 45 MiB with 32, and no slower loads.
const CACHE_BYTES_DEFAULT: usize = 32 * 1024 * 1024;
/// Numbers (points × dimension) from which a collection gets an HNSW index.
/// Source: the example `embedded_figures`; below it an exact scan takes half a millisecond.
const INDEX_FLOATS_MIN_DEFAULT: usize = 8_000 * 384;
/// Threads that scan and search, at most by default: more than there are cores make nothing faster.
const READERS_MAX_DEFAULT: usize = 4;

/// How the embedded engine is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Where the bytes live.
    pub disk: Arc<dyn Disk>,
    pub work: Work,
    /// Bytes of pages that redb keeps in memory.
    pub cache_bytes: usize,
    /// Numbers (points × dimension) from which a collection gets an HNSW index.
    pub index_floats_min: usize,
}

/// Where the engine's work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// On threads of its own: one writes, one indexes, these many scan and search.
    Threads { readers: usize },
    /// In the call itself: no threads, no index, every search is exact. For simulations.
    Inline,
}

impl EmbeddedOptions {
    /// Files in this directory, which is created; threads.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(FileDisk::new(dir)))
    }

    /// Any disk; threads.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            disk,
            work: Work::Threads { readers: cores.min(READERS_MAX_DEFAULT) },
            cache_bytes: CACHE_BYTES_DEFAULT,
            index_floats_min: INDEX_FLOATS_MIN_DEFAULT,
        }
    }
}

impl fmt::Debug for EmbeddedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedOptions")
            .field("disk", &self.disk.name())
            .field("work", &self.work)
            .field("cache_bytes", &self.cache_bytes)
            .field("index_floats_min", &self.index_floats_min)
            .finish()
    }
}
