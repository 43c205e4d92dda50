//! What is durable: the one record that the store holds, and at most one write on its way there.
//!
//! Decides when a write is known to be durable, when it is tried again, and when this coordinator is deposed;
//! never what is written.

use std::sync::Arc;

use sheaf_types::{Time, mark};

use crate::effect::{Effects, Reply, StoreWrite, WakeReason};
use crate::event::{StoreOutcome, StoreRead, Token};
use crate::record::{CoordinatorRecord, Phase};
use crate::refusal::AskRefusal;

/// Milliseconds until a write of unknown outcome that is not there, or a failed read, is tried again.
const STORE_RETRY_MS: u64 = 50;
/// Milliseconds between two looks at the store because a gate spoke of a higher term.
const TERM_CHECK_MS_MIN: u64 = 1_000;

/// An answer that waits for a write.
pub(crate) type Answer = (Token, Result<Reply, AskRefusal>);

/// What came of an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// Nothing is known that wasn't before.
    Same,
    /// The pending record is durable.
    Durable,
    /// Another coordinator has written.
    Deposed,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Ledger {
    durable: Arc<CoordinatorRecord>,
    /// This coordinator's term is durable: it may speak.
    reigns: bool,
    deposed: bool,
    pending: Option<Pending>,
    next_write: u64,
    /// A look at the store without a write: somebody spoke of a higher term.
    checking: bool,
    checked_at: Option<Time>,
}

#[derive(Clone, Debug, Hash)]
struct Pending {
    record: Arc<CoordinatorRecord>,
    answers: Vec<Answer>,
    /// An earlier try of this write may have been, or may still be, carried out.
    doubtful: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Hash)]
enum State {
    Writing {
        write: u64,
    },
    /// The outcome is unknown; the store is read until it is known.
    Reading,
    /// To be read again then.
    ReadAt {
        at: Time,
    },
    /// Known not to be there; to be written again then.
    WriteAt {
        at: Time,
    },
}

impl Ledger {
    /// Nothing is on its way; `record` is what the store holds.
    pub(crate) fn new(record: Arc<CoordinatorRecord>) -> Self {
        Self {
            durable: record,
            reigns: false,
            deposed: false,
            pending: None,
            next_write: 1,
            checking: false,
            checked_at: None,
        }
    }

    pub(crate) fn durable(&self) -> &Arc<CoordinatorRecord> {
        &self.durable
    }

    /// Whether this coordinator may speak: its term is durable and nobody took over.
    pub(crate) fn reigns(&self) -> bool {
        self.reigns && !self.deposed
    }

    pub(crate) fn is_deposed(&self) -> bool {
        self.deposed
    }

    /// Whether the next decision may be written.
    pub(crate) fn is_free(&self) -> bool {
        self.pending.is_none() && !self.deposed
    }

