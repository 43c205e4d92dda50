//! A client's request: admitted by the core, carried out by the engine, answered by the core's leave.
//!
//! Decides what a vanished client and a passed deadline mean. An admitted write runs to its end, whoever has gone, and the
//! core hears of the end of every admitted request.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sheaf_engines::{Engine, EngineError, SparseEngine};
use sheaf_gate::{Answer, Change, Event, Operation, Outcome, Request, Token};
use sheaf_protocol::Refusal;
use sheaf_types::{CollectionConfig, CollectionId, MapVersion};
use tokio::sync::oneshot;

use super::core::Asked;
use super::engine::accept;
use super::{GateHost, Shared};

/// Milliseconds after a request's deadline in which the core itself may still refuse it.
const GRACE_MS: u64 = 100;

/// What the engine is to be asked for.
#[derive(Clone)]
pub struct Go {
    pub engine: Arc<dyn Engine>,
    /// The same engine, asked by terms.
    pub sparse: Arc<SparseEngine>,
    pub collection: CollectionId,
    /// As it was created.
    pub config: Arc<CollectionConfig>,
    /// The version of the map at which the request is served.
    pub version: MapVersion,
    /// The points that it may see.
    pub accept: sheaf_engines::Accept,
}

/// The answer to a request that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served<T> {
    pub version: MapVersion,
    pub value: T,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotServed {
    /// Nothing was applied; asking again, as the refusal says, is safe.
    #[error("{0}")]
    Refused(Refusal),
    /// The engine refused or failed. Nothing was applied.
    #[error("{0}")]
    Engine(EngineError),
    /// The deadline passed. Nothing was applied.
    #[error("the deadline passed before the request was carried out; nothing was applied")]
    TooLate,
    /// The write may or may not have been applied.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
}

impl GateHost {
    /// Serves a request: `work` is what the engine has to do once the core lets it.
    ///
    /// # Errors
    /// See [`NotServed`].
    pub async fn serve<T, W, F>(&self, request: Request, work: W) -> Result<Served<T>, NotServed>
    where
        T: Send + 'static,
        W: FnOnce(Go) -> F + Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let shared = &self.shared;
        let writes = matches!(request.operation, Operation::Write { .. });
        let inserts = matches!(request.operation, Operation::Write { change: Change::Insert, .. });
        let repairing = shared.repairing.clone();
        let time_left = shared.clock.until(request.deadline) + Duration::from_millis(GRACE_MS);
        let admitted_write = AtomicBool::new(false);
        let serve = async {
            if !writes {
                let (admitted, go) = admit(shared, request, writes).await?;
                return carry_out(admitted, go, work).await;
            }
            // Held to the end of the write, whoever waits for it.
            let (alone, shares) = if inserts {
                (Some(repairing.write_owned().await), None)
            } else {
                (None, Some(repairing.read_owned().await))
            };
            let (admitted, go) = admit(shared, request, writes).await?;
            admitted_write.store(true, Ordering::Relaxed);
            let task = tokio::spawn(async move {
                let _held = (alone, shares);
                carry_out(admitted, go, work).await
            });
            task.await.unwrap_or_else(|error| Err(NotServed::OutcomeUnknown(error.to_string())))
        };
        match tokio::time::timeout(time_left, serve).await {
            Ok(answer) => answer,
            Err(_) if admitted_write.load(Ordering::Relaxed) => Err(NotServed::OutcomeUnknown(
                "the engine didn't answer by the deadline".to_owned(),
            )),
            Err(_) => Err(NotServed::TooLate),
        }
    }
}

