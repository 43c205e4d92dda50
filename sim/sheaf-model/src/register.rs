//! One point as its clients know it: all the values that it may have now, given what they were told.
//!
//! P2 as a state machine: a set of possible histories, each with the point's value and the fate of every operation. An
//! operation of unknown outcome may take effect at any later moment, or never. No order of time is kept, so that states
//! which promise the same are equal.

use std::collections::BTreeSet;

use sheaf_checkers::Stamp;

/// What an operation does to the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    Put(Stamp),
    Delete,
    Read,
}

/// What became of an operation in one possible history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Fate {
    /// It hasn't taken effect.
    Open(Deed),
    /// It took effect and hasn't returned; a read found this.
    Effective(Option<Stamp>),
    /// It has not begun, or it has returned.
    Gone,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// It surely never took effect.
    Refused,
    Unknown,
    Found(Option<Stamp>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct History {
    value: Option<Stamp>,
    fates: Vec<Fate>,
}

/// All possible histories of one point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    histories: BTreeSet<History>,
}

impl Register {
    /// A point with this value, and room for as many operations.
    pub fn new(value: Option<Stamp>, operations: usize) -> Self {
        let fates = vec![Fate::Gone; operations];
        Self { histories: BTreeSet::from([History { value, fates }]) }
    }

    /// The operation has been sent.
    pub fn began(&mut self, operation: usize, deed: Deed) {
        self.histories = std::mem::take(&mut self.histories)
            .into_iter()
            .map(|mut history| {
                history.fates[operation] = Fate::Open(deed);
                history
            })
            .collect();
    }

    /// The operation's answer has arrived. Returns false when no history explains it.
    #[must_use]
    pub fn ended(&mut self, operation: usize, end: End) -> bool {
        if end == End::Unknown {
            return true; // It may still take effect.
        }
        let explains = |history: &History| match (history.fates[operation], end) {
            (Fate::Effective(_), End::Done) | (Fate::Open(_), End::Refused) => true,
            (Fate::Effective(found), End::Found(value)) => found == value,
            _ => false,
        };
        self.histories = self
            .closure()
            .into_iter()
            .filter(explains)
            .map(|mut history| {
                history.fates[operation] = Fate::Gone;
                history
            })
            .collect();
        !self.histories.is_empty()
    }

    /// Whether the point may have this value now.
    pub fn allows(&self, value: Option<Stamp>) -> bool {
        self.closure().iter().any(|history| history.value == value)
    }

    /// The histories in which any open operations have taken effect besides.
    fn closure(&self) -> BTreeSet<History> {
        let mut all = self.histories.clone();
        let mut frontier: Vec<History> = all.iter().cloned().collect();
        while let Some(history) = frontier.pop() {
            for (operation, fate) in history.fates.iter().enumerate() {
                let Fate::Open(deed) = *fate else { continue };
                let mut next = history.clone();
                match deed {
                    Deed::Put(stamp) => next.value = Some(stamp),
                    Deed::Delete => next.value = None,
                    Deed::Read => {}
                }
                next.fates[operation] = Fate::Effective(next.value);
                if all.insert(next.clone()) {
                    frontier.push(next);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_after_an_acknowledged_write_must_find_it() {
        let mut register = Register::new(Some(1), 2);
        register.began(0, Deed::Put(2));
        assert!(register.allows(Some(1)) && register.allows(Some(2)) && !register.allows(None));
        assert!(register.ended(0, End::Done));
        assert!(!register.allows(Some(1)));
        register.began(1, Deed::Read);
        assert!(!register.clone().ended(1, End::Found(Some(1))));
        assert!(register.ended(1, End::Found(Some(2))));
    }

    #[test]
    fn a_read_beside_a_write_may_find_either() {
        for found in [Some(1), Some(2)] {
            let mut register = Register::new(Some(1), 2);
            register.began(0, Deed::Put(2));
            register.began(1, Deed::Read);
            assert!(register.ended(0, End::Done));
            assert!(register.ended(1, End::Found(found)));
        }
    }

    #[test]
    fn a_write_of_unknown_outcome_may_take_effect_late_but_not_come_and_go() {
        let mut register = Register::new(Some(1), 3);
        register.began(0, Deed::Delete);
        assert!(register.ended(0, End::Unknown));
        register.began(1, Deed::Read);
        assert!(register.ended(1, End::Found(Some(1))));
        register.began(2, Deed::Read);
        assert!(register.ended(2, End::Found(None)));
        assert!(!register.allows(Some(1)));
    }

    #[test]
    fn a_refused_write_is_never_seen() {
        let mut register = Register::new(None, 2);
        register.began(0, Deed::Put(7));
        assert!(register.ended(0, End::Refused));
        register.began(1, Deed::Read);
        assert!(!register.ended(1, End::Found(Some(7))));
    }
}
