//! One run: hosts on turmoil's network, the loop that steps it, and faults as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sheaf_checkers::Violation;
use turmoil::{Builder, Sim};

use crate::book::Book;
use crate::clients::{Client, ids};
use crate::course::{Course, Turn};
use crate::dice::{Dice, Purpose};
use crate::disk::Hardware;
use crate::fleet::Outcome;
use crate::http_client::Caller;
use crate::net;
use crate::node::{self, Machine, Shared};
use crate::operator::{Operator, shard_name};
use crate::plan::{Fault, Plan, coordinator_name, router_name};
use crate::slow::Pace;
use crate::trace;
use crate::weather::Weather;

pub const OPERATOR: &str = "operator";

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

pub struct World<'a> {
    plan: Plan,
    book: Arc<Book>,
    sim: Sim<'a>,
    site: Site,
    /// The store of several coordinators.
    shared: Option<Shared>,
    weather: Weather,
    course: Course,
    /// Faults that last, and when they end.
    lasting: Vec<(u64, Fault)>,
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
        let book = Arc::new(Book::default());
        let mut world = Self {
            sim: builder.build(),
            site: Site::default(),
            shared: (plan.coordinators > 1).then(Shared::new),
            weather: Weather::default(),
            course: Course::new(&plan, Arc::clone(&book)),
            lasting: Vec::new(),
            book,
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
        let machines = || self.site.machines.values();
        let failed = machines().map(|machine| machine.hardware.failed.load(Ordering::SeqCst));
        let older = machines().map(|machine| machine.older_records.load(Ordering::SeqCst));
        let more =
            [("failed disk calls", failed.sum()), ("records of the version before", older.sum())];
        self.course.outcome(self.now_ms(), broken.as_ref(), &more, &self.weather.begun)
    }

    fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    /// One tick; true: the run is over.
    fn step(&mut self) -> Result<bool, Violation> {
        trace::at(self.now_ms());
        self.change_weather();
        self.sim.step().map_err(|error| Violation::new("host", error.to_string()))?;
        self.course.steps += 1;
        let now_ms = self.now_ms();
        self.course.judge(now_ms)?;
        let turn = self.course.move_on(now_ms)?;
        if turn == Turn::Heals {
            self.end_faults(|_| true);
        }
        Ok(turn == Turn::Over)
    }

    fn change_weather(&mut self) {
        let now_ms = self.now_ms();
        for due in self.course.begin(now_ms) {
            tracing::info!(target: "sheaf_turmoil", "begins: {:?}", due.fault);
            self.weather.begin(&mut self.sim, &self.site, &self.plan, &due.fault);
            self.lasting.push((due.begin_ms + due.for_ms, due.fault));
        }
        self.end_faults(|end_ms| end_ms <= now_ms);
    }

    /// Ends those faults of whose end this is true.
    fn end_faults(&mut self, is_over: impl Fn(u64) -> bool) {
        for (end_ms, fault) in std::mem::take(&mut self.lasting) {
            if is_over(end_ms) {
                tracing::info!(target: "sheaf_turmoil", "ends: {fault:?}");
                self.weather.end(&mut self.sim, &self.site, &self.plan, &fault);
            } else {
                self.lasting.push((end_ms, fault));
            }
        }
    }
}
