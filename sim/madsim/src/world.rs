//! One run: processes on madsim's network, and faults as they come and go. The supervisor of the simulation.

use std::sync::Arc;
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Handle;
use sheaf_checkers::Violation;
use sheaf_runtime::Clock;
use sheaf_types::Time;

use crate::book::Book;
use crate::build;
use crate::course::{Course, Turn};
use crate::fleet::Outcome;
use crate::plan::Plan;
use crate::process::Machine;
use crate::trace;
use crate::weather::{Begun, Site, Weather};

/// Between two looks of the supervisor.
const STEP: Duration = Duration::from_millis(5);

pub struct World {
    plan: Plan,
    /// One machine stands for all: what they have in common.
    machine: Machine,
    site: Site,
    clock: Clock,
    weather: Weather,
    course: Course,
    /// Faults that last, and when they end.
    lasting: Vec<(u64, Begun)>,
    /// Times at which two coordinators believed that they lead.
    rivals: u64,
    leaders: Vec<u32>,
    /// Who was seen to begin to lead last: an earlier one may stand still and not know.
    leader: u32,
}

impl World {
    /// To be called in the simulation.
    pub fn new(plan: Plan) -> Self {
        let book = Arc::new(Book::default());
        let (machine, site) = build::site(&plan, &book, Handle::current(), NetSim::current());
        Self {
            machine,
            site,
            clock: Clock::starting_at(Time(0)),
            weather: Weather::default(),
            course: Course::new(&plan, book),
            lasting: Vec::new(),
            rivals: 0,
            leaders: Vec::new(),
            leader: 0,
            plan,
        }
    }

    /// Runs to the end, or until a promise is broken.
    pub async fn run(&mut self) -> Outcome {
        let broken = loop {
            match self.step().await {
                Ok(false) => {}
                Ok(true) => break None,
                Err(violation) => break Some(violation),
            }
        };
        let terms = self.machine.reigns.terms();
        let more = [("terms", terms), ("times with two leaders", self.rivals)];
        self.course.outcome(self.now_ms(), broken.as_ref(), &more, &self.weather.begun)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().0
    }

    /// Lets the simulation go on for a moment; true: the run is over.
    async fn step(&mut self) -> Result<bool, Violation> {
        trace::at(self.now_ms());
        self.change_weather().await;
        tokio::time::sleep(STEP).await;
        self.course.steps += 1;
        self.look_at_leaders();
        let now_ms = self.now_ms();
        self.course.judge(now_ms)?;
        let turn = self.course.move_on(now_ms)?;
        if turn == Turn::Heals {
            // Only etcd goes on being late now and then.
            self.end_faults(|_| true);
        }
        Ok(turn == Turn::Over)
    }

    async fn change_weather(&mut self) {
        for due in self.course.begin(self.now_ms()) {
            tracing::info!(target: "sheaf_madsim", "begins: {:?}", due.fault);
            let begun = self.weather.begin(&self.site, &self.plan, due.fault, self.leader).await;
            self.lasting.push((self.now_ms() + due.for_ms, begun));
        }
        let now_ms = self.now_ms();
        self.end_faults(|end_ms| end_ms <= now_ms);
    }

    /// Ends those faults of whose end this is true.
    fn end_faults(&mut self, is_over: impl Fn(u64) -> bool) {
        for (end_ms, begun) in std::mem::take(&mut self.lasting) {
            if is_over(end_ms) {
                tracing::info!(target: "sheaf_madsim", "ends: {begun:?}");
                self.weather.end(&self.site, &self.plan, &begun);
            } else {
                self.lasting.push((end_ms, begun));
            }
        }
    }

    fn look_at_leaders(&mut self) {
        let leaders = self.machine.reigns.leaders();
        self.rivals += u64::from(leaders.len() > 1 && self.leaders.len() < 2);
        let new = leaders.iter().find(|leader| !self.leaders.contains(leader));
        self.leader = new.copied().unwrap_or(self.leader);
        self.leaders = leaders;
    }
}
