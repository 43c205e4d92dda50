//! How the bench program is built and run, always with optimisation, and which binary it measures.
//!
//! Knows nothing of topics and goals: those are the bench program's own (`benches/`).

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

/// Builds `sheaf` and the bench program, then starts the latter; its own arguments follow.
///
/// # Errors
/// Something can't be built or started.
pub fn run(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut build = crate::cargo(root);
    build.args(["build", "--quiet", "--release", "--package", "sheaf", "--package", "sheaf-bench"]);
    build.args(crate::ci::FEATURES);
    if !build.status()?.success() {
        bail!("there is nothing to measure: the release build failed");
    }
    let target = crate::metadata::read(root)?.target_directory;
    let mut bench = std::process::Command::new(target.join("release/sheaf-bench"));
    bench.current_dir(root).args(args).env("SHEAF_BIN", target.join("release/sheaf"));
    crate::pass_on(bench)
}
