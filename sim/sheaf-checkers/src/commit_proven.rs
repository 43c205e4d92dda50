//! I9: a commit needs, for every pair that may move points, both sides' proof of the same attempt with equal digests.

use std::collections::BTreeMap;

use sheaf_map::Moves;
use sheaf_protocol::GateReport;
use sheaf_types::{Attempt, Digest, ShardId, TransitionId};

use crate::fact::{Decided, Fact, Kind, Phase, Running};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I9 commit-proven";

type Pair = (TransitionId, Attempt, ShardId, ShardId);

#[derive(Default)]
pub struct CommitProven {
    before: Option<Decided>,
    /// What donors proved, and what recipients say was sealed: (donor's digest, recipient's digest).
    proofs: BTreeMap<Pair, (Digest, Digest)>,
    seals: BTreeMap<Pair, (Digest, Digest)>,
}

impl CommitProven {
    fn reported(&mut self, report: &GateReport) {
        let (Some(shard), Some(transition)) = (report.shard, report.transition) else { return };
        for outgoing in &report.outgoing {
            if let Some(proof) = outgoing.proof {
                let pair = (transition, proof.attempt, shard, outgoing.to);
                self.proofs.insert(pair, (proof.donor, proof.recipient));
            }
        }
        for incoming in &report.incoming {
            if let Some(sealed) = incoming.sealed {
                let pair = (transition, sealed.attempt, incoming.from, shard);
                self.seals.insert(pair, (sealed.donor, incoming.digest));
            }
        }
    }

    fn committed(&self, before: &Decided, after: &Decided) -> Result<(), Violation> {
        let broken = |text: String| Err(Violation::new(LABEL, text));
        let moves = Moves::between(before.map.placement(), after.map.placement());
        if before.map.committed() == after.map.committed() {
            if moves.pairs().is_empty() {
                return Ok(());
            }
            return broken(format!("{} moves points without a transition", after.map.version()));
        }
        let Some(Running { id, attempt, phase, next, .. }) = &before.running else {
            return if moves.pairs().is_empty() {
                Ok(())
            } else {
                broken(format!("{} was committed while no transition ran", after.map.version()))
            };
        };
        if *id != after.map.committed() || next.placement() != after.map.placement() {
            return broken(format!("{} isn't what transition {id} leads to", after.map.version()));
        }
        if *phase != Phase::Fence && !moves.pairs().is_empty() {
            return broken(format!("transition {id} was committed in {phase:?}"));
        }
        for pair in moves.pairs() {
            let key = (*id, *attempt, pair.donor, pair.recipient);
            for (side, found) in
                [("donor", self.proofs.get(&key)), ("recipient", self.seals.get(&key))]
            {
                match found {
                    Some((donor, recipient)) if donor == recipient => {}
                    _ => {
                        return broken(format!(
                            "transition {id} was committed, but the {side} of {}→{} reported {found:?} for {attempt}",
                            pair.donor, pair.recipient
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Checker for CommitProven {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Reported | Kind::Stored)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Reported { report, .. } => self.reported(report),
            Fact::Stored { decided } => {
                if let Some(before) = &self.before {
                    self.committed(before, decided)?;
                }
                self.before = Some((**decided).clone());
            }
            _ => {}
        }
        Ok(())
    }
}
