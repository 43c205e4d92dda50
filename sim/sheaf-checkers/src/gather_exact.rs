//! P3: a gather shows each point once: none missing, none doubled, none older than what was acknowledged before it began.

use std::collections::BTreeMap;

use crate::fact::{Answer, Call, Fact, Kind};
use crate::floors::{Floors, Reads};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P3 gather-exact";

/// Judges gathers of collections that are never dropped.
pub struct GatherExact {
    floors: Floors,
}

impl Default for GatherExact {
    fn default() -> Self {
        Self { floors: Floors::new(Reads::Gathers) }
    }
}

impl Checker for GatherExact {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Invoked | Kind::Returned)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        if let Fact::Returned { op, answer: Answer::Points(points) } = fact
            && let Some(Call::Gather { collection }) = self.floors.call(*op)
            && !collection.starts_with(crate::dropped_stays_dropped::TEMPORARY)
        {
            let broken = |text| Err(Violation::new(LABEL, text));
            let mut found = BTreeMap::new();
            for (id, stamp) in points {
                if let Some(first) = found.insert(id, *stamp) {
                    return broken(format!(
                        "gather {} shows {id:?} of {collection} twice: {first} and {stamp}",
                        op.0
                    ));
                }
            }
            let object =
                |id, number, value| self.floors.objection(*op, (collection, id, number), value);
            let written = self.floors.keys_of(collection);
            let objection = written
                .into_iter()
                .find_map(|(id, number)| object(id, Some(number), found.remove(id)));
            // What remains was never written.
            let objection = objection.or_else(|| {
                found.first_key_value().and_then(|(id, stamp)| object(id, None, Some(*stamp)))
            });
            if let Some(objection) = objection {
                return broken(format!("gather {}: {objection}", op.0));
            }
        }
        self.floors.learn(moment, fact);
        Ok(())
    }
}