async fn admit(
    shared: &Arc<Shared>,
    request: Request,
    writes: bool,
) -> Result<(Admitted, Go), NotServed> {
    let token = shared.core.token();
    let answer = match shared.ask(token, Event::Requested { token, request }) {
        Asked::Answered(answer) => answer,
        Asked::Waits(receiver) => {
            let mut waiting = Waiting { shared: shared.clone(), token, receiver: Some(receiver) };
            waiting.answer().await?
        }
    };
    match answer {
        Answer::Go { collection, version, scope } => {
            let admitted = Admitted { shared: shared.clone(), token, writes, ended: false };
            // The map here may be newer than that of the request, and the collection be dropped.
            let config = shared.config(collection);
            let config = config.ok_or(NotServed::Engine(EngineError::NoCollection(collection)))?;
            let (engine, sparse) = (shared.engine.clone(), shared.sparse.clone());
            let accept = accept(&scope);
            Ok((admitted, Go { engine, sparse, collection, config, version, accept }))
        }
        Answer::Refused(refusal) => Err(NotServed::Refused(refusal)),
        Answer::OutcomeUnknown | Answer::Deliver => Err(misplaced()),
        Answer::Directed(_) | Answer::Report(_) | Answer::Frame(_) => Err(misplaced()),
    }
}

/// The core answered another question than was asked: a mistake in the program.
fn misplaced() -> NotServed {
    NotServed::OutcomeUnknown("the gate gave an answer that doesn't belong to a request".to_owned())
}

async fn carry_out<T, W, F>(admitted: Admitted, go: Go, work: W) -> Result<Served<T>, NotServed>
where
    W: FnOnce(Go) -> F,
    F: Future<Output = Result<T, EngineError>>,
{
    let version = go.version;
    let clock = admitted.shared.clock;
    let started = clock.elapsed();
    let result = work(go).await;
    admitted.shared.latency.note(clock.elapsed().saturating_sub(started));
    let outcome = outcome(&result, admitted.writes);
    match (admitted.end(outcome).await, result) {
        (Some(Answer::Deliver), Ok(value)) => Ok(Served { version, value }),
        (Some(Answer::Deliver), Err(error)) => Err(NotServed::Engine(error)),
        (Some(Answer::Refused(refusal)), _) => Err(NotServed::Refused(refusal)),
        (Some(Answer::OutcomeUnknown), Err(error)) => {
            Err(NotServed::OutcomeUnknown(error.to_string()))
        }
        (Some(Answer::OutcomeUnknown), Ok(_)) => {
            let reason = "the point was taken from this shard while it was written";
            Err(NotServed::OutcomeUnknown(reason.to_owned()))
        }
        (None, _) => Err(NotServed::OutcomeUnknown("the gate is stopping".to_owned())),
        (Some(_), _) => Err(misplaced()),
    }
}

fn outcome<T>(result: &Result<T, EngineError>, writes: bool) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(EngineError::Unknown(_) | EngineError::Damaged(_)) if writes => Outcome::Unknown,
        Err(_) => Outcome::Failed,
    }
}

/// A request that the core has not answered yet. Dropped, it is abandoned.
struct Waiting {
    shared: Arc<Shared>,
    token: Token,
    receiver: Option<oneshot::Receiver<Answer>>,
}

impl Waiting {
    async fn answer(&mut self) -> Result<Answer, NotServed> {
        let Some(receiver) = &mut self.receiver else { return Err(misplaced()) };
        let answer = receiver.await;
        self.receiver = None;
        answer.map_err(|_| NotServed::TooLate)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            let chores = self.shared.core.abandon(self.token, receiver);
            self.shared.perform(chores);
        }
    }
}

/// A request that the core has let through. The core hears how it ended, even if it is dropped half-way.
struct Admitted {
    shared: Arc<Shared>,
    token: Token,
    writes: bool,
    ended: bool,
}

impl Admitted {
    /// Tells the core; answers what may be said to the client. `None`: the gate is stopping.
    async fn end(mut self, outcome: Outcome) -> Option<Answer> {
        self.ended = true;
        let token = self.token;
        match self.shared.ask(token, Event::RequestDone { token, outcome }) {
            Asked::Answered(answer) => Some(answer),
            Asked::Waits(receiver) => receiver.await.ok(),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.ended {
            let outcome = if self.writes { Outcome::Unknown } else { Outcome::Failed };
            self.shared.tell(Event::RequestDone { token: self.token, outcome });
        }
    }
}
