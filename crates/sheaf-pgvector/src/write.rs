//! How a batch becomes one durable transaction, and what is answered when it doesn't.
//!
//! Decides between done, not applied and unknown: until COMMIT is sent nothing can be applied; after that only the server's word
//! counts, and where it got lost, `settle.rs` comes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engines::{Change, EngineError, Write, validate};
use sheaf_types::{CollectionConfig, CollectionId, PointHash, PointId, StoredPoint};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use crate::collection::{Collection, Tally};
use crate::engine::Inner;
use crate::error::{cause, damaged, is_open, too_late, unapplied};
use crate::key::Key;
use crate::schema;
use crate::session::Lease;
use crate::value::{JsonText, VectorBytes};

/// How a transaction that was to be committed ended, when it wasn't.
enum Failed {
    /// Nothing of it was applied, nor will be.
    Before(EngineError),
    /// It may have been. Nothing can follow any more.
    Settled(String),
}

/// What there was of an id before: its hash and its size.
type Old = BTreeMap<PointId, (PointHash, i32)>;

impl Inner {
    /// See `Engine::apply`.
    pub async fn apply(
        &self,
        id: CollectionId,
        writes: Vec<Write>,
    ) -> Result<Vec<Change>, EngineError> {
        let collection = self.collection(id)?;
        validate::writes(id, &collection.config, &writes)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut last: BTreeMap<&PointId, &Write> = BTreeMap::new();
        for write in &writes {
            last.insert(id_of(write), write);
        }
        let alone = async {
            let writers = Arc::clone(&collection.writers).read_owned().await;
            (writers, self.stripes.lock(id, last.keys().copied()).await)
        };
        let _alone = tokio::time::timeout(self.options.deadline, alone)
            .await
            .map_err(|_| too_late(self.place()))?;
        let begun =
            tokio::time::timeout(self.options.deadline, self.write(&collection, &last)).await;
        let (lease, old) = begun.map_err(|_| too_late(self.place()))??;
        match self.commit(lease).await {
            Ok(()) => {
                let (changes, tally) = changes(&writes, old);
                collection.add(tally);
                Ok(changes)
            }
            Err(Failed::Before(error)) => Err(error),
            Err(Failed::Settled(why)) => {
                collection.doubt();
                Err(EngineError::Unknown(why))
            }
        }
    }

    /// A transaction in which the last write of each id was done, and what was there before.
    async fn write(
        &self,
        collection: &Collection,
        last: &BTreeMap<&PointId, &Write>,
    ) -> Result<(Lease, Old), EngineError> {
        let mut lease = self.lease().await?;
        let table = collection.table();
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for (id, write) in last {
            match write {
                Write::Delete(_) => gone.push(*id),
                Write::Upsert(point) => kept.push(point),
            }
        }
        let ids: Vec<&PointId> = last.keys().copied().collect();
        let done = async {
            let old = lease.statement(&old_sql(&table)).await?;
            let delete = lease.statement(&delete_sql(&table)).await?;
            let upsert = lease.statement(&upsert_sql(collection)).await?;
            Ok::<_, Error>((old, delete, upsert))
        };
        let failed = |error: Error| self.error_in(collection.id, &error);
        let (old, delete, upsert) = done.await.map_err(failed)?;
        self.owner.begin(&lease.client).await?;
        let (columns, of_gone, rows) =
            (Columns::of(&ids), Columns::of(&gone), Rows::of(collection, &kept));
        // Sent one behind the other, answered in that order.
        let client = &lease.client;
        let (of_old, of_delete, of_upsert) =
            (columns.parameters(), of_gone.parameters(), rows.parameters());
        let read = client.query(&old, &of_old);
        let delete = async {
            if gone.is_empty() { Ok(0) } else { client.execute(&delete, &of_delete).await }
        };
        let upsert = async {
            if kept.is_empty() { Ok(0) } else { client.execute(&upsert, &of_upsert).await }
        };
        let (read, deleted, upserted) = futures_util::join!(read, delete, upsert);
        let read = read.map_err(failed)?;
        deleted.map_err(failed)?;
        upserted.map_err(failed)?;
        let mut before = Old::new();
        let reader = self.reader();
        for row in read {
            let at = usize::try_from(reader.field::<i64>(&row, 0)? - 1).unwrap_or(usize::MAX);
            let hash = hash_of(reader.field(&row, 1)?).zip(ids.get(at));
            let (hash, id) =
                hash.ok_or_else(|| damaged(self.place(), "a hash of another length"))?;
            before.insert((*id).clone(), (hash, reader.field(&row, 2)?));
        }
        Ok((lease, before))
    }

