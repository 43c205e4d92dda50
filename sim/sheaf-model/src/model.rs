//! The cluster as stateright sees it: what can happen in a state, and what must hold in every one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sheaf_coordinator::Ask;
use stateright::{Model, Property};

use crate::coordinator::{StoreCall, StoreFate};
use crate::engine::{Fate, OpName};
use crate::instant;
use crate::marks::{Mark, Marks};
use crate::scope::{QUIET_MAX, Scope};
use crate::state::{Broken, State};
use crate::wire::{Call, Proc, Way, What};
use crate::world::{Cluster, World};

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    Deliver {
        call: Call,
        way: Way,
    },
    /// A message arrives, and a copy of it stays on its way.
    Repeat {
        call: Call,
    },
    /// A message arrives before an earlier one on the same way.
    Overtake {
        call: Call,
        way: Way,
    },
    Lose {
        call: Call,
        way: Way,
    },
    GiveUp {
        call: Call,
    },
    Store(StoreFate),
    LateWriteArrives,
    Persisted {
        gate: u8,
    },
    EngineActs {
        gate: u8,
        name: OpName,
        fate: Fate,
    },
    EngineAnswers {
        gate: u8,
        name: OpName,
    },
    Fetched {
        gate: u8,
    },
    FetchFails {
        gate: u8,
    },
    RouterLearns,
    Start {
        client: u8,
    },
    /// `stored`, `applied`: what was on its way to the disk, and to the engine or the store, arrives.
    Crash {
        proc: Proc,
        stored: bool,
        applied: bool,
    },
    Cancel,
    /// A timer fires while messages are on their way.
    Early {
        proc: Proc,
    },
    /// All is quiet: time passes until the first timer fires.
    TimePasses,
}

/// One search: a scope, and the state in which it begins.
pub struct Search {
    pub scope: Scope,
    pub cluster: Cluster,
    pub first: State,
    pub marks: Marks,
}

impl Search {
    /// Does one thing.
    pub fn perform(&self, state: &State, action: Action) -> State {
        let step = || {
            let mut world = World::new(&self.scope, &self.cluster, &self.marks, state.clone());
            world.perform(action);
            while let Some(instant) = instant::next(&world.state, &self.scope.instant) {
                world.perform(instant);
            }
            world.end(state)
        };
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(next) => next,
            Err(_) => {
                let text = sheaf_sim::report::take_panic();
                let broken = Broken { label: label_in(&text), text };
                State { broken: Some(Arc::new(broken)), ..state.clone() }
            }
        }
    }
}

