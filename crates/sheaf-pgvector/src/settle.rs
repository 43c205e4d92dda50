//! A COMMIT whose answer got lost: nothing is answered before it is certain that nothing can follow (ADR 0003).
//!
//! The lost session's backend holds the advisory lock of its number until its transaction has ended, one way or the other.
//! Whoever gets that lock knows that what it reads is what will stay. A server that was started anew has no such backend.

use std::time::Duration;

use deadpool::managed::Pool;
use sheaf_engines::EngineError;
use tracing::{info, warn};

use crate::error::unapplied;
use crate::session::{LOCKS, Sessions};

/// Milliseconds before the server is asked again: first, and at most.
const RETRY_MS: (u64, u64) = (20, 2_000);

/// Returns once nothing of the lost session can be applied any more, however long the server is away.
pub async fn settle(pool: &Pool<Sessions>, place: &str, number: i32) {
    warn!(%place, "the answer to a COMMIT was lost; its outcome is looked for");
    let (mut wait_ms, wait_ms_max) = RETRY_MS;
    while let Err(error) = try_settle(pool, place, number).await {
        warn!(%place, %error, "the outcome of a write can't be settled yet; it is tried again");
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(wait_ms_max);
    }
    info!(%place, "nothing of the lost write can follow any more");
}

async fn try_settle(pool: &Pool<Sessions>, place: &str, number: i32) -> Result<(), EngineError> {
    // Past the pool: the sessions in it may all be waiting for this.
    let session = pool.manager().connect().await?;
    // Only who holds that lock in this database is ended: a process number alone may be another's by now.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 \
               AND classid = $1::int8::oid AND objid = $2::int8::oid AND pid <> pg_backend_pid() \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let failed = |error| unapplied(place, &error);
    let (class, object) = (i64::from(LOCKS), i64::from(number));
    session.client.execute(end, &[&class, &object]).await.map_err(failed)?;
    let wait = "SELECT pg_advisory_lock($1, $2)";
    session.client.execute(wait, &[&LOCKS, &number]).await.map_err(failed)?;
    Ok(())
}
