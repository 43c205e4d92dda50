//! `sheaf import`: loads points from a file, shows how far it is, and can be stopped and started again.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use sheaf_runtime::clock::Clock;
use sheaf_types::Metric;
use sheaf_types::limits::BULK_POINTS_MAX;

use super::Target;
use crate::client::{Client, Failure, segment};
use crate::import::progress_file::{ProgressFile, Subject};
use crate::import::source::{Source, SourceError};
use crate::import::{Loaded, Plan, load};
use crate::output;
use crate::progress::{Progress, Show};
use crate::units;

/// Requests under way at most: more would only queue up at the router.
const CONCURRENCY_MAX: usize = 64;

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// A .jsonl file ({"id", "vector", "payload"} a line), or a .npy file of vectors beside --rows
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For .npy: a .jsonl file with {"id", "payload"} for each row
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// The collection to load into
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Create the collection
    #[arg(long)]
    create: bool,
    /// Its metric, when it is created: l2, cosine or dot
    #[arg(long, value_parser = metric, default_value = "l2", requires = "create")]
    metric: Metric,
    /// Points in one request
    #[arg(long, value_name = "POINTS", default_value_t = 500)]
    batch: usize,
    /// Requests at a time
    #[arg(long, value_name = "REQUESTS", default_value_t = 4)]
    concurrency: usize,
    /// Leave out lines that are no points, instead of stopping
    #[arg(long)]
    skip_bad: bool,
    /// Begin from the first row, though an earlier run came further
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    pub target: Target,
}

fn metric(text: &str) -> Result<Metric, String> {
    serde_json::from_value(json!(text)).map_err(|_| "give l2, cosine or dot".to_owned())
}

pub async fn run(args: &ImportArgs) -> Result<(), Failure> {
    let plan = plan(args)?;
    let client = args.target.router()?;
    let files: Vec<_> = std::iter::once(args.file.as_path()).chain(args.rows.as_deref()).collect();
    let file = ProgressFile::beside(&args.file, Subject::of(&args.collection, &files)?);
    if args.restart {
        file.remove()?;
    }
    let plan = Plan { skip_rows: file.rows_done()?, ..plan };
    if args.create {
        create(&client, args).await?;
    }
    let source = open(args)?;
    let total = rows(args)?;
    let clock = Clock::system();
    let began = clock.now();
    let mut progress = Progress::new(Show::suited(args.target.json), "import");
    if plan.skip_rows > 0 && !args.target.json {
        eprintln!(
            "{} rows were loaded by an earlier run; going on behind them",
            units::count(plan.skip_rows)
        );
    }
    let loaded = load(&client, source, &plan, |loaded| {
        let now = clock.now();
        let rate = loaded.points * 1_000 / now.ms_since(began).max(1);
        progress.update(
            now.0,
            "loading",
            loaded.rows,
            total,
            &format!("{} points/s", units::count(rate)),
        );
        file.store(loaded.rows)
    });
    let loaded = loaded.await?;
    let took_ms = clock.now().ms_since(began);
    drop(progress);
    file.remove()?;
    output::answer(args.target.json, &answer(&loaded, took_ms), |_| {
        let bad = match loaded.bad_rows {
            0 => String::new(),
            bad => format!("; {} lines were no points and left out", units::count(bad)),
        };
        format!("{} points loaded in {}{bad}", units::count(loaded.points), units::millis(took_ms))
    })
}

fn answer(loaded: &Loaded, took_ms: u64) -> Value {
    json!({
        "points": loaded.points, "rows": loaded.rows, "bad_rows": loaded.bad_rows,
        "seconds": took_ms as f64 / 1e3,
    })
}

fn plan(args: &ImportArgs) -> Result<Plan, Failure> {
    if args.batch == 0 || args.batch > BULK_POINTS_MAX {
        return Err(Failure::Usage(format!("--batch is 1 to {BULK_POINTS_MAX} points")));
    }
    if args.concurrency == 0 || args.concurrency > CONCURRENCY_MAX {
        return Err(Failure::Usage(format!("--concurrency is 1 to {CONCURRENCY_MAX} requests")));
    }
    Ok(Plan {
        collection: args.collection.clone(),
        batch: args.batch,
        concurrency: args.concurrency,
        skip_bad: args.skip_bad,
        skip_rows: 0,
    })
}

fn open(args: &ImportArgs) -> Result<Source, Failure> {
    Source::open(&args.file, args.rows.as_deref())
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// Lines of the input.
fn rows(args: &ImportArgs) -> Result<u64, Failure> {
    let file = args.rows.as_ref().unwrap_or(&args.file);
    let mut input = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let mut rows = 0;
    let mut ends_in_line = false;
    loop {
        let buffer = std::io::BufRead::fill_buf(&mut input)?;
        if buffer.is_empty() {
            return Ok(rows + u64::from(ends_in_line));
        }
        rows += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        ends_in_line = buffer.last() != Some(&b'\n');
        let length = buffer.len();
        std::io::BufRead::consume(&mut input, length);
    }
}

/// Creates the collection with the dimension of the first good row; one that exists must be alike.
async fn create(client: &Client, args: &ImportArgs) -> Result<(), Failure> {
    let mut source = open(args)?;
    let dim = loop {
        if let Some(dim) = source.dim() {
            break dim;
        }
        match source.next_point() {
            Ok(Some(point)) => break point.vector.len(),
            Ok(None) => return Err(Failure::Failed("the file has no points".to_owned())),
            Err(SourceError::BadRow { .. }) if args.skip_bad => {}
            Err(error) => return Err(Failure::Failed(error.to_string())),
        }
    };
    let body = json!({ "name": args.collection, "dim": dim, "metric": args.metric });
    match client.question::<Value>("/v1/collections", &body).await {
        Err(Failure::Refused { status: 409, detail, .. }) => {
            let path = format!("/v1/collections/{}", segment(&args.collection));
            let existing: Value = client.get(&path).await?;
            let alike = existing.get("dim").and_then(Value::as_u64) == Some(dim as u64)
                && existing.get("metric") == Some(&json!(args.metric));
            if alike { Ok(()) } else { Err(Failure::Failed(detail)) }
        }
        other => other.map(drop),
    }
}
