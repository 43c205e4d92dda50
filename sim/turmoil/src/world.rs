//! One run: hosts on turmoil's network, the loop that steps it, faults, stages, and the panel that judges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sheaf_checkers::{EndState, Fact, NodeId, Panel, Phase, Violation};
use turmoil::{Builder, Sim};

use crate::book::{Book, Stage};
use crate::clients::{Client, ids};
use crate::dice::{Dice, Purpose};
use crate::disk::Hardware;
use crate::fleet::Outcome;
use crate::http_client::Caller;
use crate::judges;
use crate::net;
use crate::node::{self, Machine, Shared};
use crate::operator::{Operator, shard_name};
use crate::plan::{Fault, Plan, Planned, When, coordinator_name, router_name};
use crate::slow::Pace;
use crate::trace;
use crate::weather::Weather;

pub const OPERATOR: &str = "operator";
/// Simulated seconds in which a cluster without faults must be founded.
const SETUP_S_MAX: u64 = 60;
/// Simulated seconds after the last fault in which all must be quiet.
const QUIET_S_MAX: u64 = 240;
/// Simulated seconds that the last reads may take.
const AUDIT_S_MAX: u64 = 240;

pub fn client_name(number: u64) -> String {
    format!("client-{number}")
}

/// The machines with their disks and engines, by host.
#[derive(Default)]
pub struct Site {
    machines: BTreeMap<String, Machine>,
}

impl Site {
    pub fn with_disk(&self, host: &str, change: impl FnOnce(&Machine)) {
        if let Some(machine) = self.machines.get(host) {
            change(machine);
        }
    }

    pub fn power_off(&self, host: &str) {
        self.with_disk(host, |machine| machine.hardware.power_off());
    }
}

/// A fault with its times, in milliseconds of the run.
struct Scheduled {
    begin_ms: u64,
    end_ms: u64,
    fault: Fault,
    begun: bool,
}

pub struct World<'a> {
    plan: Plan,
    book: Arc<Book>,
    sim: Sim<'a>,
    site: Site,
    /// The store of several coordinators.
    shared: Option<Shared>,
    weather: Weather,
    panel: Panel,
    steps: u64,
    entered_ms: u64,
    /// Faults that wait for a phase, and those whose time is known.
    waiting: Vec<Planned>,
    scheduled: Vec<Scheduled>,
    /// Phases that were seen since the cluster was founded.
    seen: BTreeSet<Phase>,
    adopted: BTreeMap<u32, (u32, u64)>,
}

