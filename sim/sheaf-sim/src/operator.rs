//! The operator: builds the cluster, then asks for what the plan says, sometimes foolishly, and never waits for calm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_checkers::{Answer, Call, Fact, OpId};
use sheaf_coordinator::{Ask, AskRefusal, AskedOptions, CopyLimits, NewShard, Promotion};
use sheaf_map::{Map, Weight};
use sheaf_types::{CollectionConfig, IndexKind, Metric, TransitionId};

use crate::clients::{LASTING, TEMPORARY};
use crate::gate_node::url_of;
use crate::machine::Proc;
use crate::plan::{Wish, WishOptions};
use crate::steps::pick;
use crate::wire::{AskMessage, Message, Purpose, Reply};
use crate::world::{Happening, Stage, World};

/// Milliseconds that an ask may wait at the coordinator.
const ASK_MS: u64 = 2_000;
/// Times that an ask without an answer is repeated.
const TRIES_MAX: u32 = 4;

/// An ask whose end the operator waits for.
struct Pending {
    message: Arc<AskMessage>,
    op: Option<OpId>,
    tries: u32,
    /// Repeat until it is done: a step of the setup, or of the end.
    must: bool,
}

/// The operator.
#[derive(Default)]
pub struct Operator {
    pending: BTreeMap<u64, Pending>,
    next: u64,
    /// Steps of the setup that are done.
    built: u32,
}

impl Operator {
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Calls on collections that haven't ended.
    pub fn open(&self) -> Vec<OpId> {
        self.pending.values().filter_map(|pending| pending.op).collect()
    }
}

/// How the operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With a key, until it is done.
    Must,
    /// With a key, until there is an answer that is more than "ask again".
    Keyed,
    Once,
    /// With a key, and only if the map is still what it is now.
    Expecting,
}

/// Nobody knows what became of the ask.
fn is_open(refusal: &AskRefusal) -> bool {
    matches!(refusal, AskRefusal::OutcomeUnknown)
}

/// The coordinator says that nothing was done, and to ask again.
fn is_early(refusal: &AskRefusal) -> bool {
    matches!(refusal, AskRefusal::TimedOut | AskRefusal::Deposed | AskRefusal::TooManyAsks { .. })
}

fn options_of(options: &WishOptions) -> AskedOptions {
    let limits = CopyLimits { points_per_s_max: options.points_per_s_max, ..CopyLimits::default() };
    AskedOptions { by_hand: options.by_hand, fence_budget_ms: options.fence_budget_ms, limits }
}

/// A collection as the simulator makes them.
pub fn config_of(name: &str) -> CollectionConfig {
    CollectionConfig {
        name: name.to_owned(),
        dim: 1,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    }
}

impl World {
    /// The operator's next step.
    pub fn operate(&mut self) {
        match self.stage {
            Stage::Setup => self.set_up(),
            Stage::Liveness => self.tidy_up(),
            Stage::Safety | Stage::Audit | Stage::Over => {}
        }
    }

    fn set_up(&mut self) {
        let waits = self.operator.is_waiting()
            || self.clients.are_busy()
            || (self.operator.built >= 2 && !self.routers_are_ready());
        if waits {
            self.queue.plan(self.now_us + 20_000, Happening::Operate);
            return;
        }
        self.operator.built += 1;
        match self.operator.built {
            1 if self.drawn.adopted && self.drawn.adopted_amid_faults => {
                self.begin();
                self.adopt();
            }
            1 if self.drawn.adopted => {
                self.adopt();
                self.queue.plan(self.now_us + 20_000, Happening::Operate);
            }
            1 => {
                let shards =
                    (0..self.drawn.first_shards).map(|n| NewShard::at(&url_of(n))).collect();
                self.ask(Ask::AddShards { shards }, Manner::Must);
                self.queue.plan(self.now_us + 20_000, Happening::Operate);
            }
            2 if !self.drawn.adopted => {
                self.ask(Ask::CreateCollection { config: config_of(LASTING) }, Manner::Must);
                self.queue.plan(self.now_us + 20_000, Happening::Operate);
            }
            3 if !self.drawn.adopted => {
                self.preload();
                self.queue.plan(self.now_us + 20_000, Happening::Operate);
            }
            _ => self.begin(),
        }
    }

