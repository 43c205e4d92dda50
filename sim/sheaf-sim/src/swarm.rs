//! Runs seeds: each in its own world, a panic of a core is a failure like any other.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sheaf_checkers::Violation;

use crate::knobs::Knobs;
use crate::report::{Failure, Outcome, progress, take_panic};
use crate::stats::Stats;
use crate::stories::{self, Story};
use crate::world::World;

/// What to run.
#[derive(Clone, Debug)]
pub enum What {
    Swarm,
    Story(String, Story),
}

/// Runs one seed.
pub fn run(what: &What, seed: u64, log: bool, until: Option<u64>) -> Outcome {
    let name = match what {
        What::Swarm => "swarm".to_owned(),
        What::Story(name, _) => name.clone(),
    };
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = match what {
            What::Swarm => World::new(seed, Knobs::draw(seed), log),
            What::Story(_, story) => {
                let mut world = World::new(seed, stories::knobs(), log);
                world.tell(*story);
                world
            }
        };
        if log {
            println!("{:?}", world.drawn);
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
            Outcome {
                name,
                seed,
                hash: 0,
                stats,
                failure: Some(Failure { violation, at_us, event }),
            }
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
                    let outcome = run(what, seed, false, None);
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