    /// Ends the session's transaction.
    async fn commit(&self, lease: Lease) -> Result<(), Failed> {
        let committed = lease.client.batch_execute("COMMIT");
        let lost = match tokio::time::timeout(self.options.deadline, committed).await {
            Ok(Ok(())) => {
                lease.give_back();
                return Ok(());
            }
            Ok(Err(error)) if !is_open(&error) => {
                return Err(Failed::Before(unapplied(self.place(), &error)));
            }
            Ok(Err(error)) => cause(&error),
            Err(_) => "it didn't answer in time".to_owned(),
        };
        let number = lease.number;
        drop(lease);
        crate::settle::settle(&self.pool, self.place(), number).await;
        let place = self.place();
        Err(Failed::Settled(format!(
            "the answer of PostgreSQL at {place} to a COMMIT got lost: {lost}"
        )))
    }

    /// See `Engine::create_collection`.
    pub async fn create(
        &self,
        id: CollectionId,
        config: Arc<CollectionConfig>,
    ) -> Result<(), EngineError> {
        schema::check(&config)?;
        let _one = self.defining.lock().await;
        self.refresh().await?;
        if self.collection(id).is_ok() {
            return Ok(());
        }
        let text = serde_json::to_string(&*config)
            .map_err(|error| EngineError::Invalid(format!("{error}; nothing was created")))?;
        let insert = "INSERT INTO sheaf.collections (id, config) VALUES ($1, $2)";
        let number = number_of(id)?;
        self.define(&schema::create(id, &config), insert, &[&number, &text]).await?;
        self.know(Arc::new(Collection::new(id, config, Tally::default())));
        Ok(())
    }

    /// See `Engine::drop_collection`.
    pub async fn drop_collection(&self, id: CollectionId) -> Result<(), EngineError> {
        let _one = self.defining.lock().await;
        self.refresh().await?;
        let Ok(collection) = self.collection(id) else { return Ok(()) };
        let number = number_of(id)?;
        // First, so that a call that finds its table gone knows why.
        self.forget(id);
        let drop = format!("DROP TABLE IF EXISTS {}", crate::collection::table(id));
        let delete = "DELETE FROM sheaf.collections WHERE id = $1";
        let dropped = self.define(&drop, delete, &[&number]).await;
        if !matches!(dropped, Ok(()) | Err(EngineError::Unknown(_))) {
            self.know(collection);
        }
        dropped
    }

    /// One transaction that changes which collections there are.
    async fn define(
        &self,
        table: &str,
        row: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), EngineError> {
        let begun = async {
            let lease = self.lease().await?;
            self.owner.begin(&lease.client).await?;
            let failed = |error: Error| unapplied(self.place(), &error);
            lease.client.batch_execute(table).await.map_err(failed)?;
            lease.client.execute(row, parameters).await.map_err(failed)?;
            Ok(lease)
        };
        let begun = tokio::time::timeout(self.options.deadline, begun).await;
        match self.commit(begun.map_err(|_| too_late(self.place()))??).await {
            Ok(()) => Ok(()),
            Err(Failed::Before(error)) => Err(error),
            Err(Failed::Settled(why)) => {
                // Read again before anything else is done with collections.
                self.is_listed_anew();
                Err(EngineError::Unknown(why))
            }
        }
    }
}

fn id_of(write: &Write) -> &PointId {
    match write {
        Write::Upsert(point) => &point.id,
        Write::Delete(id) => id,
    }
}

/// The id of a collection as PostgreSQL's number.
pub fn number_of(id: CollectionId) -> Result<i64, EngineError> {
    i64::try_from(id.0).map_err(|_| {
        EngineError::Unsupported(format!(
            "PostgreSQL has no number as large as {id}; nothing was changed"
        ))
    })
}

pub fn hash_of(bytes: &[u8]) -> Option<PointHash> {
    bytes.try_into().ok().map(|bytes| PointHash(u128::from_be_bytes(bytes)))
}

/// What a point counts for: the bytes of its id and body.
fn bytes_of(point: &StoredPoint) -> i32 {
    i32::try_from(point.id.as_str().len() + point.body.as_bytes().len()).unwrap_or(i32::MAX)
}

/// What each write changed, one after the other, and all of them together.
fn changes(writes: &[Write], mut now: Old) -> (Vec<Change>, Tally) {
    let mut tally = Tally::default();
    let mut count = |held: Option<&(PointHash, i32)>, sign: i64| {
        tally.points += sign * i64::from(held.is_some());
        tally.bytes += sign * held.map_or(0, |held| i64::from(held.1));
    };
    let change = |write: &Write| {
        let (old, new) = match write {
            Write::Upsert(point) => {
                let held = (point.hash, bytes_of(point));
                (now.insert(point.id.clone(), held), Some(held))
            }
            Write::Delete(id) => (now.remove(id), None),
        };
        count(old.as_ref(), -1);
        count(new.as_ref(), 1);
        Change { old: old.map(|held| held.0), new: new.map(|held| held.0) }
    };
    (writes.iter().map(change).collect(), tally)
}

