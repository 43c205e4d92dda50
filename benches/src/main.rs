//! `cargo xtask bench`: measures real processes of the release binary, one table a topic, each row against its goal.
//!
//! Asserts nothing about time: a missed goal is printed, and the exit status says only whether all could be measured.

mod client;
mod copy;
mod cutover;
mod engines;
mod leaders;
mod maps;
mod pin;
mod proxies;
mod router;
mod small;
mod stage;
mod stopwatch;
mod synthetic;
mod table;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use table::Table;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures real processes against goals and rivals")]
struct Cli {
    /// What to measure; everything when none is named
    topics: Vec<Topic>,
    /// Fewer points and passes
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Topic {
    /// Points per second of a grow against a bulk load; memory of the donor
    Copy,
    /// The time of a grow with little or nothing to move
    Small,
    /// What clients feel while the cluster grows under them
    Cutover,
    /// The router beside a bare shard, nginx and haproxy
    Router,
    /// From a commit until 50 routers know it
    Maps,
    /// Grows, copies and the router on Quiver and PostgreSQL, beside Quiver's own cluster and bulk loads. Needs both
    Engines,
    /// From the end of a leader's lease until another one decides; sizes of maps. Needs etcd
    Leaders,
}

impl Topic {
    async fn measure(self, quick: bool) -> Table {
        match self {
            Self::Copy => copy::measure(quick).await,
            Self::Small => small::measure(quick).await,
            Self::Cutover => cutover::measure(quick).await,
            Self::Router => router::measure(quick).await,
            Self::Maps => maps::measure(quick).await,
            Self::Engines => engines::measure(quick).await,
            Self::Leaders => leaders::measure(quick).await,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let all = Topic::value_variants().to_vec();
    let topics = if cli.topics.is_empty() { all } else { cli.topics };
    // One thread, so that the children are pinned as the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("no runtime, so nothing is measured: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for topic in topics {
        // The harness panics when a process doesn't do as it should; the next topic may still be measured.
        let tasks = tokio::task::LocalSet::new();
        let measuring = tasks.spawn_local(topic.measure(cli.quick));
        let measured = runtime.block_on(tasks.run_until(measuring));
        match measured {
            Ok(table) => println!("{table}"),
            Err(why) => {
                eprintln!("{topic:?} could not be measured: {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
