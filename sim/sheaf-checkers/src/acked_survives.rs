//! P1 and I5: what was acknowledged is found by every read that begins later, until something newer replaces it.
//!
//! It allows what the promise allows: a read that began before the acknowledgement may miss the write.

use crate::fact::{Answer, Call, ClientKey, Fact};
use crate::floors::Floors;
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P1 acked-survives";

/// Judges single reads; gathers are judged by `gather_exact`.
#[derive(Default)]
pub struct AckedSurvives {
    floors: Floors,
}

impl Checker for AckedSurvives {
    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        if let Fact::Returned { op, answer: Answer::Point(value) } = fact
            && let Some(Call::Get { collection, id }) = self.floors.call(*op)
            && !collection.starts_with(crate::dropped_stays_dropped::TEMPORARY)
        {
            let key = ClientKey { collection: collection.clone(), id: id.clone() };
            if let Some(objection) = self.floors.objection(*op, &key, *value) {
                return Err(Violation::new(LABEL, format!("call {}: {objection}", op.0)));
            }
        }
        self.floors.learn(moment, fact);
        Ok(())
    }
}
