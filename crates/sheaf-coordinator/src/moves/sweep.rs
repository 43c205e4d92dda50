//! After the commit: when gates may delete what they don't own, and when a transition has ended.

use sheaf_protocol::GateReport;
use sheaf_types::{ShardId, mark};

use super::waiting::{Waiting, Why};
use super::{Facts, confirmations, end};
use crate::record::{CoordinatorRecord, HistoryKind, Outcome, Phase, Transition};

/// Permits the sweep once every recipient has confirmed the commit.
pub(super) fn permit(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    if unconfirmed(facts, transition).next().is_some() {
        return None;
    }
    let mut record = facts.draft();
    let running = record.transition.as_mut()?;
    running.phase = Phase::Sweep { permitted: true };
    running.confirmed = confirmations(facts.clock);
    let (id, count) = (running.id, running.recipients.len());
    let text =
        format!("{count} recipients of {id} have confirmed; donors may delete what has moved");
    record.note(facts.now, HistoryKind::Transition, text, Some(id));
    Some(record)
}

/// Ends the transition once every gate is clean, or was silent for long.
pub(super) fn finish(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    if unswept(facts, transition).any(|waiting| !facts.is_given_up(waiting.shard)) {
        return None;
    }
    let unswept: Vec<ShardId> = unswept(facts, transition).map(|waiting| waiting.shard).collect();
    mark!(!unswept.is_empty(), "a transition ends without a gate that is silent");
    let reason = if unswept.is_empty() {
        "all gates are swept".to_owned()
    } else {
        format!("{} gates don't answer and will be swept when they are back", unswept.len())
    };
    Some(end(facts, Outcome::Committed, reason, unswept))
}

/// Whether this recipient durably serves the committed map, under the identity that it was admitted with.
pub(super) fn confirms(record: &CoordinatorRecord, shard: ShardId, report: &GateReport) -> bool {
    let admitted = record.map.shard(shard).map(|entry| &entry.store_id);
    report.shard == Some(shard)
        && Some(&report.store_id) == admitted
        && report.cluster_id.as_ref() == Some(record.map.cluster_id())
        && report.map_version >= Some(record.map.version())
}

/// The recipients that haven't confirmed.
pub(super) fn unconfirmed<'a>(
    facts: &'a Facts<'_>,
    transition: &'a Transition,
) -> impl Iterator<Item = Waiting> + 'a {
    transition.recipients.iter().filter_map(move |&shard| {
        let why = match facts.contacts.fresh(shard) {
            None => Why::of_silence(facts, shard),
            Some(report) if confirms(facts.record, shard, report) => return None,
            Some(_) => Why::OtherMap,
        };
        Some(Waiting { shard, why })
    })
}

/// The gates that may still hold what they don't own.
pub(super) fn unswept<'a>(
    facts: &'a Facts<'_>,
    transition: &'a Transition,
) -> impl Iterator<Item = Waiting> + 'a {
    let in_map = facts.record.map.shards().iter().filter_map(move |entry| {
        let shard = entry.id;
        let why = match facts.contacts.fresh(shard) {
            None => Why::of_silence(facts, shard),
            Some(report) if report.clean => return None,
            Some(_) => Why::Unclean,
        };
        Some(Waiting { shard, why })
    });
    let mine =
        move |retiring: &&crate::record::Retiring| retiring.transition == Some(transition.id);
    let leaving = facts.record.retiring.iter().filter(mine);
    in_map.chain(leaving.map(|retiring| Waiting { shard: retiring.shard.id, why: Why::Unretired }))
}
