//! A coordinator's shell: its store calls one after the other, its polls of gates, the maps it hands out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sheaf_checkers::Fact;
use sheaf_coordinator::{
    Asked, Config, Coordinator, Effects, Event, Identity, Outgoing, PollAnswer, StoreOutcome,
    StoreRead, StoreWrite, Token,
};
use sheaf_gate::Seen;
use sheaf_map::Map;
use sheaf_types::buggify::Buggify;
use sheaf_types::{MapVersion, Term, mark};

use crate::machine::Proc;
use crate::store::phase_of;
use crate::wire::{AskMessage, CallId, Message, Purpose, Reply};
use crate::world::{Happening, World};

/// Milliseconds beyond a poll's wait before it is taken for lost.
const POLL_MARGIN_MS: u64 = 1_000;
/// Milliseconds that a node has to say who it is.
const IDENTIFY_MS: u64 = 2_000;

/// A call to the store.
#[derive(Clone, Debug)]
enum StoreCall {
    Write(StoreWrite),
    Load,
}

#[derive(Clone, Debug)]
enum StoreAnswer {
    Stored { write: u64, outcome: StoreOutcome },
    Loaded(StoreRead),
}

/// One coordinator process.
#[derive(Default)]
pub struct CoordinatorNode {
    core: Option<Coordinator>,
    published: Option<Arc<Map>>,
    map_polls: BTreeMap<CallId, Option<MapVersion>>,
    tokens: BTreeMap<Token, CallId>,
    next_token: u64,
    store_calls: VecDeque<StoreCall>,
    store_answer: Option<StoreAnswer>,
    store_busy: bool,
}

impl CoordinatorNode {
    pub fn set_buggify(&mut self, buggify: Buggify) {
        if let Some(core) = &mut self.core {
            core.set_buggify(buggify);
        }
    }

    /// Whether it has this term, or is about to begin a later one.
    pub fn is_of_term(&self, term: Term) -> bool {
        self.core.as_ref().is_some_and(|core| core.record().term >= term)
    }
}

impl World {
    pub fn boot_coordinator(&mut self, n: u32) {
        let proc = Proc::Coordinator(n);
        let reigns = self.has_other_coordinator(n);
        if !reigns && !self.record_file_is_read(n) {
            return;
        }
        if let Some(machine) = self.machines.get_mut(&proc) {
            machine.up = true;
        }
        mark!(reigns, "a coordinator starts while another one runs");
        let now = self.clock(proc);
        let stale = self.knobs.store_stale;
        let buggify = self.buggify_of(proc);
        let dice = self.dice.processes.of(proc.code());
        let seed = dice.number();
        let record = match dice.chance(stale) {
            true => self.store.earlier_record(dice),
            false => Arc::clone(self.store.record()),
        };
        mark!(
            record.stamp() != self.store.record().stamp(),
            "a coordinator starts on an old record"
        );
        let node = &mut self.coordinators[n as usize];
        *node = CoordinatorNode { next_token: node.next_token, ..CoordinatorNode::default() };
        let mut core = Coordinator::new(now, record, Config::default(), seed);
        core.set_buggify(buggify);
        node.core = Some(core);
        self.coordinator_event(n, Event::Tick);
    }

    pub fn crash_coordinator(&mut self, n: u32) {
        let node = &mut self.coordinators[n as usize];
        let call = node.store_calls.front().cloned();
        let applied = node.store_answer.is_some();
        let busy = node.store_busy;
        mark!(busy && applied, "a coordinator dies before it hears that its write was stored");
        mark!(busy && !applied, "a coordinator dies while its write is on its way");
        *node = CoordinatorNode { next_token: node.next_token, ..CoordinatorNode::default() };
        let Some(StoreCall::Write(write)) = call.filter(|_| busy && !applied) else { return };
        let torn = self.knobs.record_torn;
        if !self.has_other_coordinator(n) && self.disk_of_store(n).chance(torn) {
            self.record_file_at_power_cut(n, &write);
            return;
        }
        // What was on its way to the store may still arrive.
        if self.disk_of_store(n).chance(0.5) {
            let number = self.store.delay(write);
            let at_us = self.now_us + self.disk_of_store(n).below(300_000);
            self.queue.plan(at_us, Happening::StoreLate { number });
        }
    }

    /// Only a coordinator that is alone can have its store in a file.
    fn has_other_coordinator(&self, n: u32) -> bool {
        let others = (0..self.drawn.coordinators).filter(|other| *other != n);
        others.map(Proc::Coordinator).any(|other| self.life(other).is_some())
    }

