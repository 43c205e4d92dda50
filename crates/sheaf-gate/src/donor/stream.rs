//! One outgoing stream: reads one thing at a time, numbers frames in the order of the reads, repeats what got lost.

mod frames;

use std::collections::BTreeMap;

use sheaf_map::Move;
use sheaf_protocol::{
    Content, CopyState, DonorReport, Frame, FrameRefusal, Proof, Range, Stage, StreamId, Verdict,
};
use sheaf_types::limits::COPY_FRAME_BYTES_MAX;
use sheaf_types::{Attempt, CollectionId, Digest, PointId, ShardId, Time, mark};

use super::pace::{CONVERGED_DIRTY_MAX, Pace};
use super::pass::{Mode, Pass};
use super::{DonorGround, url_of};
use crate::capture::{Capture, DirtyList};
use crate::context::{Context, JobOwner};
use crate::effect::{EngineCall, Outgoing, Scan, Select, WakeReason};
use crate::event::FrameAnswer;
use crate::limits::Limits;

/// Milliseconds before a step that failed is tried again: at first, and at most.
const RETRY_MS_MIN: u64 = 10;
const RETRY_MS_MAX: u64 = 1_000;
/// Milliseconds that a stream rests, in simulations.
const REST_MS: u64 = 150;

/// What a stream shares with the other streams of its donor.
pub(super) struct Hands<'a> {
    pub capture: &'a mut Capture,
    pub pace: &'a mut Pace,
    pub next_stream: &'a mut u64,
    /// Fenced, and no write to an outgoing id is under way.
    pub quiet: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Stream {
    mv: Move,
    id: StreamId,
    /// `None`: no stream is open.
    pass: Option<Pass>,
    next_seq: u64,
    reading: Option<Reading>,
    /// Sent and not yet answered, by number.
    window: BTreeMap<u64, Sent>,
    /// What the recipient holds of what the pass has counted.
    sums: Digest,
    /// The last pass found both sides equal.
    verified: bool,
    drained_last: bool,
    seal: Option<Seal>,
    retry_at: Time,
    retry_ms: u64,
    passes: u64,
    sent_points: u64,
    sent_bytes: u64,
}

/// The engine read that is under way.
#[derive(Clone, Debug, Hash)]
enum Reading {
    /// The next range of the pass: whole points, or hashes to compare.
    Next {
        collection: CollectionId,
        after: Option<PointId>,
        bodies: bool,
    },
    Repair {
        range: Range,
    },
    Drain {
        collection: CollectionId,
        ids: Vec<PointId>,
    },
}

/// A frame that waits for its answer.
#[derive(Clone, Debug, Hash)]
struct Sent {
    content: Content,
    /// What the frame adds to the sums when it is carried out.
    adds: Digest,
    /// Set when it has to be sent again.
    again_at: Option<Time>,
}

#[derive(Clone, Debug, Hash)]
struct Seal {
    attempt: Attempt,
    proof: Option<Proof>,
}

impl Stream {
    pub fn new(mv: Move) -> Self {
        Self {
            mv,
            id: StreamId::default(),
            pass: None,
            next_seq: 1,
            reading: None,
            window: BTreeMap::new(),
            sums: Digest::default(),
            verified: false,
            drained_last: false,
            seal: None,
            retry_at: Time(0),
            retry_ms: RETRY_MS_MIN,
            passes: 0,
            sent_points: 0,
            sent_bytes: 0,
        }
    }

    pub fn is_verified(&self) -> bool {
        self.verified
    }

    pub fn sent_points(&self) -> u64 {
        self.sent_points
    }

    pub fn unseal(&mut self) {
        self.seal = None;
    }

    /// Gives the stream up; the next step opens another, not before `at`.
    pub fn reset(&mut self, at: Time) {
        self.pass = None;
        self.window.clear();
        self.verified = false;
        self.seal = None;
        self.retry_at = at;
    }

    fn retry_later(&mut self, now: Time) -> Time {
        let at = now.plus_ms(self.retry_ms);
        self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
        at
    }

