//! Runs seeds: each in its own world, a panic of a core is a failure like any other.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sheaf_checkers::Violation;

use crate::draw;
use crate::plan::Plan;
use crate::recording::{Recorder, Recording};
use crate::report::{Failure, Outcome, SHOWS_TOO_LITTLE, progress, take_panic};
use crate::scenario::Scenario;
use crate::stats::Stats;
use crate::stories::{self, Story};
use crate::trace::Trace;
use crate::world::World;

/// What to run.
#[derive(Clone, Debug)]
pub enum What {
    Swarm,
    Story(String, Story),
    /// A scenario with its file; each seed is another chance of its plan.
    Scenario(String, Arc<Scenario>),
}

impl What {
    pub fn name(&self) -> &str {
        match self {
            Self::Swarm => "swarm",
            Self::Story(name, _) | Self::Scenario(name, _) => name,
        }
    }

    /// What is to happen with this seed.
    pub fn plan(&self, seed: u64) -> Plan {
        match self {
            Self::Swarm => draw::plan(seed),
            Self::Story(_, story) => stories::plan(*story, seed),
            Self::Scenario(_, scenario) => Plan { seed, ..scenario.plan.clone() },
        }
    }

    /// A scenario that shows too little has failed like one that breaks something. A run that was broken off has shown
    /// nothing yet.
    fn judge(&self, outcome: &mut Outcome, until: Option<u64>) {
        if let Self::Scenario(_, scenario) = self
            && outcome.failure.is_none()
            && until.is_none()
            && let Err(text) = scenario.expect.judge(&outcome.stats)
        {
            let Stats { simulated_us: at_us, events: event, .. } = outcome.stats;
            let violation = Violation::new(SHOWS_TOO_LITTLE, text);
            outcome.failure = Some(Failure { violation, at_us, event });
        }
    }
}

/// Runs one seed.
pub fn run(what: &What, seed: u64, trace: Trace, until: Option<u64>) -> Outcome {
    let mut outcome = run_plan(what.name(), what.plan(seed), trace, until);
    what.judge(&mut outcome, until);
    outcome
}

/// Runs one seed and keeps it for a picture.
pub fn run_recorded(
    what: &What,
    seed: u64,
    trace: Trace,
    until: Option<u64>,
) -> (Outcome, Option<Recorder>) {
    let mut kept = None;
    let mut outcome = run_with(what.name(), what.plan(seed), trace, until, Some(&mut kept));
    what.judge(&mut outcome, until);
    if let Some(recorder) = &kept {
        crate::picture::complete(recorder, &outcome);
    }
    (outcome, kept)
}

/// Runs a plan.
pub fn run_plan(name: &str, plan: Plan, trace: Trace, until: Option<u64>) -> Outcome {
    run_with(name, plan, trace, until, None)
}

fn run_with(
    name: &str,
    plan: Plan,
    trace: Trace,
    until: Option<u64>,
    keep: Option<&mut Option<Recorder>>,
) -> Outcome {
    let (name, seed) = (name.to_owned(), plan.seed);
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if trace.log {
            trace.line(&format!("{:?}", plan.knobs));
        }
        let mut world = World::new(plan, trace);
        if let Some(keep) = keep {
            let recorder = Recording::begin(&world);
            world.recorder = Some(Rc::clone(&recorder));
            *keep = Some(recorder);
        }
        world.run(until);
        let failure = world.violation.take();
        let failure =
            failure.map(|violation| Failure { violation, at_us: world.now_us, event: world.event });
        (world.trace.hash(), world.stats, failure)
    }));
    match ran {
        Ok((hash, stats, failure)) => Outcome { name, seed, hash, stats, failure },
        Err(_) => {
            let (at_us, event) = progress();
            let violation = Violation::new("assertion in a core", take_panic());
            let stats = Stats { seeds: 1, events: event, simulated_us: at_us, ..Stats::default() };
            let failure = Some(Failure { violation, at_us, event });
            Outcome { name, seed, hash: 0, stats, failure }
        }
    }
}

/// Which failures count.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Numbers of invariants and promises, such as `I7`; none: every failure counts.
    pub numbers: Vec<String>,
}

impl Wanted {
    fn counts(&self, outcome: &Outcome) -> bool {
        let Some(Failure { violation, .. }) = &outcome.failure else { return false };
        let fired = |number: &String| {
            let word = format!("{number} ");
            // A core's own assertion carries the number in its text.
            violation.label.starts_with(&word) || violation.text.contains(&word)
        };
        self.numbers.is_empty() || self.numbers.iter().any(fired)
    }
}

/// Runs many seeds on some threads. Stops after `failures_max` failures that count, or when `each` says false of an
/// outcome; returns failures in the order of seeds.
pub fn run_all(
    what: &What,
    seeds: std::ops::Range<u64>,
    threads: usize,
    failures_max: usize,
    wanted: &Wanted,
    each: &(dyn Fn(&Outcome) -> bool + Sync),
) -> (Stats, Vec<Outcome>) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Stats::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(what, seed, Trace::new(false), None);
                    if !each(&outcome) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let Ok(mut total) = total.lock() else { return };
                    total.0 += outcome.stats;
                    if wanted.counts(&outcome) {
                        total.1.push(outcome);
                        if total.1.len() >= failures_max {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (stats, mut failures) = total.into_inner().unwrap_or_default();
    failures.sort_by_key(|outcome| outcome.seed);
    (stats, failures)
}
