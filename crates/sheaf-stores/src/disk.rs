//! The little that a file store needs of a filesystem, so that it also runs on a simulated disk.
//!
//! Decides nothing: each call does one thing, durable where its page says so.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// One folder.
pub trait Disk: Send + Sync + 'static {
    /// The whole file; `None`: there is none.
    ///
    /// # Errors
    /// It can't be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file with this content, in place of one that is there, and makes the content durable (not yet its name).
    ///
    /// # Errors
    /// The file may be there in part.
    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Renames a file, in place of one that is there: afterwards, even after a crash, `to` is the one or the other.
    ///
    /// # Errors
    /// It may have been renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; does nothing when there is none.
    ///
    /// # Errors
    /// It may still be there.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names in the folder durable as they are now.
    ///
    /// # Errors
    /// Some may not be durable.
    fn sync_names(&self) -> io::Result<()>;

    /// How a person finds this file.
    fn place(&self, name: &str) -> String;

    /// Whether calls wait for a device, so that they have to be kept off the threads that serve requests.
    fn is_slow(&self) -> bool;
}

/// A folder of this machine, for one process at a time.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked until it is closed, which the system does for a process that dies.
    _lock: File,
}

/// The file whose lock says that the folder is in use.
const LOCK_NAME: &str = "lock";

impl Folder {
    /// Opens the folder, makes it if need be, and locks it.
    ///
    /// # Errors
    /// `InUse`: another process has it. `Unavailable`: it can't be made or opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unavailable = |what: &str, error: &io::Error| {
            let path = path.display();
            StoreError::Unavailable(format!(
                "the folder {path} can't be {what}: {error}; check that it is a folder which this user may write to"
            ))
        };
        fs::create_dir_all(path).map_err(|error| unavailable("made", &error))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(|error| unavailable("made durable", &error))?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_NAME))
            .map_err(|error| unavailable("used", &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(format!(
                "the folder {} is in use by another process; stop that one, or give this one a folder of its own",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(unavailable("locked", &error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.path.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn is_slow(&self) -> bool {
        true
    }
}
