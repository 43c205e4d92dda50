//! I10: a donor whose fence is durable admits no request on an outgoing point until its coordinator's word ends the fence.
//!
//! The word is a later directive that doesn't order this fence, or the committed map of this transition. That time passes is no
//! such word (P5).

use std::collections::BTreeMap;

use sheaf_map::Moves;
use sheaf_protocol::{Directive, Stage};
use sheaf_types::{Attempt, Revision, ShardId, Term, TransitionId};

use crate::fact::{Fact, Held, Kind, NodeId};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I10 fence-holds";

struct Fence {
    transition: TransitionId,
    attempt: Attempt,
    said: (Term, Revision),
    shard: ShardId,
    moves: Moves,
    /// The coordinator ended it; what is durable at the gate may not say so yet.
    ended: bool,
}

/// The last word that reached a gate.
#[derive(Clone, Copy, Default)]
struct Word {
    said: (Term, Revision),
    /// The fence that it orders.
    fences: Option<(TransitionId, Attempt)>,
    /// The newest transition that it knows to be committed.
    committed: TransitionId,
}

impl Word {
    fn ends(&self, fence: &Fence) -> bool {
        let later =
            self.said > fence.said && self.fences != Some((fence.transition, fence.attempt));
        later || self.committed >= fence.transition
    }
}

#[derive(Default)]
pub struct FenceHolds {
    fences: BTreeMap<NodeId, Fence>,
    words: BTreeMap<NodeId, Word>,
}

impl FenceHolds {
    fn held(&mut self, node: NodeId, held: &Held) {
        let (Some(shard), Some(map), Some(order)) = (held.shard, &held.map, &held.order) else {
            return;
        };
        if order.stage != Stage::Fence {
            return;
        }
        let known = self.fences.get(&node);
        if known.is_some_and(|fence| {
            (fence.transition, fence.attempt) >= (order.transition, order.attempt)
        }) {
            return;
        }
        let moves = Moves::between(map.placement(), order.next.placement());
        let word = self.words.get(&node).copied().unwrap_or_default();
        let mut fence = Fence {
            transition: order.transition,
            attempt: order.attempt,
            said: (held.term, held.revision),
            shard,
            moves,
            ended: false,
        };
        // The word that ends it may have come before the fence was durable.
        fence.ended = word.ends(&fence);
        self.fences.insert(node, fence);
    }

    fn directed(&mut self, node: NodeId, directive: &Directive) {
        let word = self.words.entry(node).or_default();
        if (directive.term, directive.revision) >= word.said {
            let fenced = directive.order.as_ref().filter(|order| order.stage == Stage::Fence);
            word.said = (directive.term, directive.revision);
            word.fences = fenced.map(|order| (order.transition, order.attempt));
        }
        word.committed = word.committed.max(directive.map.committed());
        if let Some(fence) = self.fences.get_mut(&node) {
            fence.ended |= word.ends(fence);
        }
    }

    fn fetched(&mut self, node: NodeId, committed: TransitionId) {
        let word = self.words.entry(node).or_default();
        word.committed = word.committed.max(committed);
        if let Some(fence) = self.fences.get_mut(&node) {
            fence.ended |= word.ends(fence);
        }
    }
}

impl Checker for FenceHolds {
    fn hears(&self, kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Persisted
                | Kind::GateStarted
                | Kind::Directed
                | Kind::MapFetched
                | Kind::Admitted
        )
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Persisted { node, held } | Fact::GateStarted { node, held } => {
                self.held(*node, held)
            }
            Fact::Directed { node, directive } => self.directed(*node, directive),
            Fact::MapFetched { node, map } => self.fetched(*node, map.committed()),
            Fact::Admitted { node, gather, points, version, .. } => {
                let Some(fence) = self.fences.get(node).filter(|fence| !fence.ended) else {
                    return Ok(());
                };
                let outgoing = |point: &&crate::fact::PointAt| {
                    fence
                        .moves
                        .of(point.id.placement_key())
                        .is_some_and(|mv| mv.donor == fence.shard)
                };
                let donor = fence.moves.donors().contains(&fence.shard);
                let point = points.iter().find(outgoing);
                if point.is_some() || (*gather && donor) {
                    let text = format!(
                        "node {} ({}) is fenced for {} {} and admitted a request at {version} on {point:?} (gather: {gather})",
                        node.0, fence.shard, fence.transition, fence.attempt
                    );
                    return Err(Violation::new(LABEL, text));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
