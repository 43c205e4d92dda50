//! I4: nothing is said that is not durable: neither by a coordinator (directives, maps) nor by a gate (reports).

use std::collections::BTreeMap;

use sheaf_protocol::{Directive, GateReport, Stage};
use sheaf_types::{Attempt, TransitionId};

use crate::committed::Committed;
use crate::fact::{Decided, Fact, Held, Kind, NodeId, Phase};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I4 intent-first";

#[derive(Default)]
pub struct IntentFirst {
    committed: Committed,
    /// The highest attempt that was stored as fenced, for each transition.
    fenced: BTreeMap<TransitionId, Attempt>,
    /// The newest stored state of each term.
    gates: BTreeMap<NodeId, Held>,
}

impl IntentFirst {
    fn directive(&self, directive: &Directive) -> Result<(), Violation> {
        let broken = |what: &str| {
            Err(Violation::new(LABEL, format!("a directive {what}: {}", brief(directive))))
        };
        let Some(Decided { term, revision, .. }) = self.committed.latest() else {
            return broken("was sent before anything was stored");
        };
        if directive.term > *term || (directive.term == *term && directive.revision > *revision) {
            return broken("is ahead of the store");
        }
        match self.committed.version(directive.map.version()) {
            Some(map) if **map == *directive.map => {}
            _ => return broken("carries a map that was never committed"),
        }
        if let Some(order) = &directive.order
            && order.stage == Stage::Fence
            && self.fenced.get(&order.transition).is_none_or(|fenced| *fenced < order.attempt)
        {
            return broken("fences an attempt that was never stored");
        }
        Ok(())
    }

    fn report(&self, node: NodeId, report: &GateReport) -> Result<(), Violation> {
        let Some(held) = self.gates.get(&node) else {
            return Err(Violation::new(
                LABEL,
                format!("node {} reports before it started", node.0),
            ));
        };
        let transition = held.order.as_ref().map(|order| order.transition);
        let durable = report.incarnation == held.incarnation
            && report.shard == held.shard
            && (report.term, report.revision) <= (held.term, held.revision)
            && report.map_version <= held.map.as_ref().map(|map| map.version())
            && (!report.clean || held.clean)
            && (report.transition.is_none() || report.transition == transition)
            && (!report.prepared || transition.is_some());
        if durable {
            return Ok(());
        }
        let text = format!(
            "node {} reports {} {} {:?} {:?} transition {:?} clean {}, but durable are {} {} {:?} {:?} transition {transition:?} clean {}",
            node.0,
            report.term,
            report.revision,
            report.shard,
            report.map_version,
            report.transition,
            report.clean,
            held.term,
            held.revision,
            held.shard,
            held.map.as_ref().map(|map| map.version()),
            held.clean,
        );
        Err(Violation::new(LABEL, text))
    }
}

impl Checker for IntentFirst {
    fn hears(&self, kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Stored
                | Kind::DirectiveSent
                | Kind::Published
                | Kind::GateStarted
                | Kind::Persisted
                | Kind::Reported
        )
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        self.committed.learn(fact);
        match fact {
            Fact::Stored { decided } => {
                if let Some(running) = &decided.running
                    && running.phase == Phase::Fence
                {
                    self.fenced.insert(running.id, running.attempt);
                }
            }
            Fact::DirectiveSent { directive } => self.directive(directive)?,
            Fact::Published { map }
                if self
                    .committed
                    .version(map.version())
                    .is_none_or(|committed| *committed != *map) =>
            {
                let text = format!("{} was published, but never committed", map.version());
                return Err(Violation::new(LABEL, text));
            }
            Fact::GateStarted { node, held } | Fact::Persisted { node, held } => {
                self.gates.insert(*node, held.clone());
            }
            Fact::Reported { node, report } => self.report(*node, report)?,
            _ => {}
        }
        Ok(())
    }
}

/// A directive in one line.
fn brief(directive: &Directive) -> String {
    let order = directive.order.as_ref();
    let order =
        order.map(|order| (order.transition, order.stage, order.attempt, order.next.version()));
    format!(
        "{} {} to {} map {} order {order:?} sweep {} retired {}",
        directive.term,
        directive.revision,
        directive.shard,
        directive.map.version(),
        directive.sweep,
        directive.retired
    )
}
