//! One search from beginning to end: how many states there are, what broke, what was met.

use std::collections::BTreeMap;

use stateright::{Checker, HasDiscoveries, Model};

use crate::clock;
use crate::letter::first_broken;
use crate::marks::Mark;
use crate::scope::Scope;
use crate::setup::prepare;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Steps from one state to another, each state's once.
    pub steps: usize,
    /// Different states.
    pub states: usize,
    /// Steps from the first state to the farthest.
    pub depth: usize,
    pub seconds: f64,
    /// Whether every state was searched.
    pub exhausted: bool,
    /// The broken promise with the steps that lead to it.
    pub letter: Option<String>,
    pub marks: BTreeMap<Mark, u64>,
}

/// Searches all states of a scope; ends at the first broken promise.
///
/// # Errors
/// The cluster doesn't come up.
pub fn search(scope: &Scope, threads: usize, steps_max: Option<usize>) -> anyhow::Result<Found> {
    let search = prepare(scope)?;
    let began = clock::now();
    let mut checker = search.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(steps_max) = steps_max {
        checker = checker.target_state_count(steps_max);
    }
    let checker = checker.spawn_bfs().join();
    let seconds = clock::now().duration_since(began).as_secs_f64();
    let model = checker.model();
    let marks = Mark::ALL.iter().map(|mark| (*mark, model.marks.count(*mark))).collect();
    let letter = first_broken(model, checker.discoveries().into_values());
    let steps = checker.state_count();
    Ok(Found {
        steps,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds,
        exhausted: letter.is_some() || steps_max.is_none_or(|max| steps < max),
        letter,
        marks,
    })
}

impl Found {
    pub fn head() -> String {
        let per_s = "states/s";
        format!(
            "{:<24} {:>9} {:>10} {:>6} {:>8} {per_s:>9}",
            "scope", "states", "steps", "depth", "seconds"
        )
    }

    pub fn line(&self, name: &str) -> String {
        let per_s = self.states as f64 / self.seconds.max(0.001);
        let Self { steps, states, depth, seconds, .. } = self;
        format!("{name:<24} {states:>9} {steps:>10} {depth:>6} {seconds:>8.1} {per_s:>9.0}")
    }

    /// Takes another search into the sum.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.states += other.states;
        self.depth = self.depth.max(other.depth);
        self.seconds += other.seconds;
    }

    /// What the scope was to meet and didn't.
    pub fn missing(&self, scope: &Scope) -> Vec<Mark> {
        let met = |mark: &Mark| self.marks.get(mark).is_some_and(|count| *count > 0);
        scope.meets.iter().copied().filter(|mark| !met(mark)).collect()
    }
}
