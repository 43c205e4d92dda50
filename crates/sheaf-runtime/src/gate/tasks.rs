//! The tasks of a gate: what the core asked for is carried out here, and the core hears how it went.
//!
//! Decides only how often the disk is asked again. A record that can't be stored is never given up, and later ones wait for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sheaf_gate::{
    EngineCall, EngineReply, Event, FrameAnswer, GateRecord, JobId, Outgoing, Persist,
};
use sheaf_protocol::Load;
use sheaf_stores::{NotKept, RecordStore};
use sheaf_types::{MapVersion, Time};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::Shared;
use super::engine;

/// Milliseconds between two samples of the load.
const SAMPLE_MS: u64 = 1_000;
/// Milliseconds that the sampler waits for the engine's figures.
const SAMPLE_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds before a record that couldn't be stored is tried again: first, and at most.
const STORE_RETRY_MS: (u64, u64) = (10, 2_000);
/// Milliseconds between two ticks, so that a core that always wants one can't take a thread for itself.
const TICK_MS_MIN: u64 = 1;

/// A task that an abandoned engine call or a panic must not keep from answering.
struct Job {
    shared: Arc<Shared>,
    job: JobId,
    answered: bool,
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.answered {
            let reason = "the engine's call broke off; it may have been applied".to_owned();
            let reply = EngineReply::Failed { reason };
            self.shared.tell(Event::EngineAnswered { job: self.job, reply });
        }
    }
}

/// Has the engine carry out a call of the core.
pub(super) async fn engine_call(shared: Arc<Shared>, job: JobId, call: EngineCall) {
    let mut guard = Job { shared: shared.clone(), job, answered: false };
    let reply = engine::call(&*shared.engine, call).await;
    if let EngineReply::Failed { reason } = &reply {
        warn!(%reason, "the engine failed; the call will be tried again");
    }
    guard.answered = true;
    shared.tell(Event::EngineAnswered { job, reply });
}

/// Sends a frame to its recipient.
pub(super) async fn send_frame(shared: Arc<Shared>, outgoing: Outgoing) {
    let Outgoing { url, frame } = outgoing;
    let (recipient, stream, seq) = (frame.recipient, frame.stream, frame.seq);
    let answer = shared.peers.send_frame(url, frame).await;
    if let FrameAnswer::Refused(refusal) = &answer {
        info!(%recipient, seq, %refusal, "a frame was refused");
    }
    shared.tell(Event::FrameAnswered { recipient, stream, seq, answer });
}

/// Fetches a map of at least this version.
pub(super) async fn fetch_map(shared: Arc<Shared>, wanted: MapVersion) {
    let fetched = shared.peers.fetch_map(wanted).await;
    shared.tell(fetched.map_or(Event::MapUnavailable, |map| Event::MapLearned { map }));
}

/// Stores the core's records, one after the other, until the gate stops.
pub(super) async fn store_records(
    shared: Arc<Shared>,
    mut ledger: RecordStore<GateRecord>,
    mut records: mpsc::Receiver<Persist>,
) {
    let mut stopped = shared.stopped.subscribe();
    while let Some(persist) = until_stopped(&mut stopped, records.recv()).await.flatten() {
        let stored = until_stopped(&mut stopped, store(&mut ledger, &persist)).await;
        if stored.is_none() {
            return;
        }
        // Before the core hears of it: no request may be let through at a version that isn't known here.
        let mut map = shared.map.write().unwrap_or_else(PoisonError::into_inner);
        map.clone_from(&persist.record.map);
        drop(map);
        shared.tell(Event::Persisted { seq: persist.seq });
    }
}

async fn store(ledger: &mut RecordStore<GateRecord>, persist: &Persist) {
    let (mut wait_ms, wait_ms_max) = STORE_RETRY_MS;
    while let Err(reason) = ledger.keep(&persist.record).await {
        match reason {
            NotKept::TryAgain(reason) => {
                warn!(%reason, "the gate's ledger can't be stored; it goes on as before and tries again");
            }
            NotKept::Replaced | NotKept::Unwritable(_) => {
                error!(%reason, "the gate's ledger can't be stored; no transition will get any further here");
            }
        }
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(wait_ms_max);
    }
}

/// Gives the core its ticks until the gate stops.
pub(super) async fn tick(shared: Arc<Shared>) {
    let mut stopped = shared.stopped.subscribe();
    let ticks = async {
        loop {
            let due = Time(shared.wake_at.load(Ordering::Acquire));
            let changed = shared.wake_changed.notified();
            tokio::select! {
                biased;
                () = changed => continue,
                () = wait_for(&shared, due) => {}
            }
            shared.wake_at.store(Time::NEVER.0, Ordering::Release);
            shared.tell(Event::Tick);
            tokio::time::sleep(Duration::from_millis(TICK_MS_MIN)).await;
        }
    };
    until_stopped::<()>(&mut stopped, ticks).await;
}

async fn wait_for(shared: &Shared, due: Time) {
    if due == Time::NEVER {
        std::future::pending::<()>().await;
    }
    shared.clock.sleep_until(due).await;
}

/// Samples the load until the gate stops.
pub(super) async fn sample_load(shared: Arc<Shared>) {
    let mut stopped = shared.stopped.subscribe();
    let samples = async {
        loop {
            tokio::time::sleep(Duration::from_millis(SAMPLE_MS)).await;
            sample(&shared).await;
        }
    };
    until_stopped::<()>(&mut stopped, samples).await;
}

/// Tells the core how full and busy the gate is, if the engine says so in time.
pub(super) async fn sample(shared: &Arc<Shared>) {
    let timeout = Duration::from_millis(SAMPLE_TIMEOUT_MS);
    let stats = match tokio::time::timeout(timeout, shared.engine.stats()).await {
        Ok(Ok(stats)) => stats,
        Ok(Err(error)) => return warn!(%error, "the engine doesn't say how full it is"),
        Err(_) => return warn!("the engine doesn't say how full it is, in {SAMPLE_TIMEOUT_MS} ms"),
    };
    let load = Load {
        points: stats.points,
        bytes: stats.bytes,
        disk_bytes: stats.disk_bytes,
        unindexed_points: stats.unindexed_points,
        request_p99_ms: shared.latency.take_p99_ms(),
    };
    shared.tell(Event::Sampled { load });
}

/// `None`: the gate stopped first.
async fn until_stopped<T>(
    stopped: &mut watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stopped| *stopped) => None,
        done = work => Some(done),
    }
}
