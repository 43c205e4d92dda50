//! I11: a gate itself (sweep, ingest) never touches a point that its shard owns under the newest committed map,
//! and deletes nothing at all while it is unproven.

use std::collections::BTreeSet;

use crate::committed::Committed;
use crate::fact::{By, Fact, Kind, NodeId};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I11 sweep-foreign";

#[derive(Default)]
pub struct SweepForeign {
    committed: Committed,
    /// Those that know it, durably.
    unproven: BTreeSet<NodeId>,
}

impl Checker for SweepForeign {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::Applied | Kind::GateStarted | Kind::Persisted)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        self.committed.learn(fact);
        if let Fact::GateStarted { node, held } | Fact::Persisted { node, held } = fact {
            match held.unproven {
                true => drop(self.unproven.insert(*node)),
                false => drop(self.unproven.remove(node)),
            }
        }
        let Fact::Applied { node, shard, by: By::Gate, point, before, after } = fact else {
            return Ok(());
        };
        if before.is_some() && after.is_none() && self.unproven.contains(node) {
            let text = format!("node {} is unproven and itself deleted {point:?}", node.0);
            return Err(Violation::new(LABEL, text));
        }
        let current =
            self.committed.current().filter(|map| map.collection_by_id(point.collection).is_some());
        let owner = current.and_then(|map| map.owner(point.id.placement_key()));
        if owner.is_some() && owner == *shard && before != after {
            let text = format!(
                "node {} itself changed {point:?} from {before:?} to {after:?}, but its shard {owner:?} owns it",
                node.0
            );
            return Err(Violation::new(LABEL, text));
        }
        Ok(())
    }
}
