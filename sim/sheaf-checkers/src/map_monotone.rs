//! I2: map versions, terms and revisions never decrease: in the store, in any gate's ledger, at any router.

use std::collections::BTreeMap;

use sheaf_types::{Incarnation, MapVersion, Revision, Term};

use crate::fact::{Fact, Held, Kind, NodeId};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I2 map-monotone";

type Rank = (Term, Revision, Option<MapVersion>, Incarnation);

#[derive(Default)]
pub struct MapMonotone {
    store: Option<(Term, Revision, MapVersion)>,
    gates: BTreeMap<NodeId, Rank>,
    routers: BTreeMap<u32, (u32, MapVersion)>,
}

impl MapMonotone {
    fn gate(&mut self, node: NodeId, held: &Held) -> Result<(), Violation> {
        let version = held.map.as_ref().map(|map| map.version());
        let now: Rank = (held.term, held.revision, version, held.incarnation);
        if let Some(before) = self.gates.insert(node, now) {
            let (term, revision, map, incarnation) = before;
            let left = held.shard.is_none() && version.is_none();
            let backwards = (now.0, now.1) < (term, revision)
                || now.3 < incarnation
                || (version < map && !left);
            if backwards {
                let text = format!("the ledger of node {} went from {before:?} to {now:?}", node.0);
                return Err(Violation::new(LABEL, text));
            }
        }
        Ok(())
    }
}

impl Checker for MapMonotone {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored | Kind::Persisted | Kind::GateStarted | Kind::RouterAdopted)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Stored { decided } => {
                let now = (decided.term, decided.revision, decided.map.version());
                if let Some(before) = self.store.replace(now)
                    && (now.0 < before.0 || now.1 <= before.1 || now.2 < before.2)
                {
                    return Err(Violation::new(
                        LABEL,
                        format!("the store went from {before:?} to {now:?}"),
                    ));
                }
            }
            Fact::Persisted { node, held } | Fact::GateStarted { node, held } => {
                self.gate(*node, held)?
            }
            Fact::RouterAdopted { router, life, version } => {
                if let Some((before_life, before)) = self.routers.insert(*router, (*life, *version))
                    && before_life == *life
                    && *version < before
                {
                    let text = format!("router {router} went from {before} to {version}");
                    return Err(Violation::new(LABEL, text));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
