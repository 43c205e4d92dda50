//! The network: delays, losses, repetitions and cuts of requests and of their answers, as HTTP shows them.

use std::collections::BTreeMap;

use sheaf_types::mark;

use crate::dice::Dice;
use crate::machine::Proc;
use crate::recording::Fate;
use crate::row::Row;
use crate::wire::{CallId, Message, Purpose, Reply};
use crate::world::{Happening, World};

/// A request whose answer is awaited.
#[derive(Clone, Debug)]
pub struct OpenCall {
    pub from: Proc,
    pub life: u32,
    pub to: Proc,
    pub purpose: Purpose,
}

/// Who waits for whom, and which ways are cut.
#[derive(Default)]
pub struct Network {
    open: Row<OpenCall>,
    next_call: u64,
    cuts: BTreeMap<u64, Vec<(Proc, Proc)>>,
    blocked: BTreeMap<(Proc, Proc), u32>,
    next_cut: u64,
}

impl Network {
    fn begin(&mut self, open: OpenCall) -> CallId {
        self.next_call += 1;
        self.open.add(self.next_call, open);
        CallId(self.next_call)
    }

    pub fn is_open(&self, call: CallId) -> bool {
        self.open.get(call.0).is_some()
    }

    pub fn caller(&self, call: CallId) -> Option<Proc> {
        self.open.get(call.0).map(|open| open.from)
    }

    /// Closes these ways until [`Network::uncut`] with the number that is returned.
    pub fn cut(&mut self, ways: Vec<(Proc, Proc)>) -> u64 {
        for way in &ways {
            *self.blocked.entry(*way).or_default() += 1;
        }
        self.next_cut += 1;
        self.cuts.insert(self.next_cut, ways);
        self.next_cut
    }

    pub fn uncut(&mut self, number: u64) {
        for way in self.cuts.remove(&number).unwrap_or_default() {
            if let Some(count) = self.blocked.get_mut(&way) {
                *count -= 1;
                if *count == 0 {
                    self.blocked.remove(&way);
                }
            }
        }
    }

    pub fn uncut_all(&mut self) {
        self.cuts.clear();
        self.blocked.clear();
    }

    pub fn is_cut(&self, from: Proc, to: Proc) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&(from, to))
    }

    /// Every cut by its number: the ways that it closes.
    pub fn cuts(&self) -> &BTreeMap<u64, Vec<(Proc, Proc)>> {
        &self.cuts
    }

    /// The requests that `to` hasn't answered.
    pub fn waiting_for(&self, to: Proc) -> Vec<CallId> {
        let open = self.open.iter().filter(|(_, open)| open.to == to);
        open.map(|(call, _)| CallId(call)).collect()
    }
}

impl World {
    /// What is left to chance on the way from one to another.
    fn way(&mut self, from: Proc, to: Proc) -> &mut Dice {
        self.dice.network.of(from.code().wrapping_mul(0x9e37_79b9) ^ to.code())
    }

    /// Sends a request; its answer, or word that there is none, comes within `timeout_us`.
    pub fn call(
        &mut self,
        from: Proc,
        to: Proc,
        message: Message,
        purpose: Purpose,
        timeout_us: u64,
    ) -> CallId {
        let life = self.machines.get(&from).map_or(0, |machine| machine.life);
        let call = self.network.begin(OpenCall { from, life, to, purpose });
        self.queue.plan(self.now_us + timeout_us.max(1), Happening::Overdue { call });
        let loss = self.knobs.loss;
        self.record(|recording, at| recording.asks(at, (call, from, to), &message, false));
        let cut = self.network.is_cut(from, to);
        if cut || (loss > 0.0 && self.way(from, to).chance(loss)) {
            let fate = if cut { Fate::Cut } else { Fate::Lost };
            self.record(|recording, at| recording.lands(at, call, false, fate));
            return call;
        }
        // Only what is safe to repeat is ever repeated by a network that speaks HTTP.
        let repeatable = matches!(
            message,
            Message::Directive { .. } | Message::Frame(_) | Message::MapWanted { .. }
        ) || matches!(&message, Message::Ask(ask) if ask.key.is_some());
        let duplicate = self.knobs.duplicate;
        if repeatable && duplicate > 0.0 && self.way(from, to).chance(duplicate) {
            let dice = self.way(from, to);
            let late = if dice.chance(0.3) { dice.below(6_000_000) } else { 0 };
            let at_us = self.now_us + self.travel(from, to) + late;
            self.stats.faults += 1;
            self.record(|recording, at| recording.asks(at, (call, from, to), &message, true));
            self.queue.plan(at_us, Happening::Arrive { call, to, message: message.clone() });
        }
        let at_us = self.now_us + self.travel(from, to);
        self.queue.plan(at_us, Happening::Arrive { call, to, message });
        call
    }

