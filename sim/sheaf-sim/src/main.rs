//! The simulator's command line: `swarm --seeds A..B`, `swarm --seed N [--until EVENT] [--log]`, `story NAME --seed N`, `stories`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sheaf_sim::bench::bench;
use sheaf_sim::marks;
use sheaf_sim::picture;
use sheaf_sim::report::{Outcome, keep_panics};
use sheaf_sim::swarm::{Wanted, What, run, run_all, run_recorded};
use sheaf_sim::trace::{Kept, Trace};
use sheaf_sim::{corpus, shrink, stories, twin};

/// A run allocates all the time: this one costs less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage:
  sheaf-sim swarm --seeds A..B [--threads N] [--failures N]   many seeds
  sheaf-sim swarm --seeds A..B --named I7,P1                   until one of these fires
  sheaf-sim swarm --seeds A..B [--minutes M] [--hashes] [--json FILE]   no longer than that; every trace; the counts in a file
  sheaf-sim swarm --seed N [--until EVENT] [--log]            one seed
  sheaf-sim story NAME --seed N [--until EVENT] [--log]       one story; `sheaf-sim stories` lists the names
  sheaf-sim stories [--seeds A..B]                            lists the stories, or runs them all
  --shrink [--seconds N] [--keep FILE], with the above         the first failure's plan is made as small as possible
  sheaf-sim scenario run FILE [--seeds A..B] [--trace FILE] [--log] [--html FILE] [--shrink]   a plan written by hand, kept, or of a trace
  sheaf-sim scenario replay FILE                              a scenario or a trace: the trace must be the same again
  sheaf-sim twin [--seeds A..B] [--threads N]                 every answer beside that of a shard that never migrates
  sheaf-sim corpus [FOLDER…]                                  every file of sim/corpus and sim/scenarios, or of these
  sheaf-sim bench [--seeds A..B] [--threads N]                how fast it is
  --html FILE, with one seed: the run as a picture
  --trace FILE, with one seed: its plan and every event
  --marks, with --seeds A..B: which coverage marks were hit; one that never was is a failure after enough seeds";

/// Seconds in which a plan is made smaller.
const SHRINK_S: u64 = 60;

