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
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use serde::Deserialize;
use sheaf_types::{CollectionId, PointBody, PointHash, PointId, StoredPoint};
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use super::combine::{Differences, Waiting};
use super::foreseen::Prepared;
use super::log::Log;
use super::recent::{Became, Carried};
use super::server::CallError;
use super::{Held, Inner, catalogue, wire};
use crate::{Change, EngineError, Write, validate};

/// Locks for ids: two that share one wait for each other though they needn't.
const STRIPES: usize = 256;
/// Upserts in a request that Quiver leaves to the next making of its index, instead of putting each into it at once. Source: copies of
/// 384 numbers, `cargo xtask bench engines`.
pub const BULK_POINTS_MIN: usize = 64;
/// Requests of one write at the same time. Of two, Quiver took 9.3 ms for 256 points of 384 numbers each; for 512 in one request 12.8 ms.
const TOGETHER_MAX: usize = 2;
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

/// The requests of a write.
struct Requests {
    all: Vec<Request>,
    /// They are sent at the same time.
    are_together: bool,
}

/// Why not all requests of a write were carried out.
struct Failed {
    /// How many were, before.
    done: usize,
    error: CallError,
}

impl Failed {
    fn changed_nothing(&self) -> bool {
        self.done == 0 && self.error.changed_nothing()
    }
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
        let differences = differences(&before, &writes);
        if differences.is_empty() {
            return Ok(changes);
        }
        self.takes_payloads(held.config(), &writes).await?;
        let written = became(&ids, there.clone(), last_of(&ids, &writes));
        let witness = self.witness(&held, &written).await;
        let writing = held.windows.writing(&ids);
        let begun = held.index.recent().begin();
        let prepared = held.foreseen.take(&differences.upserts);
        let at_once =
            differences.is_one_request() && !prepared.as_ref().is_some_and(Prepared::are_several);
        let carried = if at_once { Carried::AtOnce } else { Carried::InPieces };
        let outcome = self.write(&held, differences, prepared).await;
        match &outcome {
            Ok(()) => {
                self.was_written(&held, begun, written, carried, witness.as_ref());
            }
            Err(EngineError::Unknown(_)) => match self.read(&held, ids.iter().cloned()).await {
                Ok(now) => {
                    let now = now.into_iter().map(|point| point.map(|point| point.body)).collect();
                    let written = became(&ids, there, now);
                    self.was_written(&held, begun, written, Carried::Perhaps, None);
                }
                Err(_) => held.index.recent().pass_over(),
            },
            Err(_) => {}
        }
        // Not before it is known as recent: a search that doesn't find it there must see that it is being written.
        drop(writing);
        outcome?;
        let (gone, new) = gains(&changes);
        held.points.fetch_add(new, Ordering::Relaxed);
        let saturating = |points: u64| Some(points.saturating_sub(gone));
        let _ = held.points.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturating);
        Ok(changes)
    }

    /// Sends the write, or leaves it to another that may send before; and others' with it.
    async fn write(
        &self,
        held: &Held,
        differences: Differences,
        prepared: Option<Prepared>,
    ) -> Result<(), EngineError> {
        let mut answered = held.queue.push(differences, prepared);
        loop {
            let mut log = self.log.lock().await;
            if let Ok(outcome) = answered.try_recv() {
                return outcome;
            }
            let Some(group) = held.queue.next() else {
                drop(log);
                // Another has it in hand, and settles it.
                return answered.await.unwrap_or_else(|_| {
                    Err(EngineError::Unknown("the write broke off with another".to_owned()))
                });
            };
            let requests = requests(held, &group.differences, group.prepared).await;
            let sent = self.send_all(&mut log, held, &requests).await;
            drop(log);
            self.answer(held, group.writes, &requests, sent).await;
        }
    }

    /// Tells each of the writes what became of it.
    async fn answer(
        &self,
        held: &Held,
        writes: Vec<Waiting>,
        requests: &Requests,
        sent: Result<(), Failed>,
    ) {
        let is_refused = |failed: &Failed| matches!(failed.error, CallError::Refused { .. });
        if writes.len() > 1
            && let Err(failed) = &sent
            && failed.changed_nothing()
            && is_refused(failed)
        {
            for Waiting { differences, answer, .. } in writes {
                let requests = self::requests(held, &differences, None).await;
                let sent = {
                    let mut log = self.log.lock().await;
                    self.send_all(&mut log, held, &requests).await
                };
                // Whoever asked may have gone.
                let _ = answer.send(self.outcome(held, &requests, sent).await);
            }
            return;
        }
        let outcome = self.outcome(held, requests, sent).await;
        for waiting in writes {
            let _ = waiting.answer.send(outcome.clone());
        }
    }

    /// What the answers mean, once nothing of the requests can follow any more.
    async fn outcome(
        &self,
        held: &Held,
        requests: &Requests,
        sent: Result<(), Failed>,
    ) -> Result<(), EngineError> {
        let Err(failed) = sent else { return Ok(()) };
        if failed.changed_nothing() {
            return Err(self.missing(held, failed.error));
        }
        let error = failed.error;
        warn!(
            ?error,
            "a write to Quiver has an unknown outcome; it is settled before it is answered"
        );
        self.settle(held, &requests.all).await;
        Err(EngineError::Unknown(format!(
            "the Quiver server gave no good answer to a write ({error:?}); nothing of it can follow any more"
        )))
    }

    async fn send_all(
        &self,
        log: &mut Log,
        held: &Held,
        requests: &Requests,
    ) -> Result<(), Failed> {
        if requests.are_together {
            return self.send_together(log, held, &requests.all).await;
        }
        for (done, request) in requests.all.iter().enumerate() {
            let sent = self.request(log, held, request).await;
            let sent = sent.and_then(|answer| are_written(request.points, &answer));
            sent.map_err(|error| Failed { done, error })?;
        }
        Ok(())
    }

    /// Waits for all of them, whatever becomes of one: none counts before all are carried out, so a log that one tears has nothing
    /// behind the tear that anybody was told of.
    async fn send_together(
        &self,
        log: &mut Log,
        held: &Held,
        requests: &[Request],
    ) -> Result<(), Failed> {
        self.check_log(log).await.map_err(|error| Failed { done: 0, error })?;
        let deadline = self.options.write_deadline;
        let send = async |request: &Request| {
            let (method, body) = (request.method.clone(), request.body.clone());
            let answer = self.server.call(method, &path_of(held, request), body, deadline).await;
            answer.and_then(|answer| are_written(request.points, &answer))
        };
        let sent: Vec<Result<(), CallError>> =
            stream::iter(requests).map(send).buffered(TOGETHER_MAX).collect().await;
        let done = sent.iter().filter(|sent| sent.is_ok()).count();
        let mut worst = None;
        for sent in sent {
            log.note(&sent);
            // What may have been carried out says more than what surely wasn't.
            if let Err(error) = sent
                && worst.as_ref().is_none_or(CallError::changed_nothing)
            {
                worst = Some(error);
            }
        }
        worst.map_or(Ok(()), |error| Err(Failed { done, error }))
    }

    async fn request(
        &self,
        log: &mut Log,
        held: &Held,
        request: &Request,
    ) -> Result<Bytes, CallError> {
        let (method, body) = (request.method.clone(), request.body.clone());
        self.write_through(log, method, &path_of(held, request), body).await
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

/// What leaves each id as the last write says. What is so already is no difference.
fn differences(before: &BTreeMap<&PointId, Option<PointHash>>, writes: &[Write]) -> Differences {
    let last: BTreeMap<&PointId, &Write> =
        writes.iter().map(|write| (write_id(write), write)).collect();
    let was = |id: &PointId| before.get(id).copied().flatten();
    let mut differences = Differences::default();
    for (id, write) in last {
        match write {
            Write::Upsert(point) if was(id) != Some(point.hash) => {
                differences.upserts.push(point.clone());
            }
            Write::Delete(_) if was(id).is_some() => differences.deletes.push(id.clone()),
            Write::Upsert(_) | Write::Delete(_) => {}
        }
    }
    differences
}

fn path_of(held: &Held, request: &Request) -> String {
    let is_bulk = request.method == Method::POST && request.points >= BULK_POINTS_MIN;
    let bulk = if is_bulk { ":bulk" } else { "" };
    format!("{}/points{bulk}", catalogue::path_of(held.name()))
}

/// Whether the answer says that so many points were written.
fn are_written(points: usize, answer: &[u8]) -> Result<(), CallError> {
    match serde_json::from_slice::<Written>(answer) {
        Ok(written) if written.points == points => Ok(()),
        _ => Err(CallError::Lost(format!(
            "of {points} points it says {}",
            String::from_utf8_lossy(answer).chars().take(200).collect::<String>()
        ))),
    }
}

/// The requests that carry them out; `prepared`: of the upserts, when those were foreseen.
async fn requests(held: &Held, differences: &Differences, prepared: Option<Prepared>) -> Requests {
    let are_several = prepared.as_ref().is_some_and(Prepared::are_several);
    let prepared = match prepared {
        Some(prepared) => prepared.bodies().await,
        None => None,
    };
    let upserts = prepared
        .unwrap_or_else(|| wire::upsert_requests(held.config(), differences.upserts.iter()));
    let upsert = |(points, body)| Request { method: Method::POST, body, points };
    let mut all: Vec<Request> = upserts.into_iter().map(upsert).collect();
    for chunk in differences.deletes.chunks(wire::REQUEST_POINTS_MAX) {
        let body = wire::delete_request(chunk);
        all.push(Request { method: Method::DELETE, body, points: chunk.len() });
    }
    // A refusal of one shall leave nothing behind: only a donor's points, which come again, are sent so.
    Requests { all, are_together: are_several && differences.deletes.is_empty() }
}

/// Points that are gone, and points that are new.
fn gains(changes: &[Change]) -> (u64, u64) {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count() as u64;
    (
        count(|change| change.old.is_some() && change.new.is_none()),
        count(|change| change.old.is_none() && change.new.is_some()),
    )
}
