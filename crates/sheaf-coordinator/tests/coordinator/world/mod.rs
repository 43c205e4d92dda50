//! A world for one coordinator: a store, model gates that do what they are told, and a clock that only tests move.
//!
//! Decides nothing: a test says who is silent, who differs, and what the store answers.

pub mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gate::ModelGate;
use sheaf_coordinator::{
    Ask, AskRefusal, Asked, AskedOptions, Config, Coordinator, CoordinatorRecord, Effects, Event,
    Identity, NewShard, Outgoing, Phase, PollAnswer, Reply, StoreOutcome, StoreRead, StoreWrite,
    Token,
};
use sheaf_map::Map;
use sheaf_types::{ClusterId, MapVersion, ShardId, Time, TransitionId};

/// What the store does with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMood {
    Works,
    /// Stores and doesn't say so.
    StoresSilently,
    /// Doesn't store and doesn't say so.
    ForgetsSilently,
    /// Answers nothing.
    Hangs,
}

pub struct World {
    pub now: Time,
    pub core: Coordinator,
    pub config: Config,
    pub stored: Arc<CoordinatorRecord>,
    pub mood: StoreMood,
    pub gates: BTreeMap<String, ModelGate>,
    /// Polls that gates hold.
    pub held: Vec<(Outgoing, Time)>,
    /// Everything that was sent, as it was sent.
    pub sent: Vec<Outgoing>,
    pub answers: BTreeMap<u64, Result<Reply, AskRefusal>>,
    pub published: Vec<Arc<Map>>,
    pub deposed: bool,
    pub hanging: Vec<StoreWrite>,
    queue: VecDeque<Event>,
    next_token: u64,
    seed: u64,
    wake: Option<Time>,
}

pub fn url(n: u64) -> String {
    format!("http://node-{n}:7000")
}

impl World {
    /// A coordinator of a new cluster, its term not yet durable, and `nodes` empty nodes.
    pub fn unborn(nodes: u64, config: Config) -> Self {
        let stored = Arc::new(CoordinatorRecord::new(ClusterId::from("c")));
        let now = Time(1_000_000);
        let core = Coordinator::new(now, Arc::clone(&stored), config.clone(), 1);
        let gates = (1..=nodes).map(|n| (url(n), ModelGate::new(n))).collect();
        Self {
            now,
            core,
            config,
            stored,
            mood: StoreMood::Works,
            gates,
            held: Vec::new(),
            sent: Vec::new(),
            answers: BTreeMap::new(),
            published: Vec::new(),
            deposed: false,
            hanging: Vec::new(),
            queue: VecDeque::new(),
            next_token: 1,
            seed: 1,
            wake: None,
        }
    }

    /// A cluster whose first `shards` nodes are its shards, and a few nodes besides.
    pub fn of_shards(shards: u64) -> Self {
        Self::configured(shards, Config::default())
    }

    pub fn configured(shards: u64, config: Config) -> Self {
        let mut world = Self::unborn(shards + 3, config);
        world.tick();
        let nodes = (1..=shards).map(|n| NewShard::at(&url(n))).collect();
        world.ask(Ask::AddShards { shards: nodes }).unwrap();
        world.advance(10);
        world
    }

    pub fn gate(&mut self, n: u64) -> &mut ModelGate {
        self.gates.get_mut(&url(n)).unwrap()
    }

    pub fn record(&self) -> &CoordinatorRecord {
        self.core.record()
    }

    pub fn map_ids(&self) -> Vec<u64> {
        self.core.map().shards().iter().map(|shard| shard.id.0).collect()
    }

    pub fn version(&self) -> u64 {
        self.core.map().version().0
    }

