//! How a search is done: which points are looked at, exactly or by the index.
//!
//! Every score comes from the vectors of one snapshot, so a hit is never deleted, older, or invisible in it. The
//! index only proposes; rows that it doesn't hold yet are scanned.

use std::cell::{Cell, RefCell};

use sheaf_types::{CollectionId, PlacementKey};

use super::database::guarded;
use super::snapshot::{Collection, Snapshot, holds};
use super::tables::{self, RowsTable};
use super::vectors::Row;
use crate::score::{Best, Candidate, Query};
use crate::{Accept, EngineError, Filter, Hit, Search, validate};

/// Rows that are tried to learn which share a predicate takes.
const SAMPLE_ROWS: usize = 128;
/// Rows that the index compares for each row it shall find. Source: measured on the real vectors.
const VISITS_FOR_EACH: f64 = 20.0;
/// What one row costs, in comparisons of two vectors in a row: reached at random through the index,
const VISIT_COST: f64 = 2.0;
/// asked whether the placement takes it,
const ACCEPT_COST: f64 = 0.3;
/// and its payload read and filtered.
const FILTER_COST: f64 = 15.0;

/// See [`crate::Engine::search`].
pub fn search(
    snapshot: &Snapshot,
    id: CollectionId,
    search: &Search,
) -> Result<Vec<Hit>, EngineError> {
    let collection = snapshot.collection(id)?;
    validate::search(&collection.config, search)?;
    if search.k == 0 || collection.vectors.len() == 0 {
        return Ok(Vec::new());
    }
    let rows = tables::rows(&snapshot.txn, id).map_err(|e| snapshot.error(e))?;
    let query = Query::new(collection.config.metric, search.vector.clone());
    let run = Run { snapshot, collection, search, query, rows };
    let best = match (&search.accept, &search.filter) {
        (Accept::All, None) => run.all(),
        (_, None) => run.accepted()?,
        (_, Some(filter)) => run.filtered(filter)?,
    };
    let hit = |candidate: Candidate<'_>| {
        let read =
            || run.snapshot.row(&run.rows, candidate.slot, |_, body| tables::decode_body(body));
        let body = search.bodies.any().then(read).transpose()?;
        Ok(Hit { id: candidate.id.clone(), score: candidate.score, body })
    };
    best.into_sorted().into_iter().map(hit).collect()
}

struct Run<'a> {
    snapshot: &'a Snapshot,
    collection: &'a Collection,
    search: &'a Search,
    query: Query,
    rows: RowsTable,
}

impl<'a> Run<'a> {
    fn offer(&self, best: &mut Best<'a>, row: Row<'a>) {
        let score = self.query.score(row.numbers, row.norm);
        let rank = self.query.rank(score);
        best.offer(Candidate { rank, score, id: row.id, slot: row.slot });
    }

    fn exactly(&self, mut takes: impl FnMut(&Row<'a>) -> bool) -> Best<'a> {
        let mut best = Best::new(self.search.k);
        for row in self.collection.vectors.rows_after(None) {
            if takes(&row) {
                self.offer(&mut best, row);
            }
        }
        best
    }

    /// Rows that the index is asked for: as many as the caller wants kept, at least as many as it gets.
    fn wanted(&self) -> usize {
        self.search.ef.max(self.search.k)
    }

    /// Whether the index is the cheaper way to find rows of which a test with this cost takes this share.
    fn prefers_index(&self, test: f64, share: f64) -> bool {
        let Some(extent) = self.collection.graph.extent() else { return false };
        let live = self.collection.vectors.len() as f64;
        let dead = 1.0 - (live / extent.rows.max(1) as f64).min(1.0);
        let share = (share * (1.0 - dead)).max(1e-6);
        let visits = self.wanted() as f64 * VISITS_FOR_EACH / share;
        let by_index = visits * (VISIT_COST + test);
        let exactly = live * (test + share);
        by_index < exactly
    }

    /// No predicate: the fast path.
    fn all(&self) -> Best<'a> {
        let by_index = if self.prefers_index(0.0, 1.0) { self.all_by_index() } else { None };
        by_index.unwrap_or_else(|| self.exactly(|_| true))
    }

    fn all_by_index(&self) -> Option<Best<'a>> {
        let (vectors, graph) = (&self.collection.vectors, &self.collection.graph);
        let (vector, norm) = (self.query.vector(), self.query.norm());
        let extent = graph.extent()?;
        let live = vectors.len_through(extent.through);
        // Without a predicate dead rows take places, so a few more are asked for.
        let dead = extent.rows.saturating_sub(live);
        let more = self.wanted() * dead / live.max(1) + usize::from(dead > 0) * 8;
        let mut found = graph.search(vector, norm, self.wanted() + more, None)?;
        found.slots.retain(|slot| vectors.find(*slot).is_some());
        if found.slots.len() < self.wanted().min(live) {
            let is_live = |slot| vectors.find(slot).is_some();
            found = graph.search(vector, norm, self.wanted(), Some(&is_live))?;
        }
        let mut best = Best::new(self.search.k);
        found
            .slots
            .iter()
            .filter_map(|slot| vectors.find(*slot))
            .for_each(|r| self.offer(&mut best, r));
        vectors.rows_after(Some(found.through)).for_each(|row| self.offer(&mut best, row));
        Some(best)
    }

