//! Capture: which outgoing ids have changed since the recipient was told.
//!
//! An id is dirty from the moment when the engine is done with a write to it, whatever came of that, and before the write is acknowledged.
//! It never becomes clean but by being read for the stream or by being ahead of a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sheaf_map::Moves;
use sheaf_protocol::{Position, Range, Through};
use sheaf_types::{CollectionId, PointId, ShardId, mark};

use crate::event::Outcome;

pub(crate) type Key = (CollectionId, PointId);

/// The outgoing ids of a donor: being written, and dirty for each recipient.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Capture {
    me: ShardId,
    moves: Moves,
    in_flight: BTreeMap<Key, u32>,
    lists: BTreeMap<ShardId, DirtyList>,
    /// Writes of outgoing ids that were captured so far, for the metrics.
    captured: u64,
}

impl Capture {
    /// `dirty_bytes_max`: of the ids that are dirty for one recipient.
    pub fn new(me: ShardId, moves: Moves, dirty_bytes_max: usize) -> Self {
        let lists = moves
            .pairs()
            .iter()
            .filter(|pair| pair.donor == me)
            .map(|pair| (pair.recipient, DirtyList::new(dirty_bytes_max)))
            .collect();
        Self { me, moves, in_flight: BTreeMap::new(), lists, captured: 0 }
    }

    fn recipient_of(&self, id: &PointId) -> Option<ShardId> {
        let mv = self.moves.of(id.placement_key())?;
        (mv.donor == self.me).then_some(mv.recipient)
    }

    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    pub fn is_outgoing(&self, id: &PointId) -> bool {
        self.recipient_of(id).is_some()
    }

    /// The engine is about to apply writes to these ids. Returns whether any of them is outgoing.
    pub fn admitted(&mut self, collection: CollectionId, ids: &[PointId]) -> bool {
        let mut outgoing = false;
        for id in ids {
            if self.recipient_of(id).is_some() {
                outgoing = true;
                *self.in_flight.entry((collection, id.clone())).or_default() += 1;
            }
        }
        outgoing
    }

    /// The engine has answered. Returns whether any of the ids is outgoing.
    pub fn finished(
        &mut self,
        collection: CollectionId,
        ids: &[PointId],
        outcome: Outcome,
    ) -> bool {
        let mut outgoing = false;
        for id in ids {
            let Some(recipient) = self.recipient_of(id) else { continue };
            outgoing = true;
            let key = (collection, id.clone());
            if let Some(count) = self.in_flight.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.in_flight.remove(&key);
                }
            }
            let list = self.lists.get_mut(&recipient);
            assert!(list.is_some(), "I7 capture-gapless: no list for {recipient}");
            if let Some(list) = list {
                mark!(
                    outcome == Outcome::Unknown,
                    "it is unknown whether an outgoing write was applied"
                );
                mark!(outcome == Outcome::Failed, "an outgoing write fails");
                // A write that surely did nothing, too: a comparison that left its id out has looked at nothing.
                list.mark(key);
                self.captured += 1;
            }
        }
        outgoing
    }

    pub fn list(&self, recipient: ShardId) -> &DirtyList {
        &self.lists[&recipient]
    }

    pub fn list_mut(&mut self, recipient: ShardId) -> Option<&mut DirtyList> {
        self.lists.get_mut(&recipient)
    }

    /// The ids of the range that the recipient can't be expected to hold as the engine does.
    pub fn unsettled_in(&self, recipient: ShardId, range: &Range) -> BTreeSet<PointId> {
        let list = &self.lists[&recipient];
        let bounds = bounds_of(range);
        let in_flight = self.in_flight.range(bounds.clone()).map(|(key, _)| key);
        list.dirty
            .range(bounds)
            .chain(in_flight.filter(|key| self.recipient_of(&key.1) == Some(recipient)))
            .map(|key| key.1.clone())
            .collect()
    }

    pub fn captured(&self) -> u64 {
        self.captured
    }

    /// Ids that are dirty for any recipient.
    pub fn dirty(&self) -> u64 {
        self.lists.values().map(DirtyList::len).sum()
    }
}

