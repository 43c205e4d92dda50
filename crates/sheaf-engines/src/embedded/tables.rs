//! How points lie in redb: tables, keys and rows, and what redb's errors mean for the caller.
//!
//! Each collection has two tables, so that it is dropped by dropping them and a scan of hashes reads no body:
//! `points/…`: id → (slot, bytes of the row, hash), in the order of ids;
//! `rows/…`: slot → length of the id, id, body, in the order of writing. A slot is never used twice.

use redb::{Error, ReadTransaction, ReadableDatabase, TableDefinition, TableError};
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId};

use crate::EngineError;

/// The version of this layout; another one is refused.
pub const FORMAT: u64 = 1;
pub const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// The key in [`META`] of the layout's version.
pub const META_FORMAT: &str = "format";
/// The key in [`META`] that counts commits: it tells whether a commit with an unknown outcome happened.
pub const META_COMMITS: &str = "commits";
/// Configurations as JSON.
pub const COLLECTIONS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("collections");

/// Slot, bytes of the row, hash.
pub type PointEntry = (u64, u32, u128);
pub type PointsTable = redb::ReadOnlyTable<&'static [u8], PointEntry>;
pub type RowsTable = redb::ReadOnlyTable<u64, &'static [u8]>;

/// The names of a collection's two tables.
pub struct Names {
    points: String,
    rows: String,
}

impl Names {
    pub fn of(id: CollectionId) -> Self {
        Self { points: format!("points/{:016x}", id.0), rows: format!("rows/{:016x}", id.0) }
    }

    pub fn points(&self) -> TableDefinition<'_, &'static [u8], PointEntry> {
        TableDefinition::new(&self.points)
    }

    pub fn rows(&self) -> TableDefinition<'_, u64, &'static [u8]> {
        TableDefinition::new(&self.rows)
    }
}

/// What redb answered, with any of its error types.
pub type Stored<T> = Result<T, Error>;

/// Opens one of the tables for reading.
pub fn points(txn: &ReadTransaction, id: CollectionId) -> Result<PointsTable, TableError> {
    txn.open_table(Names::of(id).points())
}

/// Opens one of the tables for reading.
pub fn rows(txn: &ReadTransaction, id: CollectionId) -> Result<RowsTable, TableError> {
    txn.open_table(Names::of(id).rows())
}

/// Encodes a row of `rows/…`.
pub fn encode_row(id: &PointId, body: &PointBody) -> Vec<u8> {
    let (id, body) = (id.as_str().as_bytes(), body.as_bytes());
    let mut row = Vec::with_capacity(4 + id.len() + body.len());
    row.extend_from_slice(&(id.len() as u32).to_le_bytes());
    row.extend_from_slice(id);
    row.extend_from_slice(body);
    row
}

/// Splits a row of `rows/…` into the id and the body; `None` when it is damaged.
pub fn split_row(row: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = row.split_first_chunk::<4>()?;
    let (id, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(id).ok()?, body))
}

/// The body in a row of `rows/…`; its bytes are copied. `None` when it is damaged.
pub fn decode_body(body: &[u8]) -> Option<PointBody> {
    PointBody::from_bytes(bytes::Bytes::copy_from_slice(body)).ok()
}

/// What a point counts for: the bytes of its id and body.
pub fn row_bytes(id: &PointId, body: &PointBody) -> u64 {
    (id.as_str().len() + body.as_bytes().len()) as u64
}

/// The layout's version and the number of commits; `None` in a new file.
pub fn read_meta(db: &redb::Database) -> Stored<Option<(u64, u64)>> {
    let txn = db.begin_read()?;
    let table = match txn.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |key: &str| -> Stored<u64> { Ok(table.get(key)?.map_or(0, |v| v.value())) };
    Ok(Some((number(META_FORMAT)?, number(META_COMMITS)?)))
}

/// All collections with their configurations.
pub fn read_collections(
    txn: &ReadTransaction,
    disk: &str,
) -> Result<Vec<(CollectionId, CollectionConfig)>, EngineError> {
    let read = || -> Stored<Vec<(CollectionId, Vec<u8>)>> {
        let table = match txn.open_table(COLLECTIONS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        for entry in table.range::<u64>(..)? {
            let (id, config) = entry?;
            found.push((CollectionId(id.value()), config.value().to_vec()));
        }
        Ok(found)
    };
    let found = read().map_err(|error| read_error(disk, error))?;
    let parse = |(id, json): (CollectionId, Vec<u8>)| match serde_json::from_slice(&json) {
        Ok(config) => Ok((id, config)),
        Err(error) => Err(damaged(disk, &format!("the configuration of {id}: {error}"))),
    };
    found.into_iter().map(parse).collect()
}

/// The data is damaged: what is wrong, in which file, what to do.
pub fn damaged(disk: &str, what: &str) -> EngineError {
    EngineError::Damaged(format!(
        "{disk} is damaged ({what}). Nothing was changed. Move the file away and keep it; then restore it \
         from a backup, or replace this shard if its points exist elsewhere"
    ))
}

/// What an error of redb means while nothing is written.
pub fn read_error(disk: &str, error: Error) -> EngineError {
    match error {
        Error::Corrupted(what) => damaged(disk, &what),
        Error::UpgradeRequired(version) => EngineError::Damaged(format!(
            "{disk} has the file format {version} of another release. Nothing was changed. Start the release \
             that wrote it"
        )),
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => {
            EngineError::Unavailable(format!(
                "{disk} is in use by another process. Nothing was changed. Stop that process, or choose another \
             data directory: each process needs its own"
            ))
        }
        Error::Io(error) if is_damage(&error) => damaged(disk, &error.to_string()),
        error => EngineError::Unavailable(format!(
            "reading {disk} failed: {error}. Nothing was changed; ask again, and look at the disk if it stays"
        )),
    }
}

/// A file that is too short, or isn't what it should be.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_cut_short_is_noticed() {
        let body = PointBody::encode(&[1.0], Some("{}"));
        let row = encode_row(&PointId::from("é"), &body);
        let decode = |row| split_row(row).and_then(|(id, body)| Some((id, decode_body(body)?)));
        assert_eq!(decode(&row), Some(("é", body)));
        for length in 0..14 {
            assert_eq!(decode(&row[..length]), None, "{length}");
        }
    }
}
