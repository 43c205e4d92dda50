//! The vectors of one collection in memory, in the order in which they were written.
//!
//! Rows are never changed: a point that is written again gets a new row with a higher slot. So a clone is an
//! immutable snapshot that shares the rows, and costs only a list of pointers. Never touches the disk.

use std::sync::Arc;

use sheaf_types::{CollectionConfig, PlacementKey, PointBody, PointId};

use crate::score::norm;

/// Numbers in a chunk: small enough to copy the last one at each commit, large enough to scan fast.
const CHUNK_FLOATS: usize = 64 * 1024;
/// Rows in a chunk: one bit for each in [`Dead`].
const CHUNK_ROWS_MAX: usize = 256;

type Dead = [u64; CHUNK_ROWS_MAX / 64];

/// All live rows of a collection.
#[derive(Clone, Debug)]
pub struct Vectors {
    dim: usize,
    /// Ascending by slot.
    chunks: Vec<Chunk>,
    live: usize,
}

#[derive(Clone, Debug)]
struct Chunk {
    first: u64,
    rows: Arc<Rows>,
    dead: Dead,
    live: usize,
}

#[derive(Debug)]
struct Rows {
    /// Ascending.
    slots: Vec<u64>,
    ids: Vec<PointId>,
    keys: Vec<PlacementKey>,
    norms: Vec<f32>,
    numbers: Vec<f32>,
}

/// One point's vector.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub slot: u64,
    pub id: &'a PointId,
    pub key: PlacementKey,
    /// The vector's Euclidean length.
    pub norm: f32,
    pub numbers: &'a [f32],
}

impl Vectors {
    pub fn new(dim: usize) -> Self {
        Self { dim, chunks: Vec::new(), live: 0 }
    }

    /// An empty one for this collection. Documents' vectors are read from the disk when they are searched, all of them: here are only
    /// their ids.
    pub fn of(config: &CollectionConfig) -> Self {
        Self::new(if config.holds_documents() { 0 } else { config.dim as usize })
    }

    /// Adds the row of a point of the collection.
    pub fn put(&mut self, slot: u64, id: PointId, body: &PointBody) {
        if self.dim == 0 {
            self.push(slot, id, &[]);
        } else {
            self.push(slot, id, &body.vector());
        }
    }

    /// Live rows.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Adds a row. `slot` is higher than all before; `numbers` has as many as the dimension.
    pub fn push(&mut self, slot: u64, id: PointId, numbers: &[f32]) {
        let rows_max = (CHUNK_FLOATS / self.dim.max(1)).clamp(8, CHUNK_ROWS_MAX);
        if self.chunks.last().is_none_or(|chunk| chunk.rows.slots.len() >= rows_max) {
            let rows = Arc::new(Rows::with_capacity(rows_max, self.dim));
            self.chunks.push(Chunk { first: slot, rows, dead: Dead::default(), live: 0 });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let row = Row { slot, key: id.placement_key(), id: &id, norm: norm(numbers), numbers };
            if let Some(rows) = Arc::get_mut(&mut chunk.rows) {
                rows.push(&row);
            } else {
                // A snapshot shares these rows: go on with a copy.
                let mut rows = chunk.rows.copy(rows_max, self.dim);
                rows.push(&row);
                chunk.rows = Arc::new(rows);
            }
            chunk.live += 1;
            self.live += 1;
        }
    }

    /// Takes a row out; says whether there was one.
    pub fn remove(&mut self, slot: u64) -> bool {
        let Some(at) = self.chunk_of(slot) else { return false };
        let chunk = &mut self.chunks[at];
        let Some(row) = chunk.position(slot) else { return false };
        chunk.dead[row / 64] |= 1 << (row % 64);
        chunk.live -= 1;
        self.live -= 1;
        let is_last = at + 1 == self.chunks.len();
        if self.chunks[at].live == 0 {
            self.chunks.remove(at);
        } else if !is_last && self.chunks[at].live * 2 <= self.chunks[at].rows.slots.len() {
            self.tighten(at);
        }
        true
    }

    /// Drops the dead rows of a chunk, and joins it with the one before when both fit into one.
    fn tighten(&mut self, at: usize) {
        let rows_max = (CHUNK_FLOATS / self.dim.max(1)).clamp(8, CHUNK_ROWS_MAX);
        let from = match at.checked_sub(1) {
            Some(before) if self.chunks[before].live + self.chunks[at].live <= rows_max => before,
            _ => at,
        };
        let mut rows = Rows::with_capacity(rows_max, self.dim);
        for chunk in &self.chunks[from..=at] {
            chunk.live_rows(self.dim).for_each(|row| rows.push(&row));
        }
        let live = rows.slots.len();
        let first = rows.slots.first().copied().unwrap_or_default();
        let joined = Chunk { first, rows: Arc::new(rows), dead: Dead::default(), live };
        self.chunks.splice(from..=at, [joined]);
    }

