//! `sheaf-turmoil`: runs seeds of the real HTTP, runtime, storage and stores on turmoil, one process a seed.
//!
//! Reads the command line; a parent hands seeds to children, and prints what they found.

mod book;
mod clients;
mod clock;
mod course;
mod dice;
mod disk;
mod entropy;
mod fleet;
mod harness;
mod http_client;
mod judges;
mod net;
mod node;
mod older;
mod operator;
mod plan;
mod slow;
mod stories;
mod trace;
mod watch;
mod weather;
mod world;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{Parser, Subcommand};

use fleet::{Range, What};
use plan::Plan;
use world::World;

#[derive(Parser)]
#[command(about = "Sheaf's HTTP, runtime, storage and stores on a simulated network and disk")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seeds of the swarm
    #[arg(long, value_name = "A..B", default_value = "0..20")]
    seeds: Range,
    /// One seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A scenario written by hand instead of the swarm
    #[arg(long, value_name = "NAME")]
    story: Option<String>,
    /// Print what Sheaf logs
    #[arg(long, global = true)]
    log: bool,
    /// Go on until one of these fires, such as P1,I5
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    named: Vec<String>,
    /// Begin no new seed after so many minutes
    #[arg(long, value_name = "M", global = true)]
    minutes: Option<f64>,
    /// The counts and findings, in a file
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// Processes at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Each of these seeds in two fresh processes: their traces must be equal
    Meta {
        #[arg(long, value_name = "A..B", default_value = "0..6")]
        seeds: Range,
    },
    /// All scenarios written by hand, with these seeds
    Stories {
        #[arg(long, value_name = "A..B", default_value = "0..4")]
        seeds: Range,
    },
    /// What CI runs: meta, the stories and some seeds
    Smoke,
    /// One seed in this process; for the parent
    #[command(hide = true)]
    One { seed: u64, story: Option<String> },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sheaf-turmoil: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    if let Some(Command::One { seed, story }) = &cli.command {
        return one(*seed, story.as_deref(), cli.log);
    }
    let fleet = fleet::Fleet {
        program: std::env::current_exe()?,
        jobs: cli.jobs.max(1),
        named: cli.named.clone(),
        minutes: cli.minutes,
        json: cli.json.clone(),
    };
    fleet::fix_addresses()?;
    match &cli.command {
        Some(Command::Meta { seeds }) => fleet.meta(*seeds),
        Some(Command::Stories { seeds }) => {
            let names = stories::STORIES.iter().map(|(name, _)| Some((*name).to_owned()));
            fleet.swarm(&names.collect::<Vec<_>>(), *seeds)
        }
        Some(Command::Smoke) => fleet.smoke(),
        _ => match cli.seed {
            Some(seed) => fleet.replay(&What { seed, story: cli.story.clone() }, cli.log),
            None => fleet.swarm(std::slice::from_ref(&cli.story), cli.seeds),
        },
    }
}

/// Runs one seed here. What it came to is the last line of standard output.
fn one(seed: u64, story: Option<&str>, log: bool) -> anyhow::Result<bool> {
    fleet::refuse_chance()?;
    ensure!(entropy::is_seeded(), "entropy doesn't come from the seed: runs can't be repeated");
    entropy::seed(seed);
    tracing::subscriber::set_global_default(trace::Trace::new(log))?;
    let plan = match story {
        None => Plan::draw(seed),
        Some(name) => {
            let Some((_, tell)) = stories::STORIES.iter().find(|(known, _)| *known == name) else {
                let names: Vec<&str> = stories::STORIES.iter().map(|(name, _)| *name).collect();
                bail!("there is no story {name:?}; there are {}", names.join(", "));
            };
            let mut plan = Plan::quiet(seed);
            tell(&mut plan);
            plan
        }
    };
    if log {
        println!("{plan:#?}");
    }
    let mut world = World::new(plan);
    let outcome = world.run();
    println!("{}{}", fleet::OUTCOME, serde_json::to_string(&outcome)?);
    std::io::stdout().flush()?;
    // Hosts must not be dropped outside of their world, and nothing is left to be tidied up.
    std::process::exit(i32::from(outcome.broken.is_some()));
}
