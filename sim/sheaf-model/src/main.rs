//! `sheaf-model`: searches all states of a scope, or of a list of scopes, and says what it found.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use sheaf_model::marks::Mark;
use sheaf_model::run::{Found, search};
use sheaf_model::scope::{self, Scope};

#[derive(Parser)]
#[command(about = "Searches all states of a small cluster")]
struct Cli {
    /// `ci`, `nightly`, or the name of one scope
    #[arg(long, default_value = "ci")]
    scope: String,
    /// Threads that search
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Give up a scope after so many steps between states: then it is not exhausted, and fails
    #[arg(long)]
    steps_max: Option<usize>,
    /// Only list the scopes
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    sheaf_sim::report::keep_panics();
    let cli = Cli::parse();
    let scopes = scope::named(&cli.scope);
    if scopes.is_empty() {
        bail!("there is no scope {:?}; `--list` names them", cli.scope);
    }
    if cli.list {
        for scope in scope::ALL {
            println!("{:<24} {}", scope.name, scope.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut total = Found::default();
    let mut met: BTreeMap<Mark, u64> = BTreeMap::new();
    let mut passed = true;
    println!("{}", Found::head());
    for scope in &scopes {
        let found = search(scope, cli.threads, cli.steps_max)?;
        println!("{}", found.line(scope.name));
        passed &= tell(scope, &found);
        for (mark, count) in &found.marks {
            *met.entry(*mark).or_default() += count;
        }
        total.add(&found);
        if found.letter.is_some() {
            break;
        }
    }
    println!("{}", total.line("all"));
    println!("held: {}", sheaf_model::model::PROMISES.join(", "));
    for (mark, count) in met.iter().filter(|(_, count)| **count > 0) {
        println!("met {count:>10} times: {}", mark.text());
    }
    println!("exhaustive: {}", if passed { "passed" } else { "FAILED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what is wrong with a search; true when nothing is.
fn tell(scope: &Scope, found: &Found) -> bool {
    if let Some(letter) = &found.letter {
        println!("{letter}");
    }
    if !found.exhausted {
        println!("FAILED  {} was given up before all its states were searched", scope.name);
    }
    let missing = found.missing(scope);
    for mark in &missing {
        println!("FAILED  {} never met this: {}", scope.name, mark.text());
    }
    found.letter.is_none() && found.exhausted && missing.is_empty()
}
