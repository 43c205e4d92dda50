//! Whose the database is: one gate writes to it, and one that isn't the owner any more changes nothing.
//!
//! Two things together. A session-level advisory lock tells a second gate at its start that there is one already. A token in
//! `sheaf.owner`, drawn anew by each start, is what every transaction that writes is checked against, under a shared advisory
//! lock that a start waits for: so an older gate that has lost its session, and doesn't know, can't write any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use deadpool::managed::Pool;
use sheaf_engines::EngineError;
use tokio::sync::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};
use tracing::{info, warn};

use crate::error::unapplied;
use crate::options::PgOptions;
use crate::session::{LOCK_OWNER, LOCK_WRITES, LOCKS, Session, Sessions};

/// Milliseconds between two looks whether the lock is free.
const LOOK_MS: u64 = 50;

pub struct Owner {
    place: String,
    token: String,
    database: String,
    /// The session that holds the lock.
    session: RwLock<Arc<Session>>,
    regaining: Mutex<()>,
    /// It was said that the session is lost.
    is_lost: AtomicBool,
    is_deposed: AtomicBool,
}

impl Owner {
    /// Takes the database over from whoever had it, if nobody has it now. `session` is then the one that holds it.
    ///
    /// # Errors
    /// `Unavailable`: another gate has it.
    pub async fn claim(session: Session, options: &PgOptions) -> Result<Self, EngineError> {
        let place = options.place.clone();
        let mut waited = Duration::ZERO;
        while !try_lock(&session.client, &place).await? {
            if waited >= options.take_over {
                return Err(taken(&place, &holder(&session.client).await));
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            waited += Duration::from_millis(LOOK_MS);
        }
        let failed = |error| unapplied(&place, &error);
        crate::schema::prepare(&session.client, &place).await?;
        // Waits for transactions of an owner before; whichever begin later see the new token.
        let lock = format!("SELECT pg_advisory_lock({LOCKS}, {LOCK_WRITES})");
        session.client.batch_execute(&lock).await.map_err(failed)?;
        let draw = "UPDATE sheaf.owner SET token = gen_random_uuid() RETURNING token::text, database::text";
        let drawn = session.client.query_one(draw, &[]).await.map_err(failed)?;
        let unlock = format!("SELECT pg_advisory_unlock({LOCKS}, {LOCK_WRITES})");
        session.client.batch_execute(&unlock).await.map_err(failed)?;
        Ok(Self {
            token: drawn.get(0),
            database: drawn.get(1),
            place,
            session: RwLock::new(Arc::new(session)),
            regaining: Mutex::new(()),
            is_lost: AtomicBool::new(false),
            is_deposed: AtomicBool::new(false),
        })
    }

    /// What tells this database from any other, for ever.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Goes on only while the database is ours; takes the lock again when its session was lost and nobody else came.
    ///
    /// # Errors
    /// `Unavailable`: it is not ours, or can't be reached.
    pub async fn is_held(&self, pool: &Pool<Sessions>) -> Result<(), EngineError> {
        if self.is_deposed.load(Ordering::Acquire) {
            return Err(self.deposed());
        }
        if !self.session().client.is_closed() {
            return Ok(());
        }
        let _one = self.regaining.lock().await;
        if !self.session().client.is_closed() {
            return Ok(());
        }
        if !self.is_lost.swap(true, Ordering::AcqRel) {
            warn!(
                place = self.place,
                "the session that holds the database was lost; nothing is read or written until it is held again"
            );
        }
        let session = pool.manager().connect().await?;
        if !try_lock(&session.client, &self.place).await? {
            return Err(taken(&self.place, &holder(&session.client).await));
        }
        let found = session.client.query_one("SELECT token::text FROM sheaf.owner", &[]).await;
        let found: String = match found {
            Ok(row) => row.get(0),
            Err(error) if crate::error::is_missing_table(&error) => return Err(self.depose()),
            Err(error) => return Err(unapplied(&self.place, &error)),
        };
        if found != self.token {
            return Err(self.depose());
        }
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(session);
        self.is_lost.store(false, Ordering::Release);
        info!(place = self.place, "the database is held again");
        Ok(())
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// `Unavailable`: it can't be begun, or the database is another gate's. The session is of no use then.
    pub async fn begin(&self, client: &Client) -> Result<(), EngineError> {
        // The lock comes first: the token is read by a snapshot that is newer than it.
        let begin = format!(
            "BEGIN; SELECT pg_advisory_xact_lock_shared({LOCKS}, {LOCK_WRITES}); SELECT token::text FROM sheaf.owner"
        );
        let said =
            client.simple_query(&begin).await.map_err(|error| unapplied(&self.place, &error))?;
        let token = said.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        if token == Some(self.token.as_str()) { Ok(()) } else { Err(self.depose()) }
    }

    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn depose(&self) -> EngineError {
        if !self.is_deposed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                place = self.place,
                "another gate has taken the database over; this one reads and writes nothing any more"
            );
        }
        self.deposed()
    }

    fn deposed(&self) -> EngineError {
        EngineError::Unavailable(format!(
            "PostgreSQL at {} was taken over by another gate, or is not the database that this one opened. Nothing was changed, and \
             nothing is read or written here any more. Stop one of the two gates, then start this one again",
            self.place
        ))
    }
}

async fn try_lock(client: &Client, place: &str) -> Result<bool, EngineError> {
    let sql = "SELECT pg_try_advisory_lock($1, $2)";
    let row = client.query_one(sql, &[&LOCKS, &LOCK_OWNER]).await;
    row.map(|row| row.get(0)).map_err(|error| unapplied(place, &error))
}

/// Who holds the lock, for people.
async fn holder(client: &Client) -> String {
    let sql = "SELECT format('process %s of the server, from %s, since %s', a.pid, coalesce(host(a.client_addr), 'this machine'), \
               date_trunc('second', a.backend_start)) \
               FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted \
               AND l.classid = $1::int8::oid AND l.objid = $2::int8::oid AND l.objsubid = 2 AND a.datname = current_database()";
    let found = client.query_opt(sql, &[&i64::from(LOCKS), &i64::from(LOCK_OWNER)]).await;
    found.ok().flatten().map_or_else(|| "it has just gone".to_owned(), |row| row.get(0))
}

fn taken(place: &str, holder: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "another gate writes to PostgreSQL at {place} ({holder}), and a database belongs to one gate. Nothing was changed. Stop that \
         gate, or give this one a database of its own"
    ))
}
