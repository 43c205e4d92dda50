//! P2: the calls on each point, through any router, have one order that explains every answer.
//!
//! Porcupine's idea, key by key: follow the history in time, keep every state that the point may be in together with the
//! open calls that have taken effect in it, and demand that each call has taken effect when it returns. A call of unknown
//! outcome stays open for ever: it may take effect later or never. Bounded: a key with too many states is given up, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_types::PointId;

use crate::fact::{Answer, Call, ClientKey, Fact, Kind, OpId, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P2 linearizable";

/// Steps of a key for which there is room from the start.
const STEPS: usize = 32;
/// States of one key at one time; more are given up.
const STATES_MAX: usize = 4_096;
/// Open calls on one key at one time; more are given up.
const OPEN_MAX: usize = 128;

/// What a call did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Put(Stamp),
    Delete,
    Read(Option<Stamp>),
}

#[derive(Clone, Debug)]
struct Step {
    op: OpId,
    deed: Deed,
    began: Moment,
    /// `None`: outcome unknown.
    ended: Option<Moment>,
    refused: bool,
}

/// Collects the histories and judges them at the end.
#[derive(Default)]
pub struct Linearizable {
    keys: BTreeMap<Arc<str>, BTreeMap<PointId, Vec<Step>>>,
    open: BTreeMap<OpId, (Moment, Arc<Call>)>,
    /// Keys whose histories had too many possible states.
    pub given_up: u64,
}

impl Linearizable {
    fn step(&mut self, collection: &Arc<str>, id: &PointId, step: Step) {
        let known = self.keys.get_mut(collection);
        match known.and_then(|keys| keys.get_mut(id)) {
            Some(steps) => steps.push(step),
            None => {
                let keys = self.keys.entry(Arc::clone(collection)).or_default();
                let mut steps = Vec::with_capacity(STEPS);
                steps.push(step);
                keys.insert(id.clone(), steps);
            }
        }
    }

    fn returned(&mut self, moment: Moment, op: OpId, answer: &Answer) {
        let Some((began, call)) = self.open.remove(&op) else { return };
        let refused = matches!(answer, Answer::Refused);
        let ended = (!matches!(answer, Answer::Unknown)).then_some(moment);
        let step = |deed| Step { op, deed, began, ended, refused };
        match (&*call, answer) {
            (Call::Upsert { collection, points }, _) => {
                for (id, stamp) in points {
                    self.step(collection, id, step(Deed::Put(*stamp)));
                }
            }
            (Call::Delete { collection, ids }, _) => {
                for id in ids {
                    self.step(collection, id, step(Deed::Delete));
                }
            }
            (Call::Get { collection, id }, Answer::Point(value)) => {
                self.step(collection, id, step(Deed::Read(*value)));
            }
            (Call::Gather { collection }, Answer::Points(points)) => {
                let mut found: Vec<&(PointId, Stamp)> = points.iter().collect();
                found.sort_by(|a, b| a.0.cmp(&b.0));
                let mut found = found.into_iter().peekable();
                for (id, steps) in self.keys.get_mut(collection).into_iter().flatten() {
                    // What is before it was never written.
                    while found.next_if(|(before, _)| before < id).is_some() {}
                    let value = found.next_if(|(here, _)| here == id).map(|(_, stamp)| *stamp);
                    steps.push(step(Deed::Read(value)));
                }
            }
            _ => {}
        }
    }
}

impl Checker for Linearizable {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Invoked | Kind::Returned)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Invoked { op, call } => {
                self.open.insert(*op, (moment, Arc::clone(call)));
            }
            Fact::Returned { op, answer } => self.returned(moment, *op, answer),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let open: Vec<OpId> = self.open.keys().copied().collect();
        for op in open {
            self.returned(Moment::default(), op, &Answer::Unknown);
        }
        for (collection, keys) in &self.keys {
            if collection.starts_with(crate::dropped_stays_dropped::TEMPORARY) {
                continue;
            }
            for (id, steps) in keys {
                match explain(steps) {
                    Verdict::Explained => {}
                    Verdict::TooMany => self.given_up += 1,
                    Verdict::Contradiction(at) => {
                        let key = ClientKey { collection: Arc::clone(collection), id: id.clone() };
                        return Err(Violation::new(LABEL, letter(&key, steps, at)));
                    }
                }
            }
        }
        Ok(())
    }
}

