//! The gate: its state, what each event does, and what follows from it. The decisions themselves are in the other files.

mod clean;
mod ground;
mod report;
mod start;

use std::sync::Arc;

use sheaf_map::{Map, Moves};
use sheaf_protocol::{Directive, Frame, FrameRefusal, Load, Stage, StreamId};
use sheaf_types::buggify::Buggify;
use sheaf_types::{CollectionId, ShardId, Time, TransitionId, mark};

use crate::catalogue::Catalogue;
use crate::context::{Context, JobOwner, Jobs};
use crate::control::{self, Control};
use crate::donor::Donor;
use crate::effect::{Answer, Effects, JobId, WakeReason};
use crate::event::{EngineReply, Event, FrameAnswer, Operation, Outcome, Request, Seen, Token};
use crate::ingest::Recipient;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::record::{GateRecord, OrderRecord};
use crate::requests::Requests;
use crate::sweep::Sweep;
use ground::{donor_ground, surroundings};
use report::Progress;

pub use report::GateMetrics;

/// Milliseconds before a map that couldn't be fetched is asked for again.
const FETCH_RETRY_MS: u64 = 20;
/// Milliseconds by which a simulation holds back the acknowledgement of a write.
const ACK_DELAY_MS: u64 = 100;

/// The core of one shard.
#[derive(Clone, Debug, Hash)]
pub struct Gate {
    now: Time,
    ledger: Ledger,
    jobs: Jobs,
    requests: Requests,
    catalogue: Catalogue,
    control: Control,
    sweep: Sweep,
    donor: Option<Donor>,
    recipient: Option<Recipient>,
    /// The gate's part in the transition that it follows.
    part: Option<Part>,
    fence: Option<Fence>,
    /// The transition for which this incarnation found the gate clean.
    swept_for: Option<TransitionId>,
    fetch: Fetch,
    load: Load,
    progress: Progress,
    /// Something changed by which held requests may be judged otherwise.
    judge_again: bool,
}

/// What a transition means for this gate; fixed while it runs, whatever happens to the catalogue.
#[derive(Clone, Debug, Hash)]
struct Part {
    transition: TransitionId,
    moves: Moves,
    donates: bool,
    receives: bool,
}

/// The moves whose outgoing ids are held, until the end of it is durable; the next transition may have begun by then.
#[derive(Clone, Debug, Hash)]
struct Fence {
    transition: TransitionId,
    moves: Moves,
}

/// The map that is being fetched, or is to be.
#[derive(Clone, Debug, Default, Hash)]
struct Fetch {
    under_way: bool,
    retry_at: Time,
}

impl Gate {
    /// A gate on a record that is already stored with its new incarnation ([`GateRecord::restarted`]), and on an engine that has
    /// these collections.
    pub fn new(
        now: Time,
        record: GateRecord,
        collections: Vec<CollectionId>,
        limits: Limits,
    ) -> Self {
        let mut gate = Self {
            now,
            ledger: Ledger::new(record),
            jobs: Jobs::new(limits),
            requests: Requests::default(),
            catalogue: Catalogue::new(collections),
            control: Control::default(),
            sweep: Sweep::default(),
            donor: None,
            recipient: None,
            part: None,
            fence: None,
            swept_for: None,
            fetch: Fetch::default(),
            load: Load::default(),
            progress: Progress::default(),
            judge_again: false,
        };
        let mut effects = Effects::default();
        gate.update_roles(&mut effects);
        gate.mark_start();
        gate
    }

    /// From now on takes rare turns, or no longer does.
    pub fn set_buggify(&mut self, buggify: Buggify) {
        self.jobs.limits.buggify = buggify;
    }

