//! The coordinator's core behind its mutex: events go in one by one, effects are carried out in their order.
//!
//! Decides only which poll of a gate is given up: the one that a newer one replaces; and that what was asked for one reign is
//! not heard in another. A failed assertion of the core ends the process.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_coordinator::{
    Ask, AskRefusal, Asked, Coordinator, CoordinatorRecord, Effects, Event, Outgoing, PollAnswer,
    Reply, Token,
};
use sheaf_map::Map;
use sheaf_types::{MapVersion, Revision, ShardId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::{error, warn};

use super::gates::Gates;
use super::standing::Standing;
use super::store::StoreCall;
use crate::clock::Clock;

/// Milliseconds between two ticks, so that a core that always wants one can't take a thread for itself.
const TICK_MS_MIN: u64 = 1;

pub(super) type Answer = Result<Reply, AskRefusal>;

/// One time of leading: what was begun in another is not its concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reign(u64);

pub(super) struct Shared {
    pub clock: Clock,
    pub gates: Arc<dyn Gates>,
    pub maps: watch::Sender<Option<Arc<Map>>>,
    pub revisions: watch::Sender<Revision>,
    /// The reign in which another coordinator has taken over.
    pub deposed: watch::Sender<Option<Reign>>,
    pub standing: watch::Sender<Standing>,
    pub stopped: watch::Sender<bool>,
    /// It has no lease any more, or never had one.
    pub resigned: watch::Sender<bool>,
    /// When the core wants its next tick.
    wake: watch::Sender<Time>,
    inner: Mutex<Inner>,
}

struct Inner {
    core: Coordinator,
    /// `None`: another one decides, or nobody; the core is there to be read.
    reign: Option<Reign>,
    reigns: u64,
    waiting: BTreeMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    /// Where store calls go, in order. The core has at most one write and two reads on their way.
    store: Option<mpsc::Sender<StoreCall>>,
    polls: BTreeMap<ShardId, AbortHandle>,
}

impl Shared {
    /// Nobody decides yet; `core` is there to be read.
    pub fn new(clock: Clock, core: Coordinator, gates: Arc<dyn Gates>, standing: Standing) -> Self {
        let (waiting, polls) = (BTreeMap::new(), BTreeMap::new());
        let (reign, store) = (None, None);
        let inner = Inner { core, reign, reigns: 0, waiting, next_token: 1, store, polls };
        Self {
            clock,
            gates,
            maps: watch::Sender::new(None),
            revisions: watch::Sender::new(Revision(0)),
            deposed: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            resigned: watch::Sender::new(standing.leads),
            standing: watch::Sender::new(standing),
            wake: watch::Sender::new(Time::NEVER),
            inner: Mutex::new(inner),
        }
    }

    /// Has this core decide from now on. Its store calls go to `store`.
    pub fn reign(self: &Arc<Self>, core: Coordinator, store: mpsc::Sender<StoreCall>) -> Reign {
        let mut inner = self.lock();
        inner.reigns += 1;
        let reign = Reign(inner.reigns);
        (inner.core, inner.reign, inner.store) = (core, Some(reign), Some(store));
        self.handle(&mut inner, Event::Tick);
        reign
    }

    /// Decides nothing more. Who waits for an answer hears that it is unknown.
    pub fn step_down(&self, passive: impl FnOnce(&Arc<CoordinatorRecord>) -> Coordinator) {
        let mut inner = self.lock();
        (inner.reign, inner.store) = (None, None);
        inner.waiting.clear();
        inner.drop_polls();
        inner.core = passive(inner.core.record());
        self.wake.send_replace(Time::NEVER);
    }

    /// Shows what another coordinator has decided, unless this one decides.
    pub fn follow(&self, core: Coordinator) {
        let mut inner = self.lock();
        if inner.reign.is_some() || core.record().stamp() <= inner.core.record().stamp() {
            return;
        }
        inner.core = core;
        self.maps.send_replace(Some(Arc::clone(inner.core.map())));
        self.revisions.send_replace(inner.core.record().revision);
    }

    pub fn look<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> T {
        look(&self.lock().core)
    }

    /// Asks the core; the answer will be in the receiver. `None`: this coordinator doesn't decide.
    pub fn ask(
        self: &Arc<Self>,
        ask: Ask,
        key: Option<String>,
        expects: Option<MapVersion>,
        deadline: Time,
    ) -> Option<(Token, oneshot::Receiver<Answer>)> {
        let mut inner = self.lock();
        inner.reign?;
        let (sender, receiver) = oneshot::channel();
        let token = Token(inner.next_token);
        inner.next_token += 1;
        inner.waiting.insert(token, sender);
        let asked = Asked { token, ask, key, expects, deadline };
        self.handle(&mut inner, Event::Asked(Box::new(asked)));
        Some((token, receiver))
    }

    /// Nobody waits for this answer any more.
    pub fn forget(&self, token: Token) {
        self.lock().waiting.remove(&token);
    }

    /// Tells the core something of this reign and carries out what it asks for.
    pub fn tell(self: &Arc<Self>, reign: Reign, event: Event) {
        let mut inner = self.lock();
        if inner.reign == Some(reign) {
            self.handle(&mut inner, event);
        }
    }

    fn handle(self: &Arc<Self>, inner: &mut Inner, event: Event) {
        if *self.stopped.borrow() {
            return;
        }
        // Read under the lock, so that the core sees time in order.
        let now = self.clock.now();
        let effects = trusted(&mut inner.core, |core| core.handle(now, event));
        self.perform(inner, effects);
    }

    fn perform(self: &Arc<Self>, inner: &mut Inner, effects: Effects) {
        let Effects { store, load, send, identify, answer, publish, deposed, wake } = effects;
        let Some(reign) = inner.reign else { return };
        let calls = store.map(StoreCall::Write).into_iter().chain(load.then_some(StoreCall::Load));
        for call in calls {
            let Some(store) = &inner.store else { continue };
            if let Err(mpsc::error::TrySendError::Full(_)) = store.try_send(call) {
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
            let poll = tokio::spawn(poll(Arc::clone(self), reign, outgoing)).abort_handle();
            if let Some(superseded) = inner.polls.insert(shard, poll) {
                superseded.abort();
            }
        }
        for url in identify {
            tokio::spawn(identify_node(Arc::clone(self), reign, url));
        }
        if deposed {
            warn!("another coordinator has taken over; this one decides nothing more");
            inner.drop_polls();
            self.deposed.send_replace(Some(reign));
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
            if let Some(reign) = self.current() {
                self.tell(reign, Event::Tick);
            }
            tokio::time::sleep(std::time::Duration::from_millis(TICK_MS_MIN)).await;
        }
    }

    async fn wait_until(&self, due: Time) {
        if due == Time::NEVER {
            std::future::pending::<()>().await;
        }
        self.clock.sleep_until(due).await;
    }

    fn current(&self) -> Option<Reign> {
        self.lock().reign
    }

    pub fn stop(&self) {
        let mut inner = self.lock();
        self.stopped.send_replace(true);
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

async fn poll(shared: Arc<Shared>, reign: Reign, outgoing: Outgoing) {
    let (shard, poll) = (outgoing.shard, outgoing.poll);
    let answer: PollAnswer = shared.gates.direct(outgoing).await;
    shared.tell(reign, Event::Reported { shard, poll, answer });
}

async fn identify_node(shared: Arc<Shared>, reign: Reign, url: String) {
    let identity = shared.gates.identify(url.clone()).await;
    shared.tell(reign, Event::Identified { url, identity });
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