enum Verdict {
    Explained,
    TooMany,
    /// The step that can't have returned what it did.
    Contradiction(usize),
}

/// What the point may be, and which open calls have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    value: Option<Stamp>,
    done: u128,
}

/// The open calls, by slot.
struct Open<'a> {
    steps: &'a [Step],
    slots: Vec<Option<usize>>,
}

impl Open<'_> {
    fn deed(&self, slot: usize) -> Option<Deed> {
        self.slots[slot].map(|at| self.steps[at].deed)
    }

    /// Reads take effect as soon as they can: they change nothing.
    fn settle(&self, mut state: State) -> State {
        for slot in 0..self.slots.len() {
            if let Some(Deed::Read(value)) = self.deed(slot)
                && value == state.value
            {
                state.done |= 1 << slot;
            }
        }
        state
    }

    /// The states after one more write took effect.
    fn successors(&self, state: State) -> impl Iterator<Item = State> {
        let mut unknown_delete_seen = false;
        (0..self.slots.len()).filter_map(move |slot| {
            if state.done & (1 << slot) != 0 {
                return None;
            }
            let at = self.slots[slot]?;
            let value = match self.steps[at].deed {
                Deed::Put(stamp) => Some(stamp),
                Deed::Delete => {
                    // Deletes of unknown outcome are alike: one of them is enough to try.
                    let unknown = self.steps[at].ended.is_none();
                    if unknown && std::mem::replace(&mut unknown_delete_seen, true) {
                        return None;
                    }
                    None
                }
                Deed::Read(_) => return None,
            };
            Some(self.settle(State { value, done: state.done | (1 << slot) }))
        })
    }

    /// All states in which the call in `slot` has taken effect; `None` when there are too many.
    fn reach(&self, states: Vec<State>, slot: usize) -> Option<Vec<State>> {
        if states.iter().all(|state| state.done & (1 << slot) != 0) {
            return Some(states);
        }
        let mut seen: BTreeSet<State> = states.iter().copied().collect();
        let mut frontier = states;
        let mut reached = Vec::new();
        while let Some(state) = frontier.pop() {
            if state.done & (1 << slot) != 0 {
                reached.push(state);
                continue;
            }
            for next in self.successors(state) {
                if seen.insert(next) {
                    frontier.push(next);
                }
            }
            if seen.len() > STATES_MAX {
                return None;
            }
        }
        Some(reached)
    }
}

/// Follows one key's history.
fn explain(steps: &[Step]) -> Verdict {
    let is_read = |stamp| steps.iter().any(|step| step.deed == Deed::Read(Some(stamp)));
    // When, whether it is an end, and of which step.
    let mut timeline: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * steps.len());
    for (at, step) in steps.iter().enumerate() {
        let pointless = match step.deed {
            // Nobody saw it and nobody was told: it may as well not have happened.
            Deed::Put(stamp) => step.ended.is_none() && !is_read(stamp),
            Deed::Delete | Deed::Read(_) => false,
        };
        if step.refused || pointless {
            continue;
        }
        timeline.push((step.began.fact, false, at));
        if let Some(ended) = step.ended {
            timeline.push((ended.fact, true, at));
        }
    }
    timeline.sort_unstable();

    let mut open = Open { steps, slots: Vec::new() };
    let mut states = vec![State { value: None, done: 0 }];
    for (_, end, at) in timeline {
        if !end {
            let free = open.slots.iter().position(Option::is_none);
            let slot = free.unwrap_or(open.slots.len());
            if slot == OPEN_MAX {
                return Verdict::TooMany;
            }
            if slot == open.slots.len() {
                open.slots.push(None);
            }
            open.slots[slot] = Some(at);
            if matches!(steps[at].deed, Deed::Read(_)) {
                states.iter_mut().for_each(|state| *state = open.settle(*state));
                unique(&mut states);
            }
            continue;
        }
        let Some(slot) = open.slots.iter().position(|&open| open == Some(at)) else { continue };
        let Some(reached) = open.reach(states, slot) else { return Verdict::TooMany };
        if reached.is_empty() {
            return Verdict::Contradiction(at);
        }
        open.slots[slot] = None;
        states = reached;
        states.iter_mut().for_each(|state| state.done &= !(1 << slot));
        unique(&mut states);
    }
    Verdict::Explained
}

