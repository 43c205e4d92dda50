//! The coordinator's invariants. A violation ends the process: a restart is safe, going on is not.

use std::collections::BTreeSet;

use sheaf_types::limits::{
    DROPPED_NAMES_MAX, HISTORY_ENTRIES_MAX, IDEMPOTENCY_KEYS_MAX, PENDING_ASKS_MAX,
    QUEUED_TRANSITIONS_MAX,
};

use crate::coordinator::Coordinator;
use crate::record::{CoordinatorRecord, Phase, Transition};

impl Coordinator {
    /// What holds after every event.
    pub(crate) fn assert_invariants(&self) {
        let waiting = self.asks.len();
        assert!(waiting <= PENDING_ASKS_MAX, "I14 queues-bounded: {waiting} asks wait");
        if !self.ledger.reigns() {
            assert_eq!(
                self.contacts.told().count(),
                0,
                "I4 intent-before-effect: nobody is spoken to without a term"
            );
        }
    }

    /// What holds whenever a record has become durable.
    pub(crate) fn assert_succession(&self, before: &CoordinatorRecord) {
        let record = self.record();
        assert!(record.term >= before.term, "I2 map-monotone: the term fell to {}", record.term);
        assert!(
            record.revision > before.revision,
            "I2 map-monotone: the revision fell to {}",
            record.revision
        );
        let (old, new) = (before.map.version(), record.map.version());
        assert!(new >= old, "I2 map-monotone: the map went from {old} to {new}");
        assert!(
            new > old || record.map == before.map,
            "I2 map-monotone: two maps have version {new}"
        );
        assert_transition(record);
        assert_committed(before, record);
        assert_departures(before, record);
        assert_ids(before, record);
        assert_names(record);
        assert_bounds(record);
        for (shard, directive) in self.contacts.told() {
            let told = directive.revision;
            assert!(
                told < record.revision,
                "I4 intent-before-effect: {shard} was told {told}, which is not durable"
            );
        }
    }
}

fn assert_transition(record: &CoordinatorRecord) {
    let Some(running) = &record.transition else {
        return;
    };
    assert!(
        !running.next.shards().is_empty(),
        "I6 total-map: {} leads to a map without shards",
        running.id
    );
    if running.is_undecided() {
        let (next, current) = (running.next.version(), record.map.version());
        assert_eq!(
            next,
            current.next(),
            "I2 map-monotone: {} leads to the next version",
            running.id
        );
        assert_eq!(
            running.next.collections(),
            record.map.collections(),
            "I6 total-map: {} keeps the catalogue",
            running.id
        );
    }
}

/// I9: a commit needs every pair's proof of the fenced attempt, with equal digests on both sides.
fn assert_committed(before: &CoordinatorRecord, record: &CoordinatorRecord) {
    let committed = Phase::Sweep { permitted: false };
    let (Some(was), Some(running)) = (&before.transition, &record.transition) else {
        return;
    };
    if running.phase != committed || was.phase == committed {
        return;
    }
    let id = running.id;
    assert_eq!(
        (was.id, &was.phase),
        (id, &Phase::Fence),
        "I9 commit-proven: {id} commits out of a fence"
    );
    assert_eq!(was.next, record.map, "I9 commit-proven: {id} commits the map that gates were told");
    let proved: BTreeSet<_> = running.moves.iter().map(|mv| (mv.donor, mv.recipient)).collect();
    let moves = sheaf_map::Moves::between(before.map.placement(), record.map.placement());
    let pairs: BTreeSet<_> = moves.pairs().iter().map(|mv| (mv.donor, mv.recipient)).collect();
    assert_eq!(proved, pairs, "I9 commit-proven: {id} has a proof for each pair");
    for mv in &running.moves {
        let (donor, recipient) = (mv.donor, mv.recipient);
        assert_eq!(
            mv.attempt, was.attempt,
            "I9 commit-proven: {donor} to {recipient}: the attempt"
        );
        assert_eq!(
            mv.donor_digest, mv.recipient_digest,
            "I9 commit-proven: {donor} to {recipient}: the digests"
        );
    }
}

/// P8, I10: a shard that leaves the map is told so; none is forgotten in silence.
fn assert_departures(before: &CoordinatorRecord, record: &CoordinatorRecord) {
    for shard in before.map.shards() {
        let stays = record.map.shard(shard.id).is_some();
        let told = record.retiring.iter().any(|retiring| retiring.shard.id == shard.id);
        assert!(stays || told, "P8 {} has left the map without a word", shard.id);
    }
}

fn assert_ids(before: &CoordinatorRecord, record: &CoordinatorRecord) {
    let counters = |record: &CoordinatorRecord| {
        (record.next_shard, record.next_transition, record.next_collection)
    };
    let (old, new) = (counters(before), counters(record));
    assert!(
        new.0 >= old.0 && new.1 >= old.1 && new.2 >= old.2,
        "I12 ids-never-reused: a counter of ids fell: {old:?} to {new:?}"
    );
    let joining = record.transition.iter().flat_map(|running: &Transition| running.next.shards());
    let retiring = record.retiring.iter().map(|retiring| &retiring.shard);
    let shards = record.map.shards().iter().chain(joining).chain(retiring);
    for shard in shards {
        assert!(
            shard.id < record.next_shard,
            "I12 ids-never-reused: {} would be given out again",
            shard.id
        );
    }
    for collection in record.map.collections() {
        let id = collection.id;
        assert!(id < record.next_collection, "I12 ids-never-reused: {id} would be given out again");
    }
    let queued = record.queue.iter().map(|queued| queued.id);
    for id in queued.chain(record.transition.iter().map(|running| running.id)) {
        assert!(id < record.next_transition, "I12 ids-never-reused: {id} would be given out again");
    }
}

/// A name is given again only when nobody serves the dropped collection that had it.
fn assert_names(record: &CoordinatorRecord) {
    let dropped: BTreeSet<&str> =
        record.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
    let again = record.map.collections().iter().find(|known| dropped.contains(known.name()));
    assert!(
        again.is_none(),
        "I15 dropped-stays-dropped: {:?} is there again, and a shard may serve what was dropped",
        again.map(|collection| collection.name())
    );
}

fn assert_bounds(record: &CoordinatorRecord) {
    let queues = [
        ("queued transitions", record.queue.len(), QUEUED_TRANSITIONS_MAX),
        ("ended transitions", record.ended.len(), HISTORY_ENTRIES_MAX),
        ("lines of history", record.history.len(), HISTORY_ENTRIES_MAX),
        ("dropped names", record.dropped.len(), DROPPED_NAMES_MAX),
        ("idempotency keys", record.keys.len(), IDEMPOTENCY_KEYS_MAX),
    ];
    for (what, given, max) in queues {
        assert!(given <= max, "I14 queues-bounded: {given} {what}, more than {max}");
    }
}
