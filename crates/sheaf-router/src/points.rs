//! An operation on named points: each item is asked of its owner until it is done, has surely failed, or is lost.
//!
//! Decides which items are asked again; never asks again for a write that may have been applied.

use std::collections::BTreeMap;

use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, PlacementKey, ShardId, Time, mark};

use crate::effect::{CallId, Incomplete, Reason, Verdict};
use crate::event::Outcome;
use crate::operation::Context;
use crate::retry::{Again, TRIES_MAX, is_final};
use crate::route;

/// Where an item is. Every item is in exactly one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    /// Surely not applied so far; to be asked (again).
    Waiting,
    /// Asked; no answer yet.
    Asked,
    /// Done and acknowledged.
    Done,
    /// Surely not applied, and won't be asked again.
    Failed,
    /// A write that may have been applied.
    Unknown,
}

#[derive(Clone, Debug, Hash)]
pub struct Points {
    keys: Vec<PlacementKey>,
    /// Whether a lost call may be repeated.
    repeatable: bool,
    items: Vec<Item>,
    asked: BTreeMap<CallId, Asked>,
    waiting: Vec<Waiting>,
    done: Vec<CallId>,
    /// The newest version at which a shard answered.
    version: MapVersion,
    reason: Option<Reason>,
}

#[derive(Clone, Debug, Hash)]
struct Asked {
    shard: ShardId,
    version: MapVersion,
    items: Vec<u32>,
    tries: u32,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    items: Vec<u32>,
    tries: u32,
    /// `None`: at once.
    again: Option<Again>,
}

impl Points {
    /// # Panics
    /// There are more items than `u32` counts: the limits of a batch are far below.
    pub fn new(keys: Vec<PlacementKey>, repeatable: bool) -> Self {
        let count = u32::try_from(keys.len()).expect("a batch is bounded");
        let all = Waiting { items: (0..count).collect(), tries: 0, again: None };
        let waiting = if count == 0 { Vec::new() } else { vec![all] };
        Self {
            items: vec![Item::Waiting; keys.len()],
            keys,
            repeatable,
            asked: BTreeMap::new(),
            waiting,
            done: Vec::new(),
            version: MapVersion(0),
            reason: None,
        }
    }

