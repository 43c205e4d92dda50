//! Makes a failing plan smaller for as long as the same thing breaks: fewer steps, fewer faults, a smaller world (delta debugging).
//!
//! Each try is a whole run. Several are made at once; the first that still fails, in their order, is kept, so threads change nothing.

use std::path::Path;

use crate::knobs::Knobs;
use crate::plan::{Deed, Plan, Step};
use crate::report::Outcome;
use crate::scenario;
use crate::swarm::run_plan;
use crate::trace::Trace;

/// Steps of a plan that people can follow. Source: the goal of the proof.
const GOAL: usize = 25;
/// Other seeds that are tried once nothing more can be left out of a longer plan.
const LUCK: u64 = 6;

/// What became of a plan.
#[derive(Debug)]
pub struct Shrunk {
    pub plan: Plan,
    pub outcome: Outcome,
    /// Steps and constant faults, before and after.
    pub before: usize,
    pub after: usize,
    pub runs: u64,
}

struct Shrinker<'a> {
    name: &'a str,
    /// What has to break.
    number: String,
    best: Plan,
    outcome: Outcome,
    threads: usize,
    /// Whether it has taken long enough.
    late: &'a dyn Fn() -> bool,
    runs: u64,
    /// How many other seeds each try has, too.
    luck: u64,
}

/// Makes a plan smaller that fails, until it is late. `None`: it doesn't fail.
pub fn shrink(
    name: &str,
    mut plan: Plan,
    threads: usize,
    late: &dyn Fn() -> bool,
) -> Option<Shrunk> {
    let before = plan.size();
    by_time(&mut plan.steps);
    let outcome = run_plan(name, plan.clone(), Trace::new(false), None);
    let number = outcome.failure.as_ref()?.number().to_owned();
    let mut shrinker =
        Shrinker { name, number, best: plan, outcome, threads, late, runs: 1, luck: 0 };
    shrinker.forget_the_future();
    loop {
        let size = |it: &Shrinker| (it.best.size(), world_size(&it.best.knobs));
        let was = size(&shrinker);
        shrinker.fewer_steps();
        shrinker.calmer_knobs();
        shrinker.smaller_world();
        if shrinker.is_late() {
            break;
        }
        if size(&shrinker) == was {
            if shrinker.luck > 0 || shrinker.best.size() <= GOAL {
                break;
            }
            shrinker.luck = LUCK;
        }
    }
    let Shrinker { best: plan, outcome, runs, .. } = shrinker;
    let after = plan.size();
    Some(Shrunk { plan, outcome, before, after, runs })
}

impl Shrunk {
    /// What broke, and the line that shows it again once the plan is in this file.
    ///
    /// # Errors
    /// Nothing broke, or the plan can't be written.
    pub fn letter(&self, file: &Path, seconds: f64) -> Result<String, String> {
        let Some(failure) = &self.outcome.failure else { return Err("nothing broke".to_owned()) };
        Ok(format!(
            "shrunk  {} steps of {} in {} runs, {:.1} s: {} at event {}\n{}replay  cargo xtask scenario run {} --log",
            self.after,
            self.before,
            self.runs,
            seconds,
            failure.violation.label,
            failure.event,
            scenario::write(&self.plan, &self.about())?,
            file.display(),
        ))
    }

    /// What the plan shows, in a line.
    fn about(&self) -> String {
        let label = self.outcome.failure.as_ref().map_or("nothing", |it| it.violation.label);
        format!("{} seed {}: {label}", self.outcome.name, self.outcome.seed)
    }

    /// Puts the plan in a file.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, file: &Path) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", file.display());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        let text = scenario::write(&self.plan, &self.about())?;
        std::fs::write(file, text).map_err(wrong)
    }
}

/// Kinds of steps that go well together.
fn class(deed: &Deed) -> u32 {
    match deed {
        Deed::Call(call) => 100 + call.client,
        Deed::Ask(_) | Deed::AskOnce(_) | Deed::AskExpecting(_) => 2,
        Deed::Freeze { .. }
        | Deed::Slow { .. }
        | Deed::Cut { .. }
        | Deed::Jump { .. }
        | Deed::CrashAll { .. }
        | Deed::FillDisk { .. }
        | Deed::Takeover { .. } => 0,
        Deed::Crash { .. } => 1,
    }
}

/// The one order of steps in a plan; those of the same moment by kind.
fn by_time(steps: &mut [Step]) {
    steps.sort_by_key(|step| (step.phase.is_some(), step.at, class(&step.deed)));
}

fn world_size(knobs: &Knobs) -> u64 {
    let processes = knobs.gates + knobs.first_shards + knobs.routers + knobs.coordinators;
    u64::from(processes + knobs.clients) + knobs.ids + knobs.safety_us / 1_000_000
}

