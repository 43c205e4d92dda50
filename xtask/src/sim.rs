//! How the simulator is built and run, and which run is the smoke test of `ci`.
//!
//! Knows nothing of what the simulator does: stories, seeds and flags are its own.

use std::path::Path;
use std::process::ExitCode;

/// Builds and starts the simulator; its own arguments follow.
pub const CARGO_ARGS: [&str; 6] = ["run", "--quiet", "--profile", "sim", "--package", "sheaf-sim"];

/// The simulator's part in `ci`. More seeds: `cargo xtask sim swarm --seeds 0..1000000`.
pub const SMOKE: [&str; 3] = ["swarm", "--seeds", "0..2000"];

/// Passes `args` to the simulator and its exit code back.
pub fn run(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = crate::cargo(root);
    command.args(CARGO_ARGS).arg("--").args(args);
    crate::pass_on(command)
}
