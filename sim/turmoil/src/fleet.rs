//! Many seeds: each in a process of its own, because what one run leaves behind in a process changes the next.
//!
//! Decides what is a failure and how it is told: what broke, when, and one line that replays it. Used by both harnesses that run
//! the shells; what differs between them, each says in its `harness.rs`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use nix::sys::personality::{self, Persona};
use serde::{Deserialize, Serialize};

use crate::clock::Stopwatch;
use crate::harness::{IS_SEEDED, NAME, NOT_SEEDED};
use crate::stories::STORIES;

/// Begins the line that says what a run came to.
pub const OUTCOME: &str = "outcome ";
/// What CI runs besides the stories.
const SMOKE_META: Range = Range { first: 0, end: 3 };
const SMOKE_STORIES: Range = Range { first: 0, end: 1 };
const SMOKE_SEEDS: Range = Range { first: 0, end: 20 };
/// Lines of a run's last words that are shown.
const LAST_WORDS: usize = 12;

/// Seeds from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub end: u64,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once("..").and_then(|(first, end)| {
            Some(Self { first: first.parse().ok()?, end: end.parse().ok()? })
        });
        parts.ok_or_else(|| format!("{text:?} is no range of seeds, such as 0..100"))
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct What {
    pub seed: u64,
    /// `None`: the swarm.
    pub story: Option<String>,
}

/// How a run ended, as its process told it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    /// Over every event of the network and everything that hosts wrote down.
    pub hash: String,
    pub events: u64,
    pub simulated_ms: u64,
    pub steps: u64,
    pub migrations: u64,
    pub aborts: u64,
    pub calls: u64,
    pub done: u64,
    pub refused: u64,
    pub unknown: u64,
    pub boots: u64,
    pub failed_boots: u64,
    /// What only this harness has.
    pub more: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
    /// The broken promise, when it was broken (milliseconds), and after how many steps.
    pub broken: Option<(String, u64, u64)>,
}

/// Starts processes.
pub struct Fleet {
    pub program: PathBuf,
    /// Processes at the same time; at least one.
    pub jobs: usize,
    /// Numbers of which one has to fire; none: every failure counts.
    pub named: Vec<String>,
    /// No run begins after so many.
    pub minutes: Option<f64>,
    /// Where counts and findings go, besides standard output.
    pub json: Option<PathBuf>,
}

/// Fails when something that can't be repeated could get into a run.
pub fn refuse_chance() -> anyhow::Result<()> {
    ensure!(IS_SEEDED, "{NOT_SEEDED}. Run `cargo xtask sim {NAME}`");
    let fixed = personality::get()?.contains(Persona::ADDR_NO_RANDOMIZE);
    ensure!(fixed, "addresses are random in this process, and some hash maps are seeded from them");
    Ok(())
}

/// Gives this process' children fixed addresses.
pub fn fix_addresses() -> anyhow::Result<()> {
    personality::set(personality::get()? | Persona::ADDR_NO_RANDOMIZE)
        .context("addresses can't be fixed for the runs")?;
    refuse_chance()
}

impl Fleet {
    fn command(&self, what: &What) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("one").arg(what.seed.to_string()).args(&what.story);
        // A backtrace would take the place of what broke among the last words.
        command.env("RUST_BACKTRACE", "0");
        command
    }

    /// One run in a fresh process.
    fn launch(&self, what: &What) -> anyhow::Result<Outcome> {
        let mut command = self.command(what);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut errors = child.stderr.take().context("no standard error")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text)
        });
        let mut said = String::new();
        child.stdout.take().context("no standard output")?.read_to_string(&mut said)?;
        let status = child.wait()?;
        let errors = reader.join().ok().and_then(Result::ok).unwrap_or_default();
        let outcome = said.lines().find_map(|line| line.strip_prefix(OUTCOME));
        match outcome {
            Some(text) => Ok(serde_json::from_str(text)?),
            None => Ok(died(what.seed, status, &errors)),
        }
    }

    /// One seed with all that it says, and its verdict.
    pub fn replay(&self, what: &What, log: bool) -> anyhow::Result<bool> {
        if log {
            let mut command = self.command(what);
            return Ok(command.arg("--log").status()?.success());
        }
        let watch = Stopwatch::start();
        let outcome = self.launch(what)?;
        println!("{outcome:#?}");
        let mut sum = Sum::default();
        sum.add(&outcome);
        println!("{}", sum.line(watch.seconds()));
        if outcome.broken.is_some() {
            println!("{}", letter(what, &outcome));
        }
        Ok(outcome.broken.is_none())
    }

    /// Every story with every seed; ends at the first failure that counts.
    pub fn swarm(&self, stories: &[Option<String>], seeds: Range) -> anyhow::Result<bool> {
        let mut runs = Vec::new();
        for seed in seeds.first..seeds.end {
            runs.extend(stories.iter().map(|story| What { seed, story: story.clone() }));
        }
        let watch = Stopwatch::start();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let found = Mutex::new((Sum::default(), Vec::new()));
        std::thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                let over = || self.minutes.is_some_and(|m| watch.seconds() > m * 60.0);
                while !stop.load(Ordering::SeqCst) && !over() {
                    let Some(what) = runs.get(next.fetch_add(1, Ordering::SeqCst)) else { break };
                    let outcome = self.launch(what)?;
                    let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    found.0.add(&outcome);
                    if self.counts(&outcome) {
                        found.1.push((what.clone(), outcome));
                        stop.store(true, Ordering::SeqCst);
                    }
                }
                Ok(())
            };
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked"))
            })
        })?;
        let (sum, mut failures) =
            found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.sort_by_key(|(what, _)| what.seed);
        println!("{}", sum.line(watch.seconds()));
        let letters: Vec<String> =
            failures.iter().map(|(what, outcome)| letter(what, outcome)).collect();
        for letter in letters.iter().take(1) {
            println!("{letter}");
        }
        if let Some(file) = &self.json {
            let told = serde_json::json!({ "figures": sum.figures(), "findings": letters });
            std::fs::write(file, told.to_string())?;
        }
        Ok(failures.is_empty())
    }

    fn counts(&self, outcome: &Outcome) -> bool {
        let Some((text, ..)) = &outcome.broken else { return false };
        self.named.is_empty()
            || self.named.iter().any(|number| text.contains(&format!("{number} ")))
    }

    /// Each seed in two fresh processes; whether their traces are equal.
    pub fn meta(&self, seeds: Range) -> anyhow::Result<bool> {
        let mut events = 0;
        for seed in seeds.first..seeds.end {
            let what = What { seed, story: None };
            let (one, other) = std::thread::scope(|scope| {
                let other = scope.spawn(|| self.launch(&what));
                let one = self.launch(&what);
                (one, other.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
            });
            let (one, other) = (one?, other?);
            if (&one.hash, one.events, one.steps) != (&other.hash, other.events, other.steps) {
                println!("meta: seed {seed} runs differently each time: {one:?} and {other:?}");
                return Ok(false);
            }
            events += one.events;
        }
        let count = seeds.end - seeds.first;
        println!("meta: {count} seeds, each twice: equal traces, {events} events");
        Ok(true)
    }

    /// What CI runs.
    pub fn smoke(&self) -> anyhow::Result<bool> {
        let names = STORIES.iter().map(|(name, _)| Some((*name).to_owned()));
        Ok(self.meta(SMOKE_META)?
            && self.swarm(&names.collect::<Vec<_>>(), SMOKE_STORIES)?
            && self.swarm(&[None], SMOKE_SEEDS)?)
    }
}

