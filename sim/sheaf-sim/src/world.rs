//! The whole simulated cluster: what happens next, to whom. The parts of it are in the other files.
//!
//! Nothing here is asynchronous: one event at a time, in one order, drawn from one seed.

use std::sync::Arc;

use sheaf_checkers::{Fact, Panel, PointAt, Violation};

use crate::clients::Clients;
use crate::coordinator_node::CoordinatorNode;
use crate::dice::{Purpose as Stream, Streams};
use crate::faults::{EPOCH_MS, SKEW_MS_MAX};
use crate::gate_node::GateNode;
use crate::knobs::Knobs;
use crate::machine::{Clock, Machine, Machines, Proc};
use crate::network::Network;
use crate::operator::Operator;
use crate::plan::{PhaseName, Plan, Step};
use crate::queue::Queue;
use crate::recording::Recorder;
use crate::repairs::Repairs;
use crate::router_node::RouterNode;
use crate::stats::Stats;
use crate::store::Store;
use crate::trace::{Trace, clock_text};
use crate::twin::History;
use crate::wire::{CallId, Message, Reply};

/// Events after which a run is taken for one that never ends.
const EVENTS_MAX: u64 = 3_000_000;

/// Something that is planned to happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A request reaches a process.
    Arrive {
        call: CallId,
        to: Proc,
        message: Message,
    },
    /// The answer to a request reaches who sent it.
    Answered {
        call: CallId,
        reply: Reply,
    },
    /// The caller's patience with a request ends.
    Overdue {
        call: CallId,
    },
    /// A gate notices that who asked is gone.
    HungUp {
        gate: u32,
        life: u32,
        call: CallId,
    },
    /// A core wants to be called.
    Wake {
        proc: Proc,
        life: u32,
    },
    /// A process starts.
    Boot {
        proc: Proc,
        life: u32,
    },
    /// A step of an engine call.
    Engine {
        gate: u32,
        life: u32,
        op: u64,
        applied: bool,
    },
    /// A write of unknown outcome is applied after all.
    EngineLate {
        gate: u32,
        point: PointAt,
    },
    /// A gate's record is on its disk.
    Fsync {
        gate: u32,
        life: u32,
    },
    /// A coordinator's store call takes effect, or its answer arrives.
    Store {
        coordinator: u32,
        life: u32,
        applied: bool,
    },
    /// A store write of unknown outcome takes effect after all.
    StoreLate {
        number: u64,
    },
    /// A long poll for a map is over.
    MapPollOver {
        coordinator: u32,
        life: u32,
        call: CallId,
    },
    /// An operation at a router wants to be called.
    OperationWake {
        router: u32,
        life: u32,
        operation: u64,
        at_us: u64,
    },
    /// A router asks for maps again.
    KeepMap {
        router: u32,
        life: u32,
    },
    /// A client does its next call.
    Think {
        client: u32,
    },
    /// The operator does something.
    Operate,
    /// An operator's call is tried again.
    AskAgain {
        number: u64,
    },
    /// A step of the plan is due.
    Step {
        number: usize,
    },
    /// A fault ends.
    Uncut {
        number: u64,
    },
    SpeedUp {
        proc: Proc,
    },
    /// The safety phase ends.
    Heal,
    /// Whether all is quiet is looked at.
    LookAround,
    /// Writes at a gate that waited for others to end may begin.
    Turn {
        gate: u32,
        life: u32,
    },
    /// Strays are looked for, and some brought to their owners.
    Repair,
    /// A step of a repair that was begun before.
    Errand {
        number: u64,
    },
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The cluster is built, without faults.
    Setup,
    /// Faults are on.
    Safety,
    /// No more faults: everything has to come to an end.
    Liveness,
    /// Every point is read for the last time.
    Audit,
    Over,
}

/// The streams of chance, by link, disk, process and ask.
pub struct Dices {
    pub network: Streams,
    pub disks: Streams,
    pub crashes: Streams,
    pub operator: Streams,
    pub processes: Streams,
}

/// The simulated cluster.
pub struct World {
    pub seed: u64,
    pub now_us: u64,
    pub event: u64,
    pub stage: Stage,
    /// What holds now; `drawn` is what holds in the safety phase.
    pub knobs: Knobs,
    pub drawn: Knobs,
    pub queue: Queue,
    pub dice: Dices,
    pub machines: Machines,
    pub network: Network,
    pub store: Store,
    pub coordinators: Vec<CoordinatorNode>,
    pub gates: Vec<GateNode>,
    pub routers: Vec<RouterNode>,
    pub clients: Clients,
    pub operator: Operator,
    pub repairs: Repairs,
    pub panel: Panel,
    pub violation: Option<Violation>,
    /// The clients' calls, when they are to be compared.
    pub history: Option<History>,
    pub trace: Trace,
    pub stats: Stats,
    pub healed_us: u64,
    pub steps: Arc<[Step]>,
    /// When the plan's time begins.
    pub safety_from_us: u64,
    /// How often each phase was entered.
    pub phases_entered: [u32; PhaseName::ALL.len()],
    /// Collects the run for a picture.
    pub recorder: Option<Recorder>,
}