    /// A predicate by placement, which is cheap.
    fn accepted(&self) -> Result<Best<'a>, EngineError> {
        let takes = |row: &Row<'_>| Ok(self.search.accept.takes(row.key));
        let share = self.share(takes)?;
        if self.prefers_index(ACCEPT_COST, share)
            && let Some(best) = self.by_index(takes)?
        {
            return Ok(best);
        }
        Ok(self.exactly(|row| self.search.accept.takes(row.key)))
    }

    /// A filter, which reads payloads, and perhaps a predicate by placement.
    fn filtered(&self, filter: &Filter) -> Result<Best<'a>, EngineError> {
        let takes = |row: &Row<'_>| {
            let accepted = self.search.accept.takes(row.key);
            Ok(accepted
                && self.snapshot.row(&self.rows, row.slot, |_, body| holds(filter, body))?)
        };
        let share = self.share(takes)?;
        if self.prefers_index(FILTER_COST, share)
            && let Some(best) = self.by_index(takes)?
        {
            return Ok(best);
        }
        let mut best = Best::new(self.search.k);
        let vectors = &self.collection.vectors;
        self.snapshot.each_row(self.collection.id, |slot, id, body| {
            let accepted = self.search.accept.takes(PlacementKey::of(id));
            if accepted && holds(filter, body)? {
                self.offer(&mut best, vectors.find(slot)?);
            }
            Some(())
        })?;
        Ok(best)
    }

    /// The share of rows that the test takes, estimated.
    fn share(
        &self,
        takes: impl Fn(&Row<'_>) -> Result<bool, EngineError>,
    ) -> Result<f64, EngineError> {
        if self.collection.graph.extent().is_none() {
            return Ok(1.0);
        }
        let (mut tried, mut taken) = (0, 0);
        for row in self.collection.vectors.sample(SAMPLE_ROWS) {
            tried += 1;
            taken += usize::from(takes(&row)?);
        }
        // One more, or a rare value would seem to be absent.
        Ok((taken + 1) as f64 / (tried + 1) as f64)
    }

    fn by_index(
        &self,
        takes: impl Fn(&Row<'_>) -> Result<bool, EngineError>,
    ) -> Result<Option<Best<'a>>, EngineError> {
        let vectors = &self.collection.vectors;
        let failure = RefCell::new(None);
        let stopped = Cell::new(false);
        // The index asks for some rows again.
        let asked = |slot: u64| {
            if stopped.get() {
                return false;
            }
            // No panic may pass through the index, which is not Rust.
            let verdict = guarded(&self.snapshot.disk, || {
                vectors.find(slot).map_or(Ok(false), |row| takes(&row))
            });
            verdict.unwrap_or_else(|error| {
                stopped.set(true);
                failure.replace(Some(error));
                false
            })
        };
        let (vector, norm) = (self.query.vector(), self.query.norm());
        let found = self.collection.graph.search(vector, norm, self.wanted(), Some(&asked));
        if let Some(error) = failure.take() {
            return Err(error);
        }
        let Some(found) = found else { return Ok(None) };
        let mut best = Best::new(self.search.k);
        found
            .slots
            .iter()
            .filter_map(|slot| vectors.find(*slot))
            .for_each(|r| self.offer(&mut best, r));
        for row in vectors.rows_after(Some(found.through)) {
            if takes(&row)? {
                self.offer(&mut best, row);
            }
        }
        Ok(Some(best))
    }
}