/// What became of a process that ended without saying how.
fn died(seed: u64, status: ExitStatus, errors: &str) -> Outcome {
    let lines: Vec<&str> = errors.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n        ");
    let text = format!("assertion: the process ended ({status}):\n        {last}");
    Outcome { seed, broken: Some((text, 0, 0)), ..Outcome::default() }
}

/// A failure as a person wants to read it.
fn letter(what: &What, outcome: &Outcome) -> String {
    let (text, ms, steps) = outcome.broken.clone().unwrap_or_default();
    let story = what.story.as_ref().map(|story| format!(" --story {story}")).unwrap_or_default();
    format!(
        "found   {} by seed {}\n  what  {text}\n  when  {ms} ms, step {steps}\n  run   cargo xtask sim {NAME}{story} --seed {}",
        text.split(':').next().unwrap_or_default(),
        what.seed,
        what.seed
    )
}

fn add(total: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (name, count) in counts {
        *total.entry(name.clone()).or_default() += count;
    }
}

/// Counts over many runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    total: Outcome,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        let total = &mut self.total;
        total.events += outcome.events;
        total.simulated_ms += outcome.simulated_ms;
        total.migrations += outcome.migrations;
        total.aborts += outcome.aborts;
        total.calls += outcome.calls;
        total.done += outcome.done;
        total.refused += outcome.refused;
        total.unknown += outcome.unknown;
        total.boots += outcome.boots;
        total.failed_boots += outcome.failed_boots;
        add(&mut total.more, &outcome.more);
        add(&mut total.faults, &outcome.faults);
    }

    fn figures(&self) -> BTreeMap<String, u64> {
        let Self { runs, total } = self;
        let figures = [
            ("seeds", *runs),
            ("simulated_s", total.simulated_ms / 1_000),
            ("migrations", total.migrations),
            ("aborts", total.aborts),
            ("calls", total.calls),
            ("faults", total.faults.values().sum()),
        ];
        let mut figures = BTreeMap::from(figures.map(|(name, figure)| (name.to_owned(), figure)));
        let more = total.more.iter().map(|(name, count)| (name.replace(' ', "_"), *count));
        figures.extend(more);
        figures
    }

    fn line(&self, wall_s: f64) -> String {
        let Self { runs, total } = self;
        let simulated_s = total.simulated_ms as f64 / 1_000.0;
        let ratio = simulated_s / wall_s.max(0.001);
        let listed = |counts: &BTreeMap<String, u64>| {
            let counts: Vec<String> =
                counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
        };
        format!(
            "{NAME}: {runs} runs, {simulated_s:.0} simulated s, {} migrations and {} aborts, {} calls ({} answered, {} refused, \
             {} unknown requests), {} starts ({} failed), {}, faults: {}; {} events; {wall_s:.1} s, {ratio:.0} times real time",
            total.migrations,
            total.aborts,
            total.calls,
            total.done,
            total.refused,
            total.unknown,
            total.boots,
            total.failed_boots,
            listed(&total.more),
            listed(&total.faults),
            total.events,
        )
    }
}