    /// The live row with this slot.
    pub fn find(&self, slot: u64) -> Option<Row<'_>> {
        let chunk = &self.chunks[self.chunk_of(slot)?];
        Some(chunk.row(chunk.position(slot)?, self.dim))
    }

    /// Live rows in ascending order of slots, from the first one above `after`; `None` is the very start.
    pub fn rows_after(&self, after: Option<u64>) -> impl Iterator<Item = Row<'_>> {
        let start = after.map_or(0, |slot| self.chunk_of(slot).unwrap_or(0));
        let chunks = &self.chunks[start..];
        chunks
            .iter()
            .flat_map(move |chunk| chunk.live_rows(self.dim))
            .skip_while(move |row| after.is_some_and(|after| row.slot <= after))
    }

    /// The highest slot of a live row.
    pub fn last_slot(&self) -> Option<u64> {
        let last = self.chunks.last()?;
        last.live_rows(self.dim).last().map(|row| row.slot)
    }

    /// Live rows with a slot up to this one.
    pub fn len_through(&self, slot: u64) -> usize {
        let Some(last) = self.chunk_of(slot) else { return 0 };
        let whole: usize = self.chunks[..last].iter().map(|chunk| chunk.live).sum();
        let chunk = &self.chunks[last];
        whole + chunk.live_rows(self.dim).take_while(|row| row.slot <= slot).count()
    }

    /// About this many live rows, spread evenly.
    pub fn sample(&self, rows: usize) -> impl Iterator<Item = Row<'_>> {
        let stride = (self.chunks.len() / rows.max(1)).max(1);
        let of_each = rows.div_ceil(self.chunks.len().div_ceil(stride).max(1));
        self.chunks.iter().step_by(stride).flat_map(move |chunk| {
            let within = (chunk.live / of_each.max(1)).max(1);
            chunk.live_rows(self.dim).step_by(within).take(of_each)
        })
    }

    fn chunk_of(&self, slot: u64) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk.first <= slot).checked_sub(1)
    }
}

impl Chunk {
    /// Where the live row with this slot is.
    fn position(&self, slot: u64) -> Option<usize> {
        self.rows.slots.binary_search(&slot).ok().filter(|row| !self.is_dead(*row))
    }

    fn is_dead(&self, row: usize) -> bool {
        self.dead[row / 64] >> (row % 64) & 1 == 1
    }

    fn row(&self, row: usize, dim: usize) -> Row<'_> {
        let rows = &*self.rows;
        Row {
            slot: rows.slots[row],
            id: &rows.ids[row],
            key: rows.keys[row],
            norm: rows.norms[row],
            numbers: &rows.numbers[row * dim..(row + 1) * dim],
        }
    }

    fn live_rows(&self, dim: usize) -> impl Iterator<Item = Row<'_>> {
        let live = (0..self.rows.slots.len()).filter(|row| !self.is_dead(*row));
        live.map(move |row| self.row(row, dim))
    }
}

impl Rows {
    fn with_capacity(rows: usize, dim: usize) -> Self {
        Self {
            slots: Vec::with_capacity(rows),
            ids: Vec::with_capacity(rows),
            keys: Vec::with_capacity(rows),
            norms: Vec::with_capacity(rows),
            numbers: Vec::with_capacity(rows * dim),
        }
    }

    fn push(&mut self, row: &Row<'_>) {
        self.slots.push(row.slot);
        self.ids.push(row.id.clone());
        self.keys.push(row.key);
        self.norms.push(row.norm);
        self.numbers.extend_from_slice(row.numbers);
    }

    fn copy(&self, rows: usize, dim: usize) -> Self {
        let mut copy = Self::with_capacity(rows, dim);
        copy.slots.extend_from_slice(&self.slots);
        copy.ids.extend_from_slice(&self.ids);
        copy.keys.extend_from_slice(&self.keys);
        copy.norms.extend_from_slice(&self.norms);
        copy.numbers.extend_from_slice(&self.numbers);
        copy
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Remove(usize),
        Snapshot,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => Just(Step::Push),
            4 => any::<usize>().prop_map(Step::Remove),
            1 => Just(Step::Snapshot),
        ]
    }

    fn content(vectors: &Vectors) -> BTreeMap<u64, f32> {
        vectors.rows_after(None).map(|row| (row.slot, row.numbers[0])).collect()
    }

    fn check(vectors: &Vectors, model: &BTreeMap<u64, f32>) {
        assert_eq!(&content(vectors), model);
        assert_eq!(vectors.len(), model.len());
        for slot in 0..model.last_key_value().map_or(3, |(last, _)| last + 3) {
            let found = vectors.find(slot).map(|row| row.numbers[0]);
            assert_eq!(found, model.get(&slot).copied(), "find {slot}");
            assert_eq!(vectors.len_through(slot), model.range(..=slot).count(), "through {slot}");
            let after: Vec<u64> = vectors.rows_after(Some(slot)).map(|row| row.slot).collect();
            let expected: Vec<u64> = model.range(slot + 1..).map(|(slot, _)| *slot).collect();
            assert_eq!(after, expected, "after {slot}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_behave_like_a_map_and_a_snapshot_never_changes(
            steps in prop::collection::vec(any_step(), 1..200),
        ) {
            // A dimension this high makes chunks of eight rows.
            let dim = CHUNK_FLOATS / 8;
            let mut vectors = Vectors::new(dim);
            let mut model = BTreeMap::new();
            let mut snapshots = Vec::new();
            let mut slot = 0;
            for step in steps {
                match step {
                    Step::Push => {
                        slot += 1 + slot % 3;
                        let numbers = vec![slot as f32; dim];
                        vectors.push(slot, PointId::from(slot.to_string()), &numbers);
                        model.insert(slot, slot as f32);
                    }
                    Step::Remove(nth) if !model.is_empty() => {
                        let slot = *model.keys().nth(nth % model.len()).unwrap();
                        model.remove(&slot);
                        prop_assert!(vectors.remove(slot));
                        prop_assert!(!vectors.remove(slot));
                    }
                    Step::Remove(_) => {}
                    Step::Snapshot => snapshots.push((vectors.clone(), model.clone())),
                }
            }
            check(&vectors, &model);
            for (snapshot, model) in &snapshots {
                prop_assert_eq!(&content(snapshot), model);
            }
        }
    }
}
