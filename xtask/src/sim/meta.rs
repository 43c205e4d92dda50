//! `cargo xtask sim meta`: every seed twice, in two fresh processes, and the traces must be equal.
//!
//! The processes differ in what must not matter: threads, environment, and with it every address.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Seeds that are compared when none are named.
const SEEDS: &str = "0..200";

/// What was compared, in one line. `args`: nothing, or `--seeds A..B`.
///
/// # Errors
/// Two traces differ: nothing that the simulator says can be believed or replayed until that is mended.
pub fn run(binary: &Path, args: &[String]) -> anyhow::Result<String> {
    let seeds = match args {
        [] => SEEDS,
        [flag, seeds] if flag == "--seeds" => seeds,
        other => bail!("meta takes --seeds A..B and nothing else, not {other:?}"),
    };
    let (one, other) =
        (traces(binary, seeds, "1", ""), traces(binary, seeds, "2", &"x".repeat(4_096)));
    let (one, other) = (one?, other?);
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    if let Some((one, other)) = differs {
        bail!("NOT DETERMINISTIC: one process says {one:?}, another one {other:?}");
    }
    ensure!(one == other, "NOT DETERMINISTIC: one process ran more seeds than the other");
    Ok(format!("meta: {} seeds have the same trace in two processes", one.lines().count()))
}

/// `seed N trace H` of each seed, a line each.
fn traces(binary: &Path, seeds: &str, threads: &str, ballast: &str) -> anyhow::Result<String> {
    let ran = Command::new(binary)
        .args(["swarm", "--hashes", "--seeds", seeds, "--threads", threads])
        .env("SHEAF_BALLAST", ballast)
        .output()
        .with_context(|| format!("can't start {}", binary.display()))?;
    let text = String::from_utf8(ran.stdout)?;
    let words = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "a seed fails, so traces can't be compared:\n{text}{words}");
    let traces: String = text
        .lines()
        .filter(|line| line.contains(" trace "))
        .map(|line| format!("{line}\n"))
        .collect();
    ensure!(!traces.is_empty(), "the simulator told no trace of the seeds {seeds}");
    Ok(traces)
}
