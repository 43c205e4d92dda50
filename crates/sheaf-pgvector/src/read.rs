//! Reading points: by id, page by page in the order of ids, and counting.
//!
//! A page looks at ids and hashes first, and reads the bodies only of what is wanted, from the same state. Never offsets: a page
//! starts behind the last id of the one before.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use sheaf_engines::{Accept, EngineError, Filter, Scan, ScanPage, ScannedPoint};
use sheaf_types::{CollectionId, PointId, StoredPoint};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Statement, Transaction};

use crate::collection::{Collection, table};
use crate::engine::Inner;
use crate::error::damaged;
use crate::key::Key;
use crate::write::{Columns, hash_of};

/// Points that one page looks at. Source: as the embedded engine.
const LOOKED_POINTS_MAX: usize = 16_384;
/// Points whose payload one page looks at.
const LOOKED_PAYLOADS_MAX: usize = 4_096;
/// Rows that are fetched at once: without payloads, and with.
pub const BLOCK_ROWS: (usize, usize) = (2_048, 256);
/// Bodies that are fetched at once.
const BLOCK_BODIES: usize = 512;

impl Inner {
    /// See `Engine::get`.
    pub async fn get(
        &self,
        id: CollectionId,
        ids: &[PointId],
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        self.collection(id)?;
        let mut lease = self.lease().await?;
        let bodies = lease.statement(&bodies_sql(id)).await.map_err(|e| self.error_in(id, &e))?;
        let mut wanted: Vec<&PointId> = ids.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = BTreeMap::new();
        for block in wanted.chunks(BLOCK_BODIES) {
            found.append(&mut self.bodies(&lease.client, &bodies, id, block).await?);
        }
        lease.give_back();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    /// The points with these ids that are there.
    async fn bodies(
        &self,
        client: &Client,
        bodies: &Statement,
        id: CollectionId,
        ids: &[&PointId],
    ) -> Result<BTreeMap<PointId, StoredPoint>, EngineError> {
        let columns = Columns::of(ids);
        let rows = client.query(bodies, &columns.parameters()).await;
        self.reader().points(id, &rows.map_err(|error| self.error_in(id, &error))?)
    }

    /// See `Engine::scan`.
    pub async fn scan(&self, id: CollectionId, scan: &Scan) -> Result<ScanPage, EngineError> {
        self.collection(id)?;
        let mut lease = self.lease().await?;
        let failed = |error| self.error_in(id, &error);
        let list = lease.statement(&scan_sql(id, scan)).await.map_err(failed)?;
        let bodies = lease.statement(&bodies_sql(id)).await.map_err(failed)?;
        let transaction = begin(&mut lease.client).await.map_err(failed)?;
        transaction.batch_execute(BY_ID).await.map_err(failed)?;
        let mut page = self.list(&transaction, &list, id, scan).await?;
        if scan.bodies {
            for block in page.points.chunks_mut(BLOCK_BODIES) {
                let ids: Vec<&PointId> = block.iter().map(|point| &point.id).collect();
                let columns = Columns::of(&ids);
                let rows =
                    transaction.query(&bodies, &columns.parameters()).await.map_err(failed)?;
                let mut found = self.reader().points(id, &rows)?;
                for point in block {
                    point.body = found.remove(&point.id).map(|found| found.body);
                }
            }
        }
        transaction.commit().await.map_err(failed)?;
        lease.give_back();
        Ok(page)
    }

    /// The page without bodies.
    async fn list(
        &self,
        transaction: &Transaction<'_>,
        list: &Statement,
        id: CollectionId,
        scan: &Scan,
    ) -> Result<ScanPage, EngineError> {
        let failed = |error| self.error_in(id, &error);
        let (after, through) =
            (scan.after.as_ref().map(Key::of), scan.through.as_ref().map(Key::of));
        let looked_max = looked_max(scan);
        let limit = looked_max as i64 + 1;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit];
        for key in after.iter().chain(&through) {
            parameters.extend([&key.id as &(dyn ToSql + Sync), &key.rest]);
        }
        let portal = transaction.bind(list, &parameters).await.map_err(failed)?;
        let block = if scan.filter.is_some() { BLOCK_ROWS.1 } else { BLOCK_ROWS.0 };
        let block = block.min(scan.points_max.max(1) + 1);
        let reader = self.reader();
        let (mut page, mut bytes, mut looked, mut last) = (ScanPage::default(), 0, 0, None);
        loop {
            let rows = transaction.query_portal(&portal, block as i32).await.map_err(failed)?;
            for row in &rows {
                let point = reader.row_id(row)?;
                let is_full = looked >= looked_max || page.points.len() >= scan.points_max.max(1);
                if is_full {
                    return Ok(ScanPage { looked_through: last, ..page });
                }
                if reader.is_wanted(row, &point, &scan.accept, scan.filter.as_ref(), 4)? {
                    let size = usize::try_from(reader.field::<i32>(row, 3)?).unwrap_or(0);
                    if scan.bodies && !page.points.is_empty() && bytes + size > scan.bytes_max {
                        return Ok(ScanPage { looked_through: last, ..page });
                    }
                    bytes += size;
                    let hash = hash_of(reader.field(row, 2)?);
                    let hash =
                        hash.ok_or_else(|| damaged(self.place(), "a hash of another length"))?;
                    page.points.push(ScannedPoint { id: point.clone(), hash, body: None });
                }
                looked += 1;
                last = Some(point);
            }
            if rows.len() < block {
                return Ok(page);
            }
        }
    }

