//! Giving a transition up before its commit: when that is forced, and when it has ended.

use sheaf_protocol::DirectiveRefusal;
use sheaf_types::{ShardId, Time, mark};

use super::waiting::{Waiting, Why};
use super::{Facts, end, fence};
use crate::contacts::Observed;
use crate::record::{CoordinatorRecord, HistoryKind, Origin, Outcome, Phase, Retiring, Transition};

/// Milliseconds of silence after which a recipient is gone.
const RECIPIENT_SILENCE_MS_MAX: u64 = 60_000;

/// Gives up when a recipient is gone for long, or can never follow.
pub(super) fn forced(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    let reason = transition.recipients.iter().find_map(|&shard| hopeless(facts, shard))?;
    mark!("a transition is given up because a recipient is gone");
    let mut record = facts.draft();
    give_up(&mut record, facts.now, reason);
    Some(record)
}

/// Why this recipient won't ever take part.
fn hopeless(facts: &Facts<'_>, shard: ShardId) -> Option<String> {
    match facts.contacts.observed(shard)? {
        Observed::Imposter { store_id, .. } => {
            return Some(format!("{shard} has another data directory, {store_id}"));
        }
        Observed::Refusing { refusal, .. } => match refusal {
            DirectiveRefusal::OtherCluster { .. }
            | DirectiveRefusal::OtherStore { .. }
            | DirectiveRefusal::OtherShard { .. }
            | DirectiveRefusal::NotEmpty { .. } => {
                return Some(format!("{shard} refuses: {refusal}"));
            }
            DirectiveRefusal::Deposed { .. } | DirectiveRefusal::Stale { .. } => {}
        },
        Observed::Never { .. } | Observed::Up { .. } | Observed::Unreachable { .. } => {}
    }
    // It doesn't follow a directive with such a map, so no newer report will come; a point that is refused once always is.
    if let Some(why) = facts.contacts.last(shard).and_then(|report| report.cannot_hold.as_ref()) {
        return Some(format!("{shard} can't take part: {why}"));
    }
    let silent = facts.contacts.silent_ms(shard, facts.now);
    (silent > RECIPIENT_SILENCE_MS_MAX)
        .then(|| format!("{shard} has not answered for {} s", silent / 1_000))
}

/// Decides that the running transition of `record` doesn't commit.
///
/// Shards that would have joined are retired: their nodes delete what they received and are standbys again.
pub(super) fn give_up(record: &mut CoordinatorRecord, now: Time, reason: String) {
    let map = std::sync::Arc::clone(&record.map);
    let Some(transition) = &mut record.transition else {
        return;
    };
    let id = transition.id;
    fence::close(transition, now, reason.clone());
    let text = format!("{id} is given up: {reason}");
    transition.phase = Phase::Abort { reason };
    transition.recipients.retain(|shard| map.shard(*shard).is_some());
    let joining = transition.next.shards().iter().filter(|shard| map.shard(shard.id).is_none());
    let retiring: Vec<Retiring> = joining
        .map(|shard| Retiring {
            shard: shard.clone(),
            transition: Some(id),
            sweep: true,
            standby: transition.origin == Origin::Autoscale,
            since: now,
        })
        .collect();
    record.retiring.extend(retiring);
    record.note(now, HistoryKind::Transition, text, Some(id));
}

/// Ends the transition once the recipients are swept, or were silent for long.
pub(super) fn finish(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    let Phase::Abort { reason } = &transition.phase else {
        return None;
    };
    if unswept(facts, transition).any(|waiting| !facts.is_given_up(waiting.shard))
        || !facts.has_retired(transition.id)
    {
        return None;
    }
    let unswept: Vec<ShardId> = unswept(facts, transition).map(|waiting| waiting.shard).collect();
    mark!(!unswept.is_empty(), "an abort ends without a recipient that is silent");
    Some(end(facts, Outcome::Aborted, reason.clone(), unswept))
}

/// The recipients that may still hold what they received.
pub(super) fn unswept<'a>(
    facts: &'a Facts<'_>,
    transition: &'a Transition,
) -> impl Iterator<Item = Waiting> + 'a {
    transition.recipients.iter().filter_map(move |&shard| {
        let why = match facts.contacts.fresh(shard) {
            None => Why::of_silence(facts, shard),
            Some(report) if report.clean && report.transition.is_none() => return None,
            Some(_) => Why::Unclean,
        };
        Some(Waiting { shard, why })
    })
}
