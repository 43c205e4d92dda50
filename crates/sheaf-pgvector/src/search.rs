//! How the nearest points are found: PostgreSQL proposes them in its order, and their scores decide.
//!
//! Rows are streamed, nearest first, until enough of them are accepted. Small collections, and those without an index, are gone
//! through exactly; so are others when the index ends before enough were found. What PostgreSQL's arithmetic can't tell apart is
//! compared here, so that scores and their order are those of every other engine. A search sees one state, never a deleted or older point.

use sheaf_engines::score::{Best, Candidate, Query, norm};
use sheaf_engines::{Accept, EngineError, Hit, Search, validate};
use sheaf_types::{CollectionId, Metric, PointId};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement, Transaction};

use crate::collection::{Collection, table};
use crate::engine::Inner;
use crate::error::{is_missing_table, unapplied};
use crate::read::{BLOCK_ROWS, begin, bodies_sql};
use crate::row::Reader;
use crate::schema;
use crate::session::{Session, Statements};
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
        let failed = |error| self.error_in(id, &error);
        let mut lease = self.lease().await?;
        let Session { client, statements, .. } = &mut *lease;
        let transaction = begin(client).await.map_err(failed)?;
        let (reader, exact_floats_max) = (self.reader(), self.options.exact_floats_max);
        let finder = Finder { reader, exact_floats_max, collection: &collection, search };
        let found = finder.find(&transaction, statements).await;
        let hits = found.map_err(|error| match error {
            // A table that is gone though nobody dropped its collection.
            EngineError::NoCollection(_) if self.collection(id).is_ok() => self.lacks_table(id),
            error => error,
        })?;
        transaction.commit().await.map_err(failed)?;
        lease.give_back();
        Ok(hits)
    }
}

/// One search of one collection. It has been found valid, and asks for something.
pub struct Finder<'a> {
    pub reader: Reader<'a>,
    /// Numbers up to which it is searched exactly.
    pub exact_floats_max: u64,
    pub collection: &'a Collection,
    pub search: &'a Search,
}

/// What a search asks of PostgreSQL.
struct Asked {
    list: Statement,
    vectors: Statement,
    bodies: Statement,
}