/// The key columns of ids.
pub struct Columns<'a> {
    ids: Vec<&'a [u8]>,
    digests: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    pub fn of(ids: &[&'a PointId]) -> Self {
        let keys = ids.iter().map(|id| Key::of(id));
        let (ids, digests) = keys.map(|key| (key.id, key.digest)).unzip();
        Self { ids, digests }
    }

    pub fn parameters(&self) -> [&(dyn ToSql + Sync); 2] {
        [&self.ids, &self.digests]
    }
}

/// The columns of whole points.
struct Rows<'a> {
    ids: Vec<&'a [u8]>,
    digests: Vec<Vec<u8>>,
    rests: Vec<&'a [u8]>,
    hashes: Vec<Vec<u8>>,
    bytes: Vec<i32>,
    vectors: Vectors<'a>,
    payloads: Vec<Option<JsonText<'a>>>,
}

/// The numbers of points.
enum Vectors<'a> {
    Single(Vec<VectorBytes<'a>>),
    /// Of documents: all in one list, as PostgreSQL has none of lists of several lengths, and where each document's end in it.
    Several {
        numbers: Vec<f32>,
        ends: Vec<i32>,
        counts: Vec<i32>,
    },
}

impl<'a> Vectors<'a> {
    fn of(collection: &Collection, points: &[&'a StoredPoint]) -> Self {
        if !collection.config.holds_documents() {
            let bytes = points.iter().map(|point| VectorBytes(point.body.vector_bytes()));
            return Self::Single(bytes.collect());
        }
        // More than these count are more than a message to PostgreSQL may have.
        let count = |numbers: usize| i32::try_from(numbers).unwrap_or(i32::MAX);
        let (mut numbers, mut ends, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for point in points {
            numbers.extend(point.body.vector());
            ends.push(count(numbers.len()));
            counts.push(count(point.body.dim()));
        }
        Self::Several { numbers, ends, counts }
    }
}

impl<'a> Rows<'a> {
    fn of(collection: &Collection, points: &[&'a StoredPoint]) -> Self {
        let keys: Vec<Key<'_>> = points.iter().map(|point| Key::of(&point.id)).collect();
        let each = || points.iter();
        Self {
            ids: keys.iter().map(|key| key.id).collect(),
            rests: keys.iter().map(|key| key.rest).collect(),
            digests: keys.into_iter().map(|key| key.digest).collect(),
            hashes: each().map(|point| point.hash.0.to_be_bytes().to_vec()).collect(),
            bytes: each().map(|point| bytes_of(point)).collect(),
            vectors: Vectors::of(collection, points),
            payloads: each().map(|point| point.body.payload().map(JsonText)).collect(),
        }
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut all: Vec<&(dyn ToSql + Sync)> =
            vec![&self.ids, &self.digests, &self.rests, &self.hashes, &self.bytes, &self.payloads];
        match &self.vectors {
            Vectors::Single(vectors) => all.push(vectors),
            Vectors::Several { numbers, ends, counts } => {
                all.extend([ends as &(dyn ToSql + Sync), counts, numbers]);
            }
        }
        all
    }
}

fn old_sql(table: &str) -> String {
    format!(
        "SELECT k.n, t.hash, t.bytes FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k (id, digest, n) \
         JOIN {table} t ON t.id = k.id AND t.id_digest = k.digest"
    )
}

fn delete_sql(table: &str) -> String {
    format!(
        "DELETE FROM {table} t USING unnest($1::bytea[], $2::bytea[]) AS k (id, digest) \
         WHERE t.id = k.id AND t.id_digest = k.digest"
    )
}

/// A row that is already as it shall be stays untouched: nothing would be gained but a new version of it in the index.
fn upsert_sql(collection: &Collection) -> String {
    let (vector, arrays, names) = match collection.config.holds_documents() {
        false => ("k.vector", "$7::vector[]", "vector"),
        true => (
            "($9::real[])[k.until - k.count + 1:k.until]",
            "$7::int4[], $8::int4[]",
            "until, count",
        ),
    };
    format!(
        "INSERT INTO {} AS t (id, id_digest, id_rest, hash, bytes, payload, vector) \
         SELECT k.id, k.digest, k.rest, k.hash, k.bytes, k.payload, {vector} \
         FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::int4[], $6::json[], {arrays}) \
         AS k (id, digest, rest, hash, bytes, payload, {names}) \
         ON CONFLICT (id, id_digest) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes, vector = excluded.vector, \
         payload = excluded.payload WHERE t.hash <> excluded.hash",
        collection.table()
    )
}