    /// Whether a call whose answer is lost may be made again.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub fn on_replied(&mut self, call: CallId, outcome: Outcome, context: &mut Context) {
        let Some(asked) = self.asked.remove(&call) else {
            return; // A second reply to the same call.
        };
        let shard = asked.shard;
        match outcome {
            Outcome::Done { version } => {
                self.version = self.version.max(version);
                self.mark(&asked.items, Item::Asked, Item::Done);
                self.done.push(call);
            }
            Outcome::Failed => {
                self.mark(&asked.items, Item::Asked, Item::Failed);
                self.blame(Reason::Failed { call, shard });
            }
            Outcome::Lost if !self.repeatable => {
                mark!("a write is lost on its way and may have been applied");
                self.mark(&asked.items, Item::Asked, Item::Unknown);
                self.blame(Reason::Lost { shard });
            }
            Outcome::Lost => self.wait(asked, None, Reason::Lost { shard }, context),
            Outcome::NotSent => self.wait(asked, None, Reason::NotSent { shard }, context),
            Outcome::Refused(refusal) => {
                let reason = Reason::Refused { shard, refusal: refusal.clone() };
                mark!(matches!(refusal, Refusal::Moved { .. }), "a router asks the new owner");
                mark!(
                    matches!(refusal, Refusal::Fenced { .. }),
                    "a router asks again after a fence"
                );
                if is_final(asked.version, &refusal) {
                    self.mark(&asked.items, Item::Asked, Item::Failed);
                    self.blame(reason);
                } else {
                    self.wait(asked, Some(&refusal), reason, context);
                }
            }
        }
    }

    /// Puts back what was surely not applied (or only read), unless it was tried often enough.
    fn wait(
        &mut self,
        asked: Asked,
        refusal: Option<&Refusal>,
        reason: Reason,
        context: &mut Context,
    ) {
        self.blame(reason);
        if asked.tries >= TRIES_MAX {
            self.mark(&asked.items, Item::Asked, Item::Failed);
            return;
        }
        self.mark(&asked.items, Item::Asked, Item::Waiting);
        let again = Again::after(context.now, context.jitter, asked.tries, asked.version, refusal);
        self.waiting.push(Waiting { items: asked.items, tries: asked.tries, again: Some(again) });
    }

    /// Sends what is due, and says when all has come to its end.
    pub fn settle(&mut self, context: &mut Context) -> Option<Verdict> {
        if context.now >= context.deadline {
            mark!(!self.asked.is_empty(), "a deadline ends an operation that is under way");
            mark!(self.asked.is_empty(), "a deadline ends an operation that waits to ask again");
            return Some(self.verdict(Reason::Late));
        }
        if self.has_failed() {
            // The client has to change its request anyway; what is under way is waited for.
            self.give_up();
        }
        if let Err(reason) = self.send(context) {
            self.blame(reason);
            self.give_up();
        }
        for waiting in &self.waiting {
            let needed = waiting.again.and_then(|again| again.needed_map(context.map));
            context.effects.need_map = context.effects.need_map.max(needed);
        }
        let ended = self.asked.is_empty() && self.waiting.is_empty();
        ended.then(|| self.verdict(Reason::Late))
    }

    /// When something is due that no reply will bring about.
    pub fn next_retry(&self) -> Option<Time> {
        self.waiting.iter().filter_map(|w| w.again).map(|again| again.not_before()).min()
    }

    fn has_failed(&self) -> bool {
        self.items.contains(&Item::Failed)
    }

    fn send(&mut self, context: &mut Context) -> Result<(), Reason> {
        let is_due =
            |w: &mut Waiting| w.again.is_none_or(|again| again.is_due(context.now, context.map));
        let due: Vec<Waiting> = self.waiting.extract_if(.., is_due).collect();
        let Some(tries) = due.iter().map(|waiting| waiting.tries + 1).max() else {
            return Ok(());
        };
        let mut items: Vec<u32> = due.into_iter().flat_map(|waiting| waiting.items).collect();
        // The order of the batch: an id that is there twice must end as its last entry says.
        items.sort_unstable();
        let Some(shares) = route::split(context.map, &self.keys, &items) else {
            self.waiting.push(Waiting { items, tries, again: None });
            return Err(Reason::NoShards);
        };
        for (shard, items) in shares {
            self.mark(&items, Item::Waiting, Item::Asked);
            let call = context.call(shard, items.clone());
            let version = context.map.version();
            self.asked.insert(call, Asked { shard, version, items, tries });
        }
        Ok(())
    }

    /// What still waits is not asked again: it is surely not applied.
    fn give_up(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.mark(&waiting.items, Item::Waiting, Item::Failed);
        }
    }

    /// The end, whatever is still under way: an asked write may have been applied.
    fn verdict(&mut self, otherwise: Reason) -> Verdict {
        self.give_up();
        for (_, asked) in std::mem::take(&mut self.asked) {
            let end = if self.repeatable { Item::Failed } else { Item::Unknown };
            self.mark(&asked.items, Item::Asked, end);
            self.blame(Reason::Lost { shard: asked.shard });
        }
        let done = std::mem::take(&mut self.done);
        if self.items.iter().all(|item| *item == Item::Done) {
            return Verdict::Complete { version: self.version, calls: done };
        }
        mark!(!done.is_empty(), "a batch is applied in part");
        Verdict::Incomplete(Incomplete {
            done,
            applied: self.in_state(Item::Done),
            not_applied: self.in_state(Item::Failed),
            unknown: self.in_state(Item::Unknown),
            reason: self.reason.take().unwrap_or(otherwise),
        })
    }

    fn in_state(&self, state: Item) -> Vec<u32> {
        (0u32..).zip(&self.items).filter(|(_, item)| **item == state).map(|(at, _)| at).collect()
    }

    fn mark(&mut self, items: &[u32], from: Item, to: Item) {
        for &item in items {
            let state = &mut self.items[item as usize];
            assert_eq!(
                *state, from,
                "item {item} becomes {to:?}: a write that may have been applied is never asked again"
            );
            *state = to;
        }
    }

    /// Remembers why, unless something worse is known. Of equally bad reasons the latest counts.
    fn blame(&mut self, reason: Reason) {
        let badness = |reason: &Reason| match reason {
            // A read that was lost is asked again: no worse than one that was refused.
            Reason::Lost { .. } => {
                if self.repeatable {
                    0
                } else {
                    2
                }
            }
            Reason::Failed { .. } => 1,
            Reason::Refused { .. } | Reason::NotSent { .. } | Reason::NoShards | Reason::Late => 0,
        };
        if self.reason.as_ref().is_none_or(|known| badness(&reason) >= badness(known)) {
            self.reason = Some(reason);
        }
    }

    pub fn assert_invariants(&self) {
        let asked: usize = self.asked.values().map(|asked| asked.items.len()).sum();
        let waiting: usize = self.waiting.iter().map(|waiting| waiting.items.len()).sum();
        assert!(asked + waiting <= self.items.len(), "I14 queues-bounded");
        debug_assert_eq!(self.in_state(Item::Asked).len(), asked);
        debug_assert_eq!(self.in_state(Item::Waiting).len(), waiting);
    }
}
