//! P2, the other half: what was refused was not applied. No read finds the stamp of a refused write.

use std::collections::{BTreeMap, BTreeSet};

use crate::fact::{Answer, Call, Fact, OpId, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P2 honest-answers";

/// Remembers every stamp of a refused upsert.
#[derive(Default)]
pub struct HonestAnswers {
    open: BTreeMap<OpId, Vec<Stamp>>,
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
    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Invoked { op, call: Call::Upsert { points, .. } } => {
                self.open.insert(*op, points.iter().map(|(_, stamp)| *stamp).collect());
            }
            Fact::Returned { op, answer } => {
                let stamps = self.open.remove(op).unwrap_or_default();
                match answer {
                    Answer::Refused => {
                        for stamp in stamps {
                            self.refused.insert(stamp);
                            if self.seen.contains(&stamp) {
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