/// The keys of a range, as bounds of an ordered set.
fn bounds_of(range: &Range) -> (Bound<Key>, Bound<Key>) {
    let start = match &range.after {
        Some(after) => Bound::Excluded((range.collection, after.clone())),
        None => Bound::Included(first_key(range.collection)),
    };
    let end = match &range.through {
        Some(through) => Bound::Included((range.collection, through.clone())),
        None => Bound::Excluded(first_key(range.collection.next())),
    };
    (start, end)
}

fn first_key(collection: CollectionId) -> Key {
    (collection, PointId::from(""))
}

/// The dirty ids of one move.
#[derive(Clone, Debug, Hash)]
pub(crate) struct DirtyList {
    dirty: BTreeSet<Key>,
    dirty_bytes: usize,
    dirty_bytes_max: usize,
    /// The dirty set was dropped because it was full: everything must be compared again.
    overflowed: bool,
}

impl DirtyList {
    fn new(dirty_bytes_max: usize) -> Self {
        Self { dirty: BTreeSet::new(), dirty_bytes: 0, dirty_bytes_max, overflowed: false }
    }

    pub fn len(&self) -> u64 {
        self.dirty.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    pub fn mark(&mut self, key: Key) {
        let bytes = bytes_of(&key);
        if self.dirty.insert(key) {
            self.dirty_bytes += bytes;
        }
        if self.dirty_bytes > self.dirty_bytes_max {
            mark!("a dirty set is full");
            self.overflow();
        }
        assert!(
            self.dirty_bytes <= self.dirty_bytes_max,
            "I14 queues-bounded: {} dirty bytes",
            self.dirty_bytes
        );
    }

    /// Forgets what is dirty: everything has to be compared again.
    pub fn overflow(&mut self) {
        self.dirty.clear();
        self.dirty_bytes = 0;
        self.overflowed = true;
    }

    /// Whether the set was dropped since this was last asked.
    pub fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// Forgets ids that a pass has yet to read.
    pub fn forget_ahead_of(&mut self, cursor: &Position) {
        let ahead = match cursor {
            Position::End => return,
            Position::Start => std::mem::take(&mut self.dirty),
            Position::At { collection, through: Through::CollectionEnd } => {
                self.dirty.split_off(&first_key(collection.next()))
            }
            Position::At { collection, through: Through::Id(id) } => {
                let at = (*collection, id.clone());
                let mut ahead = self.dirty.split_off(&at);
                if ahead.remove(&at) {
                    self.dirty.insert(at);
                }
                ahead
            }
        };
        self.dirty_bytes -= ahead.iter().map(bytes_of).sum::<usize>();
    }

    /// Takes out up to `points_max` ids of one collection that a pass has read already, to be read again now. Those ahead of
    /// it stay dirty: a comparison leaves them out, so a writer can't make every pass find a difference.
    pub fn take_behind(
        &mut self,
        cursor: &Position,
        points_max: usize,
    ) -> Option<(CollectionId, Vec<PointId>)> {
        let collection = self.dirty.first()?.0;
        let mut ids = Vec::new();
        while ids.len() < points_max {
            let first = self.dirty.first();
            if !first.is_some_and(|key| key.0 == collection && is_behind(key, cursor)) {
                break;
            }
            if let Some(key) = self.dirty.pop_first() {
                self.dirty_bytes -= bytes_of(&key);
                ids.push(key.1);
            }
        }
        (!ids.is_empty()).then_some((collection, ids))
    }
}

fn is_behind(key: &Key, cursor: &Position) -> bool {
    match cursor {
        Position::Start => false,
        Position::At { collection, through: Through::CollectionEnd } => key.0 <= *collection,
        Position::At { collection, through: Through::Id(id) } => {
            (key.0, &key.1) <= (*collection, id)
        }
        Position::End => true,
    }
}

/// Bytes that a key costs: its text and the set's own share.
fn bytes_of(key: &Key) -> usize {
    key.1.as_str().len() + 64
}
