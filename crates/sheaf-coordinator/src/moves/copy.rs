//! From Prepare to Copy: donors capture and recipients can receive.

use sheaf_map::Moves;
use sheaf_types::ShardId;

use super::Facts;
use super::start;
use super::waiting::{Waiting, Why};
use crate::record::{CoordinatorRecord, HistoryKind, Phase, Transition};

/// Lets the donors stream once every participant is prepared.
pub(super) fn begin(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    if unprepared(facts, transition).next().is_some() {
        return None;
    }
    let moves = Moves::between(facts.record.map.placement(), transition.next.placement());
    // What the donors said before may be from before the points were written.
    let (points_expected, bytes_expected) = start::expected(facts, &moves);
    let mut record = facts.draft();
    let running = record.transition.as_mut()?;
    running.phase = Phase::Copy;
    running.copy_since = Some(facts.now);
    running.points_expected = points_expected;
    running.bytes_expected = bytes_expected;
    let (id, donors, recipients) = (running.id, running.donors.len(), running.recipients.len());
    let text = format!("{id} copies: {donors} donors and {recipients} recipients are prepared");
    record.note(facts.now, HistoryKind::Transition, text, Some(id));
    Some(record)
}

/// The participants that don't capture or can't receive yet.
pub(super) fn unprepared<'a>(
    facts: &'a Facts<'_>,
    transition: &'a Transition,
) -> impl Iterator<Item = Waiting> + 'a {
    let participants = transition.donors.iter().chain(&transition.recipients);
    participants
        .filter_map(move |&shard| Some(Waiting { shard, why: why(facts, transition, shard)? }))
}

/// Why this participant isn't prepared, `None` when it is.
pub(super) fn why(facts: &Facts<'_>, transition: &Transition, shard: ShardId) -> Option<Why> {
    let Some(report) = facts.contacts.fresh(shard) else {
        return Some(Why::of_silence(facts, shard));
    };
    if report.shard != Some(shard) || report.transition != Some(transition.id) {
        Some(Why::NotInTransition)
    } else if report.map_version != Some(facts.record.map.version()) {
        Some(Why::OtherMap)
    } else if !report.catalogue_ready {
        Some(Why::CatalogueMissing)
    } else if !report.prepared {
        Some(Why::Unprepared)
    } else {
        None
    }
}