impl World {
    /// The cluster of a plan, before anything happened.
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let Plan { seed, knobs: drawn, steps } = plan;
        let dice = |stream| Streams::new(seed, stream);
        let mut knobs = drawn.clone();
        knobs.heal();
        let mut world = Self {
            seed,
            now_us: 0,
            event: 0,
            stage: Stage::Setup,
            queue: Queue::default(),
            dice: Dices {
                network: dice(Stream::Network),
                disks: dice(Stream::Disks),
                crashes: dice(Stream::Crashes),
                operator: dice(Stream::Operator),
                processes: dice(Stream::Processes),
            },
            machines: Machines::default(),
            network: Network::default(),
            store: Store::new(seed),
            coordinators: (0..drawn.coordinators).map(|_| CoordinatorNode::default()).collect(),
            gates: (0..drawn.gates).map(GateNode::new).collect(),
            routers: (0..drawn.routers).map(|_| RouterNode::default()).collect(),
            clients: Clients::new(&drawn, &steps),
            operator: Operator::default(),
            repairs: Repairs::default(),
            panel: Panel::default(),
            violation: None,
            history: None,
            trace,
            stats: Stats { seeds: 1, ..Stats::default() },
            healed_us: 0,
            steps: steps.into(),
            safety_from_us: 0,
            phases_entered: [0; PhaseName::ALL.len()],
            recorder: None,
            knobs,
            drawn,
        };
        world.build();
        world
    }

    fn build(&mut self) {
        let coordinators = (0..self.drawn.coordinators).map(Proc::Coordinator);
        let gates = (0..self.drawn.gates).map(Proc::Gate);
        let routers = (0..self.drawn.routers).map(Proc::Router);
        for proc in coordinators.chain(gates).chain(routers) {
            let skew = self.drawn.clock_skew;
            let dice = self.dice.processes.of(proc.code());
            let offset_ms = EPOCH_MS + if skew { dice.below(SKEW_MS_MAX) } else { 0 };
            let pace = if skew { dice.between(950_000, 1_050_000) } else { 1_000_000 };
            self.machines.add(proc, Machine::new(Clock { offset_ms, pace }));
            let standby = matches!(proc, Proc::Coordinator(n) if n > 0);
            if !standby {
                self.queue.plan(1, Happening::Boot { proc, life: 0 });
            }
        }
        let decided = self.store.decided();
        self.fact(Fact::Stored { decided: Box::new(decided) });
        self.queue.plan(50_000, Happening::Operate);
    }

    /// Runs until the end, a violation, or the event `until`.
    pub fn run(&mut self, until: Option<u64>) {
        while self.violation.is_none() && self.stage != Stage::Over {
            let Some((at_us, happening)) = self.queue.pop(|call| self.network.is_open(call)) else {
                break;
            };
            self.now_us = at_us;
            self.event += 1;
            crate::report::note_progress(self.now_us, self.event);
            if until.is_some_and(|until| self.event > until) {
                break;
            }
            if self.event > EVENTS_MAX {
                self.broken("P6 converges", "the run has more events than any that makes progress");
                break;
            }
            self.dispatch(happening);
            self.record(|recording, _| recording.watch(self));
        }
        if self.violation.is_none()
            && self.stage == Stage::Over
            && let Err(violation) = self.panel.finish()
        {
            self.violation = Some(violation);
        }
        self.stats.events = self.event;
        self.stats.simulated_us = self.now_us;
    }

    /// Who has to be awake for this to happen.
    fn subject(&self, happening: &Happening) -> Option<Proc> {
        match happening {
            Happening::Arrive { to, .. } => Some(*to),
            Happening::Answered { call, .. } | Happening::Overdue { call } => {
                self.network.caller(*call)
            }
            Happening::Wake { proc, .. } | Happening::Boot { proc, .. } => Some(*proc),
            Happening::HungUp { gate, .. }
            | Happening::Fsync { gate, .. }
            | Happening::Turn { gate, .. } => Some(Proc::Gate(*gate)),
            // An engine may be another process: it goes on while its gate is frozen.
            Happening::Engine { gate, applied, .. } => applied.then_some(Proc::Gate(*gate)),
            Happening::Store { coordinator, applied, .. } => {
                applied.then_some(Proc::Coordinator(*coordinator))
            }
            Happening::MapPollOver { coordinator, .. } => Some(Proc::Coordinator(*coordinator)),
            Happening::OperationWake { router, .. } | Happening::KeepMap { router, .. } => {
                Some(Proc::Router(*router))
            }
            _ => None,
        }
    }

    fn dispatch(&mut self, happening: Happening) {
        if let Some(proc) = self.subject(&happening)
            && let Some(machine) = self.machines.get(&proc)
            && machine.paused_until_us > self.now_us
        {
            self.queue.plan(machine.paused_until_us, happening);
            return;
        }
        self.fingerprint(&happening);
        self.trace.fold_words(&happening);
        self.log(|| crate::brief::happening(&happening));
        match happening {
            Happening::Arrive { call, to, message } => self.arrive(call, to, message),
            Happening::Answered { call, reply } => self.answered(call, reply),
            Happening::Overdue { call } => self.overdue(call),
            Happening::HungUp { gate, life, call } => self.gate_hung_up(gate, life, call),
            Happening::Wake { proc, life } => self.wake(proc, life),
            Happening::Boot { proc, life } => self.boot(proc, life),
            Happening::Engine { gate, life, op, applied } => {
                self.engine_step(gate, life, op, applied);
            }
            Happening::EngineLate { gate, point } => self.settle_late(gate, &point, true),
            Happening::Fsync { gate, life } => self.fsynced(gate, life),
            Happening::Store { coordinator, life, applied } => {
                self.store_step(coordinator, life, applied);
            }
            Happening::StoreLate { number } => self.store_late(number),
            Happening::MapPollOver { coordinator, life, call } => {
                self.map_poll_over(coordinator, life, call);
            }
            Happening::OperationWake { router, life, operation, at_us } => {
                self.operation_wake(router, life, operation, at_us);
            }
            Happening::KeepMap { router, life } => self.keep_map(router, life),
            Happening::Think { client } => self.think(client),
            Happening::Operate => self.operate(),
            Happening::AskAgain { number } => self.send_ask(number),
            Happening::Step { number } => self.perform(number),
            Happening::Uncut { number } => self.network.uncut(number),
            Happening::SpeedUp { proc } => {
                if let Some(machine) = self.machines.get_mut(&proc) {
                    machine.slowness = 1;
                }
            }
            Happening::Heal => self.heal(),
            Happening::LookAround => self.look_around(),
            Happening::Turn { gate, life } => self.take_turns(gate, life),
            Happening::Repair => self.repair(),
            Happening::Errand { number } => self.run_errand(number),
        }
    }

    fn wake(&mut self, proc: Proc, life: u32) {
        let now_us = self.now_us;
        let Some(machine) = self.machines.get_mut(&proc) else { return };
        if machine.life != life || !machine.up || machine.wake_us.is_none_or(|at| at > now_us) {
            return;
        }
        machine.wake_us = None;
        match proc {
            Proc::Gate(gate) => self.gate_event(gate, sheaf_gate::Event::Tick),
            Proc::Coordinator(n) => self.coordinator_event(n, sheaf_coordinator::Event::Tick),
            Proc::Router(_) | Proc::Client(_) | Proc::Operator => {}
        }
    }

    fn boot(&mut self, proc: Proc, life: u32) {
        if self.machines.get(&proc).is_none_or(|machine| machine.life != life || machine.up) {
            return;
        }
        self.set_clock(proc);
        match proc {
            Proc::Gate(gate) => self.boot_gate(gate),
            Proc::Coordinator(n) => self.boot_coordinator(n),
            Proc::Router(n) => self.boot_router(n),
            Proc::Client(_) | Proc::Operator => {}
        }
    }

    /// Has a core called when it wants to be.
    pub fn plan_wake(&mut self, proc: Proc, wake: Option<sheaf_types::Time>) {
        let now_us = self.now_us;
        let chance = self.knobs.spurious_tick;
        let spurious_us = if chance > 0.0 {
            let dice = self.dice.processes.of(proc.code());
            dice.chance(chance).then(|| 1 + dice.below(2_000))
        } else {
            None
        };
        let Some(machine) = self.machines.get_mut(&proc) else { return };
        let mut wanted = wake.map(|time| machine.clock.when(time).max(now_us + 1));
        if let Some(after_us) = spurious_us {
            wanted = Some(now_us + after_us);
        }
        if machine.wake_us == wanted {
            return;
        }
        machine.wake_us = wanted;
        if let Some(at_us) = wanted {
            self.queue.plan(at_us, Happening::Wake { proc, life: machine.life });
        }
    }

    /// The life of a process that runs.
    pub fn life(&self, proc: Proc) -> Option<u32> {
        self.machines.get(&proc).filter(|machine| machine.up).map(|machine| machine.life)
    }

    /// What time a process believes it is.
    pub fn clock(&self, proc: Proc) -> sheaf_types::Time {
        let true_time = sheaf_types::Time(self.now_us / 1_000);
        self.machines.get(&proc).map_or(true_time, |machine| machine.clock.read(self.now_us))
    }

    /// Tells the checkers.
    pub fn fact(&mut self, fact: Fact) {
        if self.violation.is_some() {
            return;
        }
        self.stats.facts += 1;
        self.trace.fold_words(&fact);
        self.record(|recording, at| recording.fact(at, &fact));
        if let Some(history) = &mut self.history {
            history.learn(&fact);
        }
        if self.is_logged()
            && matches!(
                fact,
                Fact::Acknowledged { .. }
                    | Fact::Served { .. }
                    | Fact::Applied { .. }
                    | Fact::Returned { .. }
            )
        {
            self.log(|| format!("    {fact:?}"));
        }
        if let Err(violation) = self.panel.tell(self.now_us, self.event, &fact) {
            self.violation = Some(violation);
        }
    }

    pub fn broken(&mut self, label: &'static str, text: &str) {
        self.violation.get_or_insert(Violation::new(label, text));
    }

    fn is_logged(&self) -> bool {
        self.trace.log || self.recorder.is_some()
    }

    pub fn log(&self, line: impl FnOnce() -> String) {
        if self.is_logged() {
            let mut text = line();
            if text.len() > 600 {
                let cut = (0..=600).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text.truncate(cut);
            }
            self.record(|recording, at| recording.line(at, self.event, &text));
            if self.trace.log {
                self.trace.line(&format!("{} {:>7} {text}", clock_text(self.now_us), self.event));
            }
        }
    }

    fn fingerprint(&mut self, happening: &Happening) {
        let (kind, a, b) = match happening {
            Happening::Arrive { call, to, .. } => (1, call.0, to.code()),
            Happening::Answered { call, reply } => (2, call.0, reply_kind(reply)),
            Happening::Overdue { call } => (3, call.0, 0),
            Happening::HungUp { gate, call, .. } => (4, call.0, u64::from(*gate)),
            Happening::Wake { proc, life } => (5, proc.code(), u64::from(*life)),
            Happening::Boot { proc, life } => (6, proc.code(), u64::from(*life)),
            Happening::Engine { gate, op, applied, .. } => {
                (7 + u64::from(*applied), *op, u64::from(*gate))
            }
            Happening::EngineLate { gate, .. } => (9, u64::from(*gate), 0),
            Happening::Fsync { gate, .. } => (10, u64::from(*gate), 0),
            Happening::Store { coordinator, applied, .. } => {
                (11, u64::from(*coordinator), u64::from(*applied))
            }
            Happening::StoreLate { number } => (12, *number, 0),
            Happening::MapPollOver { call, .. } => (13, call.0, 0),
            Happening::OperationWake { router, operation, .. } => {
                (14, u64::from(*router), *operation)
            }
            Happening::KeepMap { router, .. } => (15, u64::from(*router), 0),
            Happening::Think { client } => (16, u64::from(*client), 0),
            Happening::Operate => (17, 0, 0),
            Happening::AskAgain { number } => (18, *number, 0),
            Happening::Step { number } => (19, *number as u64, 0),
            Happening::Uncut { number } => (20, *number, 0),
            Happening::SpeedUp { proc } => (21, proc.code(), 0),
            Happening::Heal => (22, 0, 0),
            Happening::LookAround => (23, 0, 0),
            Happening::Turn { gate, .. } => (24, u64::from(*gate), 0),
            Happening::Repair => (25, 0, 0),
            Happening::Errand { number } => (26, *number, 0),
        };
        self.trace.fold(&[self.now_us, kind, a, b]);
    }
}

fn reply_kind(reply: &Reply) -> u64 {
    match reply {
        Reply::Directed(Ok(report)) => 1_000 + report.seq,
        Reply::Directed(Err(_)) => 2,
        Reply::Report(_) => 3,
        Reply::Frame(Ok(_)) => 4,
        Reply::Frame(Err(_)) => 5,
        Reply::Map(map) => 2_000 + map.version().0,
        Reply::Data(_) => 7,
        Reply::Client(_) => 8,
        Reply::Asked(Ok(_)) => 9,
        Reply::Asked(Err(_)) => 10,
        Reply::NotReady => 11,
        Reply::Lost => 12,
        Reply::NotSent => 13,
    }
}