    fn record_file_at_power_cut(&mut self, n: u32, write: &StoreWrite) {
        let before = Arc::clone(self.store.record());
        if before.stamp() != write.expects {
            return;
        }
        self.stats.faults += 1;
        let number = self.disk_of_store(n).number();
        let (disk, changed) = self.record_at_power_cut(&*before, &*write.record, number);
        if changed {
            mark!("what the only coordinator wrote when the power went is durable");
            self.store_write(write);
        }
        self.store.disk = disk;
    }

    /// Whether the record's file could be read; if not, the coordinator starts again once its operator has put it back.
    fn record_file_is_read(&mut self, n: u32) -> bool {
        let flipped = self.knobs.record_flipped;
        let flips = self.disk_of_store(n).chance(flipped);
        let number = if flips { self.disk_of_store(n).number() } else { 0 };
        let (disk, record) = (self.store.disk.take(), Arc::clone(self.store.record()));
        let flip = flips.then_some(number);
        let read = self.record_is_read(Proc::Coordinator(n), disk, &*record, flip);
        mark!(!read, "the only coordinator refuses to start on a record with a flipped bit");
        read
    }

    pub fn coordinator_event(&mut self, n: u32, event: Event) {
        let now = self.clock(Proc::Coordinator(n));
        let Some(core) = &mut self.coordinators[n as usize].core else { return };
        let effects = core.handle(now, event);
        self.stats.core_events += 1;
        self.coordinator_effects(n, effects);
    }

    fn coordinator_effects(&mut self, n: u32, effects: Effects) {
        let proc = Proc::Coordinator(n);
        let Some(life) = self.life(proc) else { return };
        let Effects { store, load, send, identify, answer, publish, deposed, wake } = effects;
        let node = &mut self.coordinators[n as usize];
        node.store_calls.extend(store.map(StoreCall::Write));
        if load {
            node.store_calls.push_back(StoreCall::Load);
        }
        self.begin_store_call(n);
        for outgoing in send {
            if self.crashed_between(proc, life) {
                return;
            }
            self.send_directive(n, outgoing);
        }
        for url in identify {
            let to = self.gate_at(&url);
            let purpose = Purpose::Identify { url };
            match to {
                Some(to) => {
                    self.call(proc, to, Message::ReportWanted, purpose, IDENTIFY_MS * 1_000);
                }
                None => self.call_nobody(proc, purpose),
            }
        }
        for (token, result) in answer {
            if self.crashed_between(proc, life) {
                return;
            }
            if let Some(call) = self.coordinators[n as usize].tokens.remove(&token) {
                self.reply(proc, call, Reply::Asked(result.map(Box::new).map_err(Box::new)));
            }
        }
        if self.crashed_between(proc, life) {
            return;
        }
        if let Some(map) = publish {
            self.publish(n, map);
        }
        if deposed {
            self.log(|| format!("coordinator {n} is deposed"));
            self.stop(proc);
            self.keep_one_coordinator(n);
            return;
        }
        self.plan_wake(proc, wake.map(|(at, _)| at));
    }

    /// A deposed coordinator leaves the field to the other one, or begins anew when there is none.
    fn keep_one_coordinator(&mut self, n: u32) {
        if !(0..self.drawn.coordinators).any(|n| self.life(Proc::Coordinator(n)).is_some()) {
            let after_us = self.dice.processes.of(Proc::Coordinator(n).code()).around(100_000);
            self.start(Proc::Coordinator(n), after_us);
        }
    }

    fn publish(&mut self, n: u32, map: Arc<Map>) {
        self.fact(Fact::Published { map: Arc::clone(&map) });
        let node = &mut self.coordinators[n as usize];
        let known = node.published.as_ref().map(|known| known.version());
        assert!(
            Some(map.version()) >= known,
            "I2 map-monotone: published {} after {known:?}",
            map.version()
        );
        node.published = Some(Arc::clone(&map));
        let due: Vec<CallId> = node
            .map_polls
            .iter()
            .filter(|(_, after)| after.is_none_or(|after| map.version() > after))
            .map(|(call, _)| *call)
            .collect();
        for call in due {
            self.coordinators[n as usize].map_polls.remove(&call);
            self.reply(Proc::Coordinator(n), call, Reply::Map(Arc::clone(&map)));
        }
    }

    fn send_directive(&mut self, n: u32, outgoing: Outgoing) {
        let Outgoing { shard, poll, url, directive, wait_ms, seen_incarnation, seen_seq } =
            outgoing;
        self.fact(Fact::DirectiveSent { directive: Box::new((*directive).clone()) });
        let purpose = Purpose::Directive { shard, poll };
        let Some(to) = self.gate_at(&url) else {
            self.call_nobody(Proc::Coordinator(n), purpose);
            return;
        };
        let seen = Seen { incarnation: seen_incarnation, seq: seen_seq };
        let message = Message::Directive { directive, wait_ms, seen };
        let timeout_us = (wait_ms + POLL_MARGIN_MS) * 1_000;
        self.call(Proc::Coordinator(n), to, message, purpose, timeout_us);
    }