    /// Whether the outcome of the pending write is unknown.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.doubtful)
    }

    /// Writes `record`; the answers are given once it is durable.
    pub(crate) fn propose(
        &mut self,
        record: CoordinatorRecord,
        answers: Vec<Answer>,
        effects: &mut Effects,
    ) {
        assert!(
            self.is_free(),
            "I4 intent-before-effect: one write at a time: another one is pending"
        );
        assert!(
            record.stamp() > self.durable.stamp(),
            "I2 map-monotone: the record's stamp must grow: {:?} after {:?}",
            record.stamp(),
            self.durable.stamp()
        );
        let state = State::Reading; // Replaced at once by the write below.
        let record = Arc::new(record);
        self.pending = Some(Pending { record, answers, doubtful: false, state });
        self.write(effects);
    }

    pub(crate) fn on_stored(
        &mut self,
        write: u64,
        outcome: StoreOutcome,
        effects: &mut Effects,
    ) -> Turn {
        let Some(pending) = &mut self.pending else {
            return Turn::Same; // The outcome was learnt by reading.
        };
        if pending.state != (State::Writing { write }) {
            return Turn::Same; // An earlier try.
        }
        match outcome {
            StoreOutcome::Done => self.adopt(effects),
            StoreOutcome::Refused if !pending.doubtful => self.depose(effects),
            // Refused by what an earlier try of ours has written, perhaps: only reading tells.
            StoreOutcome::Refused | StoreOutcome::Unknown => {
                let committed = pending.record.map.committed();
                mark!(outcome == StoreOutcome::Refused, "a write that is tried again is refused");
                mark!("it is unknown whether a write was stored");
                mark!(
                    committed > self.durable.map.committed(),
                    "it is unknown whether a commit was stored"
                );
                mark!(pending.record.aborts(), "it is unknown whether an abort was stored");
                pending.doubtful = true;
                self.read(effects);
                Turn::Same
            }
        }
    }

    pub(crate) fn on_loaded(&mut self, now: Time, read: StoreRead, effects: &mut Effects) -> Turn {
        let checking = std::mem::take(&mut self.checking);
        let Some(pending) = &mut self.pending else {
            return if checking { self.on_checked(&read, effects) } else { Turn::Same };
        };
        if pending.state != State::Reading {
            return Turn::Same; // Nothing is in doubt: the write's own outcome will tell.
        }
        let at = now.plus_ms(STORE_RETRY_MS);
        match read {
            StoreRead::Failed => {
                mark!("the store can't be read while a write is in doubt");
                pending.state = State::ReadAt { at };
            }
            StoreRead::Found(found) if found.stamp() == pending.record.stamp() => {
                mark!("a write of unknown outcome is found in the store");
                return self.adopt(effects);
            }
            StoreRead::Found(found) if found.stamp() == self.durable.stamp() => {
                mark!("a write of unknown outcome isn't in the store");
                pending.state = State::WriteAt { at };
            }
            StoreRead::Found(_) | StoreRead::Empty => return self.depose(effects),
        }
        Turn::Same
    }

    /// Looks at the store, since a gate has heard of a higher term.
    pub(crate) fn doubt_reign(&mut self, now: Time, effects: &mut Effects) {
        let recently = self.checked_at.is_some_and(|at| now.ms_since(at) < TERM_CHECK_MS_MIN);
        if self.checking || recently || !self.is_free() {
            return; // A pending write is about to tell anyway.
        }
        self.checking = true;
        self.checked_at = Some(now);
        effects.load = true;
    }

    /// Tries again what is due.
    pub(crate) fn tick(&mut self, now: Time, effects: &mut Effects) {
        match self.pending.as_ref().map(|pending| &pending.state) {
            Some(State::ReadAt { at }) if *at <= now => self.read(effects),
            Some(State::WriteAt { at }) if *at <= now => self.write(effects),
            Some(_) | None => {}
        }
    }

    pub(crate) fn wake(&self) -> Option<(Time, WakeReason)> {
        match self.pending.as_ref().map(|pending| &pending.state) {
            Some(State::ReadAt { at } | State::WriteAt { at }) => Some((*at, WakeReason::Store)),
            Some(State::Writing { .. } | State::Reading) | None => None,
        }
    }

    fn on_checked(&mut self, read: &StoreRead, effects: &mut Effects) -> Turn {
        match read {
            StoreRead::Failed => Turn::Same,
            StoreRead::Found(found) if found.stamp() == self.durable.stamp() => Turn::Same,
            StoreRead::Found(_) | StoreRead::Empty => {
                mark!("a coordinator learns from a gate that it is deposed");
                self.depose(effects)
            }
        }
    }

    fn write(&mut self, effects: &mut Effects) {
        let number = self.next_write;
        self.next_write += 1;
        if let Some(pending) = &mut self.pending {
            pending.state = State::Writing { write: number };
            let (expects, record) = (self.durable.stamp(), Arc::clone(&pending.record));
            effects.store = Some(StoreWrite { number, expects, record });
        }
    }

    fn read(&mut self, effects: &mut Effects) {
        if let Some(pending) = &mut self.pending {
            pending.state = State::Reading;
            effects.load = true;
        }
    }

    fn adopt(&mut self, effects: &mut Effects) -> Turn {
        if let Some(pending) = self.pending.take() {
            self.durable = pending.record;
            self.reigns = true;
            effects.answer.extend(pending.answers);
        }
        Turn::Durable
    }

    fn depose(&mut self, effects: &mut Effects) -> Turn {
        self.deposed = true;
        effects.deposed = true;
        if let Some(pending) = self.pending.take() {
            mark!(pending.doubtful, "a coordinator is deposed while its write is in doubt");
            mark!(!pending.doubtful, "a coordinator is deposed by the store's refusal");
            // A try of unknown outcome may have been carried out before the other coordinator read the store.
            let refusal =
                if pending.doubtful { AskRefusal::OutcomeUnknown } else { AskRefusal::Deposed };
            let tokens = pending.answers.into_iter().map(|(token, _)| token);
            effects.answer.extend(tokens.map(|token| (token, Err(refusal.clone()))));
        }
        Turn::Deposed
    }
}

impl CoordinatorRecord {
    fn aborts(&self) -> bool {
        matches!(&self.transition, Some(running) if matches!(running.phase, Phase::Abort { .. }))
    }
}