    /// Does the next thing, if one can be done.
    pub fn step(&mut self, hands: &mut Hands<'_>, ground: &DonorGround<'_>, ctx: &mut Context<'_>) {
        self.send_again(ground, ctx);
        if self.retry_at > ctx.now {
            ctx.wake(self.retry_at, WakeReason::Stream);
            return;
        }
        if ctx.buggify("a stream rests") {
            self.retry_at = ctx.now.plus_ms(REST_MS);
            ctx.wake(self.retry_at, WakeReason::Stream);
            return;
        }
        if self.reading.is_some() || self.window.len() >= ctx.limits().window_frames_max {
            return;
        }
        if self.pass.is_none() {
            self.open(hands, ground, ctx);
            return;
        }
        self.look_for_overflow(hands, ctx);
        if self.pass.as_ref().is_some_and(|pass| pass.mode == Mode::Unknown) {
            self.begin_pass_once(ground, ctx);
            return;
        }
        if self.read_dirty(hands, ground, ctx) || self.read_range(hands, ground, ctx) {
            return;
        }
        self.finish_pass(hands, ground, ctx);
    }

    fn open(&mut self, hands: &mut Hands<'_>, ground: &DonorGround<'_>, ctx: &mut Context<'_>) {
        self.id = StreamId { incarnation: ground.incarnation, number: *hands.next_stream };
        *hands.next_stream += 1;
        self.next_seq = 1;
        self.window.clear();
        self.pass = Some(Pass::new());
        self.begin_pass_once(ground, ctx);
    }

    /// Sends `BeginPass` for a pass that hasn't begun, when nothing of an earlier one is under way.
    fn begin_pass_once(&mut self, ground: &DonorGround<'_>, ctx: &mut Context<'_>) {
        if self.window.is_empty() {
            self.sums = Digest::default();
            self.verified = false;
            self.seal = None;
            self.send(Content::BeginPass, Digest::default(), ground, ctx);
        }
    }

    /// What was dirty is unknown: all must be compared again, under the fence if need be.
    fn look_for_overflow(&mut self, hands: &mut Hands<'_>, ctx: &Context<'_>) {
        let Some(list) = hands.capture.list_mut(self.mv.recipient) else { return };
        if ctx.buggify("a dirty set is dropped before it is full") {
            list.overflow();
        }
        if list.take_overflow() {
            self.pass = Some(Pass::new());
            self.verified = false;
            self.seal = None;
        }
    }

    fn read_dirty(
        &mut self,
        hands: &mut Hands<'_>,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) -> bool {
        let (Some(pass), Some(list)) = (&self.pass, hands.capture.list_mut(self.mv.recipient))
        else {
            return false;
        };
        if self.drained_last && !pass.has_read_all() && ground.order.stage != Stage::Fence {
            self.drained_last = false; // The pass gets its turn, however many writes come.
            return false;
        }
        if pass.has_read_all() && !self.verified && ground.order.stage != Stage::Fence {
            // It is judged once nothing is on its way: with a slow recipient that would never be, were there always more to drain.
            mark!(!self.window.is_empty(), "a pass waits to be judged while writes go on");
            return false;
        }
        if pass.mode == Mode::Send {
            list.forget_ahead_of(&pass.cursor); // They will be read and sent whole.
        }
        let Some((collection, ids)) = list.take_behind(&pass.cursor, ctx.limits().drain_points_max)
        else {
            return false;
        };
        self.drained_last = true;
        mark!(ground.order.stage == Stage::Fence, "dirty ids are drained under the fence");
        self.read(
            Reading::Drain { collection, ids: ids.clone() },
            EngineCall::Read { collection, ids },
            ground,
            ctx,
        );
        true
    }

    fn read_range(
        &mut self,
        hands: &mut Hands<'_>,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) -> bool {
        self.drained_last = false;
        let Some(pass) = &mut self.pass else { return false };
        if pass.has_read_all() {
            return false;
        }
        if !hands.pace.allows(&ground.order.copy, ground.request_p99_ms, ctx) {
            return true;
        }
        if let Some(range) = pass.repairs.pop_front() {
            let Range { collection, after, through } = range.clone();
            let call = self.scan(hands, collection, after, through, true, ctx.limits());
            self.read(Reading::Repair { range }, call, ground, ctx);
            return true;
        }
        let Some((collection, after)) = pass.next_start(ground.map) else { return false };
        let bodies = pass.mode == Mode::Send;
        let call = self.scan(hands, collection, after.clone(), None, bodies, ctx.limits());
        self.read(Reading::Next { collection, after, bodies }, call, ground, ctx);
        true
    }