/// The number of the invariant that a core's assertion names.
fn label_in(panic: &str) -> String {
    let words = panic.split(|c: char| c.is_whitespace() || c == ':');
    let is_number = |word: &str| {
        let digits = word.strip_prefix(['I', 'P']).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    words.filter(|word| is_number(word)).map(str::to_owned).next().unwrap_or("a panic".to_owned())
}

impl World<'_> {
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Deliver { call, way } => self.deliver(call, way, false),
            Action::Repeat { call } => {
                self.state.budget.repeats -= 1;
                self.deliver(call, Way::There, true);
            }
            Action::Overtake { call, way } => {
                self.state.budget.repeats -= 1;
                self.deliver(call, way, false);
            }
            Action::Lose { call, way } => {
                self.state.budget.losses -= 1;
                if way == Way::Back {
                    self.marks.hit(Mark::LostAnswer);
                }
                self.lose(call, way);
            }
            Action::GiveUp { call } => {
                self.state.budget.repeats -= 1;
                self.give_up(call);
            }
            Action::Store(fate) => self.store_step(fate),
            Action::LateWriteArrives => self.late_write_arrives(),
            Action::Persisted { gate } => self.persisted(gate),
            Action::EngineActs { gate, name, fate } => self.engine_acts(gate, name, fate),
            Action::EngineAnswers { gate, name } => self.engine_answers(gate, name),
            Action::Fetched { gate } => self.fetched(gate),
            Action::FetchFails { gate } => {
                self.state.budget.losses -= 1;
                self.fetch_fails(gate);
            }
            Action::RouterLearns => self.adopt_map(),
            Action::Start { client } => self.start(client),
            Action::Crash { proc, stored, applied } => {
                self.state.budget.crashes -= 1;
                self.mark_crash_phase();
                match proc {
                    Proc::Coordinator => self.crash_coordinator(stored),
                    Proc::Gate(gate) => self.crash_gate(gate, stored, applied),
                    Proc::Router => self.crash_router(),
                }
            }
            Action::Cancel => {
                self.state.budget.cancels -= 1;
                if let Some(running) = &self.state.coordinator.get().core.record().transition {
                    let transition = running.id;
                    self.ask(Ask::Cancel { transition });
                }
            }
            Action::Early { proc } => {
                self.state.budget.early -= 1;
                if let Some(at) = self.state.wake(proc) {
                    self.state.ahead_ms[proc.at()] += at.ms_since(self.state.now(proc));
                    self.tick(proc);
                }
            }
            Action::TimePasses => self.time_passes(),
        }
    }

    fn mark_crash_phase(&self) {
        use sheaf_coordinator::Phase;
        let Some(running) = &self.state.store.get().transition else { return };
        self.marks.hit(match running.phase {
            Phase::Prepare => Mark::CrashInPrepare,
            Phase::Copy => Mark::CrashInCopy,
            Phase::Fence => Mark::CrashInFence,
            Phase::Sweep { .. } => Mark::CrashInSweep,
            Phase::Abort { .. } => Mark::CrashInAbort,
        });
    }

    pub fn time_passes(&mut self) {
        self.state.quiet += 1;
        let left = |proc| {
            let at = self.state.wake(proc)?;
            Some(at.ms_since(self.state.now(proc)))
        };
        let Some(ms) = self.state.procs().filter_map(left).min() else { return };
        self.state.clock_ms += ms;
        let due: Vec<Proc> = self
            .state
            .procs()
            .filter(|proc| self.state.wake(*proc).is_some_and(|at| at <= self.state.now(*proc)))
            .collect();
        for proc in due {
            self.tick(proc);
        }
    }

    fn tick(&mut self, proc: Proc) {
        match proc {
            Proc::Coordinator => self.coordinator_event(sheaf_coordinator::Event::Tick),
            Proc::Router => self.tick_router(),
            Proc::Gate(gate) => {
                self.gate(gate).wake = None;
                self.gate_event(gate, sheaf_gate::Event::Tick);
            }
        }
    }
}

/// What can happen by itself, when nothing goes wrong.
pub fn ordinary(state: &State, actions: &mut Vec<Action>) {
    for (call, way) in state.flights.keys() {
        if state.is_next(call, *way) {
            actions.push(Action::Deliver { call: *call, way: *way });
        }
    }
    if !state.coordinator.get().calls.is_empty() {
        actions.push(Action::Store(StoreFate::Carried));
    }
    let published = state.published_version();
    for (gate, node) in (0u8..).zip(&state.gates) {
        let node = node.get();
        if node.ledger.is_some() {
            actions.push(Action::Persisted { gate });
        }
        for (name, op) in &node.ops {
            actions.push(match op.answer {
                None => Action::EngineActs { gate, name: *name, fate: Fate::Carried },
                Some(_) => Action::EngineAnswers { gate, name: *name },
            });
        }
        if node.fetching.is_some_and(|wanted| published >= Some(wanted)) {
            actions.push(Action::Fetched { gate });
        }
    }
    if state.router_lags() {
        actions.push(Action::RouterLearns);
    }
    for (at, client) in (0u8..).zip(&state.clients.get().clients) {
        if !client.busy && usize::from(client.next) < state.router.get().scripts[usize::from(at)] {
            actions.push(Action::Start { client: at });
        }
    }
}

