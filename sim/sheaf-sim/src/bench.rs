//! How fast the harness is: the same seeds on one thread and on all, with every checker on.
//!
//! Prints figures beside the goals that make a million seeds a night possible. Judges nothing.

use std::ops::Range;
use std::time::Instant;

use crate::stats::Stats;
use crate::swarm::{Wanted, What, run_all};

/// Events that one processor gives to cores in a second. Source: the goal of the proof.
const CORE_EVENTS_PER_S: f64 = 1_000_000.0;
/// Seeds in a second on two processors; a million in eight hours. Source: the goal of the proof.
const SEEDS_PER_S: f64 = 35.0;
/// What a seed has to hold on average, or seeds in a second say little. Source: the goal of the proof.
const CLIENT_CALLS_PER_SEED: f64 = 300.0;

/// Runs `seeds` twice and prints a table; false when a seed failed.
pub fn bench(seeds: &Range<u64>, threads: usize) -> bool {
    let wanted = Wanted::default();
    let run =
        |threads| run_all(&What::Swarm, seeds.clone(), threads, usize::MAX, &wanted, &|_| true);
    let ((stats, failures), alone) = timed(|| run(1));
    let (_, together) = timed(|| run(threads));
    print(&stats, &alone, threads, &together);
    let letters = failures.iter().filter_map(crate::report::Outcome::letter);
    letters.for_each(|letter| println!("{letter}"));
    failures.is_empty()
}

/// Seconds that something took, by the clock on the wall and by the processors.
struct Took {
    wall: f64,
    processors: f64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the simulator took is told to people and decides nothing"
)]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Took) {
    let processors = || {
        let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
        spent.map_or(f64::NAN, |spent| std::time::Duration::from(spent).as_secs_f64())
    };
    let (began, spent) = (Instant::now(), processors());
    let ran = run();
    (ran, Took { wall: began.elapsed().as_secs_f64(), processors: processors() - spent })
}

fn print(stats: &Stats, alone: &Took, threads: usize, together: &Took) {
    let row = |what: &str, figure: f64, goal: Option<f64>| {
        let goal = goal.map(|goal| format!("{:>5.2} × the goal of {goal}", figure / goal));
        println!("{what:<44} {figure:>11.1}   {}", goal.unwrap_or_default());
    };
    println!(
        "{} seeds: one thread {:.1} s ({:.1} s of a processor), {threads} threads {:.1} s ({:.1} s of processors)",
        stats.seeds, alone.wall, alone.processors, together.wall, together.processors
    );
    let core_events = stats.core_events as f64;
    row("events in a second of a processor", stats.events as f64 / alone.processors, None);
    row("events of cores, of these", core_events / alone.processors, Some(CORE_EVENTS_PER_S));
    row("facts judged in that time", stats.facts as f64 / alone.processors, None);
    let seeds = stats.seeds as f64;
    row(
        &format!("seeds in a second of {threads} threads"),
        seeds / together.wall,
        Some(SEEDS_PER_S),
    );
    row("client calls a seed", stats.client_ops as f64 / seeds, Some(CLIENT_CALLS_PER_SEED));
    row("transitions that commit, a seed", stats.committed as f64 / seeds, Some(1.0));
    row("faults a seed", stats.faults as f64 / seeds, None);
    row("crashes a seed", stats.crashes as f64 / seeds, None);
    let simulated = stats.simulated_us as f64 / 1e6;
    row("simulated seconds a seed", simulated / seeds, None);
    row(&format!("times real time, of {threads} threads"), simulated / together.wall, None);
}
