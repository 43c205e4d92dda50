//! P2, the other half: what was refused was not applied. No read finds the stamp of a refused write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fact::{Answer, Call, Fact, Kind, OpId, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P2 honest-answers";

/// Remembers every stamp of a refused upsert.
#[derive(Default)]
pub struct HonestAnswers {
    open: BTreeMap<OpId, Arc<Call>>,
    refused: BTreeSet<Stamp>,
    seen: BTreeSet<Stamp>,
}

impl HonestAnswers {
    fn saw(&mut self, op: OpId, stamp: Stamp) -> Result<(), Violation> {
        self.seen.insert(stamp);
        if self.refused.contains(&stamp) {
            return Err(Violation::new(
                LABEL,
                format!("call {} read {stamp}, whose upsert was refused", op.0),
            ));
        }
        Ok(())
    }
}

impl Checker for HonestAnswers {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Invoked | Kind::Returned)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Invoked { op, call } => {
                if matches!(**call, Call::Upsert { .. }) {
                    self.open.insert(*op, Arc::clone(call));
                }
            }
            Fact::Returned { op, answer } => {
                let upsert = self.open.remove(op);
                match answer {
                    Answer::Refused => {
                        let Some(Call::Upsert { points, .. }) = upsert.as_deref() else {
                            return Ok(());
                        };
                        for (_, stamp) in points {
                            self.refused.insert(*stamp);
                            if self.seen.contains(stamp) {
                                let text = format!(
                                    "upsert {} of {stamp} was refused, but was read before",
                                    op.0
                                );
                                return Err(Violation::new(LABEL, text));
                            }
                        }
                    }
                    Answer::Point(Some(stamp)) => self.saw(*op, *stamp)?,
                    Answer::Points(points) => {
                        for (_, stamp) in points {
                            self.saw(*op, *stamp)?;
                        }
                    }
                    Answer::Point(None) | Answer::Done | Answer::Unknown => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}