/// What can go wrong, or be wanted by an operator.
fn faults(state: &State, actions: &mut Vec<Action>) {
    let budget = state.budget;
    for (call, way) in state.flights.keys() {
        let awaited = state.open.contains(call);
        if budget.losses > 0 && awaited {
            actions.push(Action::Lose { call: *call, way: *way });
        }
        if budget.repeats > 0 && !state.is_next(call, *way) {
            actions.push(Action::Overtake { call: *call, way: *way });
        }
        if budget.repeats > 0 && awaited && *way == Way::There {
            if !matches!(call.what, What::Data { .. }) {
                actions.push(Action::Repeat { call: *call });
            }
            actions.push(Action::GiveUp { call: *call });
        }
    }
    if budget.unknowns > 0 {
        unknowns(state, actions);
    }
    if state.late_write.is_some() {
        actions.push(Action::LateWriteArrives);
    }
    if budget.losses > 0 {
        let fetching = (0u8..).zip(&state.gates).filter(|(_, node)| node.get().fetching.is_some());
        actions.extend(fetching.map(|(gate, _)| Action::FetchFails { gate }));
    }
    if budget.crashes > 0 {
        crashes(state, actions);
    }
    let running = state.coordinator.get().core.record().transition.as_ref();
    if budget.cancels > 0 && running.is_some() {
        actions.push(Action::Cancel);
    }
    if budget.early > 0 {
        let waiting = state.procs().filter(|proc| state.wake(*proc).is_some());
        actions.extend(waiting.map(|proc| Action::Early { proc }));
    }
}

fn unknowns(state: &State, actions: &mut Vec<Action>) {
    if matches!(state.coordinator.get().calls.front(), Some(StoreCall::Write(_))) {
        actions.push(Action::Store(StoreFate::UnknownDone));
        actions.push(Action::Store(StoreFate::UnknownLate));
    }
    for (gate, node) in (0u8..).zip(&state.gates) {
        for (name, op) in &node.get().ops {
            if op.answer.is_some() || !op.writes() {
                continue;
            }
            for fate in [Fate::UnknownDone, Fate::UnknownNever, Fate::UnknownLate] {
                if fate != Fate::UnknownLate || matches!(name, OpName::Request(_)) {
                    actions.push(Action::EngineActs { gate, name: *name, fate });
                }
            }
        }
    }
}

fn crashes(state: &State, actions: &mut Vec<Action>) {
    let crash = |proc, stored, applied| Action::Crash { proc, stored, applied };
    let writing = matches!(state.coordinator.get().calls.front(), Some(StoreCall::Write(_)));
    actions.push(crash(Proc::Coordinator, false, false));
    if writing {
        actions.push(crash(Proc::Coordinator, true, false));
    }
    actions.push(crash(Proc::Router, false, false));
    for (gate, node) in (0u8..).zip(&state.gates) {
        let node = node.get();
        let writes = node.ops.values().any(|op| op.answer.is_none() && op.writes())
            || node.engine.unsettled().next().is_some();
        for stored in [false, true].into_iter().filter(|stored| !stored || node.ledger.is_some()) {
            for applied in [false, true].into_iter().filter(|applied| !applied || writes) {
                actions.push(crash(Proc::Gate(gate), stored, applied));
            }
        }
    }
}

macro_rules! held {
    ($($label:literal,)*) => {
        /// What must hold in every state.
        pub const PROMISES: &[&str] = &[$($label,)* "anything else"];

        /// One property for each promise, and one for what has no number.
        fn promises() -> Vec<Property<Search>> {
            fn number(label: &str) -> &str {
                label.split(' ').next().unwrap_or(label)
            }
            vec![
                $(Property::<Search>::always($label, |_, state| {
                    state.broken.as_ref().is_none_or(|b| number(&b.label) != number($label))
                }),)*
                Property::<Search>::always("anything else", |_, state| {
                    state.broken.as_ref().is_none_or(|broken| {
                        PROMISES.iter().any(|label| number(label) == number(&broken.label))
                    })
                }),
            ]
        }
    };
}

held! {
    "I1 time-forward", "I2 map-monotone", "I3 one-writer", "I4 intent-before-effect", "I6 total-map",
    "I7 capture-gapless", "I8 invisible-until-commit", "I9 commit-proven", "I10 fenced-until-told",
    "I11 sweep-only-foreign", "I12 ids-never-reused", "I13 hold-has-deadline", "I14 queues-bounded",
    "I16 never-spins", "I17 answers-fit", "P1 acked-survives", "P2 linearizable", "P3 gather-exact", "P6 converges",
    "P8 nothing-destroyed",
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        ordinary(state, actions);
        if state.is_quiet() {
            if state.is_done() {
                return; // What still travels may arrive; nothing else is of interest.
            }
            if state.quiet < QUIET_MAX {
                actions.push(Action::TimePasses);
            }
        }
        faults(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.perform(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises()
    }
}
