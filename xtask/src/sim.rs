//! How the simulator is built and run, and which run is the smoke test of `ci`.
//!
//! Knows nothing of what the simulator does: stories, seeds and flags are its own.

mod meta;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::ensure;

use crate::metadata;

/// Builds and starts the simulator; its own arguments follow.
const CARGO_ARGS: [&str; 6] = ["run", "--quiet", "--profile", "sim", "--package", "sheaf-sim"];

/// Builds and starts the exhaustive harness.
const EXHAUSTIVE_ARGS: [&str; 6] =
    ["run", "--quiet", "--profile", "sim", "--package", "sheaf-model"];

/// Builds and starts a harness that runs the shells, too; its own arguments follow.
const SHELLS_ARGS: [&str; 4] = ["run", "--quiet", "--profile", "sim"];

/// The simulator's part in `ci`. More seeds: `cargo xtask sim swarm --seeds 0..1000000`.
pub const SMOKE: [&str; 3] = ["swarm", "--seeds", "0..6000"];

/// Passes `args` to the simulator and its exit code back; `meta` is about several processes, so it is done here, and
/// `bench` measures what the night runs.
///
/// # Errors
/// The simulator can't be built or started, or two runs of a seed differ.
pub fn run(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    match args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("meta", rest)) => {
            let (binary, rest) = match rest {
                [flag, path, rest @ ..] if flag == "--binary" => (PathBuf::from(path), rest),
                _ => (binary(root, "sim")?, rest),
            };
            println!("{}", meta::run(&binary, rest)?);
            Ok(ExitCode::SUCCESS)
        }
        Some(("bench" | "--bench", rest)) => {
            let mut command = Command::new(binary(root, "night")?);
            command.arg("bench").args(rest);
            crate::pass_on(command)
        }
        Some(("exhaustive", rest)) => {
            let mut command = crate::cargo(root);
            command.args(EXHAUSTIVE_ARGS).arg("--").args(rest);
            crate::pass_on(command)
        }
        Some((name @ ("turmoil" | "madsim"), rest)) => {
            // A workspace with flags of its own, which cargo reads from the folder that it is started in.
            let mut command = crate::cargo(&root.join("sim").join(name));
            command.args(SHELLS_ARGS).arg("--").args(rest);
            crate::pass_on(command)
        }
        _ => {
            let mut command = crate::cargo(root);
            command.args(CARGO_ARGS).arg("--").args(args);
            crate::pass_on(command)
        }
    }
}

/// Passes `args` to the simulator's `scenario`.
///
/// # Errors
/// The simulator can't be started.
pub fn scenario(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = crate::cargo(root);
    command.args(CARGO_ARGS).args(["--", "scenario"]).args(args);
    crate::pass_on(command)
}

/// The simulator, built with this profile.
pub fn binary(root: &Path, profile: &str) -> anyhow::Result<PathBuf> {
    let built = crate::cargo(root)
        .args(["build", "--quiet", "--profile", profile, "--package", "sheaf-sim"])
        .status()?;
    ensure!(built.success(), "the simulator doesn't compile");
    let name = format!("sheaf-sim{}", std::env::consts::EXE_SUFFIX);
    Ok(metadata::read(root)?.target_directory.join(profile).join(name))
}
