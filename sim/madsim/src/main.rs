//! `sheaf-madsim`: runs seeds of the real shells and the real etcd store on madsim's network and etcd, one process a seed.
//!
//! Reads the command line; a parent hands seeds to children, and prints what they found. What has nothing to do with how the
//! network is simulated is turmoil's.

#[path = "../../turmoil/src/book.rs"]
mod book;
mod build;
mod clients;
#[path = "../../turmoil/src/clock.rs"]
mod clock;
mod coordinator;
#[path = "../../turmoil/src/course.rs"]
mod course;
#[path = "../../turmoil/src/dice.rs"]
mod dice;
mod etcd;
#[path = "../../turmoil/src/fleet.rs"]
mod fleet;
mod gate;
mod harness;
#[path = "../../turmoil/src/judges.rs"]
mod judges;
mod net;
mod operator;
mod place;
mod plan;
mod process;
mod reigns;
mod router;
#[path = "../../turmoil/src/slow.rs"]
mod slow;
mod stories;
mod suite;
#[path = "../../turmoil/src/trace.rs"]
mod trace;
mod watch;
mod weather;
mod world;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, Subcommand};
use madsim::Config;
use madsim::runtime::Runtime;

use dice::{Dice, Purpose};
use fleet::{Range, What};
use plan::Plan;
use world::World;

/// Simulated time after which a run has come to a standstill: well above what its stages may take.
const RUN_MAX: Duration = Duration::from_secs(1_000);

#[derive(Parser)]
#[command(about = "Sheaf's shells and etcd store on a simulated network and etcd")]
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
    /// The suite that every store passes, on the simulated etcd
    Stores {
        #[arg(long, value_name = "A..B", default_value = "0..4")]
        seeds: Range,
    },
    /// That suite once, in this process; for the parent
    #[command(hide = true)]
    Suite { seed: u64 },
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
    if let Some(Command::Suite { seed }) = &cli.command {
        return suite_of_stores(*seed, cli.log);
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
        Some(Command::Stores { seeds }) => stores(&fleet.program, *seeds),
        Some(Command::Smoke) => fleet.smoke(),
        _ => match cli.seed {
            Some(seed) => fleet.replay(&What { seed, story: cli.story.clone() }, cli.log),
            None => fleet.swarm(std::slice::from_ref(&cli.story), cli.seeds),
        },
    }
}

/// Runs the stores' suite with each of these seeds, in fresh processes.
fn stores(program: &Path, seeds: Range) -> anyhow::Result<bool> {
    for seed in seeds.first..seeds.end {
        println!("the stores' suite, seed {seed}");
        if !std::process::Command::new(program)
            .args(["suite", &seed.to_string()])
            .status()?
            .success()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs the stores' suite here.
fn suite_of_stores(seed: u64, log: bool) -> anyhow::Result<bool> {
    fleet::refuse_chance()?;
    tracing::subscriber::set_global_default(trace::Trace::new(log))?;
    in_simulation(seed, async move {
        println!("{}", suite::run(seed).await);
        Ok(true)
    })
}

/// Runs one seed here. What it came to is the last line of standard output.
fn one(seed: u64, story: Option<&str>, log: bool) -> anyhow::Result<bool> {
    fleet::refuse_chance()?;
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
    in_simulation(seed, async {
        let mut world = World::new(plan);
        let outcome = world.run().await;
        println!("{}{}", fleet::OUTCOME, serde_json::to_string(&outcome)?);
        Ok(outcome.broken.is_none())
    })
}

/// Ends the process: with success if all was well.
fn in_simulation(
    seed: u64,
    run: impl Future<Output = anyhow::Result<bool>>,
) -> anyhow::Result<bool> {
    let chance = Dice::new(seed, Purpose::Network).number();
    let mut runtime = Runtime::with_seed_and_config(chance, Config::default());
    runtime.set_time_limit(RUN_MAX);
    runtime.block_on(async {
        let all_well = run.await?;
        std::io::stdout().flush()?;
        // Processes must not be dropped outside of their world, and nothing is left to be tidied up.
        std::process::exit(i32::from(!all_well))
    })
}
