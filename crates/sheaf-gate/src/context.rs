//! What every decision of the gate shares while an event is handled: the time, the effects, the engine calls under way.

use std::collections::BTreeMap;

use sheaf_types::{Serial, ShardId, Time, TransitionId};

use crate::effect::{Answer, Effects, EngineCall, JobId, Outgoing, WakeReason};
use crate::event::Token;
use crate::limits::Limits;

pub(crate) struct Context<'a> {
    pub now: Time,
    pub effects: &'a mut Effects,
    pub jobs: &'a mut Jobs,
}

impl Context<'_> {
    pub fn limits(&self) -> Limits {
        self.jobs.limits
    }

    /// Whether a rare but legal turn is taken, in a simulation.
    pub fn buggify(&self, site: &'static str) -> bool {
        self.jobs.limits.buggify.takes(site, self.now)
    }

    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.effects.answer.push((token, answer));
    }

    pub fn send(&mut self, outgoing: Outgoing) {
        self.effects.send.push(outgoing);
    }

    /// Wants to be called again at `at`.
    pub fn wake(&mut self, at: Time, reason: WakeReason) {
        if self.effects.wake.is_none_or(|(earliest, _)| at < earliest) {
            self.effects.wake = Some((at, reason));
        }
    }

    pub fn call(&mut self, owner: JobOwner, call: EngineCall) -> JobId {
        let job = JobId(self.jobs.next.take());
        self.jobs.open.insert(job, owner);
        self.effects.engine.push((job, call));
        job
    }
}

/// The engine calls that have not been answered, and who waits for each; and how much may be done at once.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Jobs {
    next: Serial,
    open: BTreeMap<JobId, JobOwner>,
    pub limits: Limits,
}

impl Jobs {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub fn close(&mut self, job: JobId) -> Option<JobOwner> {
        self.open.remove(&job)
    }

    /// Whether writes of a stream may still be applied by the engine.
    pub fn ingests(&self) -> bool {
        self.open.values().any(|owner| matches!(owner, JobOwner::Ingest { .. }))
    }

    /// Whether deletions of a sweep may still be applied by the engine.
    pub fn sweeps(&self) -> bool {
        self.open.values().any(|owner| matches!(owner, JobOwner::Sweep))
    }
}

/// The decision that an engine call belongs to. One that has ended gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JobOwner {
    Catalogue,
    Stream { transition: TransitionId, recipient: ShardId },
    Ingest { transition: TransitionId, donor: ShardId },
    Sweep,
}
