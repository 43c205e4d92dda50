//! P7: a fence that isn't over within its budget is backed out.
//!
//! A coordinator counts the budget from when it knows of the fence, so a takeover begins the count anew. That only moving points are
//! held is for the gate's own assertion: nobody else sees what it holds.

use sheaf_types::{Attempt, Term, TransitionId};

use crate::fact::{Fact, Phase};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P7 short-stall";
/// Microseconds beyond the budget: a coordinator may be frozen, down, or unsure of its store just then.
/// Source: the swarm's freezes last 3 s in the mean; of seeds 0..20000 no fence was 10 s over its budget.
const AWAY_US_MAX: u64 = 40_000_000;

/// The fence that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    term: Term,
    transition: TransitionId,
    attempt: Attempt,
}

#[derive(Default)]
pub struct ShortStall {
    /// With the moment at which it has to be over.
    fence: Option<(Fence, u64)>,
}

impl Checker for ShortStall {
    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        if let Some((fence, until_us)) = self.fence.filter(|(_, until_us)| moment.us > *until_us) {
            let over_us = moment.us - until_us + AWAY_US_MAX;
            let text = format!("{fence:?} is {over_us} us over its budget and not backed out");
            return Err(Violation::new(LABEL, text));
        }
        let Fact::Stored { decided } = fact else { return Ok(()) };
        let running = decided.running.as_ref().filter(|running| running.phase == Phase::Fence);
        let fence = running.map(|running| {
            let (transition, attempt) = (running.id, running.attempt);
            (Fence { term: decided.term, transition, attempt }, running.fence_budget_ms)
        });
        if fence.map(|(fence, _)| fence) != self.fence.map(|(fence, _)| fence) {
            self.fence = fence
                .map(|(fence, budget_ms)| (fence, moment.us + budget_ms * 1_000 + AWAY_US_MAX));
        }
        Ok(())
    }
}
