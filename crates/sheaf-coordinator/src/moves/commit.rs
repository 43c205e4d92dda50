//! The commit point: the one store write that makes the next map current, and the proof that it needs.
//!
//! Decides only on fresh reports of this very attempt; never on time.

use std::collections::BTreeMap;

use sheaf_map::{Move, Moves};
use sheaf_protocol::{CopyState, DonorReport, GateReport, Proof, RecipientReport};
use sheaf_types::{ShardId, mark};

use super::waiting::{Waiting, Why};
use super::{Facts, copy, fence};
use crate::record::{
    CoordinatorRecord, CopyRate, HistoryKind, MoveReport, Origin, Phase, Request, Retiring,
    Transition,
};

/// Makes the next map current, once everything is proved.
pub(super) fn commit(facts: &Facts<'_>) -> Option<CoordinatorRecord> {
    let transition = facts.record.transition.as_ref()?;
    let moves = facts.moves?;
    let proof = prove(facts, transition, moves).ok()?;
    assert_eq!(
        transition.next.version(),
        facts.record.map.version().next(),
        "I2 map-monotone: the next map of {} is the next version",
        transition.id
    );
    mark!(transition.attempt.0 > 1, "a later attempt commits");
    mark!(proof.is_empty(), "a transition commits that moves nothing");
    mark!(
        proof.iter().any(|mv| mv.donor_digest.points == 0),
        "a transition commits a move without points"
    );
    let mut record = facts.draft();
    record.copy_rate = measure(facts, transition, &proof).or(record.copy_rate);
    let running = record.transition.as_mut()?;
    running.phase = Phase::Sweep { permitted: false };
    running.committed = Some(facts.now);
    running.moves = proof;
    fence::close(running, facts.now, "committed".to_owned());
    let (id, next, origin) = (running.id, std::sync::Arc::clone(&running.next), running.origin);
    let drained = matches!(running.request, Request::Drain { .. });
    let leaving = record.map.shards().iter().filter(|shard| next.shard(shard.id).is_none());
    let retiring: Vec<Retiring> = leaving
        .map(|shard| Retiring {
            shard: shard.clone(),
            transition: Some(id),
            sweep: true,
            standby: drained && origin == Origin::Autoscale,
            since: facts.now,
        })
        .collect();
    record.retiring.extend(retiring);
    record.map = next;
    let text = format!("{id} is committed: map {} is current", record.map.version());
    record.note(facts.now, HistoryKind::Transition, text, Some(id));
    Some(record)
}

/// The first participant or pair without a proof of this attempt.
pub(super) fn unproved(
    facts: &Facts<'_>,
    transition: &Transition,
    moves: &Moves,
) -> Option<Waiting> {
    prove(facts, transition, moves).err()
}

/// Two sides of one pair that don't agree: no waiting will help this attempt.
pub(super) fn differing(
    facts: &Facts<'_>,
    transition: &Transition,
    moves: &Moves,
) -> Option<String> {
    let mut pairs_of_donors = moves.pairs().chunk_by(|a, b| a.donor == b.donor);
    pairs_of_donors.find_map(|pairs| {
        let report = facts.contacts.fresh(pairs.first()?.donor)?;
        report.outgoing.iter().find_map(|donor| {
            let proof = donor.proof.filter(|proof| proof.attempt == transition.attempt)?;
            let (from, to) = (pairs.first()?.donor, donor.to);
            (proof.donor != proof.recipient).then(|| {
                format!("{from} holds {} for {to}, which holds {}", proof.donor, proof.recipient)
            })
        })
    })
}

/// The proof of every pair, or who is missing.
fn prove(
    facts: &Facts<'_>,
    transition: &Transition,
    moves: &Moves,
) -> Result<Vec<MoveReport>, Waiting> {
    if let Some(waiting) = copy::unprepared(facts, transition).next() {
        return Err(waiting);
    }
    let mut drained = Vec::with_capacity(moves.pairs().len());
    for pairs in moves.pairs().chunk_by(|a, b| a.donor == b.donor) {
        drained.extend(drained_pairs(facts, transition, pairs)?);
    }
    let incoming = incoming(facts, transition);
    for (pair, donor, proof) in &drained {
        let sealed = incoming
            .get(&(pair.donor, pair.recipient))
            .is_some_and(|recipient| is_sealed(recipient, donor, proof));
        if !sealed {
            mark!("a donor's proof comes before the recipient's own word");
            let why = Why::Unsealed { from: pair.donor };
            return Err(Waiting { shard: pair.recipient, why });
        }
    }
    Ok(drained.into_iter().map(|(pair, donor, proof)| report(pair, donor, proof)).collect())
}

