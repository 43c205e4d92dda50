//! Sessions of the database: how one is set up, how many there are, and which are used again.
//!
//! Each session holds an advisory lock of its own number for as long as its backend lives: that is how `settle.rs` sees that
//! nothing of a lost session can follow. A session that was left in the middle of something is closed, never used again.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult, Timeouts};
use sheaf_engines::EngineError;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Error, GenericClient, NoTls, Socket, Statement};
use tracing::debug;

use crate::error::{cause, too_late, unapplied};
use crate::options::PgOptions;
use crate::tls::Tls;

/// The first of two numbers of all our advisory locks: "SHEF".
pub const LOCKS: i32 = 0x5348_4546;
/// Held by the gate that the database belongs to.
pub const LOCK_OWNER: i32 = 0;
/// Shared by transactions that write, held alone by a gate that takes the database over.
pub const LOCK_WRITES: i32 = 1;
/// The lock of the first session.
const LOCK_SESSIONS: i32 = 2;
/// Prepared statements that a session keeps; about ten are used for each collection.
const STATEMENTS_MAX: usize = 1_000;
/// Numbers that are tried for a new session: those of a gate just before may still be held.
const NUMBERS_TRIED_MAX: usize = 10_000;

/// A connection that is ready for use.
pub struct Session {
    pub client: Client,
    /// Its advisory lock.
    pub number: i32,
    pub statements: Statements,
    /// Something is under way in it.
    busy: bool,
}

impl Session {
    /// The statement, prepared once.
    pub async fn statement(&mut self, sql: &str) -> Result<Statement, Error> {
        self.statements.get(&self.client, sql).await
    }
}

/// The prepared statements of one session.
#[derive(Default)]
pub struct Statements(BTreeMap<String, Statement>);

impl Statements {
    /// The statement, prepared once. `client` is the session, or a transaction in it.
    pub async fn get(
        &mut self,
        client: &impl GenericClient,
        sql: &str,
    ) -> Result<Statement, Error> {
        if let Some(statement) = self.0.get(sql) {
            return Ok(statement.clone());
        }
        if self.0.len() >= STATEMENTS_MAX {
            self.0.clear();
        }
        let statement = client.prepare(sql).await?;
        self.0.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Makes sessions.
pub struct Sessions {
    options: PgOptions,
    next_number: AtomicI32,
}

impl Sessions {
    pub fn new(options: PgOptions) -> Self {
        Self { options, next_number: AtomicI32::new(LOCK_SESSIONS) }
    }

    /// At most `sessions_max` of them, each made when it is needed.
    ///
    /// # Errors
    /// The pool can't be made.
    pub fn pool(self) -> Result<Pool<Self>, EngineError> {
        let (size, wait) = (self.options.sessions_max, Some(self.options.deadline));
        Pool::builder(self)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .build()
            .map_err(|error| EngineError::Unavailable(format!("{error}; nothing was changed")))
    }

    /// A new session, past the pool.
    ///
    /// # Errors
    /// The server can't be reached, or doesn't let us in.
    pub async fn connect(&self) -> Result<Session, EngineError> {
        let client = self.client().await?;
        let number = self.take_number(&client).await?;
        Ok(Session { client, number, statements: Statements::default(), busy: false })
    }

    /// A session that writes no points, and so needs no number.
    ///
    /// # Errors
    /// As of [`Sessions::connect`].
    pub async fn client(&self) -> Result<Client, EngineError> {
        let PgOptions { deadline, place, .. } = &self.options;
        let connected = tokio::time::timeout(*deadline, self.try_connect()).await;
        connected.map_err(|_| too_late(place))?.map_err(|error| unapplied(place, &error))
    }

    async fn try_connect(&self) -> Result<Client, Error> {
        let client = match &self.options.tls {
            Tls::Plain => self.begin(NoTls).await?,
            Tls::Preferred(tls) | Tls::Verified(tls) => self.begin(tls.clone()).await?,
        };
        client.batch_execute(&set_up(self.options.deadline)).await?;
        let vector = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                      WHERE e.extname = 'vector'";
        if let Some(found) = client.query_opt(vector, &[]).await? {
            let path = "SELECT set_config('search_path', quote_ident($1), false)";
            client.execute(path, &[&found.get::<_, String>(0)]).await?;
        }
        Ok(client)
    }

    async fn begin<T>(&self, tls: T) -> Result<Client, Error>
    where
        T: MakeTlsConnect<Socket, Stream: Send + 'static>,
    {
        let (client, connection) = self.options.config.connect(tls).await?;
        let place = self.options.place.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%place, error = cause(&error), "a session with PostgreSQL ended");
            }
        });
        Ok(client)
    }

    async fn take_number(&self, client: &Client) -> Result<i32, EngineError> {
        let place = &self.options.place;
        let failed = |error: Error| unapplied(place, &error);
        let take = client.prepare("SELECT pg_try_advisory_lock($1, $2)").await.map_err(failed)?;
        for _ in 0..NUMBERS_TRIED_MAX {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            if client.query_one(&take, &[&LOCKS, &number]).await.map_err(failed)?.get(0) {
                return Ok(number);
            }
        }
        Err(EngineError::Unavailable(format!(
            "somebody holds the advisory locks of class {LOCKS} of PostgreSQL at {place}, which are Sheaf's. Nothing was changed"
        )))
    }
}

/// What a session is set to, whatever the server's, the database's and the user's settings are.
fn set_up(deadline: Duration) -> String {
    let ms = deadline.as_millis();
    format!(
        "SET statement_timeout = {ms}; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = {ms}; \
         SET idle_session_timeout = 0; SET default_transaction_isolation = 'read committed'; \
         SET default_transaction_read_only = off; SET default_transaction_deferrable = off; \
         SET client_min_messages = warning; SET plan_cache_mode = force_custom_plan; SET jit = off; \
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
}

impl Manager for Sessions {
    type Type = Session;
    type Error = EngineError;

    async fn create(&self) -> Result<Session, EngineError> {
        self.connect().await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<EngineError> {
        if session.client.is_closed() { Err(RecycleError::message("it is closed")) } else { Ok(()) }
    }
}

/// A session of the pool, for one call. Dropped in the middle of something, it is closed.
pub struct Lease(Option<Object<Sessions>>);

impl Lease {
    /// Waits for a session.
    ///
    /// # Errors
    /// There is none, and a new one can't be had.
    pub async fn of(pool: &Pool<Sessions>, place: &str) -> Result<Self, EngineError> {
        use deadpool::managed::PoolError;
        match pool.get().await {
            Ok(mut session) => {
                session.busy = true;
                Ok(Self(Some(session)))
            }
            Err(PoolError::Backend(error)) => Err(error),
            Err(_) => Err(too_late(place)),
        }
    }

    /// Nothing is under way in it any more.
    pub fn give_back(mut self) {
        self.busy = false;
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is taken out only when it is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.as_mut().expect("it is taken out only when it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.0.take()
            && session.busy
        {
            drop(Object::take(session));
        }
    }
}
