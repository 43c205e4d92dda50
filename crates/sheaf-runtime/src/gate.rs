//! A gate's shell: the core, its engine, its ledger and its peers, and the tasks that carry out what the core asks for.
//!
//! Decides nothing about safety. Records are stored one after the other; whatever the core asks for besides runs at once.

mod audit;
mod core;
mod engine;
mod latency;
mod open;
mod peers;
mod repair;
mod requests;
mod snapshot;
mod tasks;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use sheaf_engines::{Engine, SparseEngine};
use sheaf_gate::{Answer, Event, Token};
use sheaf_map::Map;
use sheaf_protocol::{
    Content, Directive, DirectiveRefusal, Frame, FrameRefusal, GateReport, Stage, Verdict,
};
use sheaf_types::{CollectionConfig, CollectionId, Time};
use tokio::sync::{Notify, watch};

pub use audit::{Audit, NotAudited};
pub use open::{GateParts, OpenError};
pub use peers::{Peers, Reply};
pub use repair::{Inserted, Stray, Strays};
pub use requests::{Go, NotServed, Served};
pub use sheaf_gate::{Change, FrameAnswer, GateMetrics, Operation, Request, Seen};
pub use snapshot::{Copied, NotCopied};

use crate::clock::Clock;
use core::{Asked, Chores, Core};
use latency::Latency;

/// A running gate. Cheap to clone; its tasks end with [`GateHost::stop`] or with the runtime.
#[derive(Clone)]
pub struct GateHost {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    core: Core,
    engine: Arc<dyn Engine>,
    /// The same engine, asked by terms.
    sparse: Arc<SparseEngine>,
    peers: Arc<dyn Peers>,
    latency: Latency,
    /// Held shared by every write, and alone by an insert: what it found missing is missing until it is done.
    repairing: Arc<tokio::sync::RwLock<()>>,
    /// The map of the newest stored record: never older than the one by which the core serves.
    map: RwLock<Option<Arc<Map>>>,
    /// When the core wants its next tick, in milliseconds.
    wake_at: AtomicU64,
    wake_changed: Notify,
    stopped: watch::Sender<bool>,
    /// Files of the data directory that aren't the engine's.
    files: OnceLock<Vec<PathBuf>>,
}

/// The gate is stopping and answers nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate is stopping; nothing was changed")]
pub struct Stopping;

impl GateHost {
    /// The clock by which this gate's deadlines are judged.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The newest stored map; `None`: the gate is a standby.
    pub fn map(&self) -> Option<Arc<Map>> {
        self.shared.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine, for reading past the core: what is found belongs to no map version.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// The core's figures.
    pub fn metrics(&self) -> GateMetrics {
        self.shared.core.metrics()
    }

    /// Follows a directive, and answers when there is news after `seen`, at `deadline` at the latest.
    ///
    /// # Errors
    /// The gate is stopping.
    pub async fn direct(
        &self,
        directive: Directive,
        seen: Seen,
        deadline: Time,
    ) -> Result<Result<GateReport, DirectiveRefusal>, Stopping> {
        if directive.order.as_ref().is_some_and(|order| order.stage == Stage::Prepare) {
            // How much is to move is judged by the load of this moment, not by the last sample.
            tasks::sample(&self.shared).await;
        }
        let directive = Box::new(directive);
        let asked = |token| Event::Directed { token, directive, seen, deadline };
        match self.ask(asked).await {
            Some(Answer::Directed(answer)) => Ok(answer.map(|report| *report)),
            _ => Err(Stopping),
        }
    }

    /// What is durably so at this gate. Of one that serves nothing, how full it is as of now: whether it may join hangs
    /// on it, and one that was just swept still has the sample from before.
    ///
    /// # Errors
    /// The gate is stopping.
    pub async fn report(&self) -> Result<GateReport, Stopping> {
        let report = self.reported().await?;
        if report.shard.is_some() {
            return Ok(report);
        }
        tasks::sample(&self.shared).await;
        self.reported().await
    }

    async fn reported(&self) -> Result<GateReport, Stopping> {
        match self.ask(|token| Event::ReportWanted { token }).await {
            Some(Answer::Report(report)) => Ok(*report),
            _ => Err(Stopping),
        }
    }

    /// Carries out a donor's frame.
    ///
    /// # Errors
    /// The gate is stopping; the frame may have been carried out.
    pub async fn frame(&self, frame: Frame) -> Result<Result<Verdict, FrameRefusal>, Stopping> {
        let frame = Box::new(frame);
        if let Content::Replace { range, points } = &frame.content {
            self.engine().foresee(range.collection, points, range.through.is_none());
        }
        match self.ask(|token| Event::FrameArrived { token, frame }).await {
            Some(Answer::Frame(answer)) => Ok(answer),
            _ => Err(Stopping),
        }
    }

    /// Ends the gate's tasks. Requests that the engine is carrying out end by themselves.
    pub fn stop(&self) {
        self.shared.stopped.send_replace(true);
    }

    async fn ask(&self, event: impl FnOnce(Token) -> Event) -> Option<Answer> {
        let token = self.shared.core.token();
        match self.shared.ask(token, event(token)) {
            Asked::Answered(answer) => Some(answer),
            Asked::Waits(receiver) => {
                let mut stopped = self.shared.stopped.subscribe();
                tokio::select! {
                    biased;
                    answer = receiver => answer.ok(),
                    _ = stopped.wait_for(|stopped| *stopped) => None,
                }
            }
        }
    }
}

impl Shared {
    fn config(&self, collection: CollectionId) -> Option<Arc<CollectionConfig>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&map.as_ref()?.collection_by_id(collection)?.config))
    }

    fn tell(self: &Arc<Self>, event: Event) {
        let chores = self.core.tell(event);
        self.perform(chores);
    }

    fn ask(self: &Arc<Self>, token: Token, event: Event) -> Asked {
        let (asked, chores) = self.core.ask(token, event);
        self.perform(chores);
        asked
    }

    fn perform(self: &Arc<Self>, chores: Chores) {
        for (job, call) in chores.engine {
            tokio::spawn(tasks::engine_call(self.clone(), job, call));
        }
        for outgoing in chores.send {
            tokio::spawn(tasks::send_frame(self.clone(), outgoing));
        }
        for wanted in chores.fetch_map {
            tokio::spawn(tasks::fetch_map(self.clone(), wanted));
        }
        if let Some(time) = chores.wake {
            self.wake_by(time);
        }
    }

    fn wake_by(&self, time: Time) {
        use std::sync::atomic::Ordering::AcqRel;
        if self.wake_at.fetch_min(time.0, AcqRel) > time.0 {
            self.wake_changed.notify_one();
        }
    }
}
