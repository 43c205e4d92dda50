//! The coordinator: its state, `handle`, `settle`. A table of contents; each decision has its own file.

use std::sync::Arc;

use sheaf_map::{Map, Moves};
use sheaf_types::buggify::Buggify;
use sheaf_types::{Time, TransitionId, mark};

use crate::adoption;
use crate::asks::{self, Asks, Caller, Decided};
use crate::autoscale::{self, Verdict};
use crate::config::Config;
use crate::contacts::{Contacts, Heard};
use crate::directives;
use crate::effect::{Effects, Reply, WakeReason};
use crate::event::{Ask, Asked, AskedOptions, Event, NewShard, StoreOutcome, Token};
use crate::jitter::Jitter;
use crate::ledger::{Ledger, Turn};
use crate::membership;
use crate::moves::{self, Facts, PhaseClock};
use crate::record::{CoordinatorRecord, HistoryKind, Phase};
use crate::refusal::AskRefusal;

/// Milliseconds that autoscale waits for a standby to say who it is.
const STANDBY_ANSWER_MS_MAX: u64 = 10_000;

/// The coordinator's core.
#[derive(Clone, Debug, Hash)]
pub struct Coordinator {
    pub(crate) now: Time,
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    pub(crate) contacts: Contacts,
    pub(crate) clock: PhaseClock,
    pub(crate) asks: Asks,
    /// The moves of the running transition while it is undecided.
    pub(crate) moves: Option<(TransitionId, Moves)>,
    /// When autoscale looks at the shards next.
    autoscale_at: Time,
    /// The record of this coordinator's term, to be written first.
    accession: Option<CoordinatorRecord>,
    /// Rare turns, in a simulation.
    buggify: Buggify,
}

impl Coordinator {
    /// A coordinator on `record`, which is what the store holds. It says nothing before its own term is durable.
    ///
    /// `seed` must be drawn anew at each start: it tells apart two coordinators that start at the same time.
    pub fn new(now: Time, record: Arc<CoordinatorRecord>, config: Config, seed: u64) -> Self {
        let mut jitter = Jitter::new(seed);
        let mut accession = record.draft();
        accession.term = record.term.next();
        accession.author = jitter.draw();
        autoscale::take_in(&config.autoscale, &mut accession.autoscale);
        mark_accession(&record);
        let text = format!("a coordinator begins term {}", accession.term);
        accession.note(now, HistoryKind::Leadership, text, None);
        Self {
            now,
            autoscale_at: now.plus_ms(config.autoscale.interval_secs.saturating_mul(1_000)),
            config,
            ledger: Ledger::new(record),
            contacts: Contacts::new(jitter),
            clock: PhaseClock::default(),
            asks: Asks::default(),
            moves: None,
            accession: Some(accession),
            buggify: Buggify::default(),
        }
    }

    /// From now on takes rare turns, or no longer does.
    pub fn set_buggify(&mut self, buggify: Buggify) {
        self.buggify = buggify;
    }

    /// Takes in what happened; returns what is to be done.
    pub fn handle(&mut self, now: Time, event: Event) -> Effects {
        assert!(now >= self.now, "I1 time-forward: time ran backwards: {now} after {}", self.now);
        self.now = now;
        let mut effects = Effects::default();
        match event {
            Event::Tick => {} // `settle` looks at every deadline.
            Event::Stored { write, outcome } => {
                let before = Arc::clone(self.ledger.durable());
                let outcome = match self.buggify.takes("a write's outcome is forgotten", now) {
                    true => StoreOutcome::Unknown,
                    false => outcome,
                };
                let turn = self.ledger.on_stored(write, outcome, &mut effects);
                self.turn(&before, turn, &mut effects);
            }
            Event::Loaded { read } => {
                let before = Arc::clone(self.ledger.durable());
                let turn = self.ledger.on_loaded(now, read, &mut effects);
                self.turn(&before, turn, &mut effects);
            }
            Event::Reported { shard, poll, answer } => {
                match self.contacts.on_reported(now, shard, poll, answer) {
                    Heard::Nothing => {}
                    Heard::HigherTerm => self.ledger.doubt_reign(now, &mut effects),
                }
                self.clock.observe(now, self.ledger.durable(), shard, &self.contacts);
            }
            Event::Identified { url, identity } => self.asks.on_identified(&url, &identity),
            Event::Asked(asked) => self.on_asked(*asked, &mut effects),
        }
        self.settle(&mut effects);
        self.assert_invariants();
        debug_assert!(
            effects.wake.is_none_or(|(at, _)| at > now),
            "I16 never-spins: {:?} is wanted at {now}",
            effects.wake
        );
        effects
    }

