//! The running transition: when it goes on, is fenced, commits, is backed out, given up, and ends.
//!
//! Decides one durable step at a time, from what is durable and what gates have reported. Never says anything to a
//! gate: directives follow from the record.

mod abort;
mod accept;
mod commit;
mod copy;
mod fence;
mod start;
mod steer;
mod sweep;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::Moves;
use sheaf_types::buggify::Buggify;
use sheaf_types::limits::HISTORY_ENTRIES_MAX;
use sheaf_types::{Attempt, Incarnation, ShardId, Time, TransitionId};

use crate::contacts::Contacts;
use crate::record::{
    Confirmation, CoordinatorRecord, HistoryKind, Outcome, Phase, Transition, TransitionReport,
};

pub(crate) use accept::{accept, options};
pub(crate) use start::begin_next;
pub(crate) use steer::{cancel, pause, promote, resume, throttle};
pub(crate) use waiting::waiting;

/// Tries at fencing that a transition remembers, the last ones.
const FENCE_TRIES_KEPT_MAX: usize = 16;
/// Pairs of shards in one transition. Source: its proof, 150 bytes a pair, is part of every store write.
pub(crate) const PAIRS_MAX: usize = 50_000;
/// Milliseconds of silence after which a transition ends without a gate; it is told to sweep whenever it is back.
const SWEEP_SILENCE_MS_MAX: u64 = 30_000;

/// What a step is decided from.
pub(crate) struct Facts<'a> {
    pub now: Time,
    pub record: &'a CoordinatorRecord,
    pub contacts: &'a Contacts,
    pub clock: &'a PhaseClock,
    /// The moves of the running transition, until it is decided.
    pub moves: Option<&'a Moves>,
    pub buggify: Buggify,
}

/// What is remembered of the running phase, in memory: after a restart it has just begun.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct PhaseClock {
    of: Option<(TransitionId, u8, Attempt)>,
    /// When the phase became durable.
    pub since: Time,
    /// The participants' incarnations, as first heard in this phase.
    pub incarnations: BTreeMap<ShardId, Incarnation>,
    /// Recipients that confirmed the commit, and when.
    pub confirmed: BTreeMap<ShardId, Time>,
}

impl PhaseClock {
    /// Starts anew when the phase has changed.
    pub(crate) fn adopt(&mut self, now: Time, transition: Option<&Transition>) {
        let of = transition.map(|t| (t.id, phase_number(&t.phase), t.attempt));
        if of != self.of {
            *self = Self { of, since: now, ..Self::default() };
        }
    }

    /// Takes in what the gates have reported in this phase.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        record: &CoordinatorRecord,
        shard: ShardId,
        contacts: &Contacts,
    ) {
        let (Some(transition), Some(report)) = (&record.transition, contacts.fresh(shard)) else {
            return;
        };
        self.incarnations.entry(shard).or_insert(report.incarnation);
        let awaits = transition.phase == Phase::Sweep { permitted: false }
            && transition.recipients.binary_search(&shard).is_ok();
        if awaits && sweep::confirms(record, shard, report) {
            self.confirmed.entry(shard).or_insert(now);
        }
    }
}

fn phase_number(phase: &Phase) -> u8 {
    match phase {
        Phase::Prepare => 1,
        Phase::Copy => 2,
        Phase::Fence => 3,
        Phase::Sweep { permitted: false } => 4,
        Phase::Sweep { permitted: true } => 5,
        Phase::Abort { .. } => 6,
    }
}

/// The record after the next step of the running transition, `None` while it has to wait.
pub(crate) fn next_step(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    match &transition.phase {
        Phase::Prepare => abort::forced(facts).or_else(|| copy::begin(facts)),
        Phase::Copy => abort::forced(facts).or_else(|| fence::raise(facts)),
        Phase::Fence => commit::commit(facts).or_else(|| fence::back_out(facts)),
        Phase::Sweep { permitted: false } => sweep::permit(facts),
        Phase::Sweep { permitted: true } => sweep::finish(facts),
        Phase::Abort { .. } => abort::finish(facts),
    }
}

