//! The zoo before the exhaustive harness: a defect is found when a promise that its header names breaks in some state of a
//! small cluster. A defect that needs a larger one than those stays unfound, so this is a measure and no duty.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{Fate, Harness, Mutant, build};

/// Builds the exhaustive harness with the defect in it and lets it search the scopes of `ci`.
pub(super) fn hunt(root: &Path, zoo: &Path, mutant: &Mutant) -> anyhow::Result<Fate> {
    build(Harness::Exhaustive, zoo, mutant)?;
    let mut command = Command::new(Harness::Exhaustive.binary(zoo));
    let ran = command.current_dir(root).args(["--scope", "ci"]).output()?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let sum = text.lines().find(|line| line.starts_with("all "));
    let sum = sum.with_context(|| format!("{}: the harness said {text}", mutant.name))?;
    let mut columns = sum.split_whitespace().skip(1);
    let states = columns.next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let seconds = columns.nth(2).and_then(|text| text.parse().ok()).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("FAILED  "));
    let number = found.and_then(|found| found.split_whitespace().next()).unwrap_or_default();
    let named = mutant.fires.iter().any(|wanted| wanted == number);
    let as_expected = if mutant.fires.is_empty() { found.is_none() } else { named };
    let told = found.unwrap_or("nothing fired").chars().take(100).collect();
    Ok(Fate { name: mutant.name.clone(), told, seeds: states, seconds, as_expected })
}
