//! P6: once faults are over, every transition ends, every gate is clean, every router knows the map, every call returns (I13).

use crate::fact::{Fact, Kind};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P6 converges";

/// Judges the end state.
pub struct Converges;

impl Checker for Converges {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Ended)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        let Fact::Ended { state } = fact else { return Ok(()) };
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
