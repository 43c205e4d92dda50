//! One immutable state of all collections, and the reads from it that need no vectors.
//!
//! Holds redb's read transaction and the vectors of the same commit, so every read of a snapshot agrees with
//! every other. Never waits for a writer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use redb::ReadTransaction;
use sheaf_types::{CollectionConfig, CollectionId, PlacementKey, PointHash, PointId, StoredPoint};

use super::graph::Graph;
use super::tables::{self, RowsTable};
use super::vectors::Vectors;
use crate::{Accept, EngineError, EngineStats, Filter, Scan, ScanPage, ScannedPoint, validate};

/// Points that one scan looks at: 10 ms or so.
const LOOKED_POINTS_MAX: usize = 16_384;
/// Points whose payload one scan reads: 10 ms or so.
const LOOKED_PAYLOADS_MAX: usize = 4_096;

pub struct Snapshot {
    pub disk: String,
    pub txn: ReadTransaction,
    pub collections: BTreeMap<CollectionId, Arc<Collection>>,
}

/// One collection in a snapshot.
#[derive(Clone)]
pub struct Collection {
    pub id: CollectionId,
    pub config: Arc<CollectionConfig>,
    pub vectors: Vectors,
    /// Bytes of ids and bodies.
    pub bytes: u64,
    /// Shared by all snapshots: it may hold rows that this one doesn't, and lack rows that this one has.
    pub graph: Arc<Graph>,
}

impl Snapshot {
    pub fn collection(&self, id: CollectionId) -> Result<&Arc<Collection>, EngineError> {
        self.collections.get(&id).ok_or(EngineError::NoCollection(id))
    }

    pub fn get(
        &self,
        id: CollectionId,
        ids: &[PointId],
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        self.collection(id)?;
        let points = tables::points(&self.txn, id).map_err(|e| self.error(e))?;
        let rows = tables::rows(&self.txn, id).map_err(|e| self.error(e))?;
        let get = |point: &PointId| {
            let entry = points.get(point.as_str().as_bytes()).map_err(|e| self.error(e))?;
            let Some((slot, _, hash)) = entry.map(|entry| entry.value()) else { return Ok(None) };
            let body = self.row(&rows, slot, |_, body| tables::decode_body(body))?;
            Ok(Some(StoredPoint { id: point.clone(), hash: PointHash(hash), body }))
        };
        ids.iter().map(get).collect()
    }

    pub fn scan(&self, id: CollectionId, scan: &Scan) -> Result<ScanPage, EngineError> {
        self.collection(id)?;
        let points = tables::points(&self.txn, id).map_err(|e| self.error(e))?;
        let rows = tables::rows(&self.txn, id).map_err(|e| self.error(e))?;
        let after = scan.after.as_ref().map(|id| id.as_str().as_bytes());
        let through = scan.through.as_ref().map(|id| id.as_str().as_bytes());
        if after.is_some() && through.is_some() && after >= through {
            return Ok(ScanPage::default());
        }
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            through.map_or(Bound::Unbounded, Bound::Included),
        );
        let entries = points.range::<&[u8]>(range).map_err(|e| self.error(e))?;
        let looked_max =
            if scan.filter.is_some() { LOOKED_PAYLOADS_MAX } else { LOOKED_POINTS_MAX };
        let mut page = Page { scan, points: Vec::new(), bytes: 0 };
        let mut last: Option<PointId> = None;
        for (looked, entry) in entries.enumerate() {
            let full = looked >= looked_max || page.points.len() >= scan.points_max.max(1);
            let (key, entry) = entry.map_err(|e| self.error(e))?;
            let point = std::str::from_utf8(key.value()).map_err(|_| self.damaged("an id"))?;
            if full || !self.look(&rows, &mut page, point, entry.value())? {
                return Ok(ScanPage { points: page.points, looked_through: last });
            }
            // Only the last one is needed, but which one is the last shows only at the next.
            last = Some(match page.points.last() {
                Some(taken) if taken.id.as_str() == point => taken.id.clone(),
                _ => PointId::from(point),
            });
        }
        Ok(ScanPage { points: page.points, looked_through: None })
    }

    /// Takes the point into the page if it is wanted; `false` when it doesn't fit any more.
    fn look(
        &self,
        rows: &RowsTable,
        page: &mut Page<'_>,
        point: &str,
        (slot, bytes, hash): tables::PointEntry,
    ) -> Result<bool, EngineError> {
        let scan = page.scan;
        if let Accept::Only(accepts) = &scan.accept
            && !accepts(PlacementKey::of(point))
        {
            return Ok(true);
        }
        if let Some(filter) = &scan.filter
            && !self.row(rows, slot, |_, body| holds(filter, body))?
        {
            return Ok(true);
        }
        let mut body = None;
        if scan.bodies {
            let bytes = bytes as usize;
            if !page.points.is_empty() && page.bytes + bytes > scan.bytes_max {
                return Ok(false);
            }
            page.bytes += bytes;
            body = Some(self.row(rows, slot, |_, body| tables::decode_body(body))?);
        }
        let (id, hash) = (PointId::from(point), PointHash(hash));
        page.points.push(ScannedPoint { id, hash, body });
        Ok(true)
    }

    pub fn count(
        &self,
        id: CollectionId,
        accept: &Accept,
        filter: Option<&Filter>,
    ) -> Result<u64, EngineError> {
        let collection = self.collection(id)?;
        let Some(filter) = filter else {
            return Ok(match accept {
                Accept::All => collection.vectors.len(),
                Accept::Only(accepts) => {
                    collection.vectors.rows_after(None).filter(|row| accepts(row.key)).count()
                }
            } as u64);
        };
        let mut count = 0;
        self.each_row(id, |_, point, body| {
            let accepted = accept.takes(PlacementKey::of(point));
            count += u64::from(accepted && holds(filter, body)?);
            Some(())
        })?;
        Ok(count)
    }

    /// Calls `see` with the slot, id and body of every point, in the order of slots.
    pub fn each_row(
        &self,
        id: CollectionId,
        mut see: impl FnMut(u64, &str, &[u8]) -> Option<()>,
    ) -> Result<(), EngineError> {
        let rows = tables::rows(&self.txn, id).map_err(|e| self.error(e))?;
        for entry in rows.range::<u64>(..).map_err(|e| self.error(e))? {
            let (slot, row) = entry.map_err(|e| self.error(e))?;
            tables::split_row(row.value())
                .and_then(|(point, body)| see(slot.value(), point, body))
                .ok_or_else(|| self.damaged(&format!("row {} of {id}", slot.value())))?;
        }
        Ok(())
    }

    /// Reads one row of a point that this snapshot has; `None` from `read` means that it is damaged.
    pub fn row<T>(
        &self,
        rows: &RowsTable,
        slot: u64,
        read: impl FnOnce(&str, &[u8]) -> Option<T>,
    ) -> Result<T, EngineError> {
        let row = rows.get(slot).map_err(|e| self.error(e))?;
        row.as_ref()
            .and_then(|row| tables::split_row(row.value()))
            .and_then(|(point, body)| read(point, body))
            .ok_or_else(|| self.damaged(&format!("row {slot}")))
    }

    pub fn stats(&self, disk_bytes: u64) -> EngineStats {
        let mut stats = EngineStats { disk_bytes, ..EngineStats::default() };
        for collection in self.collections.values() {
            stats.points += collection.vectors.len() as u64;
            stats.bytes += collection.bytes;
            stats.unindexed_points += collection.graph.missing(&collection.vectors) as u64;
        }
        stats
    }

    pub fn error(&self, error: impl Into<redb::Error>) -> EngineError {
        tables::read_error(&self.disk, error.into())
    }

    fn damaged(&self, what: &str) -> EngineError {
        tables::damaged(&self.disk, what)
    }
}

