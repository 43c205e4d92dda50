//! P8: the only copy of a point is never deleted by Sheaf itself, nor one that its owner doesn't durably know as its own; at the end
//! each point is at its owner, and only there.
//!
//! What was there before Sheaf stays somewhere until its owner has the point, and is brought there only if the owner never had it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_map::Map;
use sheaf_types::ShardId;

use crate::committed::Committed;
use crate::fact::{By, Fact, HeldPoint, Kind, NodeId, PointAt, Stamp};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "P8 nothing-destroyed";

#[derive(Default)]
pub struct NothingDestroyed {
    committed: Committed,
    /// What clients' requests made of each point, at its owner.
    truth: BTreeMap<PointAt, Option<Stamp>>,
    /// The values of points that were there before Sheaf.
    found: BTreeMap<PointAt, BTreeSet<Stamp>>,
    holds: BTreeMap<NodeId, BTreeMap<PointAt, Stamp>>,
    shards: BTreeMap<ShardId, NodeId>,
    /// The map that each shard serves by, as its ledger holds it.
    serves: BTreeMap<ShardId, Arc<Map>>,
    last: BTreeMap<NodeId, (Option<ShardId>, Arc<[HeldPoint]>)>,
}

impl NothingDestroyed {
    fn applied(&mut self, fact: &Fact) -> Result<(), Violation> {
        let Fact::Applied { node, shard, by, point, before, after } = fact else { return Ok(()) };
        if let Some(shard) = shard {
            self.shards.insert(*shard, *node);
        }
        let owner = self.committed.owner(&point.id);
        if *by == By::Found {
            self.found.entry(point.clone()).or_default().extend(*after);
        } else {
            self.judge_found(fact, owner)?;
        }
        let held = self.holds.entry(*node).or_default();
        match after {
            Some(stamp) => put(held, point, *stamp),
            None => drop(held.remove(point)),
        }
        if matches!(by, By::Request | By::Found) {
            if owner.is_some() && owner == *shard {
                put(&mut self.truth, point, *after);
            }
            return Ok(());
        }
        let truth = self.truth.get(point).copied().flatten();
        let destroyed = before.filter(|stamp| truth == Some(*stamp) && *after != truth);
        let Some(stamp) = destroyed else { return Ok(()) };
        let dropped = self
            .committed
            .current()
            .is_none_or(|map| map.collection_by_id(point.collection).is_none());
        let kept = self.kept(owner, point);
        if !dropped && kept != Some(&stamp) {
            let text = format!(
                "node {} deleted {point:?} = {stamp}, but its owner {owner:?} holds {kept:?}",
                node.0
            );
            return Err(Violation::new(LABEL, text));
        }
        let knows = |owner: &ShardId| {
            let map = self.serves.get(owner)?;
            (map.owner(point.id.placement_key()) == Some(*owner)).then_some(())
        };
        if !dropped && owner.as_ref().and_then(knows).is_none() {
            let text = format!(
                "node {} deleted {point:?} = {stamp}, before {owner:?} durably knew that it owns it",
                node.0
            );
            return Err(Violation::new(LABEL, text));
        }
        Ok(())
    }

    /// What the owner's engine holds.
    fn kept(&self, owner: Option<ShardId>, point: &PointAt) -> Option<&Stamp> {
        let keeper = self.shards.get(&owner?)?;
        self.holds.get(keeper)?.get(point)
    }

    /// Before the change is taken in.
    fn judge_found(&self, fact: &Fact, owner: Option<ShardId>) -> Result<(), Violation> {
        let Fact::Applied { node, shard, by, point, before, after } = fact else { return Ok(()) };
        let Some(values) = self.found.get(point) else { return Ok(()) };
        let (at_owner, had) = (owner.is_some() && owner == *shard, self.truth.get(point));
        let comes = after.filter(|stamp| values.contains(stamp) && before != after);
        if let (true, By::Request, Some(stamp), Some(had)) = (at_owner, by, comes, had) {
            let text = format!(
                "node {} was given {point:?} = {stamp} from before Sheaf, but as its owner it has had {had:?} since",
                node.0
            );
            return Err(Violation::new(LABEL, text));
        }
        // Once clients deleted it, nobody misses it.
        let goes = before.filter(|_| after.is_none() && !at_owner && had != Some(&None));
        match goes {
            Some(stamp) if self.kept(owner, point).is_none() => {
                let text = format!(
                    "node {} deleted {point:?} = {stamp} from before Sheaf, but its owner {owner:?} hasn't got it",
                    node.0
                );
                Err(Violation::new(LABEL, text))
            }
            _ => Ok(()),
        }
    }

    fn ended(&self) -> Result<(), Violation> {
        let broken = |text: String| Err(Violation::new(LABEL, text));
        let Some(map) = self.committed.current() else { return Ok(()) };
        let mut found: BTreeMap<&PointAt, Option<Stamp>> = BTreeMap::new();
        for (node, (shard, points)) in &self.last {
            for held in points.iter() {
                let owner = map.owner(held.point.id.placement_key());
                if owner == *shard && owner.is_some() {
                    found.insert(&held.point, held.stamp);
                } else if held.stamp.is_some() {
                    return broken(format!(
                        "node {} ({shard:?}) still holds foreign {:?}",
                        node.0, held.point
                    ));
                }
            }
        }
        for (point, truth) in &self.truth {
            let kept = found.get(point).copied().flatten();
            if map.collection_by_id(point.collection).is_some() && kept != *truth {
                let owner = map.owner(point.id.placement_key());
                return broken(format!(
                    "{point:?} should be {truth:?}, but its owner {owner:?} holds {kept:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Most points are known already.
fn put<T>(points: &mut BTreeMap<PointAt, T>, point: &PointAt, value: T) {
    match points.get_mut(point) {
        Some(known) => *known = value,
        None => drop(points.insert(point.clone(), value)),
    }
}

impl Checker for NothingDestroyed {
    fn hears(&self, kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Stored
                | Kind::Applied
                | Kind::GateStarted
                | Kind::Persisted
                | Kind::Holds
                | Kind::Ended
        )
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        self.committed.learn(fact);
        match fact {
            Fact::Applied { .. } => self.applied(fact)?,
            Fact::GateStarted { held, .. } | Fact::Persisted { held, .. } => {
                if let (Some(shard), Some(map)) = (held.shard, &held.map) {
                    self.serves.insert(shard, Arc::clone(map));
                }
            }
            Fact::Holds { node, shard, points } => {
                self.last.insert(*node, (*shard, Arc::clone(points)));
            }
            Fact::Ended { .. } => self.ended()?,
            _ => {}
        }
        Ok(())
    }
}
