//! The start of a transition: the next one of the queue, if it is still possible.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use sheaf_map::{Map, Moves, ShardEntry};
use sheaf_types::{Attempt, ShardId, mark};

use super::{Facts, PAIRS_MAX};
use crate::plan;
use crate::record::{
    CoordinatorRecord, HistoryKind, Origin, Outcome, Phase, Queued, Request, Transition,
    TransitionReport,
};

/// Starts the transition whose turn it is, or ends it if it became impossible.
pub(crate) fn begin_next(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    if facts.record.transition.is_some() || facts.record.queue.is_empty() {
        return None;
    }
    let mut record = facts.draft();
    let queued = record.queue.remove(0);
    match begin(facts, &queued) {
        Ok(transition) => {
            let text = format!("{} begins: {}", queued.id, queued.request);
            record.note(facts.now, HistoryKind::Transition, text, Some(queued.id));
            record.transition = Some(transition);
        }
        Err(reason) => {
            mark!("a transition that waited became impossible");
            end_unstarted(&mut record, facts.now, queued, Outcome::Refused, reason);
        }
    }
    Some(record)
}

/// Ends a transition that never started.
pub(super) fn end_unstarted(
    record: &mut CoordinatorRecord,
    now: sheaf_types::Time,
    queued: Queued,
    outcome: Outcome,
    reason: String,
) {
    if queued.origin == Origin::Autoscale {
        let urls = queued.request.joining().iter().map(|entry| entry.primary_url.clone());
        record.autoscale.standbys.extend(urls);
    }
    let text = format!("{} doesn't start: {reason}", queued.id);
    record.note(now, HistoryKind::Transition, text, Some(queued.id));
    let version = record.map.version();
    record.keep_report(TransitionReport {
        id: queued.id,
        request: queued.request,
        origin: queued.origin,
        outcome,
        reason,
        from_version: version,
        to_version: None,
        requested: queued.requested,
        started: None,
        committed: None,
        ended: now,
        attempts: 0,
        fences: VecDeque::new(),
        points: 0,
        sent_points: 0,
        sent_bytes: 0,
        moves: Vec::new(),
        confirmed: Vec::new(),
        unswept: Vec::new(),
        stall: sheaf_protocol::StallReport::default(),
    });
}

fn begin(facts: &Facts<'_>, queued: &Queued) -> Result<Transition, String> {
    let map = &facts.record.map;
    let shards = queued.request.applied_to(map)?;
    let next = map.with_shards(queued.id, shards).map_err(|error| error.to_string())?;
    let (from, to) = (map.placement(), next.placement());
    let pairs = Moves::count_between(from, to);
    if pairs > PAIRS_MAX {
        return Err(format!("it would move points between {pairs} pairs, more than {PAIRS_MAX}"));
    }
    let moves = Moves::between(from, to);
    let joining = next.shards().iter().map(|entry| entry.id).filter(|id| map.shard(*id).is_none());
    let recipients: BTreeSet<ShardId> = moves.recipients().iter().copied().chain(joining).collect();
    let (points_expected, bytes_expected) = expected(facts, &moves);
    Ok(Transition {
        id: queued.id,
        request: queued.request.clone(),
        origin: queued.origin,
        options: queued.options,
        phase: Phase::Prepare,
        attempt: Attempt(0),
        from_version: map.version(),
        donors: moves.donors().to_vec(),
        recipients: recipients.into_iter().collect(),
        next: Arc::new(next),
        requested: queued.requested,
        started: facts.now,
        copy_since: None,
        committed: None,
        points_expected,
        bytes_expected,
        fences: VecDeque::new(),
        moves: Vec::new(),
        confirmed: Vec::new(),
    })
}

/// Points and bytes that are to move, by what the donors said last.
pub(super) fn expected(facts: &Facts<'_>, moves: &Moves) -> (u64, u64) {
    let load = |shard| facts.contacts.last(shard).map(|report| report.load).unwrap_or_default();
    let estimate = plan::estimate(moves, load);
    estimate.iter().fold((0, 0), |(points, bytes), pair| (points + pair.points, bytes + pair.bytes))
}

impl Request {
    /// The shards of the map that this leads to.
    ///
    /// # Errors
    /// The map doesn't have the shard (any more), or would have none.
    pub(crate) fn applied_to(&self, map: &Map) -> Result<Vec<ShardEntry>, String> {
        let mut shards = map.shards().to_vec();
        let find = |shard: &ShardId| {
            let at = shards.iter().position(|entry| entry.id == *shard);
            at.ok_or_else(|| format!("{shard} is not in the map"))
        };
        match self {
            Self::Grow { shards: joining } => shards.extend(joining.iter().cloned()),
            Self::Drain { shard } => {
                let at = find(shard)?;
                shards.remove(at);
            }
            Self::Replace { shard, with } => {
                let at = find(shard)?;
                shards[at] = with.clone();
            }
            Self::Reweight { shard, weight } => {
                let at = find(shard)?;
                shards[at].weight = *weight;
            }
        }
        if shards.is_empty() {
            return Err("nobody could take the points of the last shard".to_owned());
        }
        Ok(shards)
    }
}
