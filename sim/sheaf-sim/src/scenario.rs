//! A plan in a file: as a machine writes it, or as a person does, with a workload and things that happen again and again.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::draw;
use crate::knobs::Knobs;
use crate::plan::{Deed, Plan, Step};
use crate::span::Span;
use crate::stats::Stats;

/// A plan that was read, what it is about and what it has to show.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub about: String,
    pub plan: Plan,
    pub expect: Expect,
    /// With which it is run. A plan that was kept shows its failure with its own.
    pub seeds: Range<u64>,
}

/// Seeds with which a scenario has to show what it is for, unless it names another number: what is expected must not be
/// one seed's luck.
const SEEDS: u64 = 8;

/// What must have happened, or the run has shown nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    pub committed: u64,
    pub aborted: u64,
    pub fences: u64,
    pub crashes: u64,
    /// Calls of the plan that were carried out.
    pub calls: u64,
}

/// Calls at a rate, of all kinds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    /// Of all clients together.
    calls_per_s: u64,
}

/// Something that happens again and again; several things take turns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    every: Span,
    #[serde(default)]
    from: Span,
    until: Span,
    #[serde(rename = "do")]
    deeds: Vec<Deed>,
}

/// The file as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    #[serde(default)]
    seed: u64,
    /// How many, from `seed` on.
    seeds: Option<u64>,
    #[serde(default)]
    knobs: Knobs,
    #[serde(default)]
    steps: Vec<Step>,
    workload: Option<Workload>,
    #[serde(default)]
    repeat: Vec<Repeat>,
    #[serde(default)]
    expect: Expect,
}

/// Reads a scenario.
///
/// # Errors
/// What is wrong with it, where, and what to do.
pub fn read(text: &str) -> Result<Scenario, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    file.knobs.check()?;
    let mut steps = file.steps;
    if let Some(Workload { calls_per_s }) = file.workload {
        if calls_per_s == 0 {
            return Err("workload.calls_per_s is 0: leave the workload out instead".to_owned());
        }
        let think_us = u64::from(file.knobs.clients) * 1_000_000 / calls_per_s;
        steps.extend(draw::calls(file.seed, &file.knobs, think_us));
    }
    for Repeat { every, from, until, deeds } in file.repeat {
        if every.0 == 0 || deeds.is_empty() {
            return Err("a repeat needs an `every` above 0 and something to `do`".to_owned());
        }
        let times = (from.0..until.0).step_by(every.0 as usize);
        let again = times.zip(deeds.iter().cycle());
        steps.extend(again.map(|(at, deed)| Step::at(Span(at), deed.clone())));
    }
    let plan = Plan { seed: file.seed, knobs: file.knobs, steps };
    plan.check()?;
    let expects = file.expect != Expect::default();
    let count = file.seeds.unwrap_or(if expects { SEEDS } else { 1 });
    if count == 0 {
        return Err("seeds is 0: it would never be run".to_owned());
    }
    let seeds = file.seed..file.seed + count;
    Ok(Scenario { about: file.about, plan, expect: file.expect, seeds })
}

/// Writes a plan as a file that [`read`] takes; each step is a line.
///
/// # Errors
/// The plan can't be written as TOML.
pub fn write(plan: &Plan, about: &str) -> Result<String, String> {
    let wrong = |error: toml::ser::Error| error.to_string();
    let value = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("about = {}\nseed = {}\n", value(about), plan.seed);
    text.push_str("steps = [\n");
    for step in &plan.steps {
        let step = toml::Value::try_from(step).map_err(wrong)?;
        text.push_str(&format!("    {step},\n"));
    }
    text.push_str("]\n\n[knobs]\n");
    let calm = toml::Table::try_from(Knobs::calm()).map_err(wrong)?;
    for (name, value) in toml::Table::try_from(&plan.knobs).map_err(wrong)? {
        if calm.get(&name) != Some(&value) {
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    Ok(text)
}

impl Expect {
    /// What didn't happen often enough.
    ///
    /// # Errors
    /// The first of it.
    pub fn judge(&self, stats: &Stats) -> Result<(), String> {
        let rows = [
            ("committed transitions", self.committed, stats.committed),
            ("aborted transitions", self.aborted, stats.aborted),
            ("fences", self.fences, stats.fences),
            ("crashes", self.crashes, stats.crashes),
            ("calls of the plan carried out", self.calls, stats.planned_done),
        ];
        match rows.into_iter().find(|(_, wanted, found)| found < wanted) {
            Some((what, wanted, found)) => {
                Err(format!("{found} {what}, but at least {wanted} were expected"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_back_as_it_was_written() {
        for seed in 0..50 {
            let plan = draw::plan(seed);
            let text = write(&plan, "a \"test\"").expect("can be written");
            let scenario = read(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.plan, plan);
            assert_eq!(scenario.about, "a \"test\"");
        }
    }

    #[test]
    fn a_bad_file_is_refused_with_the_line_and_what_is_possible() {
        let wrong = [
            ("about = ''\n[knobs]\ngats = 3\n", "line 3"),
            ("about = ''\n[knobs]\ngats = 3\n", "first_shards"),
            ("about = ''\n[[steps]]\nat = '5 parsecs'\ndo.takeover.coordinator = 0\n", "1500ms"),
            ("about = ''\n[[steps]]\nat = '5s'\ndo.explode.who = 'gate 1'\n", "crash"),
            (
                "about = ''\n[[steps]]\nat = '5s'\ndo.freeze = { who = 'gatte 1', lasts = '1s' }\n",
                "gate 2",
            ),
            ("about = ''\n[[steps]]\nat = '50s'\ndo.takeover.coordinator = 0\n", "safety_us"),
            ("about = ''\n[knobs]\ngates = 2\nfirst_shards = 3\n", "raise knobs.gates"),
            ("about = ''\n[knobs]\nloss = 1.5\n", "0 to 1"),
            ("seed = 3\n", "about"),
            ("about = ''\nseeds = 0\n", "never be run"),
        ];
        for (text, hint) in wrong {
            let error = read(text).expect_err(text);
            assert!(error.contains(hint), "{text}\n{error}");
        }
    }

    #[test]
    fn what_is_expected_has_to_hold_for_several_seeds() {
        let seeds = |text: &str| read(text).unwrap_or_else(|error| panic!("{error}")).seeds;
        assert_eq!(seeds("about = ''\nseed = 5\n"), 5..6);
        assert_eq!(seeds("about = ''\nexpect.committed = 1\n"), 0..8);
        assert_eq!(seeds("about = ''\nseeds = 2\nexpect.committed = 1\n"), 0..2);
    }

    #[test]
    fn a_workload_has_its_rate_and_a_repeat_its_turns() {
        let text = "about = ''\nknobs = { clients = 20, safety_us = 4_000_000 }\nworkload.calls_per_s = 1_000\n\
                    [[repeat]]\nevery = '500ms'\nuntil = '2s'\ndo = [{ ask = 'cancel' }, { ask = 'pause' }]\n";
        let plan = read(text).unwrap_or_else(|error| panic!("{error}")).plan;
        let early = plan.steps.iter().filter(|step| step.at < Span(4_000_000));
        let (calls, asks): (Vec<&Step>, Vec<&Step>) =
            early.partition(|step| matches!(step.deed, Deed::Call(_)));
        assert!((3_600..4_400).contains(&calls.len()), "{}", calls.len());
        assert_eq!(asks.len(), 4);
        assert_ne!(asks[0].deed, asks[1].deed);
    }
}
