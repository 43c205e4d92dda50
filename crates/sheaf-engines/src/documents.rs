//! Documents: points with several vectors, ranked by late interaction (MaxSim).
//!
//! A document's body holds its vectors one after the other, so it is stored, moved and compared as one point in every engine that
//! takes it. All documents are scored, exactly, page by page; nothing of them is kept in memory.

use std::sync::Arc;

use sheaf_types::{CollectionConfig, CollectionId, PointBody};

use crate::score::{self, Best, Candidate};
use crate::{Accept, Engine, EngineError, Filter, Hit, Scan, ScannedPoint};

/// Documents and bytes that are read at once: a few milliseconds of scoring.
const PAGE_POINTS: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

/// A search for the documents that are nearest to several vectors.
#[derive(Clone, Debug)]
pub struct DocumentSearch {
    pub query: Vec<Vec<f32>>,
    pub k: usize,
    pub accept: Accept,
    pub filter: Option<Filter>,
    /// Whether the hits carry their bodies.
    pub bodies: bool,
}

/// The body of a document.
///
/// # Errors
/// `Invalid` when there is no vector, or one has another dimension than the collection.
pub fn body(
    config: &CollectionConfig,
    vectors: &[Vec<f32>],
    payload: Option<&str>,
) -> Result<PointBody, EngineError> {
    if vectors.is_empty() {
        return Err(EngineError::Invalid("a document needs at least one vector".to_owned()));
    }
    check(config, vectors)?;
    Ok(PointBody::encode(&vectors.concat(), payload))
}

/// The vectors of a document, in their order.
pub fn vectors(config: &CollectionConfig, body: &PointBody) -> Vec<Vec<f32>> {
    body.vector().chunks(config.dim.max(1) as usize).map(<[f32]>::to_vec).collect()
}

fn check(config: &CollectionConfig, vectors: &[Vec<f32>]) -> Result<(), EngineError> {
    let wants = config.dim as usize;
    match vectors.iter().find(|vector| vector.len() != wants) {
        Some(wrong) => Err(EngineError::Invalid(format!(
            "a vector has {} numbers, the collection takes {wants}",
            wrong.len()
        ))),
        None => Ok(()),
    }
}

/// The `k` best documents, best first; equal scores in the order of ids. A score is the sum, over the query's vectors, of the greatest
/// similarity with any of the document's.
///
/// # Errors
/// The engine's own; `Invalid` for vectors that don't fit the collection.
pub async fn search(
    engine: &dyn Engine,
    collection: CollectionId,
    config: &CollectionConfig,
    search: DocumentSearch,
) -> Result<Vec<Hit>, EngineError> {
    check(config, &search.query)?;
    if search.query.iter().flatten().any(|number| !number.is_finite()) {
        return Err(EngineError::Invalid("a vector holds a number that is not finite".to_owned()));
    }
    let DocumentSearch { query, k, accept, filter, bodies } = search;
    let query = Arc::new(Query::new(config, query));
    let mut best: Vec<Hit> = Vec::new();
    let mut after = None;
    while k > 0 && !query.vectors.is_empty() {
        let scan = Scan {
            after,
            through: None,
            points_max: PAGE_POINTS,
            bytes_max: PAGE_BYTES,
            bodies: true,
            accept: accept.clone(),
            filter: filter.clone(),
        };
        let page = engine.scan(collection, scan).await?;
        let query = Arc::clone(&query);
        // Arithmetic for milliseconds: not on a thread that serves others.
        let scored =
            tokio::task::spawn_blocking(move || query.better(best, page.points, k, bodies));
        best = scored.await.map_err(|error| {
            EngineError::Unavailable(format!("the search broke off: {error}; ask again"))
        })?;
        match page.looked_through {
            Some(id) => after = Some(id),
            None => break,
        }
    }
    Ok(best)
}

struct Query {
    vectors: Vec<score::Query>,
    dim: usize,
}

impl Query {
    fn new(config: &CollectionConfig, vectors: Vec<Vec<f32>>) -> Self {
        let vectors = vectors.into_iter().map(|one| score::Query::new(config.metric, one));
        Self { vectors: vectors.collect(), dim: config.dim.max(1) as usize }
    }

    /// The best of those so far and of a page.
    fn better(
        &self,
        so_far: Vec<Hit>,
        page: Vec<ScannedPoint>,
        k: usize,
        bodies: bool,
    ) -> Vec<Hit> {
        let score = |found: ScannedPoint| {
            let body = found.body?;
            let score = self.score(&body.vector());
            Some(Hit { id: found.id, score, body: bodies.then_some(body) })
        };
        let all: Vec<Hit> = so_far.into_iter().chain(page.into_iter().filter_map(score)).collect();
        let mut best = Best::new(k);
        for (slot, hit) in (0..).zip(&all) {
            // Adding zero turns -0 into 0: they are equal scores.
            best.offer(Candidate { rank: -hit.score + 0.0, score: hit.score, id: &hit.id, slot });
        }
        let slots: Vec<usize> =
            best.into_sorted().iter().map(|found| found.slot as usize).collect();
        let mut all: Vec<Option<Hit>> = all.into_iter().map(Some).collect();
        slots.into_iter().filter_map(|slot| all[slot].take()).collect()
    }

    fn score(&self, numbers: &[f32]) -> f32 {
        let tokens: Vec<(&[f32], f32)> =
            numbers.chunks_exact(self.dim).map(|token| (token, score::norm(token))).collect();
        let nearest = |query: &score::Query| {
            let scores = tokens.iter().map(|(token, norm)| query.score(token, *norm));
            scores.fold(f32::MIN, f32::max)
        };
        let sum: f32 = self.vectors.iter().map(nearest).sum();
        sum.clamp(f32::MIN, f32::MAX) + 0.0
    }
}