    /// Takes in what happened and says what has to be done.
    pub fn handle(&mut self, now: Time, event: Event) -> Effects {
        assert!(now >= self.now, "I1 time-forward: time ran from {} back to {now}", self.now);
        self.now = now;
        let mut effects = Effects::default();
        let fx = &mut effects;
        match event {
            Event::Tick => {} // `settle` looks at every deadline.
            Event::Directed { token, directive, seen, deadline } => {
                self.on_directed(token, directive, seen, deadline, fx);
            }
            Event::ReportWanted { token } => {
                fx.answer.push((token, Answer::Report(Box::new(self.report()))));
            }
            Event::FrameArrived { token, frame } => self.on_frame(token, *frame, fx),
            Event::Requested { token, request } => self.on_requested(token, request, fx),
            Event::RequestDone { token, outcome } => self.on_request_done(token, outcome, fx),
            Event::RequestAbandoned { token } => self.requests.abandon(token),
            Event::EngineAnswered { job, reply } => self.on_engine(job, reply, fx),
            Event::FrameAnswered { recipient, stream, seq, answer } => {
                self.on_frame_answer(recipient, stream, seq, answer);
            }
            Event::MapLearned { map } => self.on_map(map),
            Event::MapUnavailable => self.on_no_map(),
            Event::Persisted { seq } => self.judge_again |= self.ledger.persisted(seq),
            Event::Sampled { load } => self.load = load,
        }
        self.settle(fx);
        self.assert_invariants();
        debug_assert!(
            effects.wake.is_none_or(|(at, _)| at > now),
            "I16 never-spins: {:?} is wanted at {now}",
            effects.wake
        );
        effects
    }

    fn on_directed(
        &mut self,
        token: Token,
        directive: Box<Directive>,
        seen: Seen,
        deadline: Time,
        fx: &mut Effects,
    ) {
        let record = self.ledger.decided();
        let foreign = (!self.catalogue.is_empty()).then_some(self.load.points);
        if let Some(refusal) = control::refusal_of(&directive, record, foreign) {
            fx.answer.push((token, Answer::Directed(Err(refusal))));
            return;
        }
        if directive.retired && record.shard.is_none() {
            // It has left already, or never came. From now on it refuses what was said to it before.
            mark!("a gate that is no shard is told to leave");
            if (record.term, record.revision) < (directive.term, directive.revision) {
                self.control.directive = None;
                self.ledger.decide(|record| control::stay_away(record, &directive));
            }
            self.control.wait(token, &directive, seen, deadline);
            return;
        }
        let newer = |waiting: &Directive| {
            (waiting.term, waiting.revision) > (directive.term, directive.revision)
        };
        self.control.wait(token, &directive, seen, deadline);
        if self.control.directive.as_deref().is_some_and(newer) {
            mark!("an older directive comes while a later one waits for its collections");
            return; // A later one is waiting for its collections.
        }
        self.control.directive = Some(directive);
    }

    fn on_map(&mut self, map: Arc<Map>) {
        if self.jobs.limits.buggify.takes("a map that was fetched is thrown away", self.now) {
            self.on_no_map();
            return;
        }
        self.fetch.under_way = false;
        let record = self.ledger.decided();
        let known = record.map.as_ref().map(|map| map.version());
        let same_cluster = record.cluster_id.as_ref() == Some(map.cluster_id());
        if same_cluster && record.shard.is_some() && known.is_none_or(|known| map.version() > known)
        {
            self.control.map = Some(map);
        }
    }

    fn on_no_map(&mut self) {
        mark!("a map that a request waits for can't be fetched");
        self.fetch = Fetch { under_way: false, retry_at: self.now.plus_ms(FETCH_RETRY_MS) };
    }

    fn on_requested(&mut self, token: Token, request: Request, fx: &mut Effects) {
        let around = surroundings(&self.ledger, self.fence.as_ref(), self.part.as_ref());
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        self.requests.arrive(token, request, &around, &mut ctx);
        self.note_admitted(token);
        self.fetch_if_wanted(fx);
    }

    /// A write that the engine is about to apply: the donor has to know before it is done.
    fn note_admitted(&mut self, token: Token) {
        let (Some(donor), Some(request)) = (&mut self.donor, self.requests.in_flight(token)) else {
            return;
        };
        if let Operation::Write { ids, .. } = &request.operation {
            let fenced = self.fence.as_ref().is_some_and(|fence| fence.is_of(donor));
            donor.admitted(request.collection, ids, fenced);
        }
    }