    fn begin(&mut self) {
        self.start_clients();
        self.begin_safety();
        self.queue.plan(self.now_us, Happening::Repair);
    }

    /// Every router has the map that holds the collection.
    fn routers_are_ready(&self) -> bool {
        let wanted = self.store.record().map.version();
        let is_ready = |map: &Arc<Map>| map.version() >= wanted;
        self.routers.iter().all(|router| router.map.as_ref().is_some_and(is_ready))
    }

    /// Gates that no coordinator knows.
    pub fn free_gates(&self) -> Vec<u32> {
        let record = self.store.record();
        let in_map = record.map.shards().iter();
        let next = record.transition.iter().flat_map(|running| running.next.shards());
        let retiring = record.retiring.iter().map(|retiring| &retiring.shard);
        let used: BTreeSet<&str> =
            in_map.chain(next).chain(retiring).map(|shard| shard.primary_url.as_str()).collect();
        (0..self.drawn.gates).filter(|gate| !used.contains(url_of(*gate).as_str())).collect()
    }

    /// The cluster that was there before is not taken over yet.
    pub fn waits_to_adopt(&self) -> bool {
        self.drawn.adopted && self.store.record().map.shards().is_empty()
    }

    /// Asks for what a plan wants, if there is anything that it can mean now.
    pub fn wish(&mut self, wish: &Wish, manner: Manner) {
        // Only a coordinator that has nothing yet takes over a cluster.
        if self.waits_to_adopt() {
            return;
        }
        if let Some(ask) = self.ask_of(wish) {
            self.ask(ask, manner);
        }
    }

    fn ask_of(&self, wish: &Wish) -> Option<Ask> {
        let running = self.store.record().transition.as_ref().map(|running| running.id);
        let free = self.free_gates();
        let ask = match wish {
            Wish::Grow { nodes, options } => {
                let gates: BTreeSet<u32> = nodes.iter().filter_map(|n| pick(&free, *n)).collect();
                if gates.is_empty() {
                    return None;
                }
                let shards = gates.into_iter().map(|gate| NewShard::at(&url_of(gate))).collect();
                Ask::Grow { shards, options: options_of(options) }
            }
            Wish::Drain { shard, options } => {
                Ask::Drain { shard: self.shard_at(*shard)?, options: options_of(options) }
            }
            Wish::Replace { shard, node, options } => Ask::Replace {
                shard: self.shard_at(*shard)?,
                with: NewShard::at(&url_of(pick(&free, *node)?)),
                options: options_of(options),
            },
            Wish::Reweight { shard, thousandths, options } => Ask::Reweight {
                shard: self.shard_at(*shard)?,
                weight: Weight::from_thousandths(*thousandths).ok()?,
                options: options_of(options),
            },
            Wish::Cancel => Ask::Cancel { transition: running? },
            Wish::Pause => Ask::Pause { transition: running? },
            Wish::Resume => Ask::Resume { transition: running? },
            Wish::Unthrottle => {
                Ask::Throttle { transition: running?, limits: CopyLimits::default() }
            }
            Wish::CancelNumber(number) => Ask::Cancel { transition: TransitionId(*number) },
            Wish::Create => Ask::CreateCollection { config: config_of(TEMPORARY) },
            Wish::Drop => Ask::DropCollection { name: TEMPORARY.to_owned() },
            Wish::GrowInto(node) => Ask::Grow {
                shards: vec![NewShard::at(&url_of(node % self.drawn.gates))],
                options: AskedOptions::default(),
            },
            Wish::Remove { shard } => {
                Ask::Remove { shard: self.shard_at(*shard)?, accept_data_loss: false }
            }
        };
        Some(ask)
    }

