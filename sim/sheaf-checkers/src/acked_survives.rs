//! P1 and I5: what was acknowledged is found by every read that begins later, until something newer replaces it.
//!
//! It allows what the promise allows: a read that began before the acknowledgement may miss the write.

use crate::fact::{Answer, Call, Fact, Kind};
use crate::floors::{Floors, Reads};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P1 acked-survives";

/// Judges single reads; gathers are judged by `gather_exact`.
pub struct AckedSurvives {
    floors: Floors,
}

impl Default for AckedSurvives {
    fn default() -> Self {
        Self { floors: Floors::new(Reads::Gets) }
    }
}

impl Checker for AckedSurvives {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Invoked | Kind::Returned)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        if let Fact::Returned { op, answer: Answer::Point(value) } = fact
            && let Some(Call::Get { collection, id }) = self.floors.call(*op)
            && !collection.starts_with(crate::dropped_stays_dropped::TEMPORARY)
        {
            let number = self.floors.number(collection, id);
            if let Some(objection) = self.floors.objection(*op, (collection, id, number), *value) {
                return Err(Violation::new(LABEL, format!("call {}: {objection}", op.0)));
            }
        }
        self.floors.learn(moment, fact);
        Ok(())
    }
}