struct Page<'a> {
    scan: &'a Scan,
    points: Vec<ScannedPoint>,
    bytes: usize,
}

/// Whether the filter holds for the payload of an encoded body; `None` when the body is damaged.
pub fn holds(filter: &Filter, body: &[u8]) -> Option<bool> {
    let dim = u32::from_le_bytes(*body.first_chunk::<4>()?) as usize;
    let payload = std::str::from_utf8(body.get(4 + dim * 4..)?).ok()?;
    Some(filter.holds_for_text(Some(payload).filter(|text| !text.is_empty())))
}

impl Collection {
    /// Reads a collection's rows from the disk into memory, and checks each against its hash.
    pub fn load(
        snapshot: &Snapshot,
        id: CollectionId,
        config: Arc<CollectionConfig>,
        graph: Arc<Graph>,
    ) -> Result<Self, EngineError> {
        let mut hashes = snapshot.hashes_by_slot(id)?.into_iter().peekable();
        let mut collection = Self { id, vectors: Vectors::of(&config), config, bytes: 0, graph };
        snapshot.each_row(id, |slot, point, body| {
            let point = PointId::from(point);
            let decoded = tables::decode_body(body)?;
            let entry = (slot, PointHash::of(id, &point, body), point.placement_key());
            let intact = hashes.next() == Some(entry);
            if !intact || validate::fits(&collection.config, decoded.dim()).is_err() {
                return None;
            }
            collection.bytes += tables::row_bytes(&point, &decoded);
            collection.vectors.put(slot, point, &decoded);
            Some(())
        })?;
        match hashes.peek() {
            None => Ok(collection),
            Some((slot, ..)) => Err(snapshot.damaged(&format!("row {slot} of {id} is missing"))),
        }
    }
}

impl Snapshot {
    /// What the order of ids says of each row, to be compared with the rows.
    fn hashes_by_slot(
        &self,
        id: CollectionId,
    ) -> Result<Vec<(u64, PointHash, PlacementKey)>, EngineError> {
        let points = tables::points(&self.txn, id).map_err(|e| self.error(e))?;
        let mut hashes = Vec::new();
        for entry in points.range::<&[u8]>(..).map_err(|e| self.error(e))? {
            let (key, entry) = entry.map_err(|e| self.error(e))?;
            let point = std::str::from_utf8(key.value()).map_err(|_| self.damaged("an id"))?;
            let (slot, _, hash) = entry.value();
            hashes.push((slot, PointHash(hash), PlacementKey::of(point)));
        }
        hashes.sort_unstable();
        Ok(hashes)
    }
}
