//! I15: a collection that was dropped and created again shows nothing that was written before the drop began.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fact::{Answer, Call, Fact, Kind, OpId, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I15 dropped-stays-dropped";

/// Names of collections that a harness drops begin so; only the others have histories of single points.
pub const TEMPORARY: &str = "temporary";

#[derive(Default)]
struct Life {
    /// When the last acknowledged drop began and ended, and when the last creation was acknowledged.
    dropped: Option<(u64, u64)>,
    created: Option<u64>,
}

/// Judges reads in temporary collections.
#[derive(Default)]
pub struct DroppedStaysDropped {
    open: BTreeMap<OpId, (u64, Arc<Call>)>,
    lives: BTreeMap<Arc<str>, Life>,
    /// When each upsert ended. One that never ended may take effect in the new collection.
    returned: BTreeMap<Stamp, u64>,
}

impl DroppedStaysDropped {
    /// When the drop began before which nothing may be left in what a read that began then sees.
    fn dropped_before(&self, began: u64, collection: &Arc<str>) -> Option<u64> {
        let life = self.lives.get(collection)?;
        let ((drop_began, drop_ended), created) = (life.dropped?, life.created?);
        (drop_ended < created && created < began).then_some(drop_began)
    }

    fn read(
        &self,
        op: OpId,
        began: u64,
        collection: &Arc<str>,
        mut stamps: impl Iterator<Item = Stamp>,
    ) -> Result<(), Violation> {
        let Some(drop_began) = self.dropped_before(began, collection) else { return Ok(()) };
        let written = |stamp: &Stamp| self.returned.get(stamp).copied().unwrap_or(u64::MAX);
        if let Some(stamp) = stamps.find(|stamp| written(stamp) < drop_began) {
            let text = format!(
                "call {} read {stamp} in {collection}, acknowledged before it was dropped and created again",
                op.0
            );
            return Err(Violation::new(LABEL, text));
        }
        Ok(())
    }
}

impl Checker for DroppedStaysDropped {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Invoked | Kind::Returned)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Invoked { op, call } => {
                self.open.insert(*op, (moment.fact, Arc::clone(call)));
            }
            Fact::Returned { op, answer } => {
                let Some((began, call)) = self.open.remove(op) else { return Ok(()) };
                match (&*call, answer) {
                    (Call::Upsert { points, .. }, Answer::Done) => {
                        self.returned.extend(points.iter().map(|(_, stamp)| (*stamp, moment.fact)));
                    }
                    (Call::Create { collection }, Answer::Done) => {
                        self.lives.entry(Arc::clone(collection)).or_default().created =
                            Some(moment.fact);
                    }
                    (Call::Drop { collection }, Answer::Done) => {
                        self.lives.entry(Arc::clone(collection)).or_default().dropped =
                            Some((began, moment.fact));
                    }
                    (Call::Get { collection, .. }, Answer::Point(Some(stamp))) => {
                        self.read(*op, began, collection, std::iter::once(*stamp))?;
                    }
                    (Call::Gather { collection }, Answer::Points(points)) => {
                        self.read(*op, began, collection, points.iter().map(|(_, stamp)| *stamp))?;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}