    /// The name of the running phase.
    pub fn phase(&self) -> &'static str {
        match self.core.phase() {
            None => "none",
            Some(Phase::Prepare) => "prepare",
            Some(Phase::Copy) => "copy",
            Some(Phase::Fence) => "fence",
            Some(Phase::Sweep { permitted: false }) => "committed",
            Some(Phase::Sweep { permitted: true }) => "sweep",
            Some(Phase::Abort { .. }) => "abort",
        }
    }

    /// Whether the history has a line with this in it.
    pub fn has_history(&self, text: &str) -> bool {
        self.record().history.iter().any(|entry| entry.text.contains(text))
    }

    pub fn history(&self) -> Vec<String> {
        self.record().history.iter().map(|entry| entry.text.clone()).collect()
    }

    // --- asking

    pub fn grow(&mut self, n: u64) -> TransitionId {
        self.accepted(Ask::Grow { shards: vec![NewShard::at(&url(n))], options: options() })
    }

    pub fn accepted(&mut self, ask: Ask) -> TransitionId {
        match self.ask(ask) {
            Ok(Reply::Accepted { transition, .. }) => transition,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Asks and steps until the answer is there.
    pub fn ask(&mut self, ask: Ask) -> Result<Reply, AskRefusal> {
        self.ask_with(ask, None, None)
    }

    pub fn ask_with(
        &mut self,
        ask: Ask,
        key: Option<&str>,
        expects: Option<MapVersion>,
    ) -> Result<Reply, AskRefusal> {
        let token = self.ask_later(ask, key, expects);
        for _ in 0..1_000 {
            if let Some(answer) = self.answers.get(&token) {
                return answer.clone();
            }
            self.step();
        }
        panic!("no answer");
    }

    /// Asks and lets nothing else happen yet.
    pub fn ask_later(&mut self, ask: Ask, key: Option<&str>, expects: Option<MapVersion>) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let deadline = self.now.plus_ms(5_000);
        let key = key.map(str::to_owned);
        let asked = Asked { token: Token(token), ask, key, expects, deadline };
        self.queue.push_back(Event::Asked(Box::new(asked)));
        token
    }

    // --- time

    /// Tells the core the time, and lets everything happen that needs no more of it.
    pub fn tick(&mut self) {
        self.queue.push_back(Event::Tick);
        self.settle();
    }

    /// Lets time pass: the core is woken whenever it wants, and polls without news are answered after their wait.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        loop {
            let polls = self.held.iter().map(|(_, due)| *due).min();
            let next = [self.wake, polls].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            self.answer_held(true);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    /// Steps until no transition runs or is queued.
    pub fn finish(&mut self) {
        for _ in 0..20_000 {
            if self.record().transition.is_none() && self.record().queue.is_empty() {
                return self.advance(10);
            }
            self.step();
        }
        panic!("it doesn't end: {:#?}", self.core.running());
    }

    /// Steps until the phase is this one.
    pub fn advance_to(&mut self, phase: &str) {
        for _ in 0..20_000 {
            if self.phase() == phase {
                return;
            }
            self.step();
        }
        panic!("{phase} was not reached: {:#?}", self.core.running());
    }

    /// Handles one event; when there is none, lets time pass until there is.
    pub fn step(&mut self) {
        if let Some(event) = self.queue.pop_front() {
            self.handle(event);
            return;
        }
        self.answer_held(false);
        if self.queue.is_empty() {
            let polls = self.held.iter().map(|(_, due)| *due).min();
            let next = [self.wake, polls].into_iter().flatten().min().unwrap_or(self.now);
            self.now = next.max(self.now.plus_ms(1));
            self.answer_held(true);
            self.queue.push_back(Event::Tick);
        }
    }

    /// Handles events until there are none.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let Some(event) = self.queue.pop_front() else {
                self.answer_held(false);
                if self.queue.is_empty() {
                    return;
                }
                continue;
            };
            self.handle(event);
        }
        panic!("it never settles");
    }

    pub fn handle(&mut self, event: Event) {
        let effects = self.core.handle(self.now, event);
        self.perform(effects);
    }

    /// The coordinator dies; another one starts on what is stored.
    pub fn restart(&mut self) {
        self.seed += 1;
        self.queue.clear();
        self.held.clear();
        self.hanging.clear();
        self.deposed = false;
        self.now = self.now.plus_ms(1);
        let (stored, config) = (Arc::clone(&self.stored), self.config.clone());
        self.core = Coordinator::new(self.now, stored, config, self.seed);
        self.wake = None;
        self.queue.push_back(Event::Tick);
    }

    // --- effects

    fn perform(&mut self, effects: Effects) {
        if let Some(write) = effects.store {
            self.store(write);
        }
        if effects.load {
            self.queue
                .push_back(Event::Loaded { read: StoreRead::Found(Arc::clone(&self.stored)) });
        }
        for out in effects.send {
            self.sent.push(out.clone());
            self.deliver(out);
        }
        for url in effects.identify {
            let identity = match self.gates.get_mut(&url).filter(|gate| gate.alive) {
                Some(gate) => Identity::Gate(Box::new(gate.report())),
                None => Identity::Unreachable { reason: "nobody listens".to_owned() },
            };
            self.queue.push_back(Event::Identified { url, identity });
        }
        for (Token(token), answer) in effects.answer {
            assert!(self.answers.insert(token, answer).is_none(), "answered twice");
        }
        self.published.extend(effects.publish);
        self.deposed |= effects.deposed;
        self.wake = effects.wake.map(|(at, _)| at);
        if let Some(at) = self.wake {
            assert!(at > self.now, "a wake in the past is a busy loop: {:?}", effects.wake);
        }
    }

    fn store(&mut self, write: StoreWrite) {
        let number = write.number;
        let fits = self.stored.stamp() == write.expects;
        let outcome = match self.mood {
            StoreMood::Hangs => {
                self.hanging.push(write);
                return;
            }
            StoreMood::ForgetsSilently => StoreOutcome::Unknown,
            StoreMood::Works | StoreMood::StoresSilently if !fits => StoreOutcome::Refused,
            StoreMood::Works => StoreOutcome::Done,
            StoreMood::StoresSilently => StoreOutcome::Unknown,
        };
        if fits && self.mood != StoreMood::ForgetsSilently {
            // Through its JSON, as every store does.
            let json = serde_json::to_string(&*write.record).unwrap();
            self.stored = Arc::new(serde_json::from_str(&json).unwrap());
            assert_eq!(self.stored, write.record);
        }
        self.queue.push_back(Event::Stored { write: number, outcome });
    }

    fn deliver(&mut self, out: Outgoing) {
        let Some(gate) = self.gates.get_mut(&out.url) else {
            return self.unreachable(&out);
        };
        if !gate.alive {
            return self.unreachable(&out);
        }
        if gate.hangs {
            return;
        }
        match gate.follow(&out.directive) {
            Ok(()) => self.held.push((out.clone(), self.now.plus_ms(out.wait_ms))),
            Err(refusal) => {
                let answer = PollAnswer::Refused(refusal);
                let (shard, poll) = (out.shard, out.poll);
                self.queue.push_back(Event::Reported { shard, poll, answer });
            }
        }
    }

    fn unreachable(&mut self, out: &Outgoing) {
        let answer = PollAnswer::Unreachable { reason: "connection refused".to_owned() };
        let (shard, poll) = (out.shard, out.poll);
        self.queue.push_back(Event::Reported { shard, poll, answer });
    }

    /// Answers polls with news, and those whose wait is over.
    fn answer_held(&mut self, all_due: bool) {
        self.play();
        let mut kept = Vec::new();
        for (out, due) in std::mem::take(&mut self.held) {
            let (shard, poll) = (out.shard, out.poll);
            let Some(gate) = self.gates.get_mut(&out.url).filter(|gate| gate.alive) else {
                self.unreachable(&out);
                continue;
            };
            if gate.hangs {
                continue;
            }
            let news = gate.has_news(out.seen_incarnation, out.seen_seq);
            if news || (all_due && due <= self.now) {
                let answer = PollAnswer::Report(Box::new(gate.report()));
                self.queue.push_back(Event::Reported { shard, poll, answer });
            } else {
                kept.push((out, due));
            }
        }
        self.held.extend(kept);
    }

    /// Lets the gates work: donors copy to their recipients, and everybody sweeps who may.
    fn play(&mut self) {
        let seals: Vec<_> =
            self.gates.values_mut().filter(|g| g.alive).flat_map(ModelGate::work).collect();
        for (recipient, seal) in seals {
            let mut gates = self.gates.values_mut();
            if let Some(gate) = gates.find(|gate| gate.alive && gate.shard() == Some(recipient)) {
                gate.receive(seal);
            }
        }
    }
}

pub fn options() -> AskedOptions {
    AskedOptions::default()
}

pub fn shard(n: u64) -> ShardId {
    ShardId(n)
}