    fn on_request_done(&mut self, token: Token, outcome: Outcome, fx: &mut Effects) {
        let mut delay_ms = 0;
        self.note_discarded(token);
        if let (Some(donor), Some(request)) = (&mut self.donor, self.requests.in_flight(token))
            && let Operation::Write { ids, .. } = &request.operation
        {
            delay_ms = donor.finished(token, request.collection, ids, outcome);
            if self.jobs.limits.buggify.takes("a write's acknowledgement is held back", self.now) {
                delay_ms += ACK_DELAY_MS;
            }
            if self.fence.is_some() {
                delay_ms = 0; // Nothing more becomes dirty, and the fence waits for this.
            }
        }
        let around = surroundings(&self.ledger, self.fence.as_ref(), self.part.as_ref());
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        self.requests.done(token, outcome, delay_ms, &around, &mut ctx);
    }

    fn fetch_if_wanted(&mut self, fx: &mut Effects) {
        let around = surroundings(&self.ledger, self.fence.as_ref(), self.part.as_ref());
        let Some(wanted) = self.requests.wanted_version(&around) else { return };
        if self.fetch.under_way || self.control.map.is_some() {
            return;
        }
        if self.fetch.retry_at > self.now {
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            ctx.wake(self.fetch.retry_at, WakeReason::Retry);
            return;
        }
        self.fetch.under_way = true;
        fx.fetch_map = Some(wanted);
    }

    fn on_frame(&mut self, token: Token, frame: Frame, fx: &mut Effects) {
        let record = self.ledger.decided();
        let refusal = if record.cluster_id.as_ref() != Some(&frame.cluster_id) {
            FrameRefusal::OtherGate
        } else {
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            match &mut self.recipient {
                Some(recipient) if recipient.transition() == frame.transition => {
                    recipient.on_frame(token, frame, &mut ctx);
                    return;
                }
                _ => match &record.order {
                    Some(order) if order.order.transition == frame.transition => {
                        FrameRefusal::NotPrepared
                    }
                    _ => FrameRefusal::NoTransition,
                },
            }
        };
        fx.answer.push((token, Answer::Frame(Err(refusal))));
    }

    fn on_frame_answer(
        &mut self,
        recipient: ShardId,
        stream: StreamId,
        seq: u64,
        answer: FrameAnswer,
    ) {
        if let Some(donor) = &mut self.donor {
            donor.on_frame_answer(recipient, stream, seq, answer, self.now);
        }
    }

    fn on_engine(&mut self, job: JobId, reply: EngineReply, fx: &mut Effects) {
        let Some(owner) = self.jobs.close(job) else { return };
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        match owner {
            JobOwner::Catalogue => self.catalogue.on_engine(job, &reply, self.now),
            JobOwner::Stream { transition, recipient } => {
                let ground = donor_ground(&self.ledger, self.load);
                if let (Some(donor), Some(ground)) = (&mut self.donor, ground)
                    && donor.transition() == transition
                {
                    donor.on_engine(recipient, reply, &ground, &mut ctx);
                }
            }
            JobOwner::Ingest { transition, donor } => {
                if let Some(recipient) = &mut self.recipient
                    && recipient.transition() == transition
                {
                    recipient.on_engine(donor, reply, &mut ctx);
                }
            }
            JobOwner::Sweep => self.on_swept(reply, fx),
        }
    }

    /// Drives everything as far as the facts allow; idempotent.
    fn settle(&mut self, fx: &mut Effects) {
        self.follow_what_waits(fx);
        self.update_roles(fx);
        self.prepare();
        self.step_donor(fx);
        self.step_sweep(fx);
        self.retire();
        self.drop_collections(fx);
        if std::mem::take(&mut self.judge_again) {
            let around = surroundings(&self.ledger, self.fence.as_ref(), self.part.as_ref());
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            for token in self.requests.judge_held_again(&around, &mut ctx) {
                self.note_admitted(token);
            }
        }
        self.fetch_if_wanted(fx);
        let around = surroundings(&self.ledger, self.fence.as_ref(), self.part.as_ref());
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        self.requests.look_at_deadlines(&around, &mut ctx);
        self.answer_polls(fx);
        fx.persist = self.ledger.flush();
    }