    /// A request to an address where nobody lives.
    pub fn call_nobody(&mut self, from: Proc, purpose: Purpose) {
        let life = self.machines.get(&from).map_or(0, |machine| machine.life);
        let call = self.network.begin(OpenCall { from, life, to: from, purpose });
        self.queue.plan(self.now_us + 1_000, Happening::Answered { call, reply: Reply::NotSent });
    }

    /// How long a message takes, in microseconds.
    fn delay(&mut self, from: Proc, to: Proc) -> u64 {
        let (least, mean) = (self.knobs.delay_min_us, self.knobs.delay_mean_us);
        let straggler = self.knobs.straggler;
        let dice = self.way(from, to);
        let usual = least + dice.around(mean);
        if dice.chance(straggler) { usual + dice.between(200_000, 8_000_000) } else { usual }
    }

    fn travel(&mut self, from: Proc, to: Proc) -> u64 {
        let slowness = |proc| self.machines.get(&proc).map_or(1, |machine| machine.slowness);
        let slowness = slowness(from).max(slowness(to));
        self.delay(from, to) * slowness
    }

    /// A request has come as far as its process.
    pub fn arrive(&mut self, call: CallId, to: Proc, message: Message) {
        let from = self.network.caller(call);
        if from.is_some_and(|from| self.network.is_cut(from, to)) {
            self.record(|recording, at| recording.lands(at, call, false, Fate::Cut));
            return;
        }
        let fate = if self.life(to).is_none() { Fate::Down } else { Fate::Arrived };
        self.record(|recording, at| recording.lands(at, call, false, fate));
        if self.life(to).is_none() {
            if let Some(from) = from
                && self.way(to, from).chance(0.6)
            {
                self.reply(to, call, Reply::NotSent);
            }
            return;
        }
        mark!(from.is_none(), "a request comes whose answer is there already");
        match to {
            Proc::Gate(gate) => self.gate_request(gate, call, message),
            Proc::Coordinator(n) => self.coordinator_request(n, call, message),
            Proc::Router(n) => self.router_request(n, call, message),
            Proc::Client(_) | Proc::Operator => {}
        }
    }

    /// Answers a request that `who` got.
    pub fn reply(&mut self, who: Proc, call: CallId, reply: Reply) {
        let Some(to) = self.network.caller(call) else { return };
        let loss = self.knobs.loss;
        self.record(|recording, at| recording.answers(at, (call, who, to), &reply));
        let cut = self.network.is_cut(who, to);
        if cut || (loss > 0.0 && self.way(who, to).chance(loss)) {
            let fate = if cut { Fate::Cut } else { Fate::Lost };
            self.record(|recording, at| recording.lands(at, call, true, fate));
            return;
        }
        let at_us = self.now_us + self.travel(who, to);
        self.queue.plan(at_us, Happening::Answered { call, reply });
    }

    /// An answer has come as far as who asked.
    pub fn answered(&mut self, call: CallId, reply: Reply) {
        if let Some(open) = self.network.open.get(call.0)
            && self.network.is_cut(open.to, open.from)
        {
            self.record(|recording, at| recording.lands(at, call, true, Fate::Cut));
            return;
        }
        self.record(|recording, at| recording.lands(at, call, true, Fate::Arrived));
        self.deliver(call, reply);
    }

    fn deliver(&mut self, call: CallId, reply: Reply) {
        let Some(open) = self.network.open.remove(call.0) else {
            mark!("an answer comes that nobody waits for any more");
            return;
        };
        let alive = self.life(open.from) == Some(open.life);
        if !alive && !matches!(open.from, Proc::Client(_) | Proc::Operator) {
            mark!("an answer comes to a process that has died since it asked");
            return;
        }
        match open.from {
            Proc::Gate(gate) => self.gate_answered(gate, open.purpose, reply),
            Proc::Coordinator(n) => self.coordinator_answered(n, open.purpose, reply),
            Proc::Router(n) => self.router_answered(n, open.purpose, reply),
            Proc::Client(n) => self.client_answered(n, call, reply),
            Proc::Operator => self.operator_answered(open.purpose, reply),
        }
    }

    /// The caller waits no longer.
    pub fn overdue(&mut self, call: CallId) {
        let Some(open) = self.network.open.get(call.0).cloned() else { return };
        if let Proc::Gate(gate) = open.to
            && let Purpose::Data { .. } | Purpose::Repair { .. } = open.purpose
            && let Some(life) = self.life(open.to)
            && self.way(open.from, open.to).chance(0.5)
        {
            let at_us = self.now_us + self.delay(open.from, open.to);
            self.queue.plan(at_us, Happening::HungUp { gate, life, call });
        }
        self.deliver(call, Reply::Lost);
    }

    /// A process is gone: some who wait for it notice at once.
    pub fn reset_connections(&mut self, to: Proc) {
        for call in self.network.waiting_for(to) {
            if let Some(from) = self.network.caller(call)
                && self.way(to, from).chance(0.5)
            {
                self.reply(to, call, Reply::Lost);
            }
        }
    }
}
