//! The marks of followers, in the leader's database: a table beside the gate's own, which the gate doesn't know.
//!
//! Each life of a replica has a row of its own. Decides which databases get one: only those that a gate has made its own. Takes none of the gate's locks.

use sheaf_engines::EngineError;
use tokio_postgres::{Client, Error};

use crate::error::unapplied;
use crate::schema;
use crate::session::Sessions;

/// Whether it is a standby, and the mark of one life.
pub const LOOK: &str =
    "SELECT pg_is_in_recovery(), (SELECT number FROM sheaf.marks WHERE life = $1)";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS sheaf.marks (life text PRIMARY KEY, number int8 NOT NULL, \
                     written timestamptz NOT NULL DEFAULT now())";
/// Of lives that ended. One that goes on after all writes its mark anew.
const TIDY: &str = "DELETE FROM sheaf.marks WHERE written < now() - interval '1 hour'";
/// One that was under way for long doesn't undo a later one.
const WRITE: &str = "INSERT INTO sheaf.marks AS m (life, number) VALUES ($1, $2) \
                     ON CONFLICT (life) DO UPDATE SET number = excluded.number, written = now() WHERE m.number < excluded.number";

/// A session in which marks can be written.
///
/// # Errors
/// `Unavailable`: it can't be reached, or isn't a shard's. `Unsupported`: a version of Sheaf made it that isn't known.
pub async fn open(leader: &Sessions, place: &str) -> Result<Client, EngineError> {
    let client = leader.client().await?;
    let failed = |error: Error| unapplied(place, &error);
    let refuse =
        |what: &str| Err(EngineError::Unavailable(format!("PostgreSQL at {place} {what}")));
    let asked = "SELECT pg_is_in_recovery(), to_regclass('sheaf.owner') IS NOT NULL, to_regclass('sheaf.marks') IS NOT NULL";
    let row = client.query_one(asked, &[]).await.map_err(failed)?;
    if row.get(0) {
        return refuse("is a standby itself; give the server that the shard's gate writes to");
    }
    if !row.get::<_, bool>(1) {
        return refuse(
            "is no shard's database: a gate has made no table in it; give the one that the shard's gate writes to",
        );
    }
    let form = client.query_one("SELECT form FROM sheaf.owner", &[]).await.map_err(failed)?;
    schema::check_form(place, form.get(0))?;
    // Nobody needs a copy of the mark but the standby, which shows that it has it.
    client.batch_execute("SET synchronous_commit = local").await.map_err(failed)?;
    // Looked for first: who may only write to it can do without the right to make tables.
    if !row.get::<_, bool>(2) {
        client.batch_execute(TABLE).await.map_err(failed)?;
    }
    client.batch_execute(TIDY).await.map_err(failed)?;
    Ok(client)
}

/// Writes a mark that there never was.
///
/// # Errors
/// `Unavailable`: it may be written or not, and it doesn't matter which.
pub async fn write(
    client: &Client,
    place: &str,
    life: &str,
    number: i64,
) -> Result<(), EngineError> {
    let written = client.execute(WRITE, &[&life, &number]).await;
    written.map(|_| ()).map_err(|error| unapplied(place, &error))
}
