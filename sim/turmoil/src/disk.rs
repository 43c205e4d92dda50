//! The file store's folder and redb's file on a simulated disk, which forgets at a crash what was not synced.
//!
//! Decides when a call fails: while a fault is on, or when its machine is off. Everything else is turmoil's file system.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;
use turmoil::fs::shim::std::fs::{self, File, OpenOptions};

use crate::dice::Dice;

/// The folder of a host's data, and the folder of its engine in it.
const DATA: &str = "/data";
const ENGINE: &str = "/data/engine";
const ENGINE_FILE: &str = "/data/engine/engine.redb";

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// One host's disk, through all of the host's lives.
#[derive(Debug)]
pub struct Hardware {
    /// Of a million calls, how many fail.
    fails_ppm: AtomicU32,
    full: AtomicBool,
    /// Calls that failed.
    pub failed: AtomicU64,
    dice: Mutex<Dice>,
    /// Which life of the host may use the disk; a crash ends it before destructors run.
    life: AtomicU64,
}

impl Hardware {
    pub fn new(dice: Dice) -> Self {
        Self {
            fails_ppm: AtomicU32::new(0),
            full: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            dice: Mutex::new(dice),
            life: AtomicU64::new(0),
        }
    }

    pub fn fail(&self, ppm: u32) {
        self.fails_ppm.store(ppm, Ordering::SeqCst);
    }

    pub fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// From now on, nothing that was opened before works.
    pub fn power_off(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// The disk, for the life that begins.
    pub fn plug(self: &Arc<Self>) -> Plug {
        Plug { hardware: Arc::clone(self), life: self.life.load(Ordering::SeqCst) }
    }
}

/// One life's access to the disk.
#[derive(Clone, Debug)]
pub struct Plug {
    hardware: Arc<Hardware>,
    life: u64,
}

impl Plug {
    fn works(&self) -> io::Result<()> {
        if self.hardware.life.load(Ordering::SeqCst) != self.life {
            return Err(io::Error::other("the machine is off"));
        }
        let ppm = self.hardware.fails_ppm.load(Ordering::SeqCst);
        if ppm > 0 {
            let mut dice = self.hardware.dice.lock().unwrap_or_else(PoisonError::into_inner);
            if dice.below(1_000_000) < u64::from(ppm) {
                self.hardware.failed.fetch_add(1, Ordering::SeqCst);
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        Ok(())
    }

    fn has_room(&self) -> io::Result<()> {
        if self.hardware.full.load(Ordering::SeqCst) {
            self.hardware.failed.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    /// A write that may fail half-way.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.works().and_then(|()| self.has_room()) {
            if self.hardware.life.load(Ordering::SeqCst) == self.life
                && offset < file.metadata()?.len()
            {
                file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(error);
        }
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.works()?;
        file.sync_all()
    }
}

/// The folder in which a node keeps its record.
#[derive(Debug)]
pub struct Folder(Plug);

impl Folder {
    /// Makes the folder if need be, durably.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(plug: Plug) -> io::Result<Self> {
        plug.works()?;
        fs::create_dir_all(DATA)?;
        plug.works()?;
        fs::sync_dir("/")?;
        Ok(Self(plug))
    }
}

fn at(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

impl sheaf_stores::Disk for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.works()?;
        match fs::read(at(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.works()?;
        let file = File::create(at(name))?;
        self.0.write(&file, bytes, 0)?;
        self.0.sync(&file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.works()?;
        fs::rename(at(from), at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.works()?;
        match fs::remove_file(at(name)) {
            // turmoil knows a file by its name only: a removal that is not durable yet would take the next file of this
            // name with it, and what was synced of that. The store removes nothing while a rename waits to be durable.
            Ok(()) => fs::sync_dir(DATA),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.works()?;
        fs::sync_dir(DATA)
    }

    fn place(&self, name: &str) -> String {
        at(name).display().to_string()
    }

    fn is_slow(&self) -> bool {
        false
    }
}

/// Where the engine's file is.
#[derive(Debug)]
pub struct EngineDisk(pub Plug);

impl sheaf_engines::embedded::Disk for EngineDisk {
    fn name(&self) -> String {
        ENGINE_FILE.to_owned()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.0.works()?;
        fs::create_dir_all(ENGINE)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let file = options.open(ENGINE_FILE)?;
        for folder in [ENGINE, DATA, "/"] {
            self.0.works()?;
            fs::sync_dir(folder)?;
        }
        Ok(Box::new(EngineFile { plug: self.0.clone(), file }))
    }

    fn bytes(&self) -> u64 {
        fs::metadata(ENGINE_FILE).map_or(0, |meta| meta.len())
    }
}

#[derive(Debug)]
struct EngineFile {
    plug: Plug,
    file: File,
}

impl StorageBackend for EngineFile {
    fn len(&self) -> io::Result<u64> {
        self.plug.works()?;
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.plug.works()?;
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plug.works()?;
        if len > self.file.metadata()?.len() {
            self.plug.has_room()?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plug.sync(&self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.plug.write(&self.file, data, offset)
    }
}
