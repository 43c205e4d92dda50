//! P6: a transition ends by a commit or by being given up, and never just isn't there any more; once faults are over, every
//! transition ends, every gate is clean, every router knows the map, every call returns (I13).

use sheaf_types::TransitionId;

use crate::fact::{Decided, Fact, Kind, Phase};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P6 converges";

/// Judges how transitions end, and the end state.
#[derive(Default)]
pub struct Converges {
    /// The running transition, as it was stored last.
    running: Option<(TransitionId, Phase)>,
}

impl Converges {
    fn stored(&mut self, decided: &Decided) -> Result<(), Violation> {
        let running = decided.running.as_ref().map(|running| (running.id, running.phase));
        let before = std::mem::replace(&mut self.running, running);
        match before {
            Some((id, phase @ (Phase::Prepare | Phase::Copy | Phase::Fence)))
                if running.is_none_or(|(now, _)| now != id) =>
            {
                let text =
                    format!("{id} was in {phase:?} and is gone, neither committed nor given up");
                Err(Violation::new(LABEL, text))
            }
            _ => Ok(()),
        }
    }
}

impl Checker for Converges {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::Ended)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        let state = match fact {
            Fact::Stored { decided } => return self.stored(decided),
            Fact::Ended { state } => state,
            _ => return Ok(()),
        };
        let quiet = state.unfinished.is_empty()
            && state.unclean.is_empty()
            && state.stale_routers.is_empty()
            && state.hanging.is_empty();
        if quiet {
            return Ok(());
        }
        Err(Violation::new(LABEL, format!("the faults are over, but {state:?}")))
    }
}