fn unique(states: &mut Vec<State>) {
    states.sort_unstable();
    states.dedup();
}

/// What a person needs to see the contradiction: the calls around it.
fn letter(key: &ClientKey, steps: &[Step], at: usize) -> String {
    let culprit = &steps[at];
    let end = culprit.ended.map_or(u64::MAX, |moment| moment.fact);
    let mut near: Vec<&Step> = steps.iter().filter(|step| step.began.fact <= end).collect();
    near.sort_unstable_by_key(|step| step.began.fact);
    let shown = near.len().saturating_sub(12);
    let mut text = format!(
        "no order explains {:?} of call {} on {key:?}; the calls before it:",
        culprit.deed, culprit.op.0
    );
    for step in &near[shown..] {
        let ended = step.ended.map_or("unknown".to_owned(), |moment| format!("{}us", moment.us));
        let refused = if step.refused { " refused" } else { "" };
        text.push_str(&format!(
            "\n        call {:>5} {:?} {}us..{ended}{refused}",
            step.op.0, step.deed, step.began.us
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(op: u64, deed: Deed, began: u64, ended: Option<u64>) -> Step {
        let moment = |fact| Moment { us: fact, event: fact, fact };
        Step { op: OpId(op), deed, began: moment(began), ended: ended.map(moment), refused: false }
    }

    fn holds(steps: &[Step]) -> bool {
        matches!(explain(steps), Verdict::Explained)
    }

    #[test]
    fn a_read_after_an_acknowledged_write_must_find_it() {
        let write = step(1, Deed::Put(7), 1, Some(2));
        assert!(holds(&[write.clone(), step(2, Deed::Read(Some(7)), 3, Some(4))]));
        assert!(!holds(&[write.clone(), step(2, Deed::Read(None), 3, Some(4))]));
        // Concurrent: both are right.
        assert!(holds(&[step(1, Deed::Put(7), 1, Some(9)), step(2, Deed::Read(None), 3, Some(4))]));
        assert!(holds(&[
            step(1, Deed::Put(7), 1, Some(9)),
            step(2, Deed::Read(Some(7)), 3, Some(4))
        ]));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_take_effect_late_but_not_come_and_go() {
        let history = |first, second| {
            vec![
                step(1, Deed::Put(7), 1, Some(2)),
                step(2, Deed::Put(8), 3, None),
                step(3, Deed::Read(Some(first)), 4, Some(5)),
                step(4, Deed::Read(Some(second)), 6, Some(7)),
            ]
        };
        assert!(holds(&history(7, 7)));
        assert!(holds(&history(7, 8)));
        assert!(holds(&history(8, 8)));
        assert!(!holds(&history(8, 7)));
    }

    #[test]
    fn a_deleted_point_stays_deleted() {
        let history = |deed| {
            vec![
                step(1, Deed::Put(7), 1, Some(2)),
                step(2, Deed::Delete, 3, Some(4)),
                step(3, deed, 5, Some(6)),
            ]
        };
        assert!(holds(&history(Deed::Read(None))));
        assert!(!holds(&history(Deed::Read(Some(7)))));
    }

    #[test]
    fn two_readers_must_agree_on_the_order_of_two_writes() {
        let history = |last| {
            vec![
                step(1, Deed::Put(7), 1, Some(20)),
                step(2, Deed::Put(8), 1, Some(20)),
                step(3, Deed::Read(Some(7)), 2, Some(3)),
                step(4, Deed::Read(Some(8)), 4, Some(5)),
                step(5, Deed::Read(Some(last)), 6, Some(7)),
            ]
        };
        assert!(holds(&history(8)));
        assert!(!holds(&history(7)));
    }

    #[test]
    fn many_unknown_deletes_cost_little() {
        let mut steps: Vec<Step> = (0..60).map(|n| step(n, Deed::Delete, n + 1, None)).collect();
        for n in 0..30 {
            steps.push(step(100 + n, Deed::Put(n + 1), 100 + n * 10, Some(101 + n * 10)));
            steps.push(step(200 + n, Deed::Read(None), 102 + n * 10, Some(103 + n * 10)));
        }
        assert!(holds(&steps));
    }
}