    fn on_asked(&mut self, asked: Asked, effects: &mut Effects) {
        let token = asked.token;
        mark!(self.ledger.is_in_doubt(), "something is asked while a write is in doubt");
        let taken = if self.ledger.is_deposed() {
            Err(AskRefusal::Deposed)
        } else {
            self.asks.take(Caller::Client(token), asked, self.ledger.durable(), effects)
        };
        if let Err(refusal) = taken {
            effects.answer.push((token, Err(refusal)));
        }
    }

    /// Takes up what has become durable, or gives up what isn't this coordinator's any more.
    fn turn(&mut self, before: &CoordinatorRecord, turn: Turn, effects: &mut Effects) {
        match turn {
            Turn::Same => {}
            Turn::Durable => {
                self.assert_succession(before);
                let record = Arc::clone(self.ledger.durable());
                if record.map != before.map || record.term != before.term {
                    effects.publish = Some(Arc::clone(&record.map));
                }
                self.adopt_moves(&record);
                self.clock.adopt(self.now, record.transition.as_ref());
                self.contacts.adopt(self.now, directives::intents(&record));
            }
            Turn::Deposed => {
                let waiting: Vec<Caller> = self.asks.drain().collect();
                for caller in waiting {
                    refuse(caller, AskRefusal::Deposed, effects);
                }
                self.contacts.clear();
                self.moves = None;
            }
        }
    }

    /// Calculates the moves of the running transition once: its placements stay as they are.
    fn adopt_moves(&mut self, record: &CoordinatorRecord) {
        let running = record.transition.as_ref().filter(|running| running.is_undecided());
        let known = self.moves.as_ref().map(|(id, _)| *id);
        if running.map(|running| running.id) != known {
            self.moves = running.map(|running| {
                (running.id, Moves::between(record.map.placement(), running.next.placement()))
            });
        }
    }

    /// Drives everything as far as the facts allow.
    fn settle(&mut self, effects: &mut Effects) {
        if self.ledger.is_deposed() {
            return;
        }
        self.ledger.tick(self.now, effects);
        for caller in self.asks.expire(self.now) {
            mark!("an ask is not decided in time");
            refuse(caller, AskRefusal::TimedOut, effects);
        }
        if let Some(accession) = self.accession.take() {
            self.ledger.propose(accession, Vec::new(), effects);
        }
        if self.ledger.reigns() {
            self.contacts.flush(self.now, &mut effects.send);
            if self.buggify.takes("gates are asked without patience", self.now) {
                effects.send.iter_mut().for_each(|outgoing| outgoing.wait_ms = 0);
            }
            self.watch_load(effects);
            while self.ledger.is_free() && self.decide(effects) {}
        }
        effects.wake = self.wake();
    }

