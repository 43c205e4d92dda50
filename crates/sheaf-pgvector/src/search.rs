//! How the nearest points are found: PostgreSQL proposes them in its order, and their scores decide.
//!
//! Rows are streamed, nearest first, until enough of them are accepted. Small collections, and those without an index, are gone
//! through exactly; so are others when the index ends before enough were found. What PostgreSQL's arithmetic can't tell apart is
//! compared here, so that scores and their order are those of every other engine. A search sees one state, never a deleted or older point.

use sheaf_engines::score::{Best, Candidate, Query, norm};
use sheaf_engines::{Accept, EngineError, Hit, Search, validate};
use sheaf_types::{CollectionId, Metric, PointId};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use crate::collection::{Collection, table};
use crate::engine::Inner;
use crate::read::{BLOCK_ROWS, begin, bodies_sql};
use crate::schema;
use crate::value::{Numbers, VectorBytes};
use crate::write::Columns;

/// Candidates that pgvector keeps while it goes through an index. Source: its own bounds.
const EF_MAX: usize = 1_000;
/// Rows beyond `k` that an exact search without conditions asks for: equal distances, mostly, and those that nearly are.
const MARGIN_ROWS: usize = 64;
/// Vectors that are compared at once.
const COMPARED_ROWS: usize = 1_024;
/// How far PostgreSQL's distance may be from ours, as a share: sums of floats in another order.
const ROUNDING: f64 = 1e-5;

/// A point that was proposed.
struct Proposed {
    id: PointId,
    distance: f64,
}

/// Why no more points were proposed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that follow are farther than the best.
    Settled,
    /// There are no more.
    NoMore,
    /// There was a limit, and what follows may be as near.
    Cut,
}

/// Which way a search takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Index,
    Exact,
}

impl Inner {
    /// See `Engine::search`.
    pub async fn search(&self, id: CollectionId, search: &Search) -> Result<Vec<Hit>, EngineError> {
        let collection = self.collection(id)?;
        validate::search(&collection.config, search)?;
        if search.k == 0 {
            return Ok(Vec::new());
        }
        let floats = collection.tally().points.unsigned_abs() * u64::from(collection.config.dim);
        let has_index = schema::is_indexed(&collection.config);
        if has_index && floats > self.options.exact_floats_max {
            let found = self.search_by(Way::Index, &collection, search).await?;
            if let Some(hits) = found {
                return Ok(hits);
            }
        }
        Ok(self.search_by(Way::Exact, &collection, search).await?.unwrap_or_default())
    }

    /// The hits; `None`: the index ended before enough were found.
    async fn search_by(
        &self,
        way: Way,
        collection: &Collection,
        search: &Search,
    ) -> Result<Option<Vec<Hit>>, EngineError> {
        let id = collection.id;
        let failed = |error| self.error_in(id, &error);
        let mut lease = self.lease().await?;
        let list = lease.statement(&list_sql(collection, search)).await.map_err(failed)?;
        let vectors = lease.statement(&vectors_sql(id)).await.map_err(failed)?;
        let bodies = lease.statement(&bodies_sql(id)).await.map_err(failed)?;
        let transaction = begin(&mut lease.client, &settings(way, search)).await.map_err(failed)?;
        let has_conditions = search.filter.is_some() || matches!(search.accept, Accept::Only(_));
        let limit = match way {
            Way::Exact if !has_conditions => Some((search.k + MARGIN_ROWS) as i64),
            Way::Exact | Way::Index => None,
        };
        let (mut proposed, mut end) =
            self.propose(&transaction, &list, collection, search, limit).await?;
        if end == End::Cut {
            (proposed, end) = self.propose(&transaction, &list, collection, search, None).await?;
        }
        let is_too_few = way == Way::Index && end == End::NoMore && proposed.len() < search.k;
        let hits = match is_too_few {
            true => None,
            false => {
                let mut hits =
                    self.compare(&transaction, &vectors, collection, search, &proposed).await?;
                if search.bodies.any() {
                    self.embody(&transaction, &bodies, id, &mut hits).await?;
                }
                Some(hits)
            }
        };
        transaction.commit().await.map_err(failed)?;
        lease.give_back();
        Ok(hits)
    }