/// The pairs of one donor, each with its proof of this attempt.
fn drained_pairs<'a>(
    facts: &'a Facts<'_>,
    transition: &Transition,
    pairs: &[Move],
) -> Result<Vec<(Move, &'a DonorReport, Proof)>, Waiting> {
    let mut drained = Vec::with_capacity(pairs.len());
    let Some(&Move { donor: shard, .. }) = pairs.first() else {
        return Ok(drained);
    };
    let missing = |why| Waiting { shard, why };
    let report = facts.contacts.fresh(shard).ok_or(missing(Why::Outdated))?;
    let outgoing = outgoing(report, pairs).ok_or(missing(Why::OtherPairs))?;
    for pair in pairs {
        let to = pair.recipient;
        let donor = outgoing.get(&to).copied().ok_or(missing(Why::OtherPairs))?;
        let proof = donor.proof.filter(|proof| {
            proof.attempt == transition.attempt && donor.state == CopyState::Drained
        });
        let proof = proof.ok_or(missing(Why::Draining { to }))?;
        if proof.donor != proof.recipient {
            return Err(missing(Why::Differs { to }));
        }
        drained.push((*pair, donor, proof));
    }
    Ok(drained)
}

/// What the donor reports for each recipient, if it reports on exactly these pairs.
pub(super) fn outgoing<'a>(
    report: &'a GateReport,
    pairs: &[Move],
) -> Option<BTreeMap<ShardId, &'a DonorReport>> {
    let outgoing: BTreeMap<_, _> = report.outgoing.iter().map(|donor| (donor.to, donor)).collect();
    let same = report.outgoing.len() == pairs.len()
        && pairs.iter().all(|pair| outgoing.contains_key(&pair.recipient));
    same.then_some(outgoing)
}

/// What the recipients report, by donor and recipient.
fn incoming<'a>(
    facts: &'a Facts<'_>,
    transition: &Transition,
) -> BTreeMap<(ShardId, ShardId), &'a RecipientReport> {
    let mut incoming = BTreeMap::new();
    for &shard in &transition.recipients {
        for recipient in facts.contacts.fresh(shard).iter().flat_map(|report| &report.incoming) {
            incoming.insert((recipient.from, shard), recipient);
        }
    }
    incoming
}

/// Whether the recipient's own report shows the seal that the donor's proof claims.
fn is_sealed(recipient: &RecipientReport, donor: &DonorReport, proof: &Proof) -> bool {
    let claimed = sheaf_protocol::Sealed { attempt: proof.attempt, donor: proof.donor };
    recipient.stream == donor.stream
        && recipient.seq == proof.seq
        && recipient.digest == proof.recipient
        && recipient.sealed == Some(claimed)
}

fn report(pair: Move, donor: &DonorReport, proof: Proof) -> MoveReport {
    MoveReport {
        donor: pair.donor,
        recipient: pair.recipient,
        attempt: proof.attempt,
        donor_digest: proof.donor,
        recipient_digest: proof.recipient,
        passes: donor.passes,
        sent_points: donor.sent_points,
        sent_bytes: donor.sent_bytes,
    }
}

/// How fast this transition copied; `None` when there was too little to measure.
fn measure(facts: &Facts<'_>, transition: &Transition, moves: &[MoveReport]) -> Option<CopyRate> {
    let ms = facts.now.ms_since(transition.copy_since?);
    let points: u64 = moves.iter().map(|mv| mv.sent_points).sum();
    let bytes: u64 = moves.iter().map(|mv| mv.sent_bytes).sum();
    let per_s = |n: u64| n.saturating_mul(1_000) / ms.max(1);
    (points >= 10_000 && ms >= 100)
        .then(|| CopyRate { points_per_s: per_s(points), bytes_per_s: per_s(bytes) })
}