impl World<'_> {
    pub fn new(plan: Plan) -> Self {
        let mut builder = Builder::new();
        builder
            .rng_seed(Dice::new(plan.seed, Purpose::Network).number())
            .simulation_duration(Duration::from_secs(24 * 3_600))
            .tick_duration(Duration::from_millis(plan.tick_ms))
            .min_message_latency(Duration::from_millis(plan.latency_ms.0))
            .max_message_latency(Duration::from_millis(plan.latency_ms.1))
            .tcp_capacity(4_096)
            .enable_random_order();
        if let Some(bytes) = plan.torn_bytes {
            builder.fs().block_size(bytes);
        }
        let mut world = Self {
            book: Arc::new(Book::default()),
            sim: builder.build(),
            site: Site::default(),
            shared: (plan.coordinators > 1).then(Shared::new),
            weather: Weather::default(),
            panel: judges::panel(),
            steps: 0,
            entered_ms: 0,
            waiting: plan.faults.clone(),
            scheduled: Vec::new(),
            seen: BTreeSet::new(),
            adopted: BTreeMap::new(),
            plan,
        };
        world.hosts();
        world.clients();
        world
    }

    fn machine(&mut self, host: &str, number: u32) -> Machine {
        let at = self.site.machines.len();
        let dice = |purpose| Dice::new(self.plan.seed, purpose);
        let disk = dice(Purpose::Disk(at as u64));
        let pace = Pace::new(dice(Purpose::Engine(at as u64)), self.plan.engine_us);
        let machine = Machine {
            book: Arc::clone(&self.book),
            number,
            skew_ms: self.plan.skews_ms[at % self.plan.skews_ms.len()],
            hardware: Arc::new(Hardware::new(disk)),
            pace: Arc::new(pace),
            coordinators: (0..self.plan.coordinators)
                .map(|n| net::url(&coordinator_name(n)))
                .collect(),
            shared: self.shared.as_ref().map(Shared::for_one),
            seeds: (0..self.plan.founders).map(|n| net::url(&shard_name(n))).collect(),
            fence_budget_ms: self.plan.fence_budget_ms,
            is_upgraded: self.plan.is_upgraded,
            has_short_directives: self.plan.has_short_directives,
            older_records: Arc::default(),
        };
        self.site.machines.insert(host.to_owned(), machine.clone());
        machine
    }

    fn hosts(&mut self) {
        for number in 0..self.plan.coordinators {
            let name = coordinator_name(number);
            let machine = self.machine(&name, number);
            self.sim.host(name, move || node::run(machine.clone(), node::coordinator_process));
        }
        for number in 0..self.plan.shards {
            let machine = self.machine(&shard_name(number), number);
            self.sim
                .host(shard_name(number), move || node::run(machine.clone(), node::shard_process));
        }
        for number in 0..self.plan.routers {
            let machine = self.machine(&router_name(number), number);
            self.sim.host(router_name(number), move || {
                node::run(machine.clone(), node::router_process)
            });
        }
    }

    fn clients(&mut self) {
        let plan = &self.plan;
        let client = |number| Client {
            book: Arc::clone(&self.book),
            dice: Dice::new(plan.seed, Purpose::Client(number)),
            ids: ids(plan.points),
            routers: (0..plan.routers).map(router_name).collect(),
            think_ms: plan.think_ms,
            caller: Caller::new(),
        };
        self.book.set_clients(plan.clients);
        for number in 0..plan.clients {
            let client = client(number);
            self.sim.client(client_name(number), client.run());
        }
        let asks = plan.asks.clone();
        let operator = Operator {
            book: Arc::clone(&self.book),
            client: client(plan.clients),
            asks,
            coordinators: (0..plan.coordinators).map(coordinator_name).collect(),
            tries: AtomicUsize::new(0),
            copy_points_per_s: plan.copy_points_per_s,
        };
        self.sim.client(OPERATOR, operator.run());
    }

    /// Runs to the end, or until a promise is broken.
    pub fn run(&mut self) -> Outcome {
        let broken = loop {
            match self.step() {
                Ok(false) => {}
                Ok(true) => break None,
                Err(violation) => break Some(violation),
            }
        };
        self.outcome(broken.map(|violation| violation.to_string()))
    }

    fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    /// One tick; true: the run is over.
    fn step(&mut self) -> Result<bool, Violation> {
        trace::at(self.now_ms());
        self.change_weather();
        self.sim.step().map_err(|error| Violation::new("host", error.to_string()))?;
        self.steps += 1;
        self.look_at_routers();
        self.judge()?;
        self.move_on()
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let us = self.now_ms() * 1_000;
        for fact in self.book.take_facts() {
            if let Fact::Stored { decided } = &fact {
                let phase = decided.running.as_ref().map(|running| running.phase);
                trace::fold(format_args!("{} {} {phase:?}", decided.term, decided.revision));
                self.reached(phase);
            }
            self.panel.tell(us, self.steps, &fact)?;
        }
        self.book.take_broken().map_or(Ok(()), Err)
    }

    fn reached(&mut self, phase: Option<Phase>) {
        let Some(phase) = phase.filter(|_| self.book.stage() == Stage::Safety) else { return };
        if !self.seen.insert(phase) {
            return;
        }
        let of_phase = |planned: &Planned| match planned.when {
            When::Phase(wanted, delay_ms) if wanted == phase => Some(delay_ms),
            When::Phase(..) | When::At(_) => None,
        };
        self.schedule(of_phase);
    }

    /// Gives those faults their times that `delay_ms` names.
    fn schedule(&mut self, delay_ms: impl Fn(&Planned) -> Option<u64>) {
        let now_ms = self.now_ms();
        for planned in std::mem::take(&mut self.waiting) {
            let Some(delay_ms) = delay_ms(&planned) else {
                self.waiting.push(planned);
                continue;
            };
            let begin_ms = now_ms + delay_ms;
            let end_ms = begin_ms + planned.for_ms;
            self.scheduled.push(Scheduled { begin_ms, end_ms, fault: planned.fault, begun: false });
        }
    }

    fn change_weather(&mut self) {
        let now_ms = self.now_ms();
        let mut scheduled = std::mem::take(&mut self.scheduled);
        for one in scheduled.iter_mut().filter(|one| !one.begun && one.begin_ms <= now_ms) {
            one.begun = true;
            tracing::info!(target: "sheaf_turmoil", "begins: {:?}", one.fault);
            self.weather.begin(&mut self.sim, &self.site, &self.plan, &one.fault);
        }
        scheduled.retain(|one| {
            let over = one.begun && one.end_ms <= now_ms;
            if over {
                tracing::info!(target: "sheaf_turmoil", "ends: {:?}", one.fault);
                self.weather.end(&mut self.sim, &self.site, &self.plan, &one.fault);
            }
            !over
        });
        self.scheduled = scheduled;
    }

    fn look_at_routers(&mut self) {
        for (router, (life, host)) in self.book.routers() {
            let Some(map) = host.map() else { continue };
            let now = (life, map.version().0);
            if self.adopted.insert(router, now) != Some(now) {
                self.book.fact(Fact::RouterAdopted { router, life, version: map.version() });
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.book.enter(stage);
        self.entered_ms = self.now_ms();
        tracing::info!(target: "sheaf_turmoil", "stage {stage:?}");
    }

    fn move_on(&mut self) -> Result<bool, Violation> {
        let now_ms = self.now_ms();
        let for_ms = now_ms - self.entered_ms;
        match self.book.stage() {
            Stage::Setup if self.book.founded.load(Ordering::SeqCst) => {
                self.enter(Stage::Safety);
                self.schedule(|planned| match planned.when {
                    When::At(at_ms) => Some(at_ms),
                    When::Phase(..) => None,
                });
            }
            Stage::Setup if for_ms > SETUP_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the cluster is not founded"));
            }
            Stage::Safety if for_ms >= self.plan.safety_ms => self.heal(),
            Stage::Liveness => {
                let state = self.end_state();
                let quiet = is_quiet(&state) && self.book.operator_done.load(Ordering::SeqCst);
                if quiet {
                    self.enter(Stage::Audit);
                } else if for_ms > QUIET_S_MAX * 1_000 {
                    self.panel.tell(now_ms * 1_000, self.steps, &ended(state))?;
                    let text = "the operator's ask has no answer that decides";
                    return Err(Violation::new("P6 converges", text));
                }
            }
            Stage::Audit if self.book.audited.load(Ordering::SeqCst) => {
                self.panel.tell(now_ms * 1_000, self.steps, &ended(self.end_state()))?;
                self.panel.finish()?;
                return Ok(true);
            }
            Stage::Audit if for_ms > AUDIT_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the last reads don't end"));
            }
            _ => {}
        }
        Ok(false)
    }

    /// All faults end, for ever.
    fn heal(&mut self) {
        self.enter(Stage::Liveness);
        self.waiting.clear();
        for one in std::mem::take(&mut self.scheduled).into_iter().filter(|one| one.begun) {
            self.weather.end(&mut self.sim, &self.site, &self.plan, &one.fault);
        }
        self.book.fact(Fact::Healed);
    }

    /// What isn't as it should be when all is quiet.
    fn end_state(&self) -> EndState {
        let mut state = EndState {
            unfinished: Vec::new(),
            unclean: Vec::new(),
            stale_routers: Vec::new(),
            hanging: Vec::new(),
        };
        let Some(record) = self.book.record() else { return state };
        let running = record.transition.iter().map(|running| running.id);
        let queued = record.queue.iter().map(|queued| queued.id);
        let retiring = record.retiring.iter().filter_map(|retiring| retiring.transition);
        state.unfinished = running.chain(queued).chain(retiring).collect();
        for number in 0..self.plan.shards {
            let url = net::url(&shard_name(number));
            let Some(ledger) = self.book.ledger(number) else { continue };
            let entry = record.map.shard_by_url(&url);
            let version = ledger.map.as_ref().map(|map| map.version());
            let right = ledger.shard == entry.map(|entry| entry.id)
                && (entry.is_none()
                    || (version == Some(record.map.version())
                        && ledger.order.is_none()
                        && ledger.clean));
            if !right {
                let (shard, clean) = (ledger.shard, ledger.clean);
                let text = format!("{url} is {shard:?} at {version:?}, clean {clean}");
                state.unclean.push((NodeId(number), text));
            }
        }
        for (router, (_, host)) in self.book.routers() {
            let version = host.map().map(|map| map.version());
            if version != Some(record.map.version()) {
                state.stale_routers.push((router, version));
            }
        }
        state
    }

    fn outcome(&self, broken: Option<String>) -> Outcome {
        let (hash, events) = trace::hash();
        let counts = &self.book.counts;
        let record = self.book.record();
        let ended = record.iter().flat_map(|record| record.ended.iter());
        let (mut migrations, mut aborts) = (0, 0);
        for report in ended {
            let committed = report.committed.is_some();
            migrations += u64::from(committed);
            aborts += u64::from(!committed);
        }
        let machines = self.site.machines.values();
        let failed = machines.map(|machine| machine.hardware.failed.load(Ordering::SeqCst)).sum();
        let machines = self.site.machines.values();
        let older = machines.map(|machine| machine.older_records.load(Ordering::SeqCst)).sum();
        let begun = self.weather.begun.iter();
        Outcome {
            seed: self.plan.seed,
            hash: format!("{hash:032x}"),
            events,
            simulated_ms: self.now_ms(),
            steps: self.steps,
            migrations,
            aborts,
            calls: counts.calls.load(Ordering::SeqCst),
            done: counts.done.load(Ordering::SeqCst),
            refused: counts.refused.load(Ordering::SeqCst),
            unknown: counts.unknown.load(Ordering::SeqCst),
            boots: counts.boots.load(Ordering::SeqCst),
            failed_boots: counts.failed_boots.load(Ordering::SeqCst),
            more: BTreeMap::from([
                ("failed disk calls".to_owned(), failed),
                ("records of the version before".to_owned(), older),
            ]),
            faults: begun.map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            broken: broken.map(|text| (text, self.now_ms(), self.steps)),
        }
    }
}

fn is_quiet(state: &EndState) -> bool {
    state.unfinished.is_empty() && state.unclean.is_empty() && state.stale_routers.is_empty()
}

fn ended(state: EndState) -> Fact {
    Fact::Ended { state: Box::new(state) }
}