/// When the running phase is to be looked at even if nothing is heard.
pub(crate) fn wake(facts: &Facts<'_>) -> Option<(Time, crate::effect::WakeReason)> {
    let transition = facts.record.transition.as_ref()?;
    match &transition.phase {
        Phase::Prepare | Phase::Sweep { permitted: false } => None,
        Phase::Copy => fence::retry_wake(facts, transition),
        Phase::Fence => Some(fence::budget_wake(facts, transition)),
        Phase::Sweep { permitted: true } | Phase::Abort { .. } => {
            let at = facts.clock.since.plus_ms(SWEEP_SILENCE_MS_MAX);
            (at > facts.now).then_some((at, crate::effect::WakeReason::Silence))
        }
    }
}

impl Facts<'_> {
    /// The record that the next decision starts from.
    fn draft(&self) -> CoordinatorRecord {
        self.record.draft()
    }

    /// Whether a transition may end without this gate: nothing was heard for long.
    fn is_given_up(&self, shard: ShardId) -> bool {
        self.now.ms_since(self.clock.since) >= SWEEP_SILENCE_MS_MAX
            && self.contacts.silent_ms(shard, self.now) >= SWEEP_SILENCE_MS_MAX
    }

    /// Whether this transition's gates that have left know it, or are given up.
    fn has_retired(&self, transition: TransitionId) -> bool {
        let mut mine =
            self.record.retiring.iter().filter(|retiring| retiring.transition == Some(transition));
        mine.all(|retiring| self.is_given_up(retiring.shard.id))
    }
}

/// Ends the running transition of `record`.
fn end(
    facts: &Facts<'_>,
    outcome: Outcome,
    reason: String,
    unswept: Vec<ShardId>,
) -> CoordinatorRecord {
    let mut record = facts.draft();
    let Some(ended) = record.transition.take() else {
        return record;
    };
    let mut stall = sheaf_protocol::StallReport::default();
    for report in ended.donors.iter().filter_map(|donor| facts.contacts.last(*donor)) {
        stall.held_requests += report.stall.held_requests;
        stall.stall_ms_max = stall.stall_ms_max.max(report.stall.stall_ms_max);
        stall.stall_ms_p99 = stall.stall_ms_p99.max(report.stall.stall_ms_p99);
    }
    let text = match outcome {
        Outcome::Committed => format!("{} has ended: {reason}", ended.id),
        Outcome::Aborted | Outcome::Cancelled | Outcome::Refused => {
            format!("{} was given up: {reason}", ended.id)
        }
    };
    record.note(facts.now, HistoryKind::Transition, text, Some(ended.id));
    let report = TransitionReport {
        id: ended.id,
        request: ended.request,
        origin: ended.origin,
        outcome,
        reason,
        from_version: ended.from_version,
        to_version: ended.committed.map(|_| ended.next.version()),
        requested: ended.requested,
        started: Some(ended.started),
        committed: ended.committed,
        ended: facts.now,
        attempts: ended.attempt.0,
        fences: ended.fences,
        points: ended.moves.iter().map(|mv| mv.donor_digest.points).sum(),
        sent_points: ended.moves.iter().map(|mv| mv.sent_points).sum(),
        sent_bytes: ended.moves.iter().map(|mv| mv.sent_bytes).sum(),
        moves: ended.moves,
        confirmed: ended.confirmed,
        unswept,
        stall,
    };
    record.keep_report(report);
    record
}

impl CoordinatorRecord {
    /// A copy to be changed into the next version of the record.
    pub(crate) fn draft(&self) -> Self {
        Self { revision: self.revision.next(), ..self.clone() }
    }

    /// Writes a line of the history.
    pub(crate) fn note(
        &mut self,
        at: Time,
        kind: HistoryKind,
        text: String,
        transition: Option<TransitionId>,
    ) {
        while self.history.len() >= HISTORY_ENTRIES_MAX {
            self.history.pop_front();
        }
        let entry = crate::record::HistoryEntry { at, kind, text, transition };
        self.history.push_back(Arc::new(entry));
    }

    /// Keeps the report of an ended transition.
    pub(crate) fn keep_report(&mut self, report: TransitionReport) {
        while self.ended.len() >= HISTORY_ENTRIES_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Arc::new(report));
    }
}

/// The confirmations in the order of shards.
fn confirmations(clock: &PhaseClock) -> Vec<Confirmation> {
    clock.confirmed.iter().map(|(&shard, &at)| Confirmation { shard, at }).collect()
}