impl Finder<'_> {
    /// The hits in the state that the transaction sees.
    ///
    /// # Errors
    /// `NoCollection`: its table isn't there.
    pub async fn find(
        &self,
        transaction: &Transaction<'_>,
        statements: &mut Statements,
    ) -> Result<Vec<Hit>, EngineError> {
        let (id, failed) = (self.collection.id, |error| self.failed(&error));
        let list = list_sql(self.collection, self.search);
        let asked = Asked {
            list: statements.get(transaction, &list).await.map_err(failed)?,
            vectors: statements.get(transaction, &vectors_sql(id)).await.map_err(failed)?,
            bodies: statements.get(transaction, &bodies_sql(id)).await.map_err(failed)?,
        };
        let config = &self.collection.config;
        let floats = self.collection.tally().points.unsigned_abs() * u64::from(config.dim);
        if schema::is_indexed(config) && floats > self.exact_floats_max {
            let found = self.find_by(Way::Index, transaction, &asked).await?;
            if let Some(hits) = found {
                return Ok(hits);
            }
        }
        Ok(self.find_by(Way::Exact, transaction, &asked).await?.unwrap_or_default())
    }

    fn failed(&self, error: &Error) -> EngineError {
        match is_missing_table(error) {
            true => EngineError::NoCollection(self.collection.id),
            false => unapplied(self.reader.place, error),
        }
    }

    /// The hits; `None`: the index ended before enough were found.
    async fn find_by(
        &self,
        way: Way,
        transaction: &Transaction<'_>,
        asked: &Asked,
    ) -> Result<Option<Vec<Hit>>, EngineError> {
        let search = self.search;
        let settings = settings(way, search);
        transaction.batch_execute(&settings).await.map_err(|error| self.failed(&error))?;
        let has_conditions = search.filter.is_some() || matches!(search.accept, Accept::Only(_));
        let limit = match way {
            Way::Exact if !has_conditions => Some((search.k + MARGIN_ROWS) as i64),
            Way::Exact | Way::Index => None,
        };
        let (mut proposed, mut end) = self.propose(transaction, &asked.list, limit).await?;
        if end == End::Cut {
            (proposed, end) = self.propose(transaction, &asked.list, None).await?;
        }
        if way == Way::Index && end == End::NoMore && proposed.len() < search.k {
            return Ok(None);
        }
        let mut hits = self.compare(transaction, &asked.vectors, &proposed).await?;
        if search.bodies.any() {
            self.embody(transaction, &asked.bodies, &mut hits).await?;
        }
        Ok(Some(hits))
    }

    /// All points that may be among the best, as far as they were proposed.
    async fn propose(
        &self,
        transaction: &Transaction<'_>,
        list: &Statement,
        limit: Option<i64>,
    ) -> Result<(Vec<Proposed>, End), EngineError> {
        let (reader, search) = (self.reader, self.search);
        let failed = |error| self.failed(&error);
        let bytes: Vec<u8> = search.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let vector = VectorBytes(&bytes);
        let parameters: [&(dyn ToSql + Sync); 2] = [&vector, &limit];
        let portal = transaction.bind(list, &parameters).await.map_err(failed)?;
        let most = if search.filter.is_some() { BLOCK_ROWS.1 } else { BLOCK_ROWS.0 };
        let mut block = (search.k + MARGIN_ROWS).min(most);
        let slack = Slack::new(self.collection.config.metric, &search.vector);
        let (mut proposed, mut seen) = (Vec::<Proposed>::new(), 0);
        loop {
            let rows = transaction.query_portal(&portal, block as i32).await.map_err(failed)?;
            for row in &rows {
                let id = reader.row_id(row)?;
                let distance = reader.field::<f64>(row, 2)?;
                // What is undefined is as far as can be.
                let distance = if distance.is_nan() { f64::INFINITY } else { distance };
                if let Some(worst) = proposed.get(search.k - 1)
                    && distance > slack.beyond(worst.distance)
                {
                    return Ok((proposed, End::Settled));
                }
                if reader.is_wanted(row, &id, &search.accept, search.filter.as_ref(), 3)? {
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
        proposed: &[Proposed],
    ) -> Result<Vec<Hit>, EngineError> {
        let (reader, search) = (self.reader, self.search);
        let query = Query::new(self.collection.config.metric, search.vector.clone());
        let ids: Vec<&PointId> = proposed.iter().map(|proposed| &proposed.id).collect();
        let mut best = Best::new(search.k);
        for block in ids.chunks(COMPARED_ROWS) {
            let columns = Columns::of(block);
            let rows = transaction.query(vectors, &columns.parameters()).await;
            for row in &rows.map_err(|error| self.failed(&error))? {
                let at = reader.field::<i64>(row, 0)?;
                let Some(id) = usize::try_from(at - 1).ok().and_then(|at| block.get(at)) else {
                    continue;
                };
                let vector = reader.field::<Numbers>(row, 1)?.0;
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
        hits: &mut [Hit],
    ) -> Result<(), EngineError> {
        for block in hits.chunks_mut(COMPARED_ROWS) {
            let ids: Vec<&PointId> = block.iter().map(|hit| &hit.id).collect();
            let columns = Columns::of(&ids);
            let rows = transaction.query(bodies, &columns.parameters()).await;
            let rows = rows.map_err(|error| self.failed(&error))?;
            let mut found = self.reader.points(self.collection.id, &rows)?;
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

/// Both ways set the same switches: one may follow the other in a transaction.
fn settings(way: Way, search: &Search) -> String {
    match way {
        Way::Index => format!(
            "SET LOCAL enable_indexscan = on; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off; \
             SET LOCAL enable_sort = off; SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.ef_search = {}",
            search.ef.max(search.k).clamp(1, EF_MAX)
        ),
        Way::Exact => "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = on; \
                       SET LOCAL enable_sort = on"
            .to_owned(),
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