    /// Makes the next decision; `false` when there is none.
    fn decide(&mut self, effects: &mut Effects) -> bool {
        if self.contacts.ahead_of(self.ledger.durable()).is_some() {
            return self.decide_ask(effects); // It is refused, with the reason.
        }
        let facts = self.facts();
        let step = moves::next_step(&facts);
        if let Some(record) = step {
            let commits = record.map.committed() > facts.record.map.committed();
            mark!(
                commits && self.asks.has_cancel(),
                "an operator's cancel races the commit and loses"
            );
            self.ledger.propose(record, Vec::new(), effects);
            return true;
        }
        if self.decide_ask(effects) {
            return true;
        }
        let facts = self.facts();
        let record = adoption::prove(facts.record, facts.contacts, self.now)
            .or_else(|| membership::let_go(facts.record, facts.contacts, self.now))
            .or_else(|| moves::begin_next(&facts));
        match record {
            Some(record) => {
                self.ledger.propose(record, Vec::new(), effects);
                true
            }
            None => false,
        }
    }

    fn decide_ask(&mut self, effects: &mut Effects) -> bool {
        let (record, contacts, config) = (self.ledger.durable(), &self.contacts, &self.config);
        let now = self.now;
        let judge = |waiter: &asks::Waiter| asks::decide(waiter, record, contacts, config, now);
        let Some((waiter, decided)) = self.asks.decide_next(judge) else {
            return false;
        };
        match (waiter.caller, decided) {
            (Caller::Client(token), Ok(Decided::Change(record, reply))) => {
                self.ledger.propose(*record, vec![(token, Ok(reply))], effects);
            }
            (Caller::Client(token), Ok(Decided::Unchanged(reply))) => {
                effects.answer.push((token, Ok(reply)));
            }
            (Caller::Client(token), Err(refusal)) => effects.answer.push((token, Err(refusal))),
            (Caller::Autoscale { why }, Ok(Decided::Change(record, reply))) => {
                let record = self.autoscaled(*record, &why, &reply);
                self.ledger.propose(record, Vec::new(), effects);
            }
            (Caller::Autoscale { why }, Err(refusal)) => {
                self.explain(format!("{why}, but {refusal}"), true, effects);
            }
            (_, Ok(Decided::Wait)) | (Caller::Autoscale { .. }, Ok(Decided::Unchanged(_))) => {}
        }
        true
    }

    /// Lets autoscale look at the shards when it is time to.
    fn watch_load(&mut self, effects: &mut Effects) {
        let config = &self.config.autoscale;
        let due = config.enabled && self.now >= self.autoscale_at;
        if !due || !self.ledger.is_free() || self.asks.has_autoscale() {
            return;
        }
        let interval_ms = config.interval_secs.max(1).saturating_mul(1_000);
        self.autoscale_at = self.now.plus_ms(interval_ms);
        let record = self.ledger.durable();
        match autoscale::judge(config, record, &self.contacts, self.now) {
            Verdict::Nothing { why } => self.explain(why, false, effects),
            Verdict::Grow { url, why } => {
                let shards = vec![NewShard::at(&url)];
                let options = AskedOptions::default();
                self.ask_for_autoscale(Ask::Grow { shards, options }, why, effects);
            }
            Verdict::Drain { shard, why } => {
                let options = AskedOptions::default();
                self.ask_for_autoscale(Ask::Drain { shard, options }, why, effects);
            }
        }
    }

    fn ask_for_autoscale(&mut self, ask: Ask, why: String, effects: &mut Effects) {
        let deadline = self.now.plus_ms(STANDBY_ANSWER_MS_MAX);
        let asked = Asked { token: Token(0), ask, key: None, expects: None, deadline };
        let caller = Caller::Autoscale { why: why.clone() };
        if let Err(refusal) = self.asks.take(caller, asked, self.ledger.durable(), effects) {
            self.explain(format!("{why}, but {refusal}"), true, effects);
        }
    }