    fn scan(
        &self,
        hands: &Hands<'_>,
        collection: CollectionId,
        after: Option<PointId>,
        through: Option<PointId>,
        bodies: bool,
        limits: Limits,
    ) -> EngineCall {
        let Limits { copy_range_points_max, check_range_points_max, .. } = limits;
        EngineCall::Scan(Scan {
            collection,
            after,
            through,
            points_max: if bodies { copy_range_points_max } else { check_range_points_max },
            bytes_max: COPY_FRAME_BYTES_MAX,
            bodies,
            select: Select::Moving { moves: hands.capture.moves().clone(), mv: self.mv },
        })
    }

    fn read(
        &mut self,
        reading: Reading,
        call: EngineCall,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        self.reading = Some(reading);
        let owner =
            JobOwner::Stream { transition: ground.order.transition, recipient: self.mv.recipient };
        ctx.call(owner, call);
    }

    /// All ranges have been read: when all is answered too, the pass is judged.
    fn finish_pass(
        &mut self,
        hands: &mut Hands<'_>,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(pass) = &self.pass else { return };
        if !self.window.is_empty() || !pass.has_read_all() {
            return;
        }
        if !self.verified {
            self.passes += 1;
            if !pass.found_equal() {
                let fenced = ground.order.stage == Stage::Fence;
                mark!(fenced, "a pass under the fence finds a difference");
                if pass.mode == Mode::Compare {
                    self.retry_at = ctx.now.plus_ms(RETRY_MS_MIN);
                    ctx.wake(self.retry_at, WakeReason::Stream);
                }
                self.pass = Some(Pass::new());
                if self.retry_at <= ctx.now {
                    self.begin_pass_once(ground, ctx);
                }
                return;
            }
            self.verified = true;
        } else if self.seal.is_none() && ctx.buggify("equal sides are compared once more") {
            self.pass = Some(Pass::new());
            self.begin_pass_once(ground, ctx);
            return;
        }
        let list = hands.capture.list(self.mv.recipient);
        let attempt = ground.order.attempt;
        let sealed = self.seal.as_ref().is_some_and(|seal| seal.attempt == attempt);
        if hands.quiet && list.is_empty() && !sealed {
            self.seal = Some(Seal { attempt, proof: None });
            let digest = self.sums;
            self.send(Content::Seal { attempt, digest }, Digest::default(), ground, ctx);
        }
    }

    fn send(
        &mut self,
        content: Content,
        adds: Digest,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.put_on_wire(seq, content.clone(), ground, ctx);
        self.window.insert(seq, Sent { content, adds, again_at: None });
        assert!(
            self.window.len() <= ctx.limits().window_frames_max,
            "I14 queues-bounded: {} frames unanswered",
            self.window.len()
        );
    }

    fn put_on_wire(
        &self,
        seq: u64,
        content: Content,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(url) = url_of(ground.order, self.mv.recipient) else { return };
        let frame = Frame {
            cluster_id: ground.cluster_id.clone(),
            transition: ground.order.transition,
            donor: self.mv.donor,
            recipient: self.mv.recipient,
            stream: self.id,
            seq,
            content,
        };
        ctx.send(Outgoing { url, frame });
    }

    fn send_again(&mut self, ground: &DonorGround<'_>, ctx: &mut Context<'_>) {
        let mut due = Vec::new();
        for (seq, sent) in &mut self.window {
            match sent.again_at {
                Some(at) if at <= ctx.now => {
                    sent.again_at = None;
                    due.push((*seq, sent.content.clone()));
                }
                Some(at) => ctx.wake(at, WakeReason::Stream),
                None => {}
            }
        }
        for (seq, content) in due {
            self.put_on_wire(seq, content, ground, ctx);
        }
    }