    /// Follows a directive, or adopts a map, once the engine has its collections.
    fn follow_what_waits(&mut self, fx: &mut Effects) {
        if let Some(directive) = self.control.directive.take() {
            if !self.belongs(&directive) {
                self.control.directive = Some(directive);
                return;
            }
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            self.catalogue.create_missing(&directive.map, &mut ctx);
            let known = self.ledger.decided().map.as_ref().map(|map| map.version());
            if known.is_some_and(|known| directive.map.version() < known) {
                mark!("a directive's map is older than one that was fetched meanwhile");
                // A newer map was fetched meanwhile: the coordinator will say so itself.
            } else if ctx.buggify("a directive is followed later") {
                ctx.wake(self.now.plus_ms(FETCH_RETRY_MS), WakeReason::Retry);
                self.control.directive = Some(directive);
            } else if self.catalogue.has_all_of(&directive.map) {
                self.follow(&directive);
            } else {
                mark!("a directive waits for its collections");
                self.control.directive = Some(directive);
            }
        }
        if let Some(map) = self.control.map.take() {
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            self.catalogue.create_missing(&map, &mut ctx);
            if self.catalogue.has_all_of(&map) {
                self.note_shrinking(&map);
                self.ledger.decide(|record| control::adopt(record, &map));
                self.judge_again = true;
            } else {
                mark!("a map that was fetched waits for its collections");
                self.control.map = Some(map);
            }
        }
    }

    /// Whether the record says, durably, whose node this is. Were collections made before that, a crash would leave
    /// a node with collections that are nobody's, which no cluster takes.
    fn belongs(&mut self, directive: &Directive) -> bool {
        if self.ledger.decided().cluster_id.is_none() {
            let cluster_id = directive.cluster_id.clone();
            self.ledger.decide(|record| record.cluster_id = Some(cluster_id));
        }
        self.ledger.durable().cluster_id.is_some()
    }

    fn follow(&mut self, directive: &Directive) {
        self.control.sweep_permit = directive.sweep.then(|| directive.map.version());
        self.control.retired = directive.retired;
        self.note_shrinking(&directive.map);
        let before = self.ledger.decided().order.as_ref().map(|order| order.order.transition);
        self.ledger.decide(|record| control::follow(record, directive));
        let after = self.ledger.decided().order.as_ref().map(|order| order.order.transition);
        if after.is_some() && after != before {
            self.requests.forget_stalls();
        }
        self.judge_again = true;
    }

    /// Sums that contain a collection which is gone can't be compared with new ones.
    fn note_shrinking(&mut self, map: &Map) {
        let Some(known) = &self.ledger.decided().map else { return };
        let gone = |id| map.collection_by_id(id).is_none();
        let shrinks = known.collections().iter().any(|collection| gone(collection.id));
        if let (Some(donor), true) = (&mut self.donor, shrinks) {
            mark!("a collection is dropped while a donor copies");
            donor.catalogue_shrank();
        }
    }

    /// Begins and ends the parts of donor and recipient, and the fence, as the ledger says.
    fn update_roles(&mut self, fx: &mut Effects) {
        self.note_part();
        let running = self.part.as_ref().map(|part| part.transition);
        if self.donor.as_ref().is_some_and(|donor| Some(donor.transition()) != running) {
            self.donor = None;
        }
        if self.recipient.as_ref().is_some_and(|part| Some(part.transition()) != running) {
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            if let Some(mut part) = self.recipient.take() {
                part.end(&mut ctx);
            }
        }
        self.take_parts(fx);
        if self.fence.is_some() && !self.ledger.is_fenced() {
            mark!(
                self.fence.as_ref().is_some_and(|fence| Some(fence.transition) == running),
                "a fence ends and its transition goes on"
            );
            self.judge_again = true;
            if let (Some(fence), Some(donor)) = (self.fence.take(), &mut self.donor)
                && fence.is_of(donor)
            {
                donor.fence_ends();
            }
        }
    }

