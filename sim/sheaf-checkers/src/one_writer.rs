//! I3 and P4: only the owner under the newest committed map acknowledges a write.
//!
//! Stronger than "at most one": a donor holds its requests from before the commit, so not even a late acknowledgement of
//! the former owner can follow the commit.

use crate::committed::Committed;
use crate::fact::{Fact, Kind};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I3 one-writer";

#[derive(Default)]
pub struct OneWriter {
    committed: Committed,
}

impl Checker for OneWriter {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::Acknowledged)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        self.committed.learn(fact);
        let Fact::Acknowledged { node, shard, version, points } = fact else { return Ok(()) };
        for point in points {
            let owner = self.committed.owner(&point.id);
            if owner.is_none() || owner != *shard {
                let current = self.committed.current().map(|map| map.version());
                let text = format!(
                    "node {} ({shard:?}) acknowledged a write of {point:?} at {version}, but the owner in {current:?} is {owner:?}",
                    node.0
                );
                return Err(Violation::new(LABEL, text));
            }
        }
        Ok(())
    }
}
