//! A standby that follows the shard's own PostgreSQL: whether it has all that the other had.
//!
//! Trusts no position of the log, as two servers may go on from the same one in different ways, and no clock. A mark is written to
//! the leader: a standby that shows it has carried out all that was committed before it. What counts is that the state which a search
//! reads has the mark itself: so it doesn't matter which server answers, how often it was started, or from what it was made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::Pool;
use sheaf_engines::{EngineError, Follower, Hit, Reply, Search, validate};
use sheaf_types::{CollectionConfig, CollectionId};
use tokio_postgres::{Client, Error, Row, Transaction};

use crate::collection::{Collection, Tally, table};
use crate::error::{damaged, is_missing_table, too_late, unapplied};
use crate::marks;
use crate::options::PgOptions;
use crate::read::begin;
use crate::row::Reader;
use crate::schema;
use crate::search::Finder;
use crate::session::{Lease, Session, Sessions, Statements};
use crate::write::number_of;

/// Until a mark that was written must be seen.
const SEEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks for it.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Until one call is given up. Source: a proof that a replica has caught up lasts as long.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a page of PostgreSQL, for an estimate.
const PAGE_BYTES: f64 = 8_192.0;

/// Where the two servers are.
#[derive(Clone, Debug)]
pub struct PgFollowerOptions {
    /// The standby's database.
    pub standby: PgOptions,
    /// The same database on the server that it follows: the shard's own.
    pub leader: PgOptions,
    /// A text that no other life of any replica has.
    pub name: String,
}

/// See [`Follower`].
pub struct PgFollower {
    /// Of the standby.
    options: PgOptions,
    pool: Pool<Sessions>,
    leader: Sessions,
    leader_place: String,
    name: String,
    catching_up: tokio::sync::Mutex<Progress>,
    /// The last mark that was seen.
    proven: Mutex<Option<i64>>,
}

/// The sessions in which marks are written and looked for, while nothing is under way in them.
#[derive(Default)]
struct Progress {
    leader: Option<Client>,
    standby: Option<Client>,
    mark: i64,
}

impl PgFollower {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// The pool of sessions can't be made.
    pub fn new(options: PgFollowerOptions) -> Result<Self, EngineError> {
        let PgFollowerOptions { mut standby, mut leader, name } = options;
        for options in [&mut standby, &mut leader] {
            options.deadline = CALL_DEADLINE;
        }
        let leader_place = leader.place().to_owned();
        Ok(Self {
            pool: Sessions::new(standby.clone()).pool()?,
            options: standby,
            leader: Sessions::new(leader),
            leader_place,
            name,
            catching_up: tokio::sync::Mutex::default(),
            proven: Mutex::new(None),
        })
    }

    fn place(&self) -> &str {
        self.options.place()
    }

    fn failed(&self, error: &Error) -> EngineError {
        unapplied(self.place(), error)
    }

    fn proven(&self) -> Option<i64> {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Searches are refused until a mark is seen again, unless a later one was seen meanwhile.
    fn forget(&self, mark: i64) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if *proven == Some(mark) {
            *proven = None;
        }
    }

