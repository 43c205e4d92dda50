//! A copy of the whole database in another folder, of one commit, while it is read and written.

use std::path::Path;

use redb::WriteTransaction;
use sheaf_types::CollectionId;

use super::Disk;
use super::disk::{FileDisk, Watched};
use super::snapshot::Snapshot;
use super::tables::{COLLECTIONS, META, Names, Stored};
use crate::EngineError;

/// Writes what the snapshot sees into a database in this folder, which must not hold one. Durable when it returns.
///
/// # Errors
/// `Invalid`: there is one already. `Unavailable`: the folder can't be written to, and holds a part that nobody can open.
pub fn copy(snapshot: &Snapshot, to: &Path) -> Result<(), EngineError> {
    let disk = FileDisk::new(to);
    if to.exists() {
        return Err(EngineError::Invalid(format!("{} exists already", to.display())));
    }
    let copied = || -> Stored<()> {
        let (backend, _) = Watched::new(disk.open().map_err(redb::Error::Io)?);
        let db = redb::Builder::new().create_with_backend(backend)?;
        let txn = db.begin_write()?;
        copy_tables(snapshot, &txn)?;
        Ok(txn.commit()?)
    };
    copied().map_err(|error| {
        EngineError::Unavailable(format!(
            "the copy {} can't be written: {error}. The original is as it was; remove what there is of the copy",
            disk.name()
        ))
    })
}

fn copy_tables(snapshot: &Snapshot, txn: &WriteTransaction) -> Stored<()> {
    let read = &snapshot.txn;
    let mut meta = txn.open_table(META)?;
    for entry in read.open_table(META)?.range::<&str>(..)? {
        let (key, value) = entry?;
        meta.insert(key.value(), value.value())?;
    }
    let mut collections = txn.open_table(COLLECTIONS)?;
    for entry in read.open_table(COLLECTIONS)?.range::<u64>(..)? {
        let (id, config) = entry?;
        collections.insert(id.value(), config.value())?;
        let names = Names::of(CollectionId(id.value()));
        let mut points = txn.open_table(names.points())?;
        for entry in read.open_table(names.points())?.range::<&[u8]>(..)? {
            let (id, entry) = entry?;
            points.insert(id.value(), entry.value())?;
        }
        let mut rows = txn.open_table(names.rows())?;
        for entry in read.open_table(names.rows())?.range::<u64>(..)? {
            let (slot, row) = entry?;
            rows.insert(slot.value(), row.value())?;
        }
    }
    Ok(())
}