    /// All points that may be among the best, as far as they were proposed.
    async fn propose(
        &self,
        transaction: &Transaction<'_>,
        list: &Statement,
        collection: &Collection,
        search: &Search,
        limit: Option<i64>,
    ) -> Result<(Vec<Proposed>, End), EngineError> {
        let failed = |error| self.error_in(collection.id, &error);
        let bytes: Vec<u8> = search.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let vector = VectorBytes(&bytes);
        let parameters: [&(dyn ToSql + Sync); 2] = [&vector, &limit];
        let portal = transaction.bind(list, &parameters).await.map_err(failed)?;
        let most = if search.filter.is_some() { BLOCK_ROWS.1 } else { BLOCK_ROWS.0 };
        let mut block = (search.k + MARGIN_ROWS).min(most);
        let slack = Slack::new(collection.config.metric, &search.vector);
        let (mut proposed, mut seen) = (Vec::<Proposed>::new(), 0);
        loop {
            let rows = transaction.query_portal(&portal, block as i32).await.map_err(failed)?;
            for row in &rows {
                let id = self.row_id(row)?;
                let distance = self.field::<f64>(row, 2)?;
                // What is undefined is as far as can be.
                let distance = if distance.is_nan() { f64::INFINITY } else { distance };
                if let Some(worst) = proposed.get(search.k - 1)
                    && distance > slack.beyond(worst.distance)
                {
                    return Ok((proposed, End::Settled));
                }
                if self.is_wanted(row, &id, &search.accept, search.filter.as_ref(), 3)? {
                    proposed.push(Proposed { id, distance });
                }
            }
            seen += rows.len();
            if rows.len() < block {
                let is_cut = limit.is_some_and(|limit| seen as i64 >= limit);
                return Ok((proposed, if is_cut { End::Cut } else { End::NoMore }));
            }
            block = most;
        }
    }

    /// The best `k` of what was proposed, by their scores.
    async fn compare(
        &self,
        transaction: &Transaction<'_>,
        vectors: &Statement,
        collection: &Collection,
        search: &Search,
        proposed: &[Proposed],
    ) -> Result<Vec<Hit>, EngineError> {
        let query = Query::new(collection.config.metric, search.vector.clone());
        let ids: Vec<&PointId> = proposed.iter().map(|proposed| &proposed.id).collect();
        let mut best = Best::new(search.k);
        for block in ids.chunks(COMPARED_ROWS) {
            let columns = Columns::of(block);
            let rows = transaction.query(vectors, &columns.parameters()).await;
            for row in &rows.map_err(|error| self.error_in(collection.id, &error))? {
                let at = self.field::<i64>(row, 0)?;
                let Some(id) = usize::try_from(at - 1).ok().and_then(|at| block.get(at)) else {
                    continue;
                };
                let vector = self.field::<Numbers>(row, 1)?.0;
                let score = query.score(&vector, norm(&vector));
                best.offer(Candidate { rank: query.rank(score), score, id, slot: 0 });
            }
        }
        let hit =
            |found: Candidate<'_>| Hit { id: found.id.clone(), score: found.score, body: None };
        Ok(best.into_sorted().into_iter().map(hit).collect())
    }

    /// Reads the bodies of the hits.
    async fn embody(
        &self,
        transaction: &Transaction<'_>,
        bodies: &Statement,
        id: CollectionId,
        hits: &mut [Hit],
    ) -> Result<(), EngineError> {
        for block in hits.chunks_mut(COMPARED_ROWS) {
            let ids: Vec<&PointId> = block.iter().map(|hit| &hit.id).collect();
            let columns = Columns::of(&ids);
            let rows = transaction.query(bodies, &columns.parameters()).await;
            let mut found = self.points(id, &rows.map_err(|error| self.error_in(id, &error))?)?;
            for hit in block {
                hit.body = found.remove(&hit.id).map(|point| point.body);
            }
        }
        Ok(())
    }
}

/// How much farther than the worst of the best a row may be and yet be among them.
struct Slack {
    metric: Metric,
    /// Of an inner product, whose rounding grows with the vectors and not with itself.
    absolute: f64,
}

impl Slack {
    fn new(metric: Metric, vector: &[f32]) -> Self {
        let squared: f64 =
            vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
        let absolute = match metric {
            Metric::L2 => 0.0,
            Metric::Cosine => ROUNDING,
            Metric::Dot => squared * ROUNDING / 10.0,
        };
        Self { metric, absolute }
    }

    fn beyond(&self, worst: f64) -> f64 {
        match self.metric {
            Metric::L2 | Metric::Dot => worst + worst.abs() * ROUNDING + self.absolute,
            Metric::Cosine => worst + self.absolute,
        }
    }
}

fn settings(way: Way, search: &Search) -> String {
    match way {
        Way::Index => format!(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
             SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.ef_search = {}",
            search.ef.max(search.k).clamp(1, EF_MAX)
        ),
        Way::Exact => {
            "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off".to_owned()
        }
    }
}

/// Proposes points: id, rest, distance, and the payload if there is a filter.
fn list_sql(collection: &Collection, search: &Search) -> String {
    let operator = schema::operator(collection.config.metric);
    let payload = if search.filter.is_some() { ", payload" } else { "" };
    format!(
        "SELECT id, id_rest, (vector {operator} $1)::float8{payload} FROM {} ORDER BY vector {operator} $1 LIMIT $2",
        collection.table()
    )
}

/// Reads vectors: the number of the id that was asked for, and the vector.
fn vectors_sql(id: CollectionId) -> String {
    format!(
        "SELECT k.n, t.vector FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k (id, digest, n) \
         JOIN {} t ON t.id = k.id AND t.id_digest = k.digest",
        table(id)
    )
}