/// What was asked for.
struct Options {
    seeds: Option<std::ops::Range<u64>>,
    until: Option<u64>,
    log: bool,
    threads: usize,
    failures: usize,
    wanted: Wanted,
    html: Option<PathBuf>,
    marks: bool,
    hashes: bool,
    minutes: Option<f64>,
    json: Option<PathBuf>,
    shrink: bool,
    seconds: u64,
    /// Where the shrunk plan goes.
    keep: Option<PathBuf>,
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    keep_panics();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match obey(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Wrong::Words(why)) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Wrong::File(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Why nothing was run.
enum Wrong {
    /// The command line.
    Words(String),
    /// A file.
    File(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Words(why)
    }
}

fn obey(arguments: &[String]) -> Result<bool, Wrong> {
    let (command, rest) = arguments.split_first().ok_or("no command was given".to_owned())?;
    match command.as_str() {
        "bench" => {
            let options = options(rest)?;
            Ok(bench(&options.seeds.unwrap_or(0..2_000), options.threads))
        }
        "swarm" => Ok(go(&What::Swarm, &options(rest)?)?),
        "story" => {
            let (name, rest) = rest.split_first().ok_or("no story was named".to_owned())?;
            let story = stories::named(name).ok_or(format!("there is no story {name}"))?;
            Ok(go(&What::Story(name.clone(), story), &options(rest)?)?)
        }
        "stories" => {
            let options = options(rest)?;
            if options.seeds.is_none() {
                for (name, _) in stories::all() {
                    println!("{name}");
                }
                return Ok(true);
            }
            let all = stories::all();
            let mut green = true;
            for (name, story) in all {
                green &= go(&What::Story(name, story), &options)?;
            }
            Ok(green)
        }
        "twin" => {
            let options = options(rest)?;
            Ok(twin::run_all(options.seeds.unwrap_or(0..300), options.threads))
        }
        "scenario" => scenario(rest),
        "corpus" => {
            let folders: Vec<PathBuf> = rest.iter().map(PathBuf::from).collect();
            let folders = if folders.is_empty() { corpus::folders() } else { folders };
            corpus::run(folders).map_err(Wrong::File)
        }
        other => Err(Wrong::Words(format!("there is no command {other}"))),
    }
}

fn scenario(arguments: &[String]) -> Result<bool, Wrong> {
    let [verb, file, rest @ ..] = arguments else {
        return Err(Wrong::Words("scenario needs `run` or `replay`, and a file".to_owned()));
    };
    let (file, options) = (Path::new(file), options(rest)?);
    match verb.as_str() {
        "run" => {
            let scenario = corpus::read(file).map_err(Wrong::File)?.0;
            println!("{}", scenario.about);
            let seed = scenario.plan.seed;
            let what = What::Scenario(file.display().to_string(), Arc::new(scenario));
            let seeds = Some(options.seeds.clone().unwrap_or(seed..seed + 1));
            let passed = go(&what, &Options { seeds, ..options })?;
            if passed {
                println!("passed");
            }
            Ok(passed)
        }
        "replay" if options.html.is_some() => {
            Err(Wrong::Words("a replay has no picture: `scenario run` has".to_owned()))
        }
        "replay" => corpus::replay(file).map_err(Wrong::File),
        other => Err(Wrong::Words(format!("scenario can `run` or `replay`, but not {other}"))),
    }
}

/// Makes the plan of a failure as small as possible, and keeps it in a file.
#[expect(
    clippy::disallowed_methods,
    reason = "bounds how long is spent on making a plan smaller; decides nothing in a run"
)]
fn shrink(what: &What, seed: u64, options: &Options) -> Result<(), String> {
    let began = std::time::Instant::now();
    let late = || began.elapsed() >= Duration::from_secs(options.seconds);
    let Some(shrunk) = shrink::shrink(what.name(), what.plan(seed), options.threads, &late) else {
        return Err(format!("{} seed {seed} didn't fail again", what.name()));
    };
    let name = corpus::name_of(Path::new(what.name()));
    let usual = || PathBuf::from(format!("target/plans/{name}-{seed}.toml"));
    let file = options.keep.clone().unwrap_or_else(usual);
    shrunk.save(&file)?;
    println!("{}\n", shrunk.letter(&file, began.elapsed().as_secs_f64())?);
    Ok(())
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..1e6).contains(minutes));
    minutes.ok_or(format!("{text} is no number of minutes"))
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        seeds: None,
        until: None,
        log: false,
        threads: 2,
        failures: 1,
        wanted: Wanted::default(),
        html: None,
        marks: false,
        hashes: false,
        minutes: None,
        json: None,
        shrink: false,
        seconds: SHRINK_S,
        keep: None,
        trace: None,
    };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        let number =
            |text: &String| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        match flag.as_str() {
            "--seed" => {
                let seed = number(value()?)?;
                options.seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) =
                    text.split_once("..").ok_or(format!("{text} is not a range such as 0..100"))?;
                let seeds = number(&from.to_owned())?..number(&to.to_owned())?;
                if seeds.is_empty() {
                    return Err(format!("{text} holds no seed"));
                }
                options.seeds = Some(seeds);
            }
            "--until" => options.until = Some(number(value()?)?),
            "--threads" => options.threads = number(value()?)? as usize,
            "--failures" => options.failures = number(value()?)? as usize,
            "--named" => {
                options.wanted.numbers = value()?.split(',').map(str::to_owned).collect();
            }
            "--html" => options.html = Some(PathBuf::from(value()?)),
            "--marks" => options.marks = true,
            "--hashes" => {
                options.hashes = true;
                options.wanted.thorough = true;
            }
            "--minutes" => options.minutes = Some(minutes(value()?)?),
            "--json" => options.json = Some(value()?.into()),
            "--log" => options.log = true,
            "--shrink" => options.shrink = true,
            "--seconds" => options.seconds = number(value()?)?,
            "--keep" => options.keep = Some(value()?.into()),
            "--trace" => options.trace = Some(value()?.into()),
            other => return Err(format!("there is no option {other}")),
        }
    }
    Ok(options)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the simulator took is told to people, and bounds how many seeds it runs; it decides nothing in a run"
)]
fn go(what: &What, options: &Options) -> Result<bool, String> {
    let seeds = options.seeds.clone().unwrap_or(0..100);
    let single = seeds.end - seeds.start == 1;
    if !single && (options.html.is_some() || options.trace.is_some()) {
        return Err("--html and --trace show one run: name it with --seed N".to_owned());
    }
    let began = std::time::Instant::now();
    let table = marks::Table::default();
    let time = options.minutes.map(|minutes| std::time::Duration::from_secs_f64(minutes * 60.0));
    let hashes = std::sync::Mutex::new(BTreeMap::new());
    let (stats, failures) = if single {
        let outcome = one(what, seeds.start, options)?;
        println!("seed {} trace {:016x}", outcome.seed, outcome.hash);
        (outcome.stats, vec![outcome])
    } else {
        let each = |outcome: &Outcome| {
            table.take_in(outcome.seed);
            if options.hashes
                && let Ok(mut hashes) = hashes.lock()
            {
                hashes.insert(outcome.seed, outcome.hash);
            }
            time.is_none_or(|time| began.elapsed() < time)
        };
        run_all(what, seeds, options.threads, options.failures, &options.wanted, &each)
    };
    for (seed, hash) in hashes.into_inner().unwrap_or_default() {
        println!("seed {seed} trace {hash:016x}");
    }
    let letters: Vec<String> = failures.iter().filter_map(Outcome::letter).collect();
    if let Some((first, failure)) =
        failures.iter().find_map(|first| Some((first, first.failure.as_ref()?)))
    {
        println!("found   {} by seed {}", failure.violation.label, first.seed);
    }
    for letter in &letters {
        println!("{letter}\n");
    }
    let broke = |it: &&Outcome| it.failure.as_ref().is_some_and(|it| !it.shows_too_little());
    if let Some(first) = failures.iter().find(|it| options.shrink && broke(it)) {
        shrink(what, first.seed, options)?;
    }
    println!("{}: {}", what.name(), stats.line(began.elapsed().as_millis() as u64));
    let missed = if options.marks { tell_marks(&table, stats.seeds) } else { Vec::new() };
    if let Some(file) = &options.json {
        let findings: Vec<&String> = letters.iter().chain(&missed).collect();
        let told = json!({ "figures": stats, "findings": findings });
        std::fs::write(file, told.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(letters.is_empty() && missed.is_empty())
}

/// Prints which marks were hit. Returns what is wrong with that.
fn tell_marks(table: &marks::Table, seeds: u64) -> Vec<String> {
    print!("{}", table.text());
    let never = table.never();
    println!("marks: {} of {} hit", marks::DECLARED.len() - never.len(), marks::DECLARED.len());
    for name in &never {
        println!("never   {name}");
    }
    let missed = never.into_iter().filter(|_| seeds >= marks::SEEDS_MIN);
    missed.map(|name| format!("never in {seeds} seeds: {name}")).collect()
}

/// Runs one seed; draws it and keeps its trace if they are wanted.
fn one(what: &What, seed: u64, options: &Options) -> Result<Outcome, String> {
    let kept = options.trace.as_ref().map(|_| Kept::default());
    let trace = match &kept {
        Some(kept) => Trace::keeping(Kept::clone(kept)),
        None => Trace::new(options.log),
    };
    let outcome = match &options.html {
        None => run(what, seed, trace, options.until),
        Some(file) => {
            let (outcome, recorder) = run_recorded(what, seed, trace, options.until);
            if let Some(recorder) = recorder {
                picture::write(&recorder, file)?;
                println!("picture {}", file.display());
            }
            outcome
        }
    };
    if let (Some(kept), Some(file)) = (kept, &options.trace) {
        let text = corpus::trace_text(&what.plan(seed), what.name(), &kept.borrow(), outcome.hash)?;
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("trace in {}", file.display());
    }
    Ok(outcome)
}
