//! I6: every id has exactly one owner at every version. Once a map has shards, each later one has.

use crate::fact::{Fact, Kind};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I6 total-map";

#[derive(Default)]
pub struct TotalMap {
    inhabited: bool,
}

impl Checker for TotalMap {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        let Fact::Stored { decided } = fact else { return Ok(()) };
        let next = decided.running.as_ref().map(|running| &running.next);
        for map in [Some(&decided.map), next].into_iter().flatten() {
            if map.shards().is_empty() && self.inhabited {
                return Err(Violation::new(
                    LABEL,
                    format!("{} has no shard: no id has an owner", map.version()),
                ));
            }
        }
        self.inhabited |= !decided.map.shards().is_empty();
        Ok(())
    }
}
