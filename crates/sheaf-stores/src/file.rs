//! A record in one checksummed file, replaced atomically.
//!
//! A new version is written beside the old one, made durable, and renamed over it: at any moment the file is whole, old
//! or new. A file that isn't what was written is never repaired, overwritten or taken for an absent one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes};
use twox_hash::XxHash3_128;

use crate::disk::Disk;
use crate::port::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

/// First bytes of every record file.
const MAGIC: &[u8; 8] = b"SHEAFREC";
/// The form of the file that this version reads and writes.
const FORMAT: u32 = 1;
/// Magic, format, etag, length, then the checksum of those and of the record.
const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 16;

/// The store of one record in one folder.
#[derive(Debug)]
pub struct FileStore<D>(Arc<Inner<D>>);

#[derive(Debug)]
struct Inner<D> {
    disk: D,
    name: String,
    known: Mutex<Known>,
}

/// What is known of the file. Also makes calls follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Not read yet, or a write had an unknown outcome: the disk has to be asked.
    Nothing,
    /// `None`: there is no file.
    Durable(Option<Etag>),
}

impl<D: Disk> FileStore<D> {
    /// The record that is kept in the file `name` of this folder. Removes what a crash left of an unfinished write.
    ///
    /// # Errors
    /// `Unavailable`: the folder can't be written to.
    pub fn open(disk: D, name: &str) -> Result<Self, StoreError> {
        let temporary = temporary(name);
        disk.remove(&temporary).map_err(|error| {
            let place = disk.place(&temporary);
            StoreError::Unavailable(format!(
                "the unfinished file {place} can't be removed: {error}; it holds nothing that counts, remove it by hand"
            ))
        })?;
        let inner = Inner { disk, name: name.to_owned(), known: Mutex::new(Known::Nothing) };
        Ok(Self(Arc::new(inner)))
    }

    /// Runs the step where it may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Inner<D>) -> T + Send + 'static,
    ) -> Result<T, String> {
        let inner = self.0.clone();
        if inner.disk.is_slow() {
            let task = tokio::task::spawn_blocking(move || step(&inner));
            task.await.map_err(|error| format!("the process is stopping: {error}"))
        } else {
            Ok(step(&inner))
        }
    }
}

impl<D: Disk> Store for FileStore<D> {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            let loaded = self.run(Inner::load).await;
            loaded.unwrap_or_else(|reason| Err(StoreError::Unavailable(reason)))
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move {
            let outcome = self.run(move |inner| inner.compare_and_set(expected, &bytes)).await;
            outcome.unwrap_or_else(|reason| StoreOutcome::Unknown { reason })
        })
    }
}

impl<D: Disk> Inner<D> {
    fn load(&self) -> Result<Option<Loaded>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.load_into(&mut known)
    }

    fn load_into(&self, known: &mut Known) -> Result<Option<Loaded>, StoreError> {
        let place = self.disk.place(&self.name);
        let unreadable = |error: io::Error| {
            StoreError::Unavailable(format!("the file {place} can't be read: {error}"))
        };
        *known = Known::Nothing;
        // A rename may be visible and not yet durable: what is reported here must survive.
        self.disk.sync_names().map_err(unreadable)?;
        let Some(bytes) = self.disk.read(&self.name).map_err(unreadable)? else {
            *known = Known::Durable(None);
            return Ok(None);
        };
        let loaded = decode(Bytes::from(bytes)).map_err(|what| {
            StoreError::Damaged(format!(
                "the file {place} {what}. Nothing was changed. Don't delete it, it may be the only record of what this \
                 node has promised: restore it from a backup, or have the cluster replace this node as if its disk were lost"
            ))
        })?;
        *known = Known::Durable(Some(loaded.etag));
        Ok(Some(loaded))
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: &[u8]) -> StoreOutcome {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == Known::Nothing
            && let Err(error) = self.load_into(&mut known)
        {
            return StoreOutcome::NotStored { reason: error.to_string() };
        }
        if *known != Known::Durable(expected) {
            return StoreOutcome::Refused;
        }
        let etag = Etag(expected.map_or(1, |etag| etag.0 + 1));
        let place = self.disk.place(&self.name);
        let temporary = temporary(&self.name);
        if let Err(error) = self.disk.write_synced(&temporary, &encode(etag, bytes)) {
            // Frees the space of what was written in part; it is removed at the next start otherwise.
            let _ = self.disk.remove(&temporary);
            let reason = format!("the new version of {place} can't be written: {error}");
            return StoreOutcome::NotStored { reason };
        }
        *known = Known::Nothing;
        let renamed = self.disk.rename(&temporary, &self.name);
        if let Err(error) = renamed.and_then(|()| self.disk.sync_names()) {
            let reason =
                format!("whether the new version of {place} is durable is unknown: {error}");
            return StoreOutcome::Unknown { reason };
        }
        *known = Known::Durable(Some(etag));
        StoreOutcome::Done(etag)
    }
}

/// Where a new version is written first.
fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// A record as a file of its own: what a store writes, and what a backup is.
pub fn encode(etag: Etag, record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
    bytes.extend_from_slice(MAGIC);
    bytes.put_u32_le(FORMAT);
    bytes.put_u64_le(etag.0);
    bytes.put_u64_le(record.len() as u64);
    let checksum = checksum(&bytes, record);
    bytes.put_u128_le(checksum);
    bytes.extend_from_slice(record);
    bytes
}

fn checksum(described: &[u8], record: &[u8]) -> u128 {
    let mut hasher = XxHash3_128::new();
    hasher.write(described);
    hasher.write(record);
    hasher.finish_128()
}

/// The record in a file's bytes.
///
/// # Errors
/// They aren't what [`encode`] has made: says what is wrong, beginning with a verb.
pub fn decode(bytes: Bytes) -> Result<Loaded, String> {
    let length = bytes.len();
    let Some((header, record)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("is damaged: its {length} bytes are less than a header"));
    };
    let (described, sum) = header.split_at(HEADER_BYTES - CHECKSUM_BYTES);
    let mut fields = described;
    let magic = fields.copy_to_bytes(MAGIC.len());
    if magic != MAGIC[..] {
        return Err("is not a record of Sheaf, or its beginning is damaged".to_owned());
    }
    let format = fields.get_u32_le();
    if format != FORMAT {
        return Err(format!(
            "has the format {format}, this version of Sheaf reads format {FORMAT}: start the version that wrote it, \
             unless the file is damaged"
        ));
    }
    let etag = Etag(fields.get_u64_le());
    let announced = fields.get_u64_le();
    if announced != record.len() as u64 {
        let found = record.len();
        return Err(format!("is damaged: it announces {announced} bytes and has {found}"));
    }
    if checksum(described, record).to_le_bytes() != sum {
        return Err("is damaged: its checksum differs".to_owned());
    }
    Ok(Loaded { etag, bytes: bytes.slice(HEADER_BYTES..) })
}
