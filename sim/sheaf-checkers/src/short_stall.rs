//! P7: a fence that isn't over within its budget is backed out.
//!
//! A coordinator counts the budget from when it knows of the fence, so a takeover begins the count anew; and it can do nothing while
//! it is frozen or down, so only the time counts in which it is heard. That only moving points are held is for the gate's own
//! assertion: nobody else sees what it holds.

use sheaf_types::{Attempt, Term, TransitionId};

use crate::fact::{Decided, Fact, Kind, Phase};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P7 short-stall";
/// Microseconds beyond the budget: the store may be slow and say again and again that it doesn't know.
/// Source: of the swarm's seeds 0..3000 no fence was 1 s over.
const SLACK_US: u64 = 5_000_000;
/// Microseconds after its last word for which a coordinator is taken to be awake.
const AWAKE_US_MAX: u64 = 1_000_000;

/// The fence that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    term: Term,
    transition: TransitionId,
    attempt: Attempt,
}

struct Watch {
    fence: Fence,
    budget_us: u64,
    heard_us: u64,
    /// How long its coordinator was awake since it was stored.
    awake_us: u64,
}

impl Watch {
    fn hear(&mut self, now_us: u64) -> Result<(), Violation> {
        self.awake_us += (now_us - self.heard_us).min(AWAKE_US_MAX);
        self.heard_us = now_us;
        if self.awake_us <= self.budget_us + SLACK_US {
            return Ok(());
        }
        let text = format!(
            "{:?} has a budget of {} us; its coordinator was awake for {} us and hasn't backed it out",
            self.fence, self.budget_us, self.awake_us
        );
        Err(Violation::new(LABEL, text))
    }
}

#[derive(Default)]
pub struct ShortStall {
    watch: Option<Watch>,
}

impl ShortStall {
    fn stored(&mut self, now_us: u64, decided: &Decided) -> Result<(), Violation> {
        let fenced = decided.running.as_ref().filter(|running| running.phase == Phase::Fence);
        let Some(running) = fenced else {
            self.watch = None;
            return Ok(());
        };
        let (transition, attempt) = (running.id, running.attempt);
        let fence = Fence { term: decided.term, transition, attempt };
        match &mut self.watch {
            Some(watch) if watch.fence == fence => watch.hear(now_us),
            _ => {
                let budget_us = running.fence_budget_ms * 1_000;
                self.watch = Some(Watch { fence, budget_us, heard_us: now_us, awake_us: 0 });
                Ok(())
            }
        }
    }
}

impl Checker for ShortStall {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::DirectiveSent)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Stored { decided } => self.stored(moment.us, decided),
            Fact::DirectiveSent { directive } => match &mut self.watch {
                Some(watch) if watch.fence.term == directive.term => watch.hear(moment.us),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
