//! A disk in memory that fails when told to, and forgets at a crash what was not synced.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;
use sheaf_engines::embedded::Disk;

const PAGE: usize = 512;

#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug)]
pub struct State {
    /// What the system shows.
    cache: Vec<u8>,
    /// What is on the disk.
    durable: Vec<u8>,
    /// Pages of the cache that differ from the disk, as far as the system knows.
    dirty: BTreeSet<usize>,
    /// Bytes that fit; more is refused.
    pub capacity: usize,
    /// The probability that a call fails.
    pub io_errors: f64,
    pub sync_errors: f64,
    /// Raised by a crash: backends that were opened before do nothing any more.
    generation: u64,
    rng: ChaCha8Rng,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: Vec::new(),
            durable: Vec::new(),
            dirty: BTreeSet::new(),
            capacity: usize::MAX,
            io_errors: 0.0,
            sync_errors: 0.0,
            generation: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power fails: of the pages that were not synced, some are on the disk and some are not.
    pub fn crash(&self) {
        let mut state = self.state();
        state.generation += 1;
        let dirty = std::mem::take(&mut state.dirty);
        let length = state.cache.len();
        state.durable.resize(length, 0);
        for page in dirty {
            if state.rng.random_bool(0.5) {
                state.write_back(page);
            }
        }
        state.cache = state.durable.clone();
    }

    /// Writes into the file behind the engine's back.
    pub fn damage(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        damage(&mut state.cache);
        state.durable = state.cache.clone();
        state.dirty.clear();
    }
}

impl State {
    fn write_back(&mut self, page: usize) {
        let range = page * PAGE..((page + 1) * PAGE).min(self.cache.len());
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.cache[range]);
    }

    fn fail(&mut self, probability: f64) -> io::Result<()> {
        if self.rng.random_bool(probability) {
            Err(io::Error::other("a simulated error"))
        } else {
            Ok(())
        }
    }
}

impl Disk for FaultyDisk {
    fn name(&self) -> String {
        "a simulated disk".to_owned()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let generation = self.state().generation;
        Ok(Box::new(FaultyFile { disk: self.clone(), generation }))
    }

    fn bytes(&self) -> u64 {
        self.state().cache.len() as u64
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    generation: u64,
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        if state.generation != self.generation {
            return Err(io::Error::other("the process has crashed"));
        }
        let probability = state.io_errors;
        state.fail(probability)?;
        Ok(state)
    }
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let found = state.cache.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if len as usize > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let before = state.cache.len() / PAGE;
        state.cache.resize(len as usize, 0);
        state.dirty.extend(before..(len as usize).div_ceil(PAGE));
        let last = (len as usize).div_ceil(PAGE);
        state.dirty.retain(|page| *page < last);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let probability = state.sync_errors;
        let failed = state.fail(probability);
        // As on a real system: after a failed sync the pages count as clean, whether they were written or not.
        for page in std::mem::take(&mut state.dirty) {
            if failed.is_ok() || state.rng.random_bool(0.5) {
                state.write_back(page);
            }
        }
        if failed.is_ok() {
            let length = state.cache.len();
            state.durable.resize(length, 0);
        }
        failed
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let (from, to) = (offset as usize, offset as usize + data.len());
        if to > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.cache.len() < to {
            state.cache.resize(to, 0);
        }
        state.cache[from..to].copy_from_slice(data);
        state.dirty.extend(from / PAGE..to.div_ceil(PAGE));
        Ok(())
    }
}
