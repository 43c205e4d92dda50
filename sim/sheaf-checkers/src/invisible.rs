//! I8: what is on its way to a shard is invisible there until the commit, and what has left it is invisible after it.
//!
//! Every point that a gate serves is owned by it in the version that it served at; that version was committed.

use crate::committed::Committed;
use crate::fact::{Fact, Kind};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I8 invisible-until-commit";

#[derive(Default)]
pub struct Invisible {
    committed: Committed,
}

impl Checker for Invisible {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::Served)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        self.committed.learn(fact);
        let Fact::Served { node, shard, version, points } = fact else { return Ok(()) };
        let Some(map) = self.committed.version(*version) else {
            let text = format!("node {} served at {version}, which was never committed", node.0);
            return Err(Violation::new(LABEL, text));
        };
        for point in points {
            let owner = map.owner(point.id.placement_key());
            if owner != *shard || owner.is_none() {
                let text = format!(
                    "node {} ({shard:?}) served {point:?} at {version}, where its owner is {owner:?}",
                    node.0
                );
                return Err(Violation::new(LABEL, text));
            }
        }
        Ok(())
    }
}
