//! P3: a gather shows each point once: none missing, none doubled, none older than what was acknowledged before it began.

use sheaf_types::PointId;

use crate::fact::{Answer, Call, Fact, Kind, Stamp};
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
            let mut found: Vec<&(PointId, Stamp)> = points.iter().collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some([(id, first), (_, stamp)]) =
                found.array_windows().find(|[a, b]| a.0 == b.0).copied()
            {
                return broken(format!(
                    "gather {} shows {id:?} of {collection} twice: {first} and {stamp}",
                    op.0
                ));
            }
            let object =
                |id, number, value| self.floors.objection(*op, (collection, id, number), value);
            let mut found = found.into_iter().peekable();
            let mut objection = None;
            for (id, number) in self.floors.keys_of(collection) {
                if objection.is_some() {
                    break;
                }
                objection = match found.next_if(|(found, _)| found <= id) {
                    Some((never, stamp)) if never != id => object(never, None, Some(*stamp)),
                    here => object(id, Some(number), here.map(|(_, stamp)| *stamp)),
                };
            }
            let objection = objection.or_else(|| {
                found.next().and_then(|(never, stamp)| object(never, None, Some(*stamp)))
            });
            if let Some(objection) = objection {
                return broken(format!("gather {}: {objection}", op.0));
            }
        }
        self.floors.learn(moment, fact);
        Ok(())
    }
}