    async fn try_catch_up(&self) -> Result<(), EngineError> {
        let mut progress = self.catching_up.lock().await;
        progress.mark += 1;
        let Progress { leader, standby, mark } = &mut *progress;
        let place = self.leader_place.as_str();
        let write = async {
            // Put back only after a plain answer: what is in the middle of something isn't used again.
            let client = match leader.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => marks::open(&self.leader, place).await?,
            };
            marks::write(&client, place, &self.name, *mark).await?;
            *leader = Some(client);
            Ok(())
        };
        within(CALL_DEADLINE, write, || too_late(place)).await?;
        let client = match standby.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.pool.manager().client().await?,
        };
        let late = || {
            EngineError::Unavailable(format!(
                "PostgreSQL at {} hasn't got in {} s what its leader took: it is behind, its replay is paused, or it follows another \
                 server; look at pg_stat_replication of the leader, and at the log of the standby",
                self.place(),
                SEEN_TIMEOUT.as_secs()
            ))
        };
        within(SEEN_TIMEOUT, self.see(&client, *mark), late).await?;
        *standby = Some(client);
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(*mark);
        Ok(())
    }

    /// Returns once the standby has the mark.
    async fn see(&self, client: &Client, mark: i64) -> Result<(), EngineError> {
        loop {
            let seen = match client.query_one(marks::LOOK, &[&self.name]).await {
                Ok(row) => self.mark_in(&row)?,
                // It hasn't heard of the table yet.
                Err(error) if is_missing_table(&error) => None,
                Err(error) => return Err(self.failed(&error)),
            };
            if seen.is_some_and(|seen| seen >= mark) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// The mark that a standby shows in a row of `marks::LOOK`.
    fn mark_in(&self, row: &Row) -> Result<Option<i64>, EngineError> {
        let reader = Reader { place: self.place() };
        if !reader.field::<bool>(row, 0)? {
            return Err(EngineError::Unavailable(format!(
                "PostgreSQL at {} is not a standby, or was promoted: it takes writes of its own; give a standby that follows {}",
                self.place(),
                self.leader_place
            )));
        }
        reader.field(row, 1)
    }

    async fn search_now(&self, id: CollectionId, search: &Search) -> Result<Vec<Hit>, EngineError> {
        let unknown = || EngineError::Unavailable("it isn't known to have caught up".to_owned());
        let proven = self.proven().ok_or_else(unknown)?;
        let mut lease = Lease::of(&self.pool, self.place()).await?;
        let Session { client, statements, .. } = &mut *lease;
        let transaction = begin(client).await.map_err(|error| self.failed(&error))?;
        let found = self.find(&transaction, statements, proven, id, search).await;
        let ended = transaction.commit().await.map_err(|error| self.failed(&error));
        // A session that was left by an error of its own is closed.
        let is_sound =
            matches!(found, Ok(_) | Err(EngineError::NoCollection(_) | EngineError::Invalid(_)));
        if is_sound && ended.is_ok() {
            lease.give_back();
        }
        let hits = found?;
        ended.map(|()| hits)
    }

    /// All in the state that the transaction sees, in which the mark comes first.
    async fn find(
        &self,
        transaction: &Transaction<'_>,
        statements: &mut Statements,
        proven: i64,
        id: CollectionId,
        search: &Search,
    ) -> Result<Vec<Hit>, EngineError> {
        let failed = |error: Error| match is_missing_table(&error) {
            true => lacks(self.place(), "the tables of Sheaf"),
            false => self.failed(&error),
        };
        let look = statements.get(transaction, marks::LOOK).await;
        let looked = match look {
            Ok(look) => transaction.query_one(&look, &[&self.name]).await,
            Err(error) => Err(error),
        };
        let seen = looked.map_err(failed).and_then(|row| self.mark_in(&row));
        match seen {
            Ok(Some(seen)) if seen >= proven => {}
            Ok(_) => {
                self.forget(proven);
                return Err(lacks(self.place(), "what it had"));
            }
            Err(error) => {
                self.forget(proven);
                return Err(error);
            }
        }
        let collection = self.collection(transaction, statements, id).await?;
        validate::search(&collection.config, search)?;
        if search.k == 0 {
            return Ok(Vec::new());
        }
        let reader = Reader { place: self.place() };
        let exact_floats_max = self.options.exact_floats_max;
        let finder = Finder { reader, exact_floats_max, collection: &collection, search };
        finder.find(transaction, statements).await
    }

    /// The collection as this state has it.
    async fn collection(
        &self,
        transaction: &Transaction<'_>,
        statements: &mut Statements,
        id: CollectionId,
    ) -> Result<Collection, EngineError> {
        let failed = |error: Error| self.failed(&error);
        let statement = statements.get(transaction, COLLECTION).await.map_err(failed)?;
        let (number, table) = (number_of(id)?, table(id));
        let row = transaction.query_opt(&statement, &[&number, &table]).await.map_err(failed)?;
        let row = row.ok_or(EngineError::NoCollection(id))?;
        let reader = Reader { place: self.place() };
        schema::check_form(self.place(), reader.field(&row, 0)?)?;
        let config: CollectionConfig =
            serde_json::from_str(reader.field(&row, 1)?).map_err(|error| {
                damaged(self.place(), &format!("the configuration of {id}: {error}"))
            })?;
        let size = Size {
            rows: reader.field(&row, 2)?,
            pages: reader.field(&row, 3)?,
            bytes_now: reader.field(&row, 4)?,
            bytes_all: reader.field(&row, 5)?,
        };
        let points = size.points(config.dim);
        Ok(Collection::new(id, Arc::new(config), Tally { points, bytes: 0 }))
    }
}

/// The form, a collection's configuration, and what is known of the size of its table; no row: there is none.
const COLLECTION: &str = "SELECT o.form, c.config, t.reltuples::float8, t.relpages, \
     coalesce(pg_relation_size(t.oid), 0)::int8, coalesce(pg_table_size(t.oid), 0)::int8 FROM sheaf.owner o, sheaf.collections c, pg_class t \
     WHERE c.id = $1 AND t.oid = to_regclass($2)";

/// What is known of a table without counting. Only the way of a search hangs on it, not what it finds.
struct Size {
    /// Rows and pages when it was looked at last; not positive: it never was.
    rows: f64,
    pages: i32,
    /// Its size now: without long values, and with.
    bytes_now: i64,
    bytes_all: i64,
}

impl Size {
    /// How many points there are, about, or at most.
    fn points(&self, dim: u32) -> i64 {
        if self.rows > 0.0 && self.pages > 0 {
            // As PostgreSQL's planner has it.
            return (self.rows / f64::from(self.pages) * self.bytes_now as f64 / PAGE_BYTES) as i64;
        }
        self.bytes_all / (i64::from(dim.max(1)) * 4)
    }
}

/// Ends by itself.
async fn within<T>(
    bound: Duration,
    work: impl Future<Output = Result<T, EngineError>>,
    late: impl FnOnce() -> EngineError,
) -> Result<T, EngineError> {
    tokio::time::timeout(bound, work).await.unwrap_or_else(|_| Err(late()))
}

fn lacks(place: &str, what: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "PostgreSQL at {place} doesn't show {what}: another server answers there, or it was made anew"
    ))
}

/// Says of whom it is.
fn of_follower(error: EngineError) -> EngineError {
    match error {
        EngineError::Unavailable(why) => {
            EngineError::Unavailable(format!("the follower can't be relied on: {why}"))
        }
        other => other,
    }
}

impl Follower for PgFollower {
    fn catch_up(&self) -> Reply<'_, ()> {
        Box::pin(async { self.try_catch_up().await.map_err(of_follower) })
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(async move {
            let late = || too_late(self.place());
            let found = within(CALL_DEADLINE, self.search_now(collection, &search), late).await;
            found.map_err(of_follower)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_estimated_from_the_table_as_it_is_now_and_at_most_while_nobody_counted() {
        let size = Size { rows: 1_000.0, pages: 10, bytes_now: 20 * 8_192, bytes_all: 0 };
        assert_eq!(size.points(4), 2_000);
        let size = Size { rows: -1.0, pages: 0, bytes_now: 8_192, bytes_all: 16_384 };
        assert_eq!(size.points(4), 1_024);
        assert_eq!(size.points(0), 4_096);
    }
}
