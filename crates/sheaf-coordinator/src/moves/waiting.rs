//! Whom the running transition waits for, and why: for people, and for deciding that it needn't wait.

use std::fmt;

use sheaf_types::ShardId;

use super::{Facts, abort, commit, copy, fence, sweep};
use crate::contacts::Observed;
use crate::record::{Phase, Promotion};

/// Entries that are shown. The first ones are enough to act on.
const SHOWN_MAX: usize = 20;

/// A gate that a transition waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub shard: ShardId,
    pub why: Why,
}

/// Why a transition waits for a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Silent,
    Refuses { why: String },
    Outdated,
    NotInTransition,
    OtherMap,
    CatalogueMissing,
    Unprepared,
    OtherPairs,
    Copying { to: ShardId },
    Draining { to: ShardId },
    Differs { to: ShardId },
    Unsealed { from: ShardId },
    Unclean,
    Unretired,
}

impl Why {
    /// Why there is no fresh report of this gate.
    pub(super) fn of_silence(facts: &Facts<'_>, shard: ShardId) -> Self {
        match facts.contacts.observed(shard) {
            Some(Observed::Up { .. }) => Self::Outdated,
            Some(Observed::Refusing { refusal, .. }) => Self::Refuses { why: refusal.to_string() },
            Some(Observed::Imposter { store_id, .. }) => {
                Self::Refuses { why: format!("its data directory is another, {store_id}") }
            }
            Some(Observed::Never { .. } | Observed::Unreachable { .. }) | None => Self::Silent,
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.shard;
        match &self.why {
            Why::Silent => write!(f, "{shard} doesn't answer"),
            Why::Refuses { why } => write!(f, "{shard} refuses: {why}"),
            Why::Outdated => write!(f, "{shard} has not confirmed the last directive"),
            Why::NotInTransition => write!(f, "{shard} has not recorded the transition"),
            Why::OtherMap => write!(f, "{shard} doesn't serve the current map"),
            Why::CatalogueMissing => write!(f, "{shard} has not created all collections"),
            Why::Unprepared => write!(f, "{shard} is not prepared"),
            Why::OtherPairs => write!(f, "{shard} reports on other recipients than it has"),
            Why::Copying { to } => write!(f, "{shard} copies to {to}"),
            Why::Draining { to } => write!(f, "{shard} hands its last writes to {to}"),
            Why::Differs { to } => write!(f, "{shard} and {to} differ"),
            Why::Unsealed { from } => write!(f, "{shard} has not confirmed the seal of {from}"),
            Why::Unclean => write!(f, "{shard} is sweeping"),
            Why::Unretired => write!(f, "{shard} has not confirmed that it left"),
        }
    }
}

/// Whom and what the running transition waits for, in words.
pub(crate) fn waiting(facts: &Facts<'_>) -> Vec<String> {
    let Some(transition) = &facts.record.transition else {
        return Vec::new();
    };
    let shown = |waiting: &mut dyn Iterator<Item = Waiting>| {
        waiting.take(SHOWN_MAX).map(|waiting| waiting.to_string()).collect::<Vec<_>>()
    };
    let moves = || facts.moves.into_iter();
    match &transition.phase {
        Phase::Prepare => shown(&mut copy::unprepared(facts, transition)),
        Phase::Copy => {
            let mut texts: Vec<String> = moves()
                .flat_map(|m| shown(&mut fence::unconverged(facts, transition, m)))
                .collect();
            if transition.options.copy.paused {
                texts.push("it is paused".to_owned());
            }
            if transition.options.promotion == Promotion::Awaited {
                texts.push("the promotion has not been asked for".to_owned());
            }
            texts
        }
        Phase::Fence => {
            let first = moves().filter_map(|moves| commit::unproved(facts, transition, moves));
            first.map(|waiting| waiting.to_string()).collect()
        }
        Phase::Sweep { permitted: false } => shown(&mut sweep::unconfirmed(facts, transition)),
        Phase::Sweep { permitted: true } => shown(&mut sweep::unswept(facts, transition)),
        Phase::Abort { .. } => shown(&mut abort::unswept(facts, transition)),
    }
}
