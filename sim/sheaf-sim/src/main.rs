//! The simulator's command line: `swarm --seeds A..B`, `swarm --seed N [--until EVENT] [--log]`, `story NAME --seed N`, `stories`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::json;
use sheaf_sim::bench::bench;
use sheaf_sim::report::{Outcome, keep_panics};
use sheaf_sim::stories;
use sheaf_sim::swarm::{Wanted, What, run, run_all};

const USAGE: &str = "usage:
  sheaf-sim swarm --seeds A..B [--threads N] [--failures N]   many seeds
  sheaf-sim swarm --seeds A..B --named I7,P1                   until one of these fires
  sheaf-sim swarm --seeds A..B [--minutes M] [--hashes] [--json FILE]   no longer than that; every trace; the counts in a file
  sheaf-sim swarm --seed N [--until EVENT] [--log]            one seed
  sheaf-sim story NAME --seed N [--until EVENT] [--log]       one story; `sheaf-sim stories` lists the names
  sheaf-sim stories [--seeds A..B]                            lists the stories, or runs them all
  sheaf-sim bench [--seeds A..B] [--threads N]                how fast it is";

/// What was asked for.
struct Options {
    seeds: Option<std::ops::Range<u64>>,
    until: Option<u64>,
    log: bool,
    threads: usize,
    failures: usize,
    wanted: Wanted,
    hashes: bool,
    minutes: Option<f64>,
    json: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    keep_panics();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match obey(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn obey(arguments: &[String]) -> Result<bool, String> {
    let (command, rest) = arguments.split_first().ok_or("no command was given")?;
    match command.as_str() {
        "bench" => {
            let options = options(rest)?;
            Ok(bench(&options.seeds.unwrap_or(0..2_000), options.threads))
        }
        "swarm" => go(&What::Swarm, &options(rest)?),
        "story" => {
            let (name, rest) = rest.split_first().ok_or("no story was named")?;
            let story = stories::named(name).ok_or(format!("there is no story {name}"))?;
            go(&What::Story(name.clone(), story), &options(rest)?)
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
        other => Err(format!("there is no command {other}")),
    }
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
        hashes: false,
        minutes: None,
        json: None,
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
            "--hashes" => options.hashes = true,
            "--minutes" => options.minutes = Some(minutes(value()?)?),
            "--json" => options.json = Some(value()?.into()),
            "--log" => options.log = true,
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
    let began = std::time::Instant::now();
    let time = options.minutes.map(|minutes| std::time::Duration::from_secs_f64(minutes * 60.0));
    let hashes = std::sync::Mutex::new(BTreeMap::new());
    let (stats, failures) = if seeds.end - seeds.start == 1 {
        let outcome = run(what, seeds.start, options.log, options.until);
        println!("seed {} trace {:016x}", outcome.seed, outcome.hash);
        (outcome.stats, vec![outcome])
    } else {
        let each = |outcome: &Outcome| {
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
    let name = match what {
        What::Swarm => "swarm",
        What::Story(name, _) => name,
    };
    println!("{name}: {}", stats.line(began.elapsed().as_millis() as u64));
    if let Some(file) = &options.json {
        let told = json!({ "figures": stats, "findings": letters });
        std::fs::write(file, told.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(letters.is_empty())
}
