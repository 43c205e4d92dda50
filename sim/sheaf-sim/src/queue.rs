//! The one order of a run: what happens next, by time, then by when it was planned.
//!
//! A row in that order, its end first. Nearly everything is planned for soon, so it goes in near the end, and the next one is
//! found without a search; a heap is slower here.

use crate::wire::CallId;
use crate::world::Happening;

#[derive(Clone, Copy)]
enum What {
    /// In a slot: what is moved about in the row is small.
    Slot(usize),
    /// The caller's patience with a request ends. Mostly there is an answer by then, and nothing happens.
    Overdue(CallId),
}

/// What is planned to happen.
#[derive(Default)]
pub struct Queue {
    /// The last one is the next.
    row: Vec<(u64, What)>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
}

impl Queue {
    pub fn plan(&mut self, at_us: u64, happening: Happening) {
        let what = match happening {
            Happening::Overdue { call } => What::Overdue(call),
            happening => What::Slot(self.keep(happening)),
        };
        // Behind all that were planned for the same time.
        let place = self.row.partition_point(|(planned_us, _)| *planned_us > at_us);
        self.row.insert(place, (at_us, what));
    }

    fn keep(&mut self, happening: Happening) -> usize {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some(happening);
            return slot;
        }
        self.slots.push(Some(happening));
        self.slots.len() - 1
    }

    /// What happens next. Nobody loses patience with a call that isn't `open`.
    pub fn pop(&mut self, open: impl Fn(CallId) -> bool) -> Option<(u64, Happening)> {
        loop {
            match self.row.pop()? {
                (at_us, What::Slot(slot)) => {
                    self.free.push(slot);
                    return Some((at_us, self.slots[slot].take()?));
                }
                (at_us, What::Overdue(call)) if open(call) => {
                    return Some((at_us, Happening::Overdue { call }));
                }
                (_, What::Overdue(_)) => {}
            }
        }
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
