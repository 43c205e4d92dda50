//! Plans in files: runs them, judges them by the checkers and by what they have to show, keeps and compares traces.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plan::Plan;
use crate::report::Outcome;
use crate::scenario::{self, Scenario};
use crate::swarm::{self, What};
use crate::trace::{Kept, Trace};

/// Begins the lines of a trace that are no events.
const REMARK: &str = "# ";
/// Begins the last one.
const HASH: &str = "# trace ";

/// Where the project's own plans are.
pub fn folders() -> Vec<PathBuf> {
    let sim = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("sim"));
    vec![sim.join("corpus"), sim.join("scenarios")]
}

/// A file's name without what follows the dot.
pub fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every plan of a folder, in the order of their names.
///
/// # Errors
/// The folder can't be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a scenario's file, or the plan of a trace; returns the trace, too.
///
/// # Errors
/// It can't be read, or is wrong.
pub fn read(file: &Path) -> Result<(Scenario, Option<String>), String> {
    let named = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    if !(text.starts_with(REMARK) && text.contains(HASH)) {
        return Ok((scenario::read(&text).map_err(named)?, None));
    }
    let remarks = text.lines().map_while(|line| line.strip_prefix("#"));
    let plan: Vec<&str> = remarks.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    Ok((scenario::read(&plan.join("\n")).map_err(named)?, Some(text)))
}

/// The letter of each run of a plan that broke something, or showed too little.
///
/// # Errors
/// The file can't be read or is wrong.
pub fn letters(file: &Path) -> Result<Vec<String>, String> {
    let scenario = read(file)?.0;
    let seeds = scenario.seeds.clone();
    let what = What::Scenario(file.display().to_string(), Arc::new(scenario));
    let letter = |seed| swarm::run(&what, seed, Trace::new(false), None).letter();
    Ok(seeds.filter_map(letter).collect())
}

/// Runs every plan of some folders; false when one failed.
///
/// # Errors
/// A file can't be read or is wrong.
pub fn run(folders: Vec<PathBuf>) -> Result<bool, String> {
    let (mut count, mut failed) = (0, 0);
    for folder in folders {
        for file in files(&folder)? {
            let letters = letters(&file)?;
            count += 1;
            failed += usize::from(!letters.is_empty());
            for letter in letters {
                println!("{letter}\n");
            }
        }
    }
    println!("corpus: {count} plans, {failed} failed");
    Ok(failed == 0)
}

/// The file of a run's trace: its plan, every event, and the hash.
///
/// # Errors
/// The plan can't be written as TOML.
pub fn trace_text(plan: &Plan, about: &str, events: &str, hash: u64) -> Result<String, String> {
    let plan = scenario::write(plan, about)?;
    let remarks: String = plan.lines().map(|line| format!("{REMARK}{line}\n")).collect();
    Ok(format!("{remarks}{events}{HASH}{hash:016x}\n"))
}

/// Runs a plan; its trace as text.
fn traced(file: &Path, scenario: &Scenario) -> Result<(Outcome, String), String> {
    let kept = Kept::default();
    let what = What::Scenario(file.display().to_string(), Arc::new(scenario.clone()));
    let outcome = swarm::run(&what, scenario.plan.seed, Trace::keeping(Kept::clone(&kept)), None);
    let text = trace_text(&scenario.plan, &scenario.about, &kept.borrow(), outcome.hash)?;
    Ok((outcome, text))
}

/// Runs a scenario twice, or a trace once more: nothing may differ.
///
/// # Errors
/// The file can't be read or is wrong.
pub fn replay(file: &Path) -> Result<bool, String> {
    let (scenario, trace) = read(file)?;
    let before = match trace {
        Some(trace) => trace,
        None => traced(file, &scenario)?.1,
    };
    let (outcome, after) = traced(file, &scenario)?;
    let differing = before.lines().zip(after.lines()).position(|(before, after)| before != after);
    let lengths = (before.lines().count(), after.lines().count());
    if let Some(line) = differing.or((lengths.0 != lengths.1).then(|| lengths.0.min(lengths.1))) {
        let of = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        println!("differs at line {}:\n  {}\n  {}", line + 1, of(&before), of(&after));
        return Ok(false);
    }
    println!("the same: {} lines, trace {:016x}", lengths.0, outcome.hash);
    let letter = outcome.letter();
    if let Some(letter) = &letter {
        println!("{letter}");
    }
    Ok(letter.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_shows_too_little_fails_with_the_line_that_replays_it() {
        let text = "about = ''\nknobs.safety_us = 100_000\nexpect.committed = 1\n";
        let scenario = scenario::read(text).unwrap_or_else(|error| panic!("{error}"));
        let what = What::Scenario("a/file.toml".to_owned(), Arc::new(scenario));
        let run = |until| swarm::run(&what, 3, Trace::new(false), until).letter();
        let letter = run(None).expect("nothing was committed");
        assert!(letter.contains("0 committed transitions, but at least 1"), "{letter}");
        let replay = "replay  cargo xtask scenario run a/file.toml --seed 3 --log";
        assert!(letter.ends_with(replay), "{letter}");
        assert_eq!(run(Some(100)), None, "a run that was broken off has shown nothing yet");
    }
}
