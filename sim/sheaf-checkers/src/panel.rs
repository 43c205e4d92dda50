//! Tells every fact to every checker and stops at the first broken promise.

use std::fmt;

use crate::fact::{Fact, Kind};

/// When a fact happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds of the harness' true time.
    pub us: u64,
    /// The event of the harness.
    pub event: u64,
    /// Counts facts: orders those of the same event.
    pub fact: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number and name: `I3 one-writer`.
    pub label: &'static str,
    pub text: String,
}

impl Violation {
    pub fn new(label: &'static str, text: impl Into<String>) -> Self {
        Self { label, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.label, self.text)
    }
}

/// Judges one promise.
pub trait Checker {
    /// Whether facts of this kind concern it. It is told no others: most concern few checkers.
    fn hears(&self, kind: Kind) -> bool;

    /// Looks at one fact.
    ///
    /// # Errors
    /// The promise is broken.
    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation>;

    /// The run is over; judges what can be judged only as a whole.
    ///
    /// # Errors
    /// The promise is broken.
    fn finish(&mut self) -> Result<(), Violation> {
        Ok(())
    }
}

/// All checkers.
pub struct Panel {
    checkers: Vec<Box<dyn Checker>>,
    /// For each kind of fact, which of them hear of it.
    hearers: [Vec<usize>; Kind::ALL.len()],
    facts: u64,
}

impl Default for Panel {
    fn default() -> Self {
        Self::of(vec![
            Box::new(crate::converges::Converges::default()),
            Box::new(crate::map_monotone::MapMonotone::default()),
            Box::new(crate::total_map::TotalMap::default()),
            Box::new(crate::ids_fresh::IdsFresh::default()),
            Box::new(crate::intent_first::IntentFirst::default()),
            Box::new(crate::commit_proven::CommitProven::default()),
            Box::new(crate::capture_gapless::CaptureGapless::default()),
            Box::new(crate::one_writer::OneWriter::default()),
            Box::new(crate::invisible::Invisible::default()),
            Box::new(crate::fence_holds::FenceHolds::default()),
            Box::new(crate::short_stall::ShortStall::default()),
            Box::new(crate::sweep_foreign::SweepForeign::default()),
            Box::new(crate::nothing_destroyed::NothingDestroyed::default()),
            Box::new(crate::honest_answers::HonestAnswers::default()),
            Box::new(crate::acked_survives::AckedSurvives::default()),
            Box::new(crate::gather_exact::GatherExact::default()),
            Box::new(crate::dropped_stays_dropped::DroppedStaysDropped::default()),
            Box::new(crate::linearizable::Linearizable::default()),
        ])
    }
}

impl Panel {
    /// One that objects to nothing: for runs that are judged by comparison.
    #[must_use]
    pub fn silent() -> Self {
        Self::of(Vec::new())
    }

    /// Only these: a harness that can't see all facts leaves out whom it can't tell enough.
    pub fn of(checkers: Vec<Box<dyn Checker>>) -> Self {
        let hearers = Kind::ALL.map(|kind| {
            let all = checkers.iter().enumerate();
            all.filter(|(_, checker)| checker.hears(kind)).map(|(at, _)| at).collect()
        });
        Self { checkers, hearers, facts: 0 }
    }

    /// Tells all checkers that hear of such a fact.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn tell(&mut self, us: u64, event: u64, fact: &Fact) -> Result<(), Violation> {
        self.facts += 1;
        let moment = Moment { us, event, fact: self.facts };
        let hearers = &self.hearers[fact.kind() as usize];
        hearers.iter().try_for_each(|at| self.checkers[*at].judge(moment, fact))
    }

    /// The run is over.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.checkers.iter_mut().try_for_each(|checker| checker.finish())
    }
}