    /// The gate that listens at this URL.
    pub fn gate_at(&self, url: &str) -> Option<Proc> {
        let at = self.gates.iter().position(|gate| gate.url == url)?;
        Some(Proc::Gate(at as u32))
    }

    pub fn coordinator_request(&mut self, n: u32, call: CallId, message: Message) {
        match message {
            Message::MapWanted { after, wait_ms } => self.map_wanted(n, call, after, wait_ms),
            Message::Ask(ask) => self.ask_arrived(n, call, &ask),
            Message::Directive { .. }
            | Message::ReportWanted
            | Message::Frame(_)
            | Message::Data(_)
            | Message::Client(_) => {}
        }
    }

    fn map_wanted(&mut self, n: u32, call: CallId, after: Option<MapVersion>, wait_ms: u64) {
        let proc = Proc::Coordinator(n);
        let node = &mut self.coordinators[n as usize];
        match &node.published {
            Some(map) if after.is_none_or(|after| map.version() > after) || wait_ms == 0 => {
                let reply = Reply::Map(Arc::clone(map));
                self.reply(proc, call, reply);
            }
            Some(_) => {
                node.map_polls.insert(call, after);
                let life = self.life(proc).unwrap_or_default();
                let over = Happening::MapPollOver { coordinator: n, life, call };
                self.queue.plan(self.now_us + wait_ms * 1_000, over);
            }
            None => self.reply(proc, call, Reply::NotReady),
        }
    }

    pub fn map_poll_over(&mut self, n: u32, life: u32, call: CallId) {
        let proc = Proc::Coordinator(n);
        if self.life(proc) != Some(life) {
            return;
        }
        let node = &mut self.coordinators[n as usize];
        if node.map_polls.remove(&call).is_some()
            && let Some(map) = node.published.clone()
        {
            self.reply(proc, call, Reply::Map(map));
        }
    }

    fn ask_arrived(&mut self, n: u32, call: CallId, ask: &AskMessage) {
        let node = &mut self.coordinators[n as usize];
        node.next_token += 1;
        let token = Token(node.next_token);
        node.tokens.insert(token, call);
        let deadline = self.clock(Proc::Coordinator(n)).plus_ms(ask.timeout_ms);
        let asked = Asked {
            token,
            ask: ask.ask.clone(),
            key: ask.key.clone(),
            expects: ask.expects,
            deadline,
        };
        self.coordinator_event(n, Event::Asked(Box::new(asked)));
    }

    pub fn coordinator_answered(&mut self, n: u32, purpose: Purpose, reply: Reply) {
        let unreachable = || "no answer".to_owned();
        match purpose {
            Purpose::Directive { shard, poll } => {
                let answer = match reply {
                    Reply::Directed(Ok(report)) => PollAnswer::Report(report),
                    Reply::Directed(Err(refusal)) => PollAnswer::Refused(refusal),
                    _ => PollAnswer::Unreachable { reason: unreachable() },
                };
                self.coordinator_event(n, Event::Reported { shard, poll, answer });
            }
            Purpose::Identify { url } => {
                let identity = match reply {
                    Reply::Report(report) => Identity::Gate(report),
                    _ => Identity::Unreachable { reason: unreachable() },
                };
                self.coordinator_event(n, Event::Identified { url, identity });
            }
            Purpose::Repair { number } => self.repair_answered(number, reply),
            Purpose::Frame { .. }
            | Purpose::GateMap
            | Purpose::RouterMap { .. }
            | Purpose::Data { .. }
            | Purpose::Client { .. }
            | Purpose::Ask { .. } => {}
        }
    }

    fn disk_of_store(&mut self, n: u32) -> &mut crate::dice::Dice {
        self.dice.disks.of(Proc::Coordinator(n).code())
    }

    fn store_takes(&mut self, n: u32) -> u64 {
        let mean = self.knobs.store_mean_us / 2;
        50 + self.disk_of_store(n).around(mean)
    }

    fn begin_store_call(&mut self, n: u32) {
        let proc = Proc::Coordinator(n);
        let Some(life) = self.life(proc) else { return };
        let node = &mut self.coordinators[n as usize];
        if node.store_busy || node.store_calls.is_empty() {
            return;
        }
        node.store_busy = true;
        let at_us = self.now_us + self.store_takes(n);
        self.queue.plan(at_us, Happening::Store { coordinator: n, life, applied: false });
    }

