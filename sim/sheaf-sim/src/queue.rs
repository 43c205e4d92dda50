//! The one order of a run: what happens next, by time, then by when it was planned.
//!
//! The end of a caller's patience is kept apart: nearly every answer comes before it, and then it is nothing that happens.

use std::collections::BinaryHeap;

use crate::wire::CallId;
use crate::world::Happening;

/// When something is planned for, and how much was planned before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u128);

impl Place {
    fn new(at_us: u64, number: u64) -> Self {
        Self(u128::from(at_us) << 64 | u128::from(number))
    }

    fn at_us(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// Something that has a place, and no order beyond that.
struct Placed<T>(Place, T);

impl<T> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Placed<T> {}

impl<T> PartialOrd for Placed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }

    fn le(&self, other: &Self) -> bool {
        self.0 >= other.0
    }
}

impl<T> Ord for Placed<T> {
    /// The first one is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

/// What is planned to happen.
#[derive(Default)]
pub struct Queue {
    /// Heaps move their elements about, so they hold places alone, with the slot of what happens there.
    heap: BinaryHeap<Placed<usize>>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
    patience: BinaryHeap<Placed<CallId>>,
    next: u64,
}

impl Queue {
    pub fn plan(&mut self, at_us: u64, what: Happening) {
        let place = Place::new(at_us, self.next);
        self.next += 1;
        if let Happening::Overdue { call } = what {
            self.patience.push(Placed(place, call));
            return;
        }
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = Some(what),
            None => self.slots.push(Some(what)),
        }
        self.heap.push(Placed(place, slot));
    }

    /// What happens next. Nobody becomes impatient with a call that isn't `open`.
    pub fn pop(&mut self, open: impl Fn(CallId) -> bool) -> Option<(u64, Happening)> {
        while let Some(Placed(_, call)) = self.patience.peek()
            && !open(*call)
        {
            self.patience.pop();
        }
        let ends = self.patience.peek().map(|Placed(place, _)| *place);
        let next = self.heap.peek().map(|Placed(place, _)| *place);
        if let Some(ends) = ends
            && next.is_none_or(|next| ends < next)
        {
            let Placed(place, call) = self.patience.pop()?;
            return Some((place.at_us(), Happening::Overdue { call }));
        }
        let Placed(place, slot) = self.heap.pop()?;
        self.free.push(slot);
        Some((place.at_us(), self.slots[slot].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut Queue, open: impl Fn(CallId) -> bool) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        while let Some((at_us, what)) = queue.pop(&open) {
            all.push((at_us, format!("{what:?}")));
        }
        all
    }

    fn planned() -> Queue {
        let mut queue = Queue::default();
        queue.plan(7, Happening::Think { client: 1 });
        queue.plan(5, Happening::Overdue { call: CallId(1) });
        queue.plan(5, Happening::Think { client: 2 });
        queue.plan(7, Happening::Overdue { call: CallId(2) });
        queue.plan(5, Happening::Overdue { call: CallId(3) });
        queue.plan(7, Happening::Heal);
        queue
    }

    #[test]
    fn what_is_due_at_one_time_happens_in_the_order_of_planning() {
        let text = |at: u64, what: &str| (at, what.to_owned());
        let expected = [
            text(5, "Overdue { call: CallId(1) }"),
            text(5, "Think { client: 2 }"),
            text(5, "Overdue { call: CallId(3) }"),
            text(7, "Think { client: 1 }"),
            text(7, "Overdue { call: CallId(2) }"),
            text(7, "Heal"),
        ];
        assert_eq!(order(&mut planned(), |_| true), expected);
    }

    #[test]
    fn patience_with_an_answered_call_never_ends() {
        let all = order(&mut planned(), |call| call == CallId(3));
        let overdue: Vec<_> = all.iter().filter(|(_, what)| what.contains("Overdue")).collect();
        assert_eq!(overdue, [&(5, "Overdue { call: CallId(3) }".to_owned())]);
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn slots_are_used_again() {
        let mut queue = Queue::default();
        for at_us in 0..100 {
            queue.plan(at_us, Happening::Operate);
            assert!(queue.pop(|_| true).is_some_and(|(at, _)| at == at_us));
        }
        assert_eq!(queue.slots.len(), 1);
    }
}
