//! An operation on all points: every shard answers at one version of the map, or all answers are thrown away.
//!
//! Decides when the answers make up a whole; never mixes answers of two versions.

use std::collections::BTreeMap;

use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, ShardId, Time, mark};

use crate::effect::{CallId, Incomplete, Reason, Verdict};
use crate::event::Outcome;
use crate::operation::Context;
use crate::retry::{Again, TRIES_MAX, is_final};

#[derive(Clone, Debug, Hash)]
pub struct Scatter {
    /// The version that all shards are asked at; `None` before the first round and between two.
    version: Option<MapVersion>,
    shards: BTreeMap<ShardId, Share>,
    calls: BTreeMap<CallId, ShardId>,
    /// Rounds begun.
    rounds: u32,
    /// What the next round waits for; `None`: nothing.
    next_round: Option<Again>,
    last: Option<Reason>,
}

/// One shard's part of the answer.
#[derive(Clone, Debug, Hash)]
enum Share {
    Asked {
        call: CallId,
        tries: u32,
    },
    /// Surely without effect so far, so it alone is asked again at the same version.
    Waiting {
        tries: u32,
        again: Again,
    },
    Done {
        call: CallId,
    },
}

impl Scatter {
    pub fn new() -> Self {
        Self {
            version: None,
            shards: BTreeMap::new(),
            calls: BTreeMap::new(),
            rounds: 0,
            next_round: None,
            last: None,
        }
    }

    /// `Some`: the end.
    pub fn on_replied(
        &mut self,
        call: CallId,
        outcome: Outcome,
        context: &mut Context,
    ) -> Option<Verdict> {
        let shard = self.calls.remove(&call)?; // Otherwise an answer to an earlier round.
        let asked = self.version.expect("calls are forgotten when a round ends");
        let tries = match self.shards.get(&shard) {
            Some(&Share::Asked { call: current, tries }) if current == call => tries,
            _ => return None, // A second reply to the same call.
        };
        match outcome {
            Outcome::Done { version } if version == asked => {
                self.shards.insert(shard, Share::Done { call });
            }
            Outcome::Done { version } => {
                // A shard that serves another version than asked has only told that there is one.
                let refusal = Refusal::OtherVersion { version };
                self.restart(shard, refusal, asked, context);
            }
            Outcome::Failed => return Some(self.failed(Reason::Failed { call, shard })),
            Outcome::Lost => self.wait(shard, tries, Reason::Lost { shard }, None, context),
            Outcome::NotSent => self.wait(shard, tries, Reason::NotSent { shard }, None, context),
            Outcome::Refused(refusal) if is_final(asked, &refusal) => {
                return Some(self.failed(Reason::Refused { shard, refusal }));
            }
            Outcome::Refused(
                refusal @ (Refusal::Moved { .. }
                | Refusal::OtherVersion { .. }
                | Refusal::OtherShard { .. }
                | Refusal::NoCollection { .. }),
            ) => self.restart(shard, refusal, asked, context),
            Outcome::Refused(
                refusal @ (Refusal::Fenced { .. }
                | Refusal::Behind { .. }
                | Refusal::NotServing
                | Refusal::TooManyHeld { .. }
                | Refusal::EngineUnavailable { .. }
                | Refusal::Unproven
                | Refusal::NothingToRepair { .. }),
            ) => {
                let reason = Reason::Refused { shard, refusal: refusal.clone() };
                self.wait(shard, tries, reason, Some(&refusal), context);
            }
        }
        None
    }

    /// Throws the round away: some shard can't answer at its version.
    fn restart(
        &mut self,
        shard: ShardId,
        refusal: Refusal,
        asked: MapVersion,
        context: &mut Context,
    ) {
        mark!("a search begins anew at another version");
        let again = Again::after(context.now, context.jitter, self.rounds, asked, Some(&refusal));
        self.next_round = Some(again);
        self.last = Some(Reason::Refused { shard, refusal });
        self.discard(context);
    }

    fn discard(&mut self, context: &mut Context) {
        self.version = None;
        self.calls.clear();
        let shares = std::mem::take(&mut self.shards).into_values();
        context.effects.discard.extend(shares.filter_map(|share| match share {
            Share::Asked { call, .. } | Share::Done { call } => Some(call),
            Share::Waiting { .. } => None,
        }));
    }

    fn wait(
        &mut self,
        shard: ShardId,
        tries: u32,
        reason: Reason,
        refusal: Option<&Refusal>,
        context: &mut Context,
    ) {
        let asked = self.version.expect("only a call of this round is waited for");
        let again = Again::after(context.now, context.jitter, tries, asked, refusal);
        self.shards.insert(shard, Share::Waiting { tries, again });
        self.last = Some(reason);
    }

