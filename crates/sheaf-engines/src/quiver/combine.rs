//! Writes that wait for each other go to the server in one request.
//!
//! Quiver carries out one write at a time and syncs its log for each, so of many small ones most would only wait. Whoever may send
//! next sends what others have left here, too; they are of different ids. What becomes of the request becomes of each of them. That
//! the server refuses it says nothing about each: then they are sent one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_types::{PointId, StoredPoint};
use tokio::sync::oneshot;

use super::apply::BULK_POINTS_MIN;
use super::foreseen::Prepared;
use super::wire::{REQUEST_BYTES_MAX, REQUEST_POINTS_MAX};
use crate::EngineError;

/// Points of several writes in one request: with more, Quiver's index would fall behind.
const COMBINED_POINTS_MAX: usize = BULK_POINTS_MIN - 1;
/// Bytes of their bodies.
const COMBINED_BYTES_MAX: usize = 1 << 20;

/// What a write has to change at the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    pub upserts: Vec<StoredPoint>,
    pub deletes: Vec<PointId>,
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }

    /// Whether one request surely carries it out. A number of four bytes has 24 letters at most, a payload may be sent twice.
    pub fn is_one_request(&self) -> bool {
        (self.upserts.is_empty() || self.deletes.is_empty())
            && self.points() <= REQUEST_POINTS_MAX
            && self.bytes() <= REQUEST_BYTES_MAX / 8
    }

    fn points(&self) -> usize {
        self.upserts.len() + self.deletes.len()
    }

    fn bytes(&self) -> usize {
        self.upserts.iter().map(|point| point.body.as_bytes().len()).sum()
    }

    /// Takes the other in, if both are carried out by one request: upserts only, or deletes only.
    fn take_in(&mut self, other: &Self) -> bool {
        let is_one_request = self.upserts.is_empty() && other.upserts.is_empty()
            || self.deletes.is_empty() && other.deletes.is_empty();
        let fits = self.points() + other.points() <= COMBINED_POINTS_MAX
            && self.bytes() + other.bytes() <= COMBINED_BYTES_MAX;
        if is_one_request && fits {
            self.upserts.extend_from_slice(&other.upserts);
            self.deletes.extend_from_slice(&other.deletes);
        }
        is_one_request && fits
    }
}

/// A write that waits to be sent.
pub struct Waiting {
    pub differences: Differences,
    /// Its requests, when they were foreseen.
    prepared: Option<Prepared>,
    pub answer: oneshot::Sender<Result<(), EngineError>>,
}

/// Writes that go together.
pub struct Group {
    pub differences: Differences,
    /// Of one that goes alone, when it was foreseen.
    pub prepared: Option<Prepared>,
    pub writes: Vec<Waiting>,
}

/// The writes of one collection that wait, the oldest first.
#[derive(Default)]
pub struct Queue(Mutex<Vec<Waiting>>);

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a write to whoever sends next.
    pub fn push(
        &self,
        differences: Differences,
        prepared: Option<Prepared>,
    ) -> oneshot::Receiver<Result<(), EngineError>> {
        let (answer, answered) = oneshot::channel();
        self.waiting().push(Waiting { differences, prepared, answer });
        answered
    }

    /// The oldest, and as many behind it as go into one request with it.
    pub fn next(&self) -> Option<Group> {
        let mut waiting = self.waiting();
        let mut differences = waiting.first()?.differences.clone();
        let more = waiting.iter().skip(1);
        let more = more.take_while(|waiting| differences.take_in(&waiting.differences)).count();
        let mut writes: Vec<Waiting> = waiting.drain(..=more).collect();
        let prepared = match writes.as_mut_slice() {
            [alone] => alone.prepared.take(),
            _ => None,
        };
        Some(Group { differences, prepared, writes })
    }
}

#[cfg(test)]
mod tests {
    use sheaf_types::{CollectionId, PointBody};

    use super::*;

    fn upserts(ids: std::ops::Range<usize>) -> Differences {
        let body = || PointBody::encode(&[1.0], None);
        let point =
            |n: usize| StoredPoint::new(CollectionId(1), PointId::from(n.to_string()), body());
        Differences { upserts: ids.map(point).collect(), deletes: Vec::new() }
    }

    fn delete(id: &str) -> Differences {
        Differences { upserts: Vec::new(), deletes: vec![PointId::from(id)] }
    }

    fn groups(queue: &Queue) -> Vec<(usize, usize)> {
        let next = || queue.next().map(|group| (group.writes.len(), group.differences.points()));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn small_writes_of_one_kind_go_together_in_their_order() {
        let queue = Queue::default();
        for n in 0..3 {
            queue.push(upserts(n..n + 1), None);
        }
        queue.push(delete("a"), None);
        queue.push(delete("b"), None);
        queue.push(upserts(3..4), None);
        let mut both = upserts(4..5);
        both.deletes.push(PointId::from("c"));
        queue.push(both, None);
        queue.push(upserts(5..6), None);
        assert_eq!(groups(&queue), [(3, 3), (2, 2), (1, 1), (1, 2), (1, 1)]);
        assert!(queue.next().is_none());
    }

    #[test]
    fn no_request_grows_so_large_that_the_index_falls_behind() {
        let queue = Queue::default();
        for n in 0..COMBINED_POINTS_MAX + 1 {
            queue.push(upserts(n..n + 1), None);
        }
        queue.push(upserts(1_000..2_000), None);
        let expected = [(COMBINED_POINTS_MAX, COMBINED_POINTS_MAX), (1, 1), (1, 1_000)];
        assert_eq!(groups(&queue), expected);
        let queue = Queue::default();
        for n in 0..2 {
            let body = PointBody::encode(&vec![1.0; COMBINED_BYTES_MAX / 8], None);
            let point = StoredPoint::new(CollectionId(1), PointId::from(n.to_string()), body);
            queue.push(Differences { upserts: vec![point], deletes: Vec::new() }, None);
        }
        assert_eq!(groups(&queue), [(1, 1), (1, 1)], "too many bytes for one");
    }
}