impl Shrinker<'_> {
    fn is_late(&self) -> bool {
        (self.late)()
    }

    /// Tries plans; keeps the first that breaks the same, and says which.
    fn first_of(&mut self, tries: Vec<Plan>) -> Option<usize> {
        self.runs += tries.len() as u64;
        let name = self.name;
        let ran = std::thread::scope(|scope| {
            let running: Vec<_> = tries
                .iter()
                .map(|plan| scope.spawn(|| run_plan(name, plan.clone(), Trace::new(false), None)))
                .collect();
            running.into_iter().map(|thread| thread.join().ok()).collect::<Vec<_>>()
        });
        let same = |outcome: &Outcome| {
            outcome.failure.as_ref().is_some_and(|failure| failure.number() == self.number)
        };
        let found = ran.iter().position(|outcome| outcome.as_ref().is_some_and(same))?;
        self.outcome = ran.into_iter().nth(found)??;
        self.best = tries.into_iter().nth(found)?;
        Some(found)
    }

    /// What would have happened after the failure.
    fn forget_the_future(&mut self) {
        let Some(end_us) = self.outcome.failure.as_ref().map(|failure| failure.at_us) else {
            return;
        };
        let mut plan = self.best.clone();
        plan.steps.retain(|step| step.at.0 <= end_us);
        self.first_of(vec![plan]);
    }

    /// Leaves out ever smaller parts, each kind of step by itself.
    fn fewer_steps(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() && !self.is_late() {
                let starts = (0..self.threads.max(1)).map(|n| at + n * size);
                let tries: Vec<Plan> = starts
                    .filter(|start| *start < self.best.steps.len())
                    .flat_map(|start| self.with_luck(self.without(start, size)))
                    .collect();
                let seeds = self.luck as usize + 1;
                let parts = tries.len() / seeds;
                at += self.first_of(tries).map_or(parts, |found| found / seeds) * size;
            }
            if size == 1 || self.is_late() {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    /// The plan, also with other seeds: what breaks by an unlikely delay may need another one without the rest.
    fn with_luck(&self, plan: Plan) -> Vec<Plan> {
        let seed = |n: u64| plan.seed.wrapping_add(n * 1_000_003);
        (0..=self.luck).map(|n| Plan { seed: seed(n), ..plan.clone() }).collect()
    }

    fn without(&self, start: usize, size: usize) -> Plan {
        let mut steps = self.best.steps.clone();
        steps.sort_by_key(|step| class(&step.deed));
        let end = (start + size).min(steps.len());
        steps.drain(start..end);
        by_time(&mut steps);
        Plan { steps, ..self.best.clone() }
    }

    /// Turns to calm whatever need not be otherwise: all of it, or one by one.
    fn calmer_knobs(&mut self) {
        let Ok(calm) = toml::Table::try_from(Knobs::calm()) else { return };
        let sizes =
            ["gates", "first_shards", "routers", "clients", "coordinators", "ids", "safety_us"];
        let calmer = |knobs: &Knobs, names: &[String]| {
            let mut table = toml::Table::try_from(knobs).ok()?;
            for name in names {
                table.insert(name.clone(), calm.get(name)?.clone());
            }
            table.try_into::<Knobs>().ok()
        };
        let names = calm.keys().filter(|name| !sizes.contains(&name.as_str())).cloned();
        let names: Vec<String> = names.collect();
        let all = std::iter::once(names.clone());
        for names in all.chain(names.iter().map(|name| vec![name.clone()])) {
            let Some(knobs) = calmer(&self.best.knobs, &names) else { continue };
            if knobs != self.best.knobs && !self.is_late() {
                self.first_of(vec![Plan { knobs, ..self.best.clone() }]);
            }
        }
    }

    /// Fewer of everything, down to one.
    fn smaller_world(&mut self) {
        type Size = (fn(&Knobs) -> u64, fn(&mut Knobs, u64), u64);
        let sizes: [Size; 7] = [
            (|k| k.clients.into(), |k, n| k.clients = n as u32, 1),
            (|k| k.routers.into(), |k, n| k.routers = n as u32, 1),
            (|k| k.coordinators.into(), |k, n| k.coordinators = n as u32, 1),
            (|k| k.gates.into(), |k, n| k.gates = n as u32, 1),
            (|k| k.first_shards.into(), |k, n| k.first_shards = n as u32, 1),
            (|k| k.ids, |k, n| k.ids = n, 1),
            (|k| k.safety_us, |k, n| k.safety_us = n, 100_000),
        ];
        for (size, set, least) in sizes {
            loop {
                let now = size(&self.best.knobs);
                let mut smaller = vec![now / 2, now - now / 4, now.saturating_sub(1)];
                if least > 1 {
                    smaller.pop();
                }
                smaller.retain(|n| (least..now).contains(n));
                smaller.dedup();
                let with = |n: &u64| {
                    let mut plan = self.best.clone();
                    set(&mut plan.knobs, *n);
                    let end_us = plan.knobs.safety_us;
                    let counts = |step: &Step| step.phase.is_some() || step.at.0 < end_us;
                    plan.steps.retain(|step| counts(step) || matches!(step.deed, Deed::Call(_)));
                    plan
                };
                let possible = smaller.iter().map(with).filter(|plan| plan.check().is_ok());
                let tries: Vec<Plan> = possible.collect();
                if self.is_late() || tries.is_empty() || self.first_of(tries).is_none() {
                    break;
                }
            }
        }
    }
}
