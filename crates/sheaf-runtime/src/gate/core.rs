//! The gate core behind its mutex: events go in one by one, answers go to whoever waits for them.
//!
//! Decides only what becomes of an answer that nobody waits for any more. A failed assertion of the core ends the process:
//! a gate that no longer trusts its own state must not serve.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_gate::{
    Answer, Effects, EngineCall, Event, Gate, GateMetrics, JobId, Outcome, Outgoing, Persist, Token,
};
use sheaf_types::{MapVersion, Time};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::clock::Clock;

/// The core, and who waits for its answers.
pub(super) struct Core {
    next_token: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    clock: Clock,
    gate: Gate,
    waiting: BTreeMap<Token, oneshot::Sender<Answer>>,
    /// Where records go to be stored, in order. The core has at most one on its way.
    records: mpsc::Sender<Persist>,
}

/// What is left to do once answers are delivered and the record is on its way; in any order.
#[derive(Default)]
pub(super) struct Chores {
    pub engine: Vec<(JobId, EngineCall)>,
    pub send: Vec<Outgoing>,
    pub fetch_map: Vec<MapVersion>,
    pub wake: Option<Time>,
}

/// What came of a question.
pub(super) enum Asked {
    Answered(Answer),
    Waits(oneshot::Receiver<Answer>),
}

impl Core {
    pub fn new(clock: Clock, gate: Gate, records: mpsc::Sender<Persist>) -> Self {
        let inner = Inner { clock, gate, waiting: BTreeMap::new(), records };
        Self { next_token: AtomicU64::new(1), inner: Mutex::new(inner) }
    }

    /// A name for a new question.
    pub fn token(&self) -> Token {
        Token(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells the core something.
    pub fn tell(&self, event: Event) -> Chores {
        let mut chores = Chores::default();
        self.lock().handle(event, None, &mut chores);
        chores
    }

    /// Asks the core something under this token, under which nobody waits yet.
    pub fn ask(&self, token: Token, event: Event) -> (Asked, Chores) {
        let mut chores = Chores::default();
        let mut inner = self.lock();
        let asked = match inner.handle(event, Some(token), &mut chores) {
            Some(answer) => Asked::Answered(answer),
            None => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.insert(token, sender);
                Asked::Waits(receiver)
            }
        };
        (asked, chores)
    }

    /// Who waited under this token for the answer to a request has gone.
    pub fn abandon(&self, token: Token, receiver: &mut oneshot::Receiver<Answer>) -> Chores {
        let mut chores = Chores::default();
        let mut inner = self.lock();
        let event = match (inner.waiting.remove(&token), receiver.try_recv()) {
            (Some(_), _) => Event::RequestAbandoned { token },
            // Admitted just before, and the engine was never called.
            (None, Ok(Answer::Go { .. })) => Event::RequestDone { token, outcome: Outcome::Failed },
            (None, _) => return chores,
        };
        inner.handle(event, None, &mut chores);
        chores
    }

    /// The core's figures.
    pub fn metrics(&self) -> GateMetrics {
        self.lock().gate.metrics()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Never poisoned: a panic of the core ends the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Returns the answer to `mine`, if there is one already.
    fn handle(&mut self, event: Event, mine: Option<Token>, chores: &mut Chores) -> Option<Answer> {
        // Read under the lock, so that the core sees time in order.
        let now = self.clock.now();
        let mut my_answer = None;
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Effects { persist, engine, send, answer, fetch_map, wake } =
                self.trusted(|gate| gate.handle(now, event));
            if let Some(persist) = persist {
                self.store(persist);
            }
            for (token, answer) in answer {
                if Some(token) == mine {
                    my_answer = Some(answer);
                } else if let Some(Answer::Go { .. }) = self.deliver(token, answer) {
                    // Whoever asked has gone, and the engine was never called.
                    events.push(Event::RequestDone { token, outcome: Outcome::Failed });
                }
            }
            chores.engine.extend(engine);
            chores.send.extend(send);
            chores.fetch_map.extend(fetch_map);
            let wakes = chores.wake.into_iter().chain(wake.map(|(time, _)| time));
            chores.wake = wakes.min();
        }
        my_answer
    }

    /// Returns the answer when nobody waits for it.
    fn deliver(&mut self, token: Token, answer: Answer) -> Option<Answer> {
        match self.waiting.remove(&token) {
            Some(sender) => sender.send(answer).err(),
            None => Some(answer),
        }
    }

    fn store(&mut self, persist: Persist) {
        let sent = self.records.try_send(persist);
        if let Err(mpsc::error::TrySendError::Full(persist)) = sent {
            self.trusted(|_| {
                panic!("record {} is to be stored before the last one is", persist.seq)
            });
        }
    }

    /// Ends the process when the core doesn't hold what it promises. The panic itself was printed by then.
    fn trusted<T>(&mut self, step: impl FnOnce(&mut Gate) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| step(&mut self.gate))).unwrap_or_else(|_| {
            error!("the gate's state can't be trusted any more: the process ends; start it again");
            process::abort()
        })
    }
}
