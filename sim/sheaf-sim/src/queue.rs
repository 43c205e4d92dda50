//! The one order of a run: what happens next, by time, then by when it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

struct Planned<T> {
    at_us: u64,
    number: u64,
    what: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.number) == (other.at_us, other.number)
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// What is planned to happen.
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub fn plan(&mut self, at_us: u64, what: T) {
        self.heap.push(Reverse(Planned { at_us, number: self.next, what }));
        self.next += 1;
    }

    pub fn pop(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at_us, planned.what))
    }
}
