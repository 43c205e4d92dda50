//! `cargo xtask nightly`: every harness for its share of the night, then one summary as text, JSON and a page.
//!
//! Each part is a command that can be pasted; it writes its log and its figures beside the summary. A part that fails
//! doesn't stop the others: the night is for finding, and the exit code tells in the end.

mod page;
mod part;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::clock;

use part::Part;

/// Seeds that one night may use before it meets those of the next one.
const SEEDS_PER_NIGHT: u64 = 100_000_000;

/// Failing seeds after which the swarm has told enough.
const FAILURES_MAX: &str = "20";
/// One in so many seeds is run again: 5 %. Source: the practice of FoundationDB.
const RUN_AGAIN_ONE_IN: u64 = 20;

/// How long, and where to.
#[derive(Args)]
pub struct Options {
    /// How long the harnesses search; builds and the zoo come on top
    #[arg(long, value_name = "HOURS", default_value_t = 8.0)]
    hours: f64,
    /// Where the summary and the logs go
    #[arg(long, value_name = "FOLDER", default_value = "target/nightly")]
    out: PathBuf,
    /// The first seed; by default one of its own for each day
    #[arg(long, value_name = "SEED")]
    first_seed: Option<u64>,
    /// Leave out the parts whose names begin so
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
}

/// What the night amounted to.
#[derive(Serialize)]
struct Night {
    first_seed: u64,
    hours: f64,
    passed: bool,
    parts: Vec<Part>,
}

/// Runs all parts.
///
/// # Errors
/// The folder can't be written. A part that fails is no error: it is in the summary and in the exit code.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let out = root.join(&options.out);
    std::fs::create_dir_all(&out).with_context(|| format!("can't make {}", out.display()))?;
    let first_seed = options.first_seed.unwrap_or_else(|| clock::days() * SEEDS_PER_NIGHT);
    let mut parts = Vec::new();
    let mut planned = VecDeque::from(plan(first_seed, options.hours));
    while let Some(mut part) = planned.pop_front() {
        if options.skip.iter().any(|skip| part.name.starts_with(skip.as_str())) {
            continue;
        }
        println!("== {}: {}", part.name, part.command);
        part.run(root, &out)?;
        println!("{}", part.line());
        if part.name == "swarm" {
            planned.push_front(run_again(first_seed, &part));
        }
        parts.push(part);
    }
    let passed = parts.iter().all(|part| part.passed);
    let night = Night { first_seed, hours: options.hours, passed, parts };
    let text = night.text();
    print!("\n{text}");
    write(&out, "summary.txt", &text)?;
    write(&out, "summary.json", &serde_json::to_string_pretty(&night)?)?;
    write(&out, "summary.html", &page::page(&night))?;
    println!("{}", out.join("summary.html").display());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts of a night, those first without which the others prove nothing.
fn plan(first_seed: u64, hours: f64) -> Vec<Part> {
    let minutes = |share: f64| format!("{:.2}", hours * 60.0 * share);
    let seeds = |count: u64| format!("{first_seed}..{}", first_seed + count);
    let seeds_max = seeds(SEEDS_PER_NIGHT);
    let swarm = ["sim", "swarm", "--seeds", &seeds_max, "--failures", FAILURES_MAX, "--marks"];
    vec![
        Part::of("meta", &["sim", "meta", "--seeds", &seeds(1_000)]),
        // A planted failure: it has to be reported.
        Part::of("canary", &["scenario", "run", "sim/canary.toml", "--seeds", &seeds(100)])
            .that_must_find("FAILED  P"),
        Part::of("stories", &["sim", "stories", "--seeds", &seeds(20)]),
        Part::of("swarm", &[&swarm[..], &["--minutes", &minutes(0.6)]].concat()).with_figures(),
        Part::of("turmoil-meta", &["sim", "turmoil", "meta", "--seeds", &seeds(100)]),
        Part::of("turmoil", &["sim", "turmoil", "--seeds", &seeds_max, "--minutes", &minutes(0.2)])
            .with_figures(),
        Part::of("madsim-stores", &["sim", "madsim", "stores"]),
        Part::of("madsim-meta", &["sim", "madsim", "meta", "--seeds", &seeds(100)]),
        Part::of("madsim-stories", &["sim", "madsim", "stories", "--seeds", &seeds(50)]),
        Part::of("madsim", &["sim", "madsim", "--seeds", &seeds_max, "--minutes", &minutes(0.1)])
            .with_figures(),
        Part::of("exhaustive", &["sim", "exhaustive", "--scope", "nightly"]),
        Part::of("twin", &["sim", "twin", "--seeds", &seeds(2_000)]),
        Part::of("corpus", &["sim", "corpus"]),
        Part::of("zoo", &["zoo"]).with_figures(),
        Part::of("turmoil-zoo", &["zoo", "--turmoil"]).with_figures(),
        Part::of("madsim-zoo", &["zoo", "--madsim"]).with_figures(),
        Part::of("picture", &["picture-check"]),
        Part::of("bench", &["sim", "bench"]),
    ]
}

/// A part of the swarm's seeds in two more processes.
fn run_again(first_seed: u64, swarm: &Part) -> Part {
    let seeds = swarm.figures.get("seeds").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let again = (seeds / RUN_AGAIN_ONE_IN).max(1);
    Part::of("again", &["sim", "meta", "--seeds", &format!("{first_seed}..{}", first_seed + again)])
}

impl Night {
    fn text(&self) -> String {
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let mut text = format!("nightly: {verdict}, seeds from {}\n", self.first_seed);
        for part in &self.parts {
            text.push_str(&format!("{}\n", part.line()));
            for (name, figure) in &part.figures {
                text.push_str(&format!("      {name:<28} {figure}\n"));
            }
            for finding in &part.findings {
                text.push_str(&format!("      ! {}\n", finding.replace('\n', "\n        ")));
            }
        }
        text
    }
}

fn write(out: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let file = out.join(name);
    std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))
}
