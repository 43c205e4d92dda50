//! The coordinator's core behind its mutex: events go in one by one, effects are carried out in their order.
//!
//! Decides only which poll of a gate is given up: the one that a newer one replaces. A failed assertion of the core
//! ends the process.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_coordinator::{
    AskRefusal, Coordinator, Effects, Event, Outgoing, PollAnswer, Reply, Token,
};
use sheaf_map::Map;
use sheaf_types::{Revision, ShardId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::error;

use super::gates::Gates;
use super::store::StoreCall;
use crate::clock::Clock;

/// Milliseconds between two ticks, so that a core that always wants one can't take a thread for itself.
const TICK_MS_MIN: u64 = 1;

pub(super) type Answer = Result<Reply, AskRefusal>;

pub(super) struct Shared {
    pub clock: Clock,
    pub gates: Arc<dyn Gates>,
    pub maps: watch::Sender<Option<Arc<Map>>>,
    pub revisions: watch::Sender<Revision>,
    /// Another coordinator has taken over.
    pub over: watch::Sender<bool>,
    pub stopped: watch::Sender<bool>,
    /// When the core wants its next tick.
    wake: watch::Sender<Time>,
    inner: Mutex<Inner>,
}

struct Inner {
    core: Coordinator,
    waiting: BTreeMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    /// Where store calls go, in order. The core has at most one write and two reads on their way.
    store: mpsc::Sender<StoreCall>,
    polls: BTreeMap<ShardId, AbortHandle>,
}

impl Shared {
    pub fn new(
        clock: Clock,
        core: Coordinator,
        gates: Arc<dyn Gates>,
        store: mpsc::Sender<StoreCall>,
    ) -> Self {
        let (waiting, polls) = (BTreeMap::new(), BTreeMap::new());
        Self {
            clock,
            gates,
            maps: watch::Sender::new(None),
            revisions: watch::Sender::new(Revision(0)),
            over: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            wake: watch::Sender::new(Time::NEVER),
            inner: Mutex::new(Inner { core, waiting, next_token: 1, store, polls }),
        }
    }

    pub fn look<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> T {
        look(&self.lock().core)
    }

    /// A name for a question, and where its answer will be.
    pub fn wait_for_answer(&self) -> (Token, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        let token = Token(inner.next_token);
        inner.next_token += 1;
        inner.waiting.insert(token, sender);
        (token, receiver)
    }

    /// Nobody waits for this answer any more.
    pub fn forget(&self, token: Token) {
        self.lock().waiting.remove(&token);
    }

    /// Tells the core something and carries out what it asks for.
    pub fn tell(self: &Arc<Self>, event: Event) {
        let mut inner = self.lock();
        if *self.stopped.borrow() {
            return;
        }
        // Read under the lock, so that the core sees time in order.
        let now = self.clock.now();
        let effects = trusted(&mut inner.core, |core| core.handle(now, event));
        self.perform(&mut inner, effects);
    }

    fn perform(self: &Arc<Self>, inner: &mut Inner, effects: Effects) {
        let Effects { store, load, send, identify, answer, publish, deposed, wake } = effects;
        let calls = store.map(StoreCall::Write).into_iter().chain(load.then_some(StoreCall::Load));
        for call in calls {
            if let Err(mpsc::error::TrySendError::Full(_)) = inner.store.try_send(call) {
                trusted(&mut inner.core, |_| panic!("more store calls at once than there can be"));
            }
        }
        // Whoever asks again right after an answer must find the map that it speaks of.
        if let Some(map) = publish {
            self.maps.send_replace(Some(map));
        }
        for (token, answer) in answer {
            if let Some(sender) = inner.waiting.remove(&token) {
                let _gone = sender.send(answer).is_err();
            }
        }
        for outgoing in send {
            let shard = outgoing.shard;
            let poll = tokio::spawn(poll(Arc::clone(self), outgoing)).abort_handle();
            if let Some(superseded) = inner.polls.insert(shard, poll) {
                superseded.abort();
            }
        }
        for url in identify {
            tokio::spawn(identify_node(Arc::clone(self), url));
        }
        if deposed {
            error!("another coordinator has taken over; this one does nothing more");
            inner.drop_polls();
            self.over.send_replace(true);
        }
        self.wake.send_replace(wake.map_or(Time::NEVER, |(at, _)| at));
        let revision = inner.core.record().revision;
        self.revisions.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    /// Gives the core its ticks until the coordinator stops.
    pub async fn tick(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut wake = self.wake.subscribe();
        loop {
            let due = *wake.borrow_and_update();
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                _ = wake.changed() => continue,
                () = self.wait_until(due) => {}
            }
            self.tell(Event::Tick);
            tokio::time::sleep(std::time::Duration::from_millis(TICK_MS_MIN)).await;
        }
    }

    async fn wait_until(&self, due: Time) {
        if due == Time::NEVER {
            std::future::pending::<()>().await;
        }
        self.clock.sleep_until(due).await;
    }

    pub fn stop(&self) {
        let mut inner = self.lock();
        self.stopped.send_replace(true);
        self.over.send_replace(true);
        inner.waiting.clear();
        inner.drop_polls();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Never poisoned: a panic of the core ends the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn drop_polls(&mut self) {
        for (_, poll) in std::mem::take(&mut self.polls) {
            poll.abort();
        }
    }
}

async fn poll(shared: Arc<Shared>, outgoing: Outgoing) {
    let (shard, poll) = (outgoing.shard, outgoing.poll);
    let answer: PollAnswer = shared.gates.direct(outgoing).await;
    shared.tell(Event::Reported { shard, poll, answer });
}

async fn identify_node(shared: Arc<Shared>, url: String) {
    let identity = shared.gates.identify(url.clone()).await;
    shared.tell(Event::Identified { url, identity });
}

/// Ends the process when the core doesn't hold what it promises. The panic itself was printed by then.
fn trusted<T>(core: &mut Coordinator, step: impl FnOnce(&mut Coordinator) -> T) -> T {
    catch_unwind(AssertUnwindSafe(|| step(core))).unwrap_or_else(|_| {
        error!(
            "the coordinator's state can't be trusted any more: the process ends; start it again"
        );
        process::abort()
    })
}
