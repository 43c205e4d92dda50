//! One client request from its arrival to its answer: clock, dispatch, settle, invariants.
//!
//! Decides nothing itself: see `points` and `scatter`.

use std::sync::Arc;

use sheaf_map::Map;
use sheaf_types::buggify::Buggify;
use sheaf_types::{ShardId, Time};

use crate::effect::{Call, CallId, Effects, Verdict, WakeReason};
use crate::event::{Event, Op, Outcome};
use crate::points::Points;
use crate::retry::{Jitter, answer_by};
use crate::scatter::Scatter;

/// A client's request at a router.
#[derive(Clone, Debug, Hash)]
pub struct Operation {
    now: Time,
    deadline: Time,
    map: Arc<Map>,
    jitter: Jitter,
    calls: u64,
    started: bool,
    answered: bool,
    shape: Shape,
    /// Rare turns, in a simulation.
    buggify: Buggify,
}

#[derive(Clone, Debug, Hash)]
enum Shape {
    Points(Points),
    Scatter(Scatter),
}

/// What the parts of an operation share while an event is handled.
pub(crate) struct Context<'a> {
    pub now: Time,
    pub deadline: Time,
    pub map: &'a Map,
    pub jitter: &'a mut Jitter,
    pub effects: &'a mut Effects,
    calls: &'a mut u64,
}

impl Context<'_> {
    /// Has a shard asked under the present map.
    pub fn call(&mut self, shard: ShardId, items: Vec<u32>) -> CallId {
        *self.calls += 1;
        let id = CallId(*self.calls);
        let answer_by = answer_by(self.now, self.deadline);
        let version = self.map.version();
        self.effects.calls.push(Call { id, shard, version, items, answer_by });
        id
    }
}

impl Operation {
    /// A request that has arrived. `seed` spreads the retries of different requests.
    pub fn new(now: Time, map: Arc<Map>, op: Op, deadline: Time, seed: u64) -> Self {
        let shape = match op {
            Op::Read { keys } => Shape::Points(Points::new(keys, true)),
            Op::Write { keys } => Shape::Points(Points::new(keys, false)),
            Op::Gather => Shape::Scatter(Scatter::new()),
        };
        let jitter = Jitter::seeded(seed);
        Self {
            now,
            deadline,
            map,
            jitter,
            calls: 0,
            started: false,
            answered: false,
            shape,
            buggify: Buggify::default(),
        }
    }

    /// The operation, with rare turns.
    pub fn buggified(self, buggify: Buggify) -> Self {
        Self { buggify, ..self }
    }

    /// The newest map that the operation was told of; the one by which it makes its calls.
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Handles one event. After the answer nothing has an effect any more.
    ///
    /// # Panics
    /// An invariant is broken: `now` ran backwards, or a mistake in this crate.
    pub fn handle(&mut self, now: Time, event: Event) -> Effects {
        assert!(now >= self.now, "I1 time-forward: time ran backwards: {now} after {}", self.now);
        self.now = now;
        let mut effects = Effects::default();
        if self.answered {
            return effects;
        }
        let verdict = match event {
            Event::Tick => None, // `settle` looks at every deadline.
            Event::Start => {
                self.started = true;
                None
            }
            Event::MapAdopted { map } => {
                self.adopt(map);
                None
            }
            Event::Replied { call, outcome } => {
                let outcome = self.forget(outcome);
                let (shape, mut context) = self.parts(&mut effects);
                match shape {
                    Shape::Points(points) => {
                        points.on_replied(call, outcome, &mut context);
                        None
                    }
                    Shape::Scatter(scatter) => scatter.on_replied(call, outcome, &mut context),
                }
            }
        };
        effects.answer = verdict;
        self.settle(&mut effects);
        self.assert_invariants(&effects);
        effects
    }

    /// What a read was answered may be asked for again; a write's outcome may not.
    fn forget(&self, outcome: Outcome) -> Outcome {
        let reads = match &self.shape {
            Shape::Points(points) => points.is_repeatable(),
            Shape::Scatter(_) => true,
        };
        let done = matches!(outcome, Outcome::Done { .. });
        let forgets = reads && done && self.buggify.takes("a read is made once more", self.now);
        if forgets { Outcome::Lost } else { outcome }
    }

    fn adopt(&mut self, map: Arc<Map>) {
        if map.version() > self.map.version() && map.cluster_id() == self.map.cluster_id() {
            self.map = map;
        }
    }

    fn settle(&mut self, effects: &mut Effects) {
        if !self.started {
            return;
        }
        if effects.answer.is_none() {
            effects.answer = self.settle_shape(effects);
        }
        self.answered = effects.answer.is_some();
        if self.answered {
            // Whatever was to be sent in the same breath would be answered to nobody.
            effects.calls.clear();
            effects.need_map = None;
        } else {
            effects.wake = Some(self.next_wake());
        }
    }

    fn settle_shape(&mut self, effects: &mut Effects) -> Option<Verdict> {
        let (shape, mut context) = self.parts(effects);
        match shape {
            Shape::Points(points) => points.settle(&mut context),
            Shape::Scatter(scatter) => scatter.settle(&mut context),
        }
    }

    fn parts<'a>(&'a mut self, effects: &'a mut Effects) -> (&'a mut Shape, Context<'a>) {
        let context = Context {
            now: self.now,
            deadline: self.deadline,
            map: &self.map,
            jitter: &mut self.jitter,
            effects,
            calls: &mut self.calls,
        };
        (&mut self.shape, context)
    }

    fn next_wake(&self) -> (Time, WakeReason) {
        let retry = match &self.shape {
            Shape::Points(points) => points.next_retry(),
            Shape::Scatter(scatter) => scatter.next_retry(),
        };
        match retry {
            Some(retry) if retry < self.deadline => (retry, WakeReason::Retry),
            _ => (self.deadline, WakeReason::Deadline),
        }
    }

    fn assert_invariants(&self, effects: &Effects) {
        assert!(
            !self.started
                || self.answered
                || effects.wake.is_some_and(|(at, _)| at <= self.deadline),
            "I13 hold-has-deadline: {:?} is after {}",
            effects.wake,
            self.deadline
        );
        assert!(
            effects.calls.iter().all(|call| self.map.shard(call.shard).is_some()),
            "I6 total-map: a call to a shard that is not in map {}",
            self.map.version()
        );
        debug_assert!(
            effects.wake.is_none_or(|(at, _)| at > self.now),
            "I16 never-spins: {:?} is wanted at {}",
            effects.wake,
            self.now
        );
        match &self.shape {
            Shape::Points(points) => points.assert_invariants(),
            Shape::Scatter(scatter) => scatter.assert_invariants(),
        }
    }
}
