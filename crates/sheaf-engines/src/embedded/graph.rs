//! The HNSW index of one collection: derived from the vectors, built in the background, never authoritative.
//!
//! It proposes points; whether a point is there, and its score, is decided by the snapshot that is searched. It
//! holds all rows up to a slot, `through`: what comes behind is scanned exactly, so that a search sees every
//! write. Dead rows stay in it until there are so many that it is built anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use sheaf_types::{CollectionConfig, Metric};
use usearch::ffi::{IndexOptions, Matches, MetricKind, ScalarKind};

use super::vectors::{Row, Vectors};
use crate::validate;

/// Links of a point on the base layer are twice this. Source: real questions are answered with recall 1.000 at
/// `ef` 64 by 16 as by 24 and 32, which find a little more far from the data and take more memory.
const CONNECTIVITY: usize = 16;
/// Candidates kept while a point is added.
const EXPANSION_ADD: usize = 128;
/// Rows added in one step.
const STEP_ROWS: usize = 256;
/// Rows added while searches wait: 1 to 2 ms.
const LOCKED_ROWS: usize = 8;
/// Dead rows, as a share of all in the index, from which it is built anew.
const DEAD_SHARE_MAX: f64 = 0.3;

pub struct Graph {
    metric: Metric,
    dim: usize,
    floats_min: usize,
    readers: usize,
    serving: RwLock<Option<Hnsw>>,
    /// The next one, until it holds every row.
    building: Mutex<Option<Hnsw>>,
    /// Out of memory or worse: from then on everything is searched exactly.
    failed: AtomicBool,
}

struct Hnsw {
    index: usearch::Index,
    rows: usize,
    /// All rows up to this slot were added.
    through: u64,
}

/// What the index found near a vector.
pub struct Proposal {
    /// The nearest first.
    pub slots: Vec<u64>,
    /// Rows behind this slot were not looked at.
    pub through: u64,
}

/// How far an index is, for the plan of a search.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub rows: usize,
    pub through: u64,
}

impl Graph {
    /// An empty index that is built when the collection has this many numbers; `readers` search it at once.
    pub fn new(config: &CollectionConfig, floats_min: usize, readers: usize) -> Self {
        Self {
            metric: config.metric,
            dim: config.dim as usize,
            // What is never ranked needs no index; zeros in the place of sealed vectors would make a bad one.
            floats_min: if validate::is_ranked(config) { floats_min } else { usize::MAX },
            readers,
            serving: RwLock::new(None),
            building: Mutex::new(None),
            failed: AtomicBool::new(false),
        }
    }

    /// `None` while there is no index.
    pub fn extent(&self) -> Option<Extent> {
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        serving.as_ref().map(|hnsw| Extent { rows: hnsw.rows, through: hnsw.through })
    }

    /// Live rows that should be in the index and aren't.
    pub fn missing(&self, vectors: &Vectors) -> usize {
        match self.extent() {
            Some(extent) => vectors.len() - vectors.len_through(extent.through),
            None if self.is_wanted(vectors.len()) => vectors.len(),
            None => 0,
        }
    }

    /// The `wanted` nearest rows that `takes` accepts, if there is an index.
    pub fn search(
        &self,
        vector: &[f32],
        norm: f32,
        wanted: usize,
        takes: Option<&dyn Fn(u64) -> bool>,
    ) -> Option<Proposal> {
        let vector = self.prepared(vector, norm);
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        let hnsw = serving.as_ref()?;
        let found = match takes {
            None => hnsw.index.search(&vector, wanted),
            Some(takes) => hnsw.index.filtered_search(&vector, wanted, takes),
        };
        match found {
            Ok(Matches { keys, .. }) => Some(Proposal { slots: keys, through: hnsw.through }),
            Err(error) => {
                tracing::warn!(%error, "the index can't be searched; searching exactly");
                None
            }
        }
    }

