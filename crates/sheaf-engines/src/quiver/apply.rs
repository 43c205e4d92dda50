//! Writes: see what is there, send what differs, and settle what got no answer.
//!
//! A write whose answer was lost may have been carried out, or may be yet. It isn't answered before the server has carried out a
//! barrier behind it and the same batch once more: whatever was left of the first one changes nothing any more. Writes to the
//! same ids wait meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointHash, PointId, StoredPoint};
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use super::log::Log;
use super::recent::Became;
use super::server::CallError;
use super::{Held, Inner, catalogue, wire};
use crate::{Change, EngineError, Write, validate};

/// Locks for ids: two that share one wait for each other though they needn't.
const STRIPES: usize = 64;
/// Upserts in a request that Quiver leaves to the next making of its index, instead of putting each into it at once. Source: copies of
/// 384 numbers, `cargo xtask bench engines`.
pub const BULK_POINTS_MIN: usize = 64;
/// Milliseconds before a write is settled again: first, and at most.
const SETTLE_MS: (u64, u64) = (50, 2_000);

/// Writes to one id, one after the other.
pub struct Stripes([Mutex<()>; STRIPES]);

impl Default for Stripes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Stripes {
    /// Locks all of these ids, always in the same order.
    async fn lock(&self, ids: &BTreeSet<PointId>) -> Vec<MutexGuard<'_, ()>> {
        let stripe = |id: &PointId| (id.placement_key().0 % STRIPES as u64) as usize;
        let needed: BTreeSet<usize> = ids.iter().map(stripe).collect();
        let mut locked = Vec::with_capacity(needed.len());
        for stripe in needed {
            locked.push(self.0[stripe].lock().await);
        }
        locked
    }
}

/// A request of a batch, with the number that its answer must have.
struct Request {
    method: Method,
    body: Bytes,
    points: usize,
}

/// The number that an answer to a write has.
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "upserted", alias = "deleted")]
    points: usize,
}

impl Inner {
    pub async fn apply(
        self: &Arc<Self>,
        id: CollectionId,
        writes: Vec<Write>,
    ) -> Result<Vec<Change>, EngineError> {
        let held = self.held(id)?;
        validate::writes(id, held.config(), &writes)?;
        let ids: BTreeSet<PointId> = writes.iter().map(|write| write_id(write).clone()).collect();
        let _locked = held.stripes.lock(&ids).await;
        let there = self.current(&held, &ids).await?;
        let hashes = there.iter().map(|point| point.as_ref().map(|point| point.hash));
        let before: BTreeMap<&PointId, Option<PointHash>> = ids.iter().zip(hashes).collect();
        let changes = changes(&before, &writes);
        let requests = requests(held.config(), &before, &writes);
        if requests.is_empty() {
            return Ok(changes);
        }
        self.takes_payloads(held.config(), &writes).await?;
        let writing = held.windows.writing(&ids);
        let begun = held.index.recent().begin();
        let written = self.write(&held, &requests).await;
        drop(writing);
        match &written {
            Ok(()) => {
                self.was_written(&held, begun, became(&ids, there, last_of(&ids, &writes)), true)
            }
            Err(EngineError::Unknown(_)) => match self.read(&held, ids.iter().cloned()).await {
                Ok(now) => {
                    let now = now.into_iter().map(|point| point.map(|point| point.body)).collect();
                    self.was_written(&held, begun, became(&ids, there, now), false);
                }
                Err(_) => held.index.recent().pass_over(),
            },
            Err(_) => {}
        }
        written?;
        let (gone, new) = gains(&changes);
        held.points.fetch_add(new, Ordering::Relaxed);
        let saturating = |points: u64| Some(points.saturating_sub(gone));
        let _ = held.points.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturating);
        Ok(changes)
    }

    async fn write(&self, held: &Held, requests: &[Request]) -> Result<(), EngineError> {
        for (done, request) in requests.iter().enumerate() {
            let Err(error) = self.write_one(held, request).await else { continue };
            if done == 0 && error.changed_nothing() {
                return Err(self.missing(held, error));
            }
            warn!(
                ?error,
                "a write to Quiver has an unknown outcome; it is settled before it is answered"
            );
            self.settle(held, requests).await;
            return Err(EngineError::Unknown(format!(
                "the Quiver server gave no good answer to a write ({error:?}); nothing of it can follow any more"
            )));
        }
        Ok(())
    }

    async fn write_one(&self, held: &Held, request: &Request) -> Result<(), CallError> {
        let mut log = self.log.lock().await;
        let answer = self.request(&mut log, held, request).await?;
        match serde_json::from_slice::<Written>(&answer) {
            Ok(written) if written.points == request.points => Ok(()),
            _ => Err(CallError::Lost(format!(
                "of {} points it says {}",
                request.points,
                String::from_utf8_lossy(&answer).chars().take(200).collect::<String>()
            ))),
        }
    }

    async fn request(
        &self,
        log: &mut Log,
        held: &Held,
        request: &Request,
    ) -> Result<Bytes, CallError> {
        let is_bulk = request.method == Method::POST && request.points >= BULK_POINTS_MIN;
        let bulk = if is_bulk { ":bulk" } else { "" };
        let path = format!("{}/points{bulk}", catalogue::path_of(held.name()));
        self.write_through(log, request.method.clone(), &path, request.body.clone()).await
    }

    /// Comes back once nothing of these requests can be carried out any more.
    async fn settle(&self, held: &Held, requests: &[Request]) {
        let (mut wait_ms, wait_ms_max) = SETTLE_MS;
        while let Err(error) = self.try_settle(held, requests).await {
            warn!(?error, "a write to Quiver can't be settled yet; trying again");
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(wait_ms_max);
        }
    }

    async fn try_settle(&self, held: &Held, requests: &[Request]) -> Result<(), CallError> {
        let mut log = self.log.lock().await;
        self.barrier(&mut log).await?;
        for request in requests {
            // How much of it was new says nothing this time.
            match self.request(&mut log, held, request).await {
                Ok(_) => {}
                Err(error) if error.is(StatusCode::NOT_FOUND) => return Ok(()), // Dropped meanwhile.
                Err(error) if error.may_pass() => return Err(error),
                Err(_) => {} // Refused for what it is: it never was carried out either.
            }
        }
        Ok(())
    }
}

