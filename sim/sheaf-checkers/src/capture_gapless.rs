//! I7: at the commit, and at the end, what the new owner holds is what the former owner held.
//!
//! An outgoing write that is applied is captured until it was sent; so nothing differs when the fence is proven. Only a
//! point that a write of unknown outcome may still change is excused: nobody can have read that write.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::Map;
use sheaf_types::ShardId;

use crate::committed::Committed;
use crate::fact::{Fact, HeldPoint, Kind, PointAt, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I7 capture-gapless";

#[derive(Default)]
pub struct CaptureGapless {
    committed: Committed,
    /// The newest snapshot of each shard's node.
    holds: BTreeMap<ShardId, Arc<[HeldPoint]>>,
}

impl CaptureGapless {
    fn committed(&self, before: &Map, after: &Map) -> Result<(), Violation> {
        // What each moving point is at its donor and at its recipient.
        let mut sides: BTreeMap<PointAt, [Option<Stamp>; 2]> = BTreeMap::new();
        let mut excused = Vec::new();
        for (shard, points) in &self.holds {
            for held in points.iter() {
                let key = held.point.id.placement_key();
                let (donor, recipient) = (before.owner(key), after.owner(key));
                if donor == recipient || before.collection_by_id(held.point.collection).is_none() {
                    continue;
                }
                let side = [donor, recipient].iter().position(|side| *side == Some(*shard));
                let Some(side) = side else { continue };
                sides.entry(held.point.clone()).or_default()[side] = held.stamp;
                if held.unsettled && side == 0 {
                    excused.push(held.point.clone());
                }
            }
        }
        for (point, [donor, recipient]) in sides {
            if donor != recipient && !excused.contains(&point) {
                let key = point.id.placement_key();
                let text = format!(
                    "{} was committed while {point:?} is {donor:?} at {:?} and {recipient:?} at {:?}",
                    after.version(),
                    before.owner(key),
                    after.owner(key),
                );
                return Err(Violation::new(LABEL, text));
            }
        }
        Ok(())
    }
}

impl Checker for CaptureGapless {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Holds | Kind::Stored)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Holds { shard: Some(shard), points, .. } => {
                self.holds.insert(*shard, Arc::clone(points));
            }
            Fact::Stored { decided } => {
                if let Some(before) = self.committed.current()
                    && before.committed() != decided.map.committed()
                {
                    self.committed(before, &decided.map)?;
                }
                self.committed.learn(fact);
            }
            _ => {}
        }
        Ok(())
    }
}