    /// See `Engine::count`.
    pub async fn count(
        &self,
        id: CollectionId,
        accept: &Accept,
        filter: Option<&Filter>,
    ) -> Result<u64, EngineError> {
        self.collection(id)?;
        let mut lease = self.lease().await?;
        let failed = |error| self.error_in(id, &error);
        let is_all = matches!(accept, Accept::All) && filter.is_none();
        let payload = if filter.is_some() { ", payload" } else { "" };
        let what = if is_all { "count(*)".to_owned() } else { format!("id, id_rest{payload}") };
        let sql = format!("SELECT {what} FROM {}", table(id));
        let statement = lease.statement(&sql).await.map_err(failed)?;
        let mut count = 0;
        if is_all {
            let counted: i64 =
                lease.client.query_one(&statement, &[]).await.map_err(failed)?.get(0);
            count = counted.unsigned_abs();
        } else {
            let none: [&(dyn ToSql + Sync); 0] = [];
            let rows = lease.client.query_raw(&statement, none).await.map_err(failed)?;
            let reader = self.reader();
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                let point = reader.row_id(&row)?;
                count += u64::from(reader.is_wanted(&row, &point, accept, filter, 2)?);
            }
        }
        lease.give_back();
        Ok(count)
    }

    /// Counts a collection anew while nobody writes to it.
    pub async fn recount(&self, collection: &Collection) -> Result<(), EngineError> {
        let _alone = collection.writers.write().await;
        let lease = self.lease().await?;
        let tally = crate::engine::tally(&lease.client, collection.id).await;
        collection.set(tally.map_err(|error| self.error_in(collection.id, &error))?);
        lease.give_back();
        Ok(())
    }
}

/// Settings of a transaction that reads in the order of ids.
const BY_ID: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";

/// A transaction that sees one state throughout.
pub async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    transaction.read_only(true).start().await
}

fn looked_max(scan: &Scan) -> usize {
    let is_sparse = scan.filter.is_some() || matches!(scan.accept, Accept::Only(_));
    let most = if scan.filter.is_some() { LOOKED_PAYLOADS_MAX } else { LOOKED_POINTS_MAX };
    if is_sparse { most } else { most.min(scan.points_max.max(1)) }
}

fn scan_sql(id: CollectionId, scan: &Scan) -> String {
    let payload = if scan.filter.is_some() { ", payload" } else { "" };
    let mut holds = Vec::new();
    if scan.after.is_some() {
        holds.push("id >= $2 AND (id > $2 OR id_rest > $3)".to_owned());
    }
    if scan.through.is_some() {
        let (head, rest) = if scan.after.is_some() { ("$4", "$5") } else { ("$2", "$3") };
        holds.push(format!("id <= {head} AND (id < {head} OR id_rest <= {rest})"));
    }
    let holds =
        if holds.is_empty() { String::new() } else { format!("WHERE {}", holds.join(" AND ")) };
    format!(
        "SELECT id, id_rest, hash, bytes{payload} FROM {} {holds} ORDER BY id, id_rest LIMIT $1",
        table(id)
    )
}

/// Reads whole points: id, rest, hash, vector, payload.
pub fn bodies_sql(id: CollectionId) -> String {
    format!(
        "SELECT t.id, t.id_rest, t.hash, t.vector, t.payload FROM unnest($1::bytea[], $2::bytea[]) AS k (id, digest) \
         JOIN {} t ON t.id = k.id AND t.id_digest = k.digest",
        table(id)
    )
}
