//! The one order of a run: what happens next, by time, then by when it was planned.
//!
//! A ring of short turns: what is planned is put to its turn, and a turn is sorted when it comes. Heaps and trees sort all the time,
//! and most of what is planned is a caller's patience that never ends: it has an answer by then.

use crate::wire::CallId;
use crate::world::Happening;

/// Microseconds of a turn: 2 to the power of this.
const TURN_BITS: u32 = 14;
/// Turns that are told apart, four seconds: more than most time-outs.
const TURNS: u64 = 256;

/// Slots that most runs get by with.
const SLOTS: usize = 512;

/// When, and the slot of what happens: what is moved about is small.
type Planned = (u64, usize);

/// What is planned to happen.
pub struct Queue {
    /// The turn that it is, by number.
    turn: u64,
    /// Its rest; the last one is the next.
    current: Vec<Planned>,
    /// The turns after it, each in the order of planning.
    ring: Vec<Vec<Planned>>,
    in_ring: usize,
    /// What is beyond the ring; the last one is the next.
    later: Vec<Planned>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            turn: 0,
            current: Vec::with_capacity(64),
            ring: (0..TURNS).map(|_| Vec::new()).collect(),
            in_ring: 0,
            later: Vec::new(),
            slots: Vec::with_capacity(SLOTS),
            free: Vec::with_capacity(SLOTS),
        }
    }
}

fn turn_of(at_us: u64) -> u64 {
    at_us >> TURN_BITS
}

/// Puts it behind all that were planned for the same time.
fn insert(row: &mut Vec<Planned>, planned: Planned) {
    let place = row.partition_point(|(at_us, _)| *at_us > planned.0);
    row.insert(place, planned);
}

impl Queue {
    pub fn plan(&mut self, at_us: u64, happening: Happening) {
        let planned = (at_us, self.keep(happening));
        let turn = turn_of(at_us);
        if turn <= self.turn {
            insert(&mut self.current, planned);
        } else if turn < self.turn + TURNS {
            self.ring[(turn % TURNS) as usize].push(planned);
            self.in_ring += 1;
        } else {
            insert(&mut self.later, planned);
        }
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
            let Some((at_us, slot)) = self.current.pop() else {
                self.begin_turn()?;
                continue;
            };
            self.free.push(slot);
            match self.slots[slot].take()? {
                Happening::Overdue { call } if !open(call) => {}
                happening => return Some((at_us, happening)),
            }
        }
    }

    /// Goes to the next turn in which something is planned; `None`: there is none.
    fn begin_turn(&mut self) -> Option<()> {
        let later = self.later.last().map(|(at_us, _)| turn_of(*at_us));
        if self.in_ring == 0 {
            self.turn = later?;
        } else {
            self.turn += 1;
            while self.ring[(self.turn % TURNS) as usize].is_empty() && later != Some(self.turn) {
                self.turn += 1;
            }
        }
        // What came from far was planned first.
        while let Some(planned) = self.later.pop_if(|(at_us, _)| turn_of(*at_us) == self.turn) {
            self.current.push(planned);
        }
        let turn = &mut self.ring[(self.turn % TURNS) as usize];
        self.in_ring -= turn.len();
        self.current.append(turn);
        self.current.reverse();
        self.current.sort_by(|(a, _), (b, _)| b.cmp(a));
        Some(())
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
    fn the_order_is_that_of_a_sorted_list() {
        let mut dice = crate::dice::Dice::new(5, crate::dice::Purpose::Knobs, 0);
        let (mut queue, mut list, mut now_us) = (Queue::default(), Vec::new(), 0);
        for number in 0..20_000 {
            // Now, soon, in its turn, and beyond the ring.
            let spread = [1, 3_000, 900_000, 30_000_000][dice.below(4) as usize];
            let at_us = now_us + dice.below(spread);
            queue.plan(at_us, Happening::AskAgain { number });
            list.push((at_us, number));
            while dice.chance(0.5) {
                let first = list.iter().copied().min();
                let next = queue.pop(|_| true);
                let next = next.map(|(at_us, what)| match what {
                    Happening::AskAgain { number } => (at_us, number),
                    _ => (at_us, u64::MAX),
                });
                assert_eq!(next, first);
                list.retain(|planned| Some(*planned) != first);
                now_us = first.map_or(now_us, |(at_us, _)| at_us);
            }
        }
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
