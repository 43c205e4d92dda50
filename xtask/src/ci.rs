//! `cargo xtask ci`: the steps, their order, and what is printed about them.
//!
//! Stops at the first failure and says how to run that step again. Never repairs anything.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::now;
use crate::{metadata, sim, tidy};

/// All that a binary can have: the tests of processes run one that can keep its state in etcd.
pub const FEATURES: [&str; 2] = ["--features", "sheaf/etcd"];

/// What must pass, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    Format,
    Lint,
    Tidy,
    Build,
    Test,
    Meta,
    Simulate,
    Exhaust,
    Turmoil,
}

/// Runs the steps, from `from` on. `commands` are the names that may follow `cargo xtask`.
///
/// # Errors
/// When a step can't even be started. A step that fails is not an error: it is in the exit code.
pub fn run(root: &Path, from: Step, commands: &[String]) -> anyhow::Result<ExitCode> {
    let mut times = Vec::new();
    for &step in Step::value_variants().iter().skip_while(|&&step| step != from) {
        let name = step.name();
        let mut command = step.command(root)?;
        let shown = command.as_ref().map_or("cargo xtask tidy".to_owned(), shown);
        println!("\n== {name}: {shown}");
        let (passed, took) = timed(|| match &mut command {
            Some(command) => Ok(command.status()?.success()),
            None => Ok(tidy::run(root, commands)? == ExitCode::SUCCESS),
        });
        times.push(format!("{name} {}", seconds(took)));
        if !passed? {
            println!("\nci: FAILED at {name} ({})", times.join(" · "));
            println!("only this step:  {shown}");
            println!("from here on:    cargo xtask ci --from {name}");
            return Ok(ExitCode::FAILURE);
        }
        println!("== {name}: ok, {}", seconds(took));
    }
    println!("\nci: passed ({})", times.join(" · "));
    Ok(ExitCode::SUCCESS)
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// The step as a process; `None` for `tidy`, which runs in this one.
    fn command(self, root: &Path) -> anyhow::Result<Option<Command>> {
        let mut command = crate::cargo(root);
        match self {
            Self::Format => command.args(["fmt", "--all", "--check"]),
            Self::Lint => {
                command.args(["clippy", "--workspace", "--all-targets"]).args(FEATURES);
                command.args(["--", "-D", "warnings"])
            }
            Self::Tidy => return Ok(None),
            // The selection of packages that the tests have, or features differ and half is built twice.
            Self::Build => {
                command.args(["build", "--workspace", "--bins", "--tests"]).args(FEATURES)
            }
            Self::Test => {
                command.env("SHEAF_BIN", built(root, "sheaf")?);
                match has_nextest(root) {
                    true => command.args(["nextest", "run", "--workspace"]),
                    false => command.args(["test", "--workspace", "--lib", "--bins", "--tests"]),
                };
                command.args(FEATURES)
            }
            // Before all else that is simulated: what can't be replayed proves nothing.
            Self::Meta => {
                command.args(["xtask", "sim", "meta", "--binary"]).arg(built(root, "sheaf-sim")?)
            }
            Self::Simulate => {
                command = Command::new(built(root, "sheaf-sim")?);
                command.current_dir(root);
                command.args(sim::SMOKE)
            }
            Self::Exhaust => {
                command = Command::new(built(root, "sheaf-model")?);
                command.current_dir(root);
                command.args(["--scope", "ci"])
            }
            Self::Turmoil => command.args(["xtask", "sim", "turmoil", "smoke"]),
        };
        Ok(Some(command))
    }
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.display(), value.display()))
    });
    let args = command.get_args().map(|arg| arg.display().to_string());
    let program = Path::new(command.get_program());
    let is_cargo = program.file_stem().is_some_and(|name| name == "cargo");
    let program = if is_cargo { "cargo".to_owned() } else { program.display().to_string() };
    set.chain([program]).chain(args).collect::<Vec<_>>().join(" ")
}

/// One of the binaries that the step `build` made: to build the simulator with its own profile, too, would take longer than all that
/// is simulated here.
fn built(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(metadata::read(root)?.target_directory.join("debug").join(name))
}

fn has_nextest(root: &Path) -> bool {
    let mut command = crate::cargo(root);
    command.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> (anyhow::Result<T>, Duration) {
    let started = now();
    let result = work();
    (result, now() - started)
}

fn seconds(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_can_be_run_by_pasting_its_line() {
        for step in Step::value_variants() {
            let command = step.command(&crate::root()).expect("cargo knows this workspace");
            let line = command.as_ref().map_or("cargo xtask tidy".to_owned(), shown);
            let is_built = line.starts_with("SHEAF_BIN=") || line.contains("/debug/sheaf-");
            assert!(line.starts_with("cargo ") || is_built, "{line}");
        }
    }

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