    /// Writes down that autoscale has acted, and why.
    fn autoscaled(
        &self,
        mut record: CoordinatorRecord,
        why: &str,
        reply: &Reply,
    ) -> CoordinatorRecord {
        record.autoscale.last_action = Some(self.now);
        record.autoscale.why_not = None;
        let transition = match reply {
            Reply::Accepted { transition, .. } => Some(*transition),
            Reply::Added { .. }
            | Reply::Adopted { .. }
            | Reply::Removed { .. }
            | Reply::Forgotten { .. }
            | Reply::Replicated { .. }
            | Reply::Steered { .. }
            | Reply::Created { .. }
            | Reply::Dropped { .. } => None,
        };
        record.note(self.now, HistoryKind::Autoscale, why.to_owned(), transition);
        record
    }

    /// Writes down why autoscale does nothing, if that is news. `next_standby`: the first one was no help.
    fn explain(&mut self, why: String, next_standby: bool, effects: &mut Effects) {
        let record = self.ledger.durable();
        let rotates = next_standby && record.autoscale.standbys.len() > 1;
        if record.autoscale.why_not.as_ref() == Some(&why) && !rotates {
            return;
        }
        if !self.ledger.is_free() {
            return; // It looks again in a while.
        }
        let mut record = record.draft();
        if rotates {
            record.autoscale.standbys.rotate_left(1);
        }
        if record.autoscale.why_not.as_ref() != Some(&why) {
            record.note(self.now, HistoryKind::Autoscale, format!("nothing is done: {why}"), None);
            record.autoscale.why_not = Some(why);
        }
        self.ledger.propose(record, Vec::new(), effects);
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.now,
            record: self.ledger.durable(),
            contacts: &self.contacts,
            clock: &self.clock,
            moves: self.moves.as_ref().map(|(_, moves)| moves),
            buggify: self.buggify,
        }
    }

    fn wake(&self) -> Option<(Time, WakeReason)> {
        // While a write is pending nothing can be decided: its end is an event.
        let decides = self.ledger.reigns() && self.ledger.is_free();
        let autoscale = decides && self.config.autoscale.enabled && !self.asks.has_autoscale();
        // What a gate knows better stops every decision; the polls go on, and tell when that ends.
        let moves = decides && self.contacts.ahead_of(self.ledger.durable()).is_none();
        let wakes = [
            self.contacts.wake(),
            self.asks.wake(),
            self.ledger.wake(),
            autoscale.then_some((self.autoscale_at, WakeReason::Autoscale)),
            if moves { moves::wake(&self.facts()) } else { None },
        ];
        wakes.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The current map, as far as it is durable.
    pub fn map(&self) -> &Arc<Map> {
        &self.ledger.durable().map
    }

    /// The durable record.
    pub fn record(&self) -> &Arc<CoordinatorRecord> {
        self.ledger.durable()
    }

    /// Whether this coordinator decides: its term is durable, and nobody took over.
    pub fn reigns(&self) -> bool {
        self.ledger.reigns()
    }

    /// Whether another coordinator has taken over: this one does nothing more.
    pub fn is_deposed(&self) -> bool {
        self.ledger.is_deposed()
    }

    /// The phase of the running transition.
    pub fn phase(&self) -> Option<&Phase> {
        self.ledger.durable().transition.as_ref().map(|running| &running.phase)
    }
}

fn mark_accession(record: &CoordinatorRecord) {
    let Some(running) = &record.transition else { return };
    match running.phase {
        Phase::Prepare => mark!("a coordinator begins its term in Prepare"),
        Phase::Copy => mark!("a coordinator begins its term in Copy"),
        Phase::Fence => mark!("a coordinator begins its term in Fence"),
        Phase::Sweep { permitted: false } => {
            mark!("a coordinator begins its term after a commit that nobody has confirmed");
        }
        Phase::Sweep { permitted: true } => mark!("a coordinator begins its term in Sweep"),
        Phase::Abort { .. } => mark!("a coordinator begins its term in Abort"),
    }
}

fn refuse(caller: Caller, refusal: AskRefusal, effects: &mut Effects) {
    match caller {
        Caller::Client(token) => effects.answer.push((token, Err(refusal))),
        Caller::Autoscale { .. } => {} // It looks again in a while.
    }
}