    fn note_part(&mut self) {
        let record = self.ledger.decided();
        let (Some(order), Some(map), Some(me)) = (&record.order, &record.map, record.shard) else {
            self.part = None;
            return;
        };
        let transition = order.order.transition;
        if self.part.as_ref().is_none_or(|part| part.transition != transition) {
            let moves = Moves::between(map.placement(), order.order.next.placement());
            let donates = moves.donors().contains(&me);
            let receives = moves.recipients().contains(&me);
            self.part = Some(Part { transition, moves, donates, receives });
        }
    }

    fn take_parts(&mut self, fx: &mut Effects) {
        let record = self.ledger.decided();
        let (Some(part), Some(order), Some(me)) = (&self.part, &record.order, record.shard) else {
            return;
        };
        if self.donor.is_none() && part.donates {
            let donor =
                Donor::new(me, &order.order, part.moves.clone(), &self.requests, self.jobs.limits);
            self.donor = Some(donor);
        }
        let durable = self.ledger.order().is_some_and(|durable| durable.prepared);
        if self.recipient.is_none() && durable && part.receives {
            let swept_now = self.swept_for == Some(part.transition);
            let moves = part.moves.clone();
            self.recipient = Some(Recipient::new(me, part.transition, moves, swept_now));
        }
        let transition = part.transition;
        let raised = self.fence.as_ref().is_some_and(|fence| fence.transition == transition);
        if order.order.stage == Stage::Fence && !raised {
            self.fence = Some(Fence { transition, moves: part.moves.clone() });
            if let Some(donor) = &mut self.donor {
                donor.fence_begins(&self.requests);
            }
            let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
            self.requests.acknowledge_all(&self.ledger, &mut ctx);
        }
    }

    /// Says that the gate is ready for the transition once it holds nothing but its own, and nobody looks without a filter.
    fn prepare(&mut self) {
        let record = self.ledger.decided();
        let Some(OrderRecord { prepared: false, .. }) = &record.order else { return };
        let Some(part) = &self.part else { return };
        let Part { transition, receives, .. } = *part;
        let busy = self.jobs.ingests() || self.jobs.sweeps() || self.requests.discards();
        let looked_at = receives && self.requests.has_unfiltered();
        mark!(busy, "a gate waits for engine calls of before to be prepared");
        mark!(!record.clean, "a gate has to sweep before it is prepared");
        mark!(looked_at, "a recipient waits for a search that sees everything");
        if !self.ledger.is_settled() || !record.clean || busy || looked_at {
            return;
        }
        self.swept_for = Some(transition);
        self.ledger.decide(|record| {
            record.clean = !receives;
            if let Some(order) = &mut record.order {
                order.prepared = true;
            }
        });
    }

    fn step_donor(&mut self, fx: &mut Effects) {
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        let ground = donor_ground(&self.ledger, self.load);
        if let (Some(donor), Some(ground)) = (&mut self.donor, ground) {
            donor.step(&ground, &mut ctx);
        }
    }

    fn answer_polls(&mut self, fx: &mut Effects) {
        // Whether or not anybody waits: the number of what is new must not depend on who asks when.
        self.note_progress();
        let mut ctx = Context { now: self.now, effects: fx, jobs: &mut self.jobs };
        let due = self.control.due(self.ledger.durable(), self.progress.seq, &mut ctx);
        for token in due {
            fx.answer.push((token, Answer::Directed(Ok(Box::new(self.report())))));
        }
    }

    fn assert_invariants(&self) {
        assert!(
            !self.ledger.is_fenced() || self.fence.is_some(),
            "I10 fenced-until-told: the record is fenced and requests aren't held"
        );
        if let Some(recipient) = &self.recipient {
            assert!(
                !self.ledger.decided().clean && !self.ledger.durable().clean,
                "I8 invisible-until-commit: {} receives while searches see everything",
                recipient.transition()
            );
            let durable = self.ledger.durable().order.as_ref();
            assert!(
                durable.is_some_and(|order| order.order.transition == recipient.transition()),
                "I4 intent-before-effect: {} is received and not recorded",
                recipient.transition()
            );
        }
    }
}
