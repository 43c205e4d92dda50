//! The fence: when it is raised, and when it is backed out.
//!
//! Never decides that a transition commits; a fence that is over its budget or has lost a gate is always backed out.

use sheaf_map::{Move, Moves};
use sheaf_protocol::CopyState;
use sheaf_types::{Time, mark};

use super::waiting::{Waiting, Why};
use super::{FENCE_TRIES_KEPT_MAX, Facts, commit, copy};
use crate::contacts::Observed;
use crate::effect::WakeReason;
use crate::record::{CoordinatorRecord, FenceTry, HistoryKind, Phase, Promotion, Transition};

/// Milliseconds from the first fence that was backed out to the next; doubles up to the maximum.
const RETRY_MS_MIN: u64 = 200;
const RETRY_MS_MAX: u64 = 10_000;
/// Fences of one transition that a simulation may end without need.
const WITHOUT_NEED_MAX: u64 = 3;

/// Raises the fence once every pair has converged and nothing speaks against it.
pub(super) fn raise(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    let blocked = transition.options.copy.paused
        || transition.options.promotion == Promotion::Awaited
        || retry_at(facts, transition) > facts.now;
    if blocked || unconverged(facts, transition, facts.moves?).next().is_some() {
        return None;
    }
    let mut record = facts.draft();
    let running = record.transition.as_mut()?;
    mark!(running.attempt.0 > 0, "a fence is tried again");
    running.attempt = running.attempt.next();
    running.phase = Phase::Fence;
    while running.fences.len() >= FENCE_TRIES_KEPT_MAX {
        running.fences.pop_front();
    }
    running.fences.push_back(FenceTry {
        attempt: running.attempt,
        began: facts.now,
        ended: None,
        outcome: "running".to_owned(),
    });
    Some(record)
}

/// Backs out of a fence that has lost a gate, has differing digests, or is over its budget.
pub(super) fn back_out(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    let reason = lost(facts, transition)
        .or_else(|| commit::differing(facts, transition, facts.moves?))
        .or_else(|| over_budget(facts, transition))
        .or_else(|| without_need(facts, transition))?;
    let mut record = facts.draft();
    let running = record.transition.as_mut()?;
    running.phase = Phase::Copy;
    let (id, attempt) = (running.id, running.attempt);
    close(running, facts.now, reason.clone());
    let text = format!("fence {attempt} of {id} was backed out: {reason}");
    record.note(facts.now, HistoryKind::Transition, text, Some(id));
    Some(record)
}

/// Ends the last try.
pub(super) fn close(transition: &mut Transition, now: Time, outcome: String) {
    if let Some(last) = transition.fences.back_mut().filter(|last| last.ended.is_none()) {
        last.ended = Some(now);
        last.outcome = outcome;
    }
}

pub(super) fn budget_wake(facts: &Facts<'_>, transition: &Transition) -> (Time, WakeReason) {
    (facts.clock.since.plus_ms(transition.options.fence_budget_ms), WakeReason::FenceBudget)
}

pub(super) fn retry_wake(facts: &Facts<'_>, transition: &Transition) -> Option<(Time, WakeReason)> {
    let at = retry_at(facts, transition);
    (at > facts.now).then_some((at, WakeReason::FenceRetry))
}

/// When the next try may begin: later after each one that was backed out.
fn retry_at(facts: &Facts<'_>, transition: &Transition) -> Time {
    match transition.attempt.0 {
        0 => Time(0),
        tries => {
            let doubled = RETRY_MS_MIN << (tries - 1).min(16);
            facts.clock.since.plus_ms(doubled.min(RETRY_MS_MAX))
        }
    }
}

/// The participants and pairs that aren't ready for the fence.
pub(super) fn unconverged<'a>(
    facts: &'a Facts<'_>,
    transition: &'a Transition,
    moves: &'a Moves,
) -> impl Iterator<Item = Waiting> + 'a {
    let pairs_of_donors = moves.pairs().chunk_by(|a, b| a.donor == b.donor);
    let copying = pairs_of_donors.filter_map(move |pairs| unconverged_pair(facts, pairs));
    copy::unprepared(facts, transition).chain(copying)
}

/// The first pair of one donor that hasn't converged. `pairs` is never empty.
fn unconverged_pair(facts: &Facts<'_>, pairs: &[Move]) -> Option<Waiting> {
    let shard = pairs.first()?.donor;
    let report = facts.contacts.fresh(shard)?; // Otherwise it is unprepared already.
    let why = match commit::outgoing(report, pairs) {
        None => Why::OtherPairs,
        Some(outgoing) => {
            let slow = outgoing.iter().find(|(_, donor)| donor.state != CopyState::Converged);
            Why::Copying { to: *slow?.0 }
        }
    };
    Some(Waiting { shard, why })
}

/// The participant that the fence can't be finished with.
fn lost(facts: &Facts<'_>, transition: &Transition) -> Option<String> {
    let mut participants = transition.donors.iter().chain(&transition.recipients);
    participants.find_map(|shard| match facts.contacts.observed(*shard)? {
        Observed::Up { report, .. } => {
            let before = facts.clock.incarnations.get(shard)?;
            (*before != report.incarnation).then(|| {
                mark!("a fence is backed out because a gate has restarted");
                format!("{shard} has restarted")
            })
        }
        Observed::Unreachable { reason, .. } => {
            mark!("a fence is backed out because a gate doesn't answer");
            Some(format!("{shard} doesn't answer: {reason}"))
        }
        Observed::Refusing { refusal, .. } => Some(format!("{shard} refuses: {refusal}")),
        Observed::Imposter { store_id, .. } => {
            Some(format!("{shard} has another data directory, {store_id}"))
        }
        // This coordinator has just restarted; the budget decides.
        Observed::Never { .. } => None,
    })
}

/// Backed out of by a simulation, a few times.
fn without_need(facts: &Facts<'_>, transition: &Transition) -> Option<String> {
    let early = transition.attempt.0 <= WITHOUT_NEED_MAX;
    let taken = early && facts.buggify.takes("a fence is backed out without need", facts.now);
    taken.then(|| "a simulation wanted it".to_owned())
}

fn over_budget(facts: &Facts<'_>, transition: &Transition) -> Option<String> {
    let budget = transition.options.fence_budget_ms;
    if facts.now.ms_since(facts.clock.since) < budget {
        return None;
    }
    mark!("a fence is over its budget");
    let first = facts.moves.and_then(|moves| commit::unproved(facts, transition, moves));
    let waited = first.map_or_else(String::new, |waiting| format!("; {waiting}"));
    Some(format!("it took longer than {budget} ms{waited}"))
}