fn write_id(write: &Write) -> &PointId {
    match write {
        Write::Upsert(point) => &point.id,
        Write::Delete(id) => id,
    }
}

/// What the last write to each of these ids leaves there.
fn last_of(ids: &BTreeSet<PointId>, writes: &[Write]) -> Vec<Option<PointBody>> {
    let last: BTreeMap<&PointId, &Write> =
        writes.iter().map(|write| (write_id(write), write)).collect();
    let body = |id: &PointId| match last.get(id) {
        Some(Write::Upsert(point)) => Some(point.body.clone()),
        Some(Write::Delete(_)) | None => None,
    };
    ids.iter().map(body).collect()
}

/// Those of the points that are not what they were.
fn became(
    ids: &BTreeSet<PointId>,
    there: Vec<Option<StoredPoint>>,
    now: Vec<Option<PointBody>>,
) -> Vec<Became> {
    let old = there.into_iter().map(|point| point.map(|point| point.body));
    let all = ids.iter().zip(old).zip(now);
    let changed = all.filter(|((_, old), new)| old != new);
    changed.map(|((id, old), new)| Became { id: id.clone(), old, new }).collect()
}

/// What each write of the batch changes, one after the other.
fn changes(before: &BTreeMap<&PointId, Option<PointHash>>, writes: &[Write]) -> Vec<Change> {
    let mut now = before.clone();
    let change = |write: &Write| {
        let new = match write {
            Write::Upsert(point) => Some(point.hash),
            Write::Delete(_) => None,
        };
        let old = now.get_mut(write_id(write)).and_then(|now| std::mem::replace(now, new));
        Change { old, new }
    };
    writes.iter().map(change).collect()
}

/// The requests that leave each id as the last write says. What is so already is not sent.
fn requests(
    config: &CollectionConfig,
    before: &BTreeMap<&PointId, Option<PointHash>>,
    writes: &[Write],
) -> Vec<Request> {
    let last: BTreeMap<&PointId, &Write> =
        writes.iter().map(|write| (write_id(write), write)).collect();
    let was = |id: &PointId| before.get(id).copied().flatten();
    let (mut upserts, mut deletes): (Vec<&StoredPoint>, Vec<&PointId>) = Default::default();
    for (id, write) in last {
        match write {
            Write::Upsert(point) if was(id) != Some(point.hash) => upserts.push(point),
            Write::Delete(_) if was(id).is_some() => deletes.push(id),
            Write::Upsert(_) | Write::Delete(_) => {}
        }
    }
    let mut requests: Vec<Request> = wire::upsert_requests(config, upserts.into_iter())
        .into_iter()
        .map(|(points, body)| Request { method: Method::POST, body, points })
        .collect();
    for chunk in deletes.chunks(wire::REQUEST_POINTS_MAX) {
        let body = wire::delete_request(chunk);
        requests.push(Request { method: Method::DELETE, body, points: chunk.len() });
    }
    requests
}

/// Points that are gone, and points that are new.
fn gains(changes: &[Change]) -> (u64, u64) {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count() as u64;
    (
        count(|change| change.old.is_some() && change.new.is_none()),
        count(|change| change.old.is_none() && change.new.is_some()),
    )
}
