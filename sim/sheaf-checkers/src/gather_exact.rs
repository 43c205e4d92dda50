//! P3: a gather shows each point once: none missing, none doubled, none older than what was acknowledged before it began.

use std::collections::BTreeMap;

use crate::fact::{Answer, Call, ClientKey, Fact};
use crate::floors::Floors;
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P3 gather-exact";

/// Judges gathers of collections that are never dropped.
#[derive(Default)]
pub struct GatherExact {
    floors: Floors,
}

impl Checker for GatherExact {
    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        if let Fact::Returned { op, answer: Answer::Points(points) } = fact
            && let Some(Call::Gather { collection }) = self.floors.call(*op)
            && !collection.starts_with(crate::dropped_stays_dropped::TEMPORARY)
        {
            let mut found = BTreeMap::new();
            for (id, stamp) in points {
                let key = ClientKey { collection: collection.clone(), id: id.clone() };
                if let Some(first) = found.insert(key.clone(), *stamp) {
                    let text = format!("gather {} shows {key:?} twice: {first} and {stamp}", op.0);
                    return Err(Violation::new(LABEL, text));
                }
            }
            let written = self.floors.keys_of(collection);
            let keys: std::collections::BTreeSet<&ClientKey> =
                written.chain(found.keys()).collect();
            for key in keys {
                if let Some(objection) = self.floors.objection(*op, key, found.get(key).copied()) {
                    return Err(Violation::new(LABEL, format!("gather {}: {objection}", op.0)));
                }
            }
        }
        self.floors.learn(moment, fact);
        Ok(())
    }
}