    /// Adds a bounded number of rows; says whether there is more to do. One call at a time does so.
    pub fn step(&self, vectors: &Vectors) -> bool {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Acquire) {
            return false;
        }
        self.try_step(vectors, &mut building).unwrap_or_else(|error| {
            tracing::warn!(%error, "the index can't be built; searching exactly from now on");
            self.failed.store(true, Ordering::Release);
            self.drop_all(&mut building);
            false
        })
    }

    fn try_step(&self, vectors: &Vectors, building: &mut Option<Hnsw>) -> Result<bool, String> {
        if !self.is_wanted(vectors.len()) {
            // Half the size before it goes, or it would come and go with a few points.
            if !self.is_wanted(vectors.len().saturating_mul(2)) {
                self.drop_all(building);
            }
            return Ok(false);
        }
        let Some(extent) = self.extent() else {
            return self.build(vectors, building).map(|()| true);
        };
        let added = self.catch_up(vectors, extent.through)?;
        let dead = extent.rows.saturating_sub(vectors.len_through(extent.through));
        if building.is_some() || dead as f64 > extent.rows as f64 * DEAD_SHARE_MAX {
            return self.build(vectors, building).map(|()| true);
        }
        Ok(added == STEP_ROWS)
    }

    /// Adds to the index that is being searched.
    fn catch_up(&self, vectors: &Vectors, through: u64) -> Result<usize, String> {
        let rows: Vec<Row<'_>> = vectors.rows_after(Some(through)).take(STEP_ROWS).collect();
        for few in rows.chunks(LOCKED_ROWS) {
            let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(hnsw) = serving.as_mut() {
                few.iter().try_for_each(|row| self.add(hnsw, row))?;
            }
        }
        Ok(rows.len())
    }

    /// Adds to the next index, and swaps it in when it holds every row.
    fn build(&self, vectors: &Vectors, building: &mut Option<Hnsw>) -> Result<(), String> {
        let (mut hnsw, after) = match building.take() {
            Some(hnsw) => {
                let through = hnsw.through;
                (hnsw, Some(through))
            }
            None => (self.empty(vectors.len())?, None),
        };
        let mut added = 0;
        for row in vectors.rows_after(after).take(STEP_ROWS) {
            self.add(&mut hnsw, &row)?;
            added += 1;
        }
        if added == STEP_ROWS {
            *building = Some(hnsw);
        } else {
            *self.serving.write().unwrap_or_else(PoisonError::into_inner) = Some(hnsw);
        }
        Ok(())
    }

    fn empty(&self, rows: usize) -> Result<Hnsw, String> {
        let index = usearch::Index::new(&IndexOptions {
            dimensions: self.dim,
            // Cosine is the inner product of vectors of length one, and cheaper.
            metric: match self.metric {
                Metric::L2 => MetricKind::L2sq,
                Metric::Cosine | Metric::Dot => MetricKind::IP,
            },
            quantization: ScalarKind::F32,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            // The number of wanted rows raises it for each search; the setting itself is one for all.
            expansion_search: 1,
            multi: false,
        })
        .map_err(|error| error.to_string())?;
        self.reserve(&index, rows + STEP_ROWS)?;
        Ok(Hnsw { index, rows: 0, through: 0 })
    }

    fn reserve(&self, index: &usearch::Index, rows: usize) -> Result<(), String> {
        // The indexer needs a place besides the readers.
        let reserved = index.reserve_capacity_and_threads(rows, self.readers + 1);
        reserved.map_err(|error| error.to_string())
    }

    fn add(&self, hnsw: &mut Hnsw, row: &Row<'_>) -> Result<(), String> {
        if hnsw.index.size() >= hnsw.index.capacity() {
            self.reserve(&hnsw.index, hnsw.index.capacity() * 2)?;
        }
        let added = hnsw.index.add(row.slot, &self.prepared(row.numbers, row.norm));
        added.map_err(|error| error.to_string())?;
        hnsw.rows += 1;
        hnsw.through = row.slot;
        Ok(())
    }

    fn prepared<'a>(&self, vector: &'a [f32], norm: f32) -> std::borrow::Cow<'a, [f32]> {
        match self.metric {
            Metric::Cosine => vector.iter().map(|number| number / norm).collect(),
            Metric::L2 | Metric::Dot => vector.into(),
        }
    }

    fn is_wanted(&self, rows: usize) -> bool {
        rows > 0 && rows.saturating_mul(self.dim) >= self.floats_min
    }

    fn drop_all(&self, building: &mut Option<Hnsw>) {
        *building = None;
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