    /// After the faults: what was paused goes on, what waits for a hand gets it.
    fn tidy_up(&mut self) {
        let running = self.store.record().transition.clone();
        if let (Some(running), false) = (running, self.operator.is_waiting()) {
            if running.options.copy.paused {
                self.ask(Ask::Resume { transition: running.id }, Manner::Keyed);
            } else if running.options.promotion == Promotion::Awaited {
                let joining = running.next.shards().iter().map(|shard| shard.id);
                let joining =
                    joining.filter(|id| self.store.record().map.shard(*id).is_none()).max();
                match joining {
                    Some(shard) => self.ask(Ask::Promote { shard }, Manner::Keyed),
                    None => self.ask(Ask::Cancel { transition: running.id }, Manner::Keyed),
                };
            }
        }
        self.queue.plan(self.now_us + 300_000, Happening::Operate);
    }

    /// Asks the coordinator.
    pub fn ask(&mut self, ask: Ask, manner: Manner) {
        self.operator.next += 1;
        let number = self.operator.next;
        let must = manner == Manner::Must;
        let key = (manner != Manner::Once).then(|| format!("ask-{number}"));
        let expects = (manner == Manner::Expecting).then(|| self.store.record().map.version());
        let call = match &ask {
            Ask::CreateCollection { config } => {
                Some(Call::Create { collection: Arc::from(config.name.as_str()) })
            }
            Ask::DropCollection { name } => {
                Some(Call::Drop { collection: Arc::from(name.as_str()) })
            }
            _ => None,
        };
        let op = call.map(|call| {
            let op = self.clients.op();
            self.fact(Fact::Invoked { op, call: Arc::new(call) });
            op
        });
        self.log(|| format!("operator {number}: {ask:?}"));
        let message = Arc::new(AskMessage { ask, key, expects, timeout_ms: ASK_MS });
        self.operator.pending.insert(number, Pending { message, op, tries: 0, must });
        self.send_ask(number);
    }

    pub fn send_ask(&mut self, number: u64) {
        let Some(pending) = self.operator.pending.get_mut(&number) else { return };
        pending.tries += 1;
        let message = Message::Ask(Arc::clone(&pending.message));
        let to = self.some_coordinator(Proc::Operator);
        let timeout_us = (ASK_MS + 2_500) * 1_000;
        self.call(Proc::Operator, to, message, Purpose::Ask { number }, timeout_us);
    }

    pub fn operator_answered(&mut self, purpose: Purpose, reply: Reply) {
        let Purpose::Ask { number } = purpose else { return };
        let Some(pending) = self.operator.pending.get(&number) else { return };
        self.log(|| format!("operator {number}: {reply:?}"));
        let repeatable =
            pending.message.key.is_some() && (pending.tries < TRIES_MAX || pending.must);
        let answer = match &reply {
            Reply::Asked(Ok(_)) => Answer::Done,
            Reply::Asked(Err(refusal))
                if !(is_open(refusal) || repeatable && is_early(refusal)) =>
            {
                // The first try may have been decided before the coordinator that would know was lost.
                if pending.tries > 1 { Answer::Unknown } else { Answer::Refused }
            }
            Reply::NotSent | Reply::NotReady if pending.tries == 1 && !repeatable => {
                Answer::Refused
            }
            _ if repeatable => {
                let at_us = self.now_us + 100_000 + self.dice.operator.of(number).below(200_000);
                self.queue.plan(at_us, Happening::AskAgain { number });
                return;
            }
            _ => Answer::Unknown,
        };
        if pending.must && !matches!(answer, Answer::Done) {
            let at_us = self.now_us + 50_000;
            self.queue.plan(at_us, Happening::AskAgain { number });
            return;
        }
        let op = pending.op;
        self.operator.pending.remove(&number);
        self.trace.fold(&[number, u64::from(matches!(reply, Reply::Asked(Ok(_))))]);
        if let Some(op) = op {
            self.fact(Fact::Returned { op, answer });
        }
    }

    /// A coordinator to ask: the one that reigns, mostly.
    pub fn some_coordinator(&mut self, who: Proc) -> Proc {
        let up: Vec<Proc> = (0..self.drawn.coordinators)
            .map(Proc::Coordinator)
            .filter(|proc| self.life(*proc).is_some())
            .collect();
        self.dice.processes.of(who.code()).pick(&up).copied().unwrap_or(Proc::Coordinator(0))
    }
}