    /// Begins rounds and repeats calls that are due, and says when all shards have answered.
    pub fn settle(&mut self, context: &mut Context) -> Option<Verdict> {
        if let Some(complete) = self.complete() {
            return Some(complete);
        }
        if context.now >= context.deadline {
            let reason = self.reason_at_deadline();
            mark!("a search is not answered in time");
            return Some(self.failed(reason));
        }
        self.leave_an_outdated_round(context);
        if self.version.is_none() && !self.begin_round(context) {
            let reason = self.last.take().unwrap_or(Reason::NoShards);
            return Some(self.failed(reason));
        }
        if !self.ask_again(context) {
            let reason = self.last.take().unwrap_or(Reason::Late);
            return Some(self.failed(reason));
        }
        let waiting = self.waits().filter_map(|again| again.needed_map(context.map)).max();
        context.effects.need_map = context.effects.need_map.max(waiting);
        None
    }

    /// A share that has to be asked again is asked under the newest map, and then so are all.
    fn leave_an_outdated_round(&mut self, context: &mut Context) {
        let outdated = self.version.is_some_and(|version| version < context.map.version());
        let waits = self.shards.values().any(|share| matches!(share, Share::Waiting { .. }));
        if outdated && waits {
            mark!("a search leaves a round whose map is outdated");
            self.next_round = None;
            self.discard(context);
        }
    }

    /// Asks all shards when it is time to; `false`: there is nobody to ask, or it was tried often enough.
    fn begin_round(&mut self, context: &mut Context) -> bool {
        if self.next_round.is_some_and(|again| !again.is_due(context.now, context.map)) {
            return true;
        }
        if context.map.shards().is_empty() || self.rounds >= TRIES_MAX {
            return false;
        }
        self.rounds += 1;
        self.next_round = None;
        self.version = Some(context.map.version());
        for entry in context.map.shards() {
            let call = context.call(entry.id, Vec::new());
            self.calls.insert(call, entry.id);
            self.shards.insert(entry.id, Share::Asked { call, tries: 1 });
        }
        true
    }

    /// Repeats single calls at the round's version; `false`: one was tried often enough.
    fn ask_again(&mut self, context: &mut Context) -> bool {
        for (&shard, share) in &mut self.shards {
            let Share::Waiting { tries, again } = *share else { continue };
            if tries >= TRIES_MAX {
                return false;
            }
            if again.is_due(context.now, context.map) {
                let call = context.call(shard, Vec::new());
                self.calls.insert(call, shard);
                mark!("one shard of a search is asked again");
                *share = Share::Asked { call, tries: tries + 1 };
            }
        }
        true
    }

    fn complete(&mut self) -> Option<Verdict> {
        let version = self.version?;
        let calls = self.shards.values().map(|share| match share {
            Share::Done { call } => Some(*call),
            Share::Asked { .. } | Share::Waiting { .. } => None,
        });
        let calls: Vec<CallId> = calls.collect::<Option<_>>()?;
        Some(Verdict::Complete { version, calls })
    }

    /// When something is due that no reply will bring about.
    pub fn next_retry(&self) -> Option<Time> {
        self.waits().map(|again| again.not_before()).min()
    }

    fn waits(&self) -> impl Iterator<Item = Again> + '_ {
        let shares = self.shards.values().filter_map(|share| match share {
            Share::Waiting { again, .. } => Some(*again),
            Share::Asked { .. } | Share::Done { .. } => None,
        });
        shares.chain(self.next_round)
    }

    /// Who kept the client waiting in the end: a shard that never answered, or the last refusal.
    fn reason_at_deadline(&mut self) -> Reason {
        let silent = self.shards.iter().find_map(|(&shard, share)| match share {
            Share::Asked { .. } => Some(Reason::Lost { shard }),
            Share::Waiting { .. } | Share::Done { .. } => None,
        });
        silent.or_else(|| self.last.take()).unwrap_or(Reason::Late)
    }

    fn failed(&mut self, reason: Reason) -> Verdict {
        self.version = None;
        self.shards.clear();
        self.calls.clear();
        let (done, applied, not_applied, unknown) = Default::default();
        Verdict::Incomplete(Incomplete { done, applied, not_applied, unknown, reason })
    }

    pub fn assert_invariants(&self) {
        let asked = |(call, shard): (&CallId, &ShardId)| matches!(self.shards.get(shard), Some(Share::Asked { call: c, .. }) if c == call);
        assert!(self.calls.iter().all(asked), "P3 exact-cut: a call outside of its round");
        assert!(
            self.version.is_some() || self.shards.is_empty(),
            "P3 exact-cut: shares without a version"
        );
    }
}
