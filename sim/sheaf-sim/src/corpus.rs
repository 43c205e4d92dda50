//! Plans in files: runs them, judges them by the checkers and by what they have to show, keeps and compares traces.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::plan::Plan;
use crate::report::Outcome;
use crate::scenario::{self, Scenario};
use crate::swarm::run_plan;
use crate::trace::{Kept, Trace};

/// Begins the lines of a trace that are no events.
const REMARK: &str = "# ";
/// Begins the last one.
const HASH: &str = "# trace ";

/// Where the project's own plans are.
pub fn folders() -> Vec<PathBuf> {
    let sim = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
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

/// What broke in a run of a scenario, or wasn't shown by it.
///
/// # Errors
/// The letter.
pub fn judge(file: &Path, scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
    let shown = file.display();
    if let Some(failure) = &outcome.failure {
        return Err(format!(
            "FAILED  {} event {}: {}\nfile    {shown}: {}\nreplay  cargo xtask scenario run {shown} --log",
            failure.violation.label, failure.event, failure.violation.text, scenario.about
        ));
    }
    scenario.expect.judge(&outcome.stats).map_err(|error| {
        format!("FAILED  {shown}: {error}\nreplay  cargo xtask scenario run {shown} --log")
    })
}

/// Runs every plan of some folders; false when one failed.
///
/// # Errors
/// A file can't be read or is wrong.
pub fn run(folders: Vec<PathBuf>) -> Result<bool, String> {
    let (mut count, mut failed) = (0, 0);
    for folder in folders {
        for file in files(&folder)? {
            let scenario = scenario::read_file(&file)?;
            let outcome = run_plan(&name_of(&file), scenario.plan.clone(), Trace::new(false), None);
            count += 1;
            if let Err(letter) = judge(&file, &scenario, &outcome) {
                failed += 1;
                println!("{letter}\n");
            }
        }
    }
    println!("corpus: {count} plans, {failed} failed");
    Ok(failed == 0)
}

/// Runs one plan; keeps its trace in a file when one is named.
///
/// # Errors
/// A file can't be read, is wrong, or can't be written.
pub fn run_one(
    file: &Path,
    log: bool,
    trace: Option<&Path>,
    until: Option<u64>,
) -> Result<bool, String> {
    let scenario = scenario::read_file(file)?;
    println!("{}", scenario.about);
    let outcome = match trace {
        None => run_plan(&name_of(file), scenario.plan.clone(), Trace::new(log), until),
        Some(trace) => {
            let (outcome, text) = traced(&name_of(file), &scenario, until)?;
            std::fs::write(trace, text).map_err(|error| format!("{}: {error}", trace.display()))?;
            println!("trace in {}", trace.display());
            outcome
        }
    };
    println!("seed {} trace {:016x}", outcome.seed, outcome.hash);
    println!("{}", outcome.stats.line(0));
    // A run that was broken off has shown nothing yet.
    let verdict = if until.is_none() { judge(file, &scenario, &outcome) } else { Ok(()) };
    match &verdict {
        Ok(()) => println!("passed"),
        Err(letter) => println!("{letter}"),
    }
    Ok(verdict.is_ok())
}

/// Runs a plan; its events as text, between the plan and the hash.
fn traced(
    name: &str,
    scenario: &Scenario,
    until: Option<u64>,
) -> Result<(Outcome, String), String> {
    let kept: Kept = Rc::new(RefCell::new(String::new()));
    let plan: Plan = scenario.plan.clone();
    let mut text = String::new();
    for line in scenario::write(&plan, &scenario.about)?.lines() {
        text.push_str(&format!("{REMARK}{line}\n"));
    }
    let outcome = run_plan(name, plan, Trace::keeping(Rc::clone(&kept)), until);
    text.push_str(&kept.borrow());
    text.push_str(&format!("{HASH}{:016x}\n", outcome.hash));
    Ok((outcome, text))
}

/// Runs a scenario twice, or a trace once more: nothing may differ.
///
/// # Errors
/// The file can't be read or is wrong.
pub fn replay(file: &Path) -> Result<bool, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    let (scenario, before) = if text.starts_with(REMARK) && text.contains(HASH) {
        let remarks = text.lines().map_while(|line| line.strip_prefix("#"));
        let plan: Vec<&str> = remarks.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        (scenario::read(&plan.join("\n")).map_err(named)?, text)
    } else {
        let scenario = scenario::read(&text).map_err(named)?;
        let before = traced("replay", &scenario, None)?.1;
        (scenario, before)
    };
    let (outcome, after) = traced("replay", &scenario, None)?;
    let differing = before.lines().zip(after.lines()).position(|(before, after)| before != after);
    let lengths = (before.lines().count(), after.lines().count());
    if let Some(line) = differing.or((lengths.0 != lengths.1).then(|| lengths.0.min(lengths.1))) {
        let of = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        println!("differs at line {}:\n  {}\n  {}", line + 1, of(&before), of(&after));
        return Ok(false);
    }
    println!("the same: {} lines, trace {:016x}", lengths.0, outcome.hash);
    let verdict = judge(file, &scenario, &outcome);
    if let Err(letter) = &verdict {
        println!("{letter}");
    }
    Ok(verdict.is_ok())
}
