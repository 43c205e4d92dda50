//! `sheaf demo`: a whole cluster on this machine grows, shrinks and crashes under load, and every answer is checked.
//!
//! The checks are the demo's own (`check.rs`) and know nothing of the servers' code. Fails when any promise broke.

mod api;
mod check;
mod cluster;
mod dataset;
mod load;
mod report;
mod servers;
mod story;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sheaf_runtime::clock::Clock;
use sheaf_types::limits::DIM_MAX;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Failure;
use crate::config::EngineKind;
use crate::output;
use crate::progress::Show;
use cluster::Cluster;
use dataset::{Dataset, REAL_DIM, REAL_POINTS};
use load::World;
use servers::{Programs, Server};
use story::Story;

/// Fewer points would leave a copy no middle in which something can be killed.
const POINTS_MIN: usize = 500;
/// More would not fit into the memory of a small machine, since the demo keeps its own copy.
const POINTS_MAX: usize = 2_000_000;
const SECONDS_MAX: u64 = 3_600;

/// What the demo shall do.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Seconds that the live load lasts at least; what is longer than the story is rest between its steps
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// Points to load: word senses first, made-up clustered vectors beyond them
    #[arg(long, value_name = "POINTS", default_value_t = REAL_POINTS)]
    points: usize,
    /// Numbers in a vector; other than 384, all points are made up
    #[arg(long, value_name = "NUMBERS", default_value_t = REAL_DIM)]
    dim: usize,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// At the end, leave the cluster running until Ctrl-C, and print its URLs
    #[arg(long)]
    keep: bool,
    /// Where the shards have their points: embedded, or in servers that the demo starts, one for each shard
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t = EngineKind::Embedded)]
    engine: EngineKind,
    /// The binary of Quiver, or the folder with PostgreSQL's programs, when they aren't where they usually are
    #[arg(long, value_name = "PATH")]
    engine_bin: Option<PathBuf>,
    /// What the clients' choices follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Runs it.
///
/// # Errors
/// A promise broke, or the demo could not be played to its end.
pub async fn run(args: &DemoArgs) -> Result<(), Failure> {
    check_args(args)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping the play drops its daemons: none outlives it.
    tokio::select! {
        biased;
        outcome = play(args) => outcome,
        _ = interrupt.recv() => Err(Failure::Failed("stopped by Ctrl-C before the end; nothing was judged".to_owned())),
        _ = terminate.recv() => Err(Failure::Failed("stopped by SIGTERM before the end; nothing was judged".to_owned())),
    }
}

fn check_args(args: &DemoArgs) -> Result<(), Failure> {
    if !(POINTS_MIN..=POINTS_MAX).contains(&args.points) {
        return Err(Failure::Usage(format!("--points is {POINTS_MIN} to {POINTS_MAX}")));
    }
    if args.dim == 0 || args.dim > DIM_MAX as usize {
        return Err(Failure::Usage(format!("--dim is 1 to {DIM_MAX}")));
    }
    if args.seconds > SECONDS_MAX {
        return Err(Failure::Usage(format!("--seconds is at most {SECONDS_MAX}")));
    }
    Ok(())
}

async fn play(args: &DemoArgs) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::Failed(format!("the demo broke off: {error:#}"));
    let programs = Programs::find(args.engine, args.engine_bin.as_deref()).await?;
    let folder = tempfile::Builder::new().prefix("sheaf-demo-").tempdir()?;
    let clock = Clock::system();
    let data = Dataset::new(args.points, args.dim, args.seed).map_err(failed)?;
    output::say(format!(
        "Starting 1 coordinator, 2 routers, 3 shards and 4 standbys in {}{}",
        folder.path().display(),
        programs.sentence(story::NODES)
    ));
    let mut cluster =
        Cluster::start(folder.path(), story::NODES, &programs).await.map_err(failed)?;
    let world = World::new(data, clock);
    let mut story =
        Story::new(&mut cluster, folder.path(), Show::suited(false), args.seed).map_err(failed)?;
    let told = story.tell(world, args.seconds).await;
    let (world, findings, moving) = match told {
        Ok(told) => told,
        Err(error) => {
            let logs: String = cluster
                .ended_by_themselves()
                .into_iter()
                .map(|(name, log)| format!("\n{name} ended by itself; its log ends with\n{log}"))
                .collect();
            return Err(failed(error.context(format!("could not go on{logs}"))));
        }
    };
    output::say(format!("\n{}", findings.text(&world.tally(), &moving)));
    if let Some(file) = &args.json {
        let report = findings.report(&world.tally());
        let text = serde_json::to_vec_pretty(&report)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        std::fs::write(file, text)
            .map_err(|error| Failure::Failed(format!("can't write {}: {error}", file.display())))?;
    }
    let passed = findings.passed(&world.tally());
    if args.keep {
        keep(&cluster).await;
    }
    cluster.stop().await;
    if passed { Ok(()) } else { Err(Failure::Failed("a promise broke".to_owned())) }
}

/// Prints the URLs and waits for ever: a signal ends the whole demo.
async fn keep(cluster: &Cluster) {
    let routers: Vec<&str> = cluster.routers.iter().map(|router| router.url.as_str()).collect();
    let databases: Vec<&str> = cluster.servers.iter().map(Server::url).collect();
    let databases = if databases.is_empty() {
        String::new()
    } else {
        format!("\n  databases    {}", databases.join("  "))
    };
    output::say(format!(
        "\nThe cluster goes on running; Ctrl-C stops it.\n  coordinator  {}\n  routers      {}{}\n\n  \
         export SHEAF_COORDINATOR={} SHEAF_ROUTER=\"{}\"\n  sheaf status",
        cluster.coordinator.url,
        routers.join("  "),
        databases,
        cluster.coordinator.url,
        routers.join(" "),
    ));
    std::future::pending::<()>().await;
}

/// Shared by the tasks of the load.
type SharedWorld = Arc<World>;