    /// A store call takes effect (`applied` is false), or its answer arrives.
    pub fn store_step(&mut self, n: u32, life: u32, applied: bool) {
        if self.life(Proc::Coordinator(n)) != Some(life) {
            return;
        }
        if applied {
            let node = &mut self.coordinators[n as usize];
            node.store_busy = false;
            node.store_calls.pop_front();
            let answer = node.store_answer.take();
            self.begin_store_call(n);
            match answer {
                Some(StoreAnswer::Stored { write, outcome }) => {
                    self.coordinator_event(n, Event::Stored { write, outcome });
                }
                Some(StoreAnswer::Loaded(read)) => {
                    self.coordinator_event(n, Event::Loaded { read })
                }
                None => {}
            }
            return;
        }
        let rate = self.knobs.store_unknown;
        let unclear = self.disk_of_store(n).chance(rate);
        let answer = match self.coordinators[n as usize].store_calls.front().cloned() {
            Some(StoreCall::Write(write)) => {
                let number = write.number;
                let outcome = if unclear {
                    self.stats.faults += 1;
                    self.store_unclearly(n, write);
                    StoreOutcome::Unknown
                } else if self.store_write(&write) {
                    StoreOutcome::Done
                } else {
                    StoreOutcome::Refused
                };
                StoreAnswer::Stored { write: number, outcome }
            }
            Some(StoreCall::Load) if unclear => StoreAnswer::Loaded(StoreRead::Failed),
            Some(StoreCall::Load) => {
                StoreAnswer::Loaded(StoreRead::Found(Arc::clone(self.store.record())))
            }
            None => return,
        };
        self.coordinators[n as usize].store_answer = Some(answer);
        let at_us = self.now_us + self.store_takes(n);
        self.queue.plan(at_us, Happening::Store { coordinator: n, life, applied: true });
    }

    fn store_unclearly(&mut self, n: u32, write: StoreWrite) {
        match self.disk_of_store(n).below(3) {
            0 => {}
            1 => {
                self.store_write(&write);
            }
            _ => {
                let number = self.store.delay(write);
                let at_us = self.now_us + self.disk_of_store(n).below(500_000);
                self.queue.plan(at_us, Happening::StoreLate { number });
            }
        }
    }

    pub fn store_late(&mut self, number: u64) {
        if let Some(write) = self.store.take_late(number) {
            let stored = self.store_write(&write);
            mark!(stored, "a write is stored after its coordinator stopped waiting for it");
            mark!(!stored, "a late write finds that the store has moved on");
        }
    }

    /// Tries a write; tells the checkers what it made of the store.
    fn store_write(&mut self, write: &StoreWrite) -> bool {
        let before = Arc::clone(self.store.record());
        if before.stamp() == write.expects && write.record.map.committed() != before.map.committed()
        {
            self.tell_holdings();
        }
        if !self.store.compare_and_set(write) {
            return false;
        }
        let after = Arc::clone(self.store.record());
        self.trace.fold(&[after.term.0, after.revision.0, after.map.version().0]);
        self.log(|| {
            let phase = after
                .transition
                .as_ref()
                .map(|running| (running.id, &running.phase, running.attempt));
            format!("store: {} {} {} {phase:?}", after.term, after.revision, after.map.version())
        });
        self.fact(Fact::Stored { decided: Box::new(self.store.decided()) });
        let phase = |record: &sheaf_coordinator::CoordinatorRecord| {
            record.transition.as_ref().map(|running| (running.id, phase_of(&running.phase)))
        };
        if phase(&before) != phase(&after) {
            self.phase_changed(phase(&after));
        }
        if before.transition.as_ref().map(|t| t.id) != after.transition.as_ref().map(|t| t.id) {
            self.stats.transitions_started += u64::from(after.transition.is_some());
        }
        self.count_ended(&before, &after);
        true
    }

    fn count_ended(
        &mut self,
        before: &sheaf_coordinator::CoordinatorRecord,
        after: &sheaf_coordinator::CoordinatorRecord,
    ) {
        let known: Vec<_> = before.ended.iter().map(|report| report.id).collect();
        for report in after.ended.iter().filter(|report| !known.contains(&report.id)) {
            match report.outcome {
                sheaf_coordinator::Outcome::Committed => self.stats.committed += 1,
                sheaf_coordinator::Outcome::Aborted => self.stats.aborted += 1,
                sheaf_coordinator::Outcome::Cancelled | sheaf_coordinator::Outcome::Refused => {}
            }
            self.stats.fences += report.attempts;
        }
    }
}