    /// The recipient has answered a frame, or its answer got lost.
    pub fn on_answer(&mut self, id: StreamId, seq: u64, answer: FrameAnswer, now: Time) {
        if id != self.id || self.pass.is_none() || !self.window.contains_key(&seq) {
            mark!("an answer to an earlier stream or a second one comes");
            return; // An answer to an earlier stream, or a second one.
        }
        match answer {
            FrameAnswer::Carried(verdict) => {
                if !matches!(verdict, Verdict::Begun { .. }) {
                    self.retry_ms = RETRY_MS_MIN; // A stream that only ever begins goes nowhere.
                }
                if let Some(sent) = self.window.remove(&seq) {
                    self.on_verdict(seq, sent, verdict, now);
                }
            }
            FrameAnswer::Refused(FrameRefusal::TooFarAhead { expected, .. })
                if self.window.first_key_value().is_some_and(|(first, _)| expected < *first) =>
            {
                // It waits for a frame that it has carried out and forgotten: it restarted, and a late copy of this
                // stream's first frame came after that.
                mark!("a recipient waits for a frame that it carried out before it restarted");
                let at = self.retry_later(now);
                self.reset(at);
            }
            FrameAnswer::Lost
            | FrameAnswer::Refused(
                FrameRefusal::NotPrepared
                | FrameRefusal::NoTransition
                | FrameRefusal::TooFarAhead { .. },
            ) => {
                mark!("a frame is sent again");
                let again_at = self.retry_later(now);
                if let Some(sent) = self.window.get_mut(&seq) {
                    sent.again_at = Some(again_at);
                }
            }
            FrameAnswer::Refused(
                FrameRefusal::UnknownStream
                | FrameRefusal::OldStream
                | FrameRefusal::OtherGate
                | FrameRefusal::Engine { .. },
            ) => {
                mark!("a recipient's refusal makes a stream begin anew");
                let at = self.retry_later(now);
                self.reset(at);
            }
        }
    }

    fn on_verdict(&mut self, seq: u64, sent: Sent, verdict: Verdict, now: Time) {
        let Some(pass) = &mut self.pass else { return };
        match (sent.content, verdict) {
            (Content::BeginPass, Verdict::Begun { empty }) => {
                pass.mode = if empty { Mode::Send } else { Mode::Compare };
            }
            (Content::Check { range, .. }, Verdict::Checked { equal, excepted }) => {
                self.sums = self.sums.plus(sent.adds).plus(excepted);
                if !equal {
                    mark!("a comparison finds a difference");
                    pass.repaired_ranges += 1;
                    pass.repairs.push_back(range);
                }
            }
            (Content::Replace { .. }, Verdict::Replaced) => {}
            (Content::Drain { .. }, Verdict::Drained { old }) => {
                self.sums = self.sums.plus(sent.adds).minus(old);
            }
            (Content::Seal { attempt, digest }, Verdict::Sealed { digest: recipient }) => {
                let proof = Proof { attempt, seq, donor: digest, recipient };
                if digest != recipient {
                    self.pass = Some(Pass::new());
                    self.verified = false;
                    self.seal = None;
                } else if let Some(seal) = self.seal.as_mut().filter(|seal| seal.attempt == attempt)
                {
                    seal.proof = Some(proof);
                }
            }
            _ => self.reset(now), // The recipient answers another question: begin anew.
        }
    }

    /// How far it is, with the proof of this attempt.
    pub fn state(&self, list: &DirtyList, attempt: Option<Attempt>) -> (CopyState, Option<Proof>) {
        let sealed = self.seal.as_ref().filter(|seal| Some(seal.attempt) == attempt);
        let proof = sealed.and_then(|seal| seal.proof);
        let state = match &self.pass {
            None => CopyState::Waiting,
            Some(_) if proof.is_some() => CopyState::Drained,
            Some(_) if self.verified && list.len() <= CONVERGED_DIRTY_MAX => CopyState::Converged,
            Some(_) => CopyState::Reconciling,
        };
        (state, proof)
    }

    pub fn report(&self, to: ShardId, list: &DirtyList, attempt: Option<Attempt>) -> DonorReport {
        let (state, proof) = self.state(list, attempt);
        DonorReport {
            to,
            stream: self.id,
            state,
            passes: self.passes,
            sent_points: self.sent_points,
            sent_bytes: self.sent_bytes,
            repaired_ranges: self.pass.as_ref().map_or(0, |pass| pass.repaired_ranges),
            dirty: list.len(),
            slice_points: if self.verified { self.sums.points } else { 0 },
            proof,
        }
    }
}
