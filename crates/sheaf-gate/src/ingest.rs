//! Ingest: a recipient carries out the frames of each donor's stream, one after the other, and counts what it holds.
//!
//! Nothing of a stream is kept durable but the points themselves: after a restart the donor begins anew (ADR 0002).

use std::collections::{BTreeMap, BTreeSet};

use sheaf_map::{Move, Moves};
use sheaf_protocol::{
    Content, Delta, Frame, FrameRefusal, Range, RecipientReport, Sealed, StreamId, Verdict,
};
use sheaf_types::limits::STREAM_WINDOW_FRAMES_MAX;
use sheaf_types::{CollectionId, Digest, PointId, ShardId, StoredPoint, TransitionId, mark};

use crate::context::{Context, JobOwner};
use crate::effect::{Answer, EngineCall, Scan, Select, Write};
use crate::event::{Changed, EngineReply, Page, Token};

/// Frames that arrived ahead of their turn, and answers kept for frames that are repeated.
const AHEAD_FRAMES_MAX: u64 = 2 * STREAM_WINDOW_FRAMES_MAX as u64;

/// Exists from the moment when the gate is durably prepared to receive.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Recipient {
    me: ShardId,
    transition: TransitionId,
    moves: Moves,
    /// The gate was swept for this transition in this incarnation: a donor's first stream finds nothing.
    swept_now: bool,
    inbound: BTreeMap<ShardId, Inbound>,
    /// Why the engine refuses a point of a donor's: it always will.
    cannot_hold: Option<String>,
}

/// The stream of one donor.
#[derive(Clone, Debug, Hash)]
struct Inbound {
    stream: StreamId,
    /// The number of the frame that is or will be carried out next.
    expected: u64,
    waiting: BTreeMap<u64, Waiting>,
    answered: BTreeMap<u64, Verdict>,
    running: Option<Running>,
    digest: Digest,
    sealed: Option<Sealed>,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    tokens: Vec<Token>,
    content: Content,
}

/// The frame that is being carried out.
#[derive(Clone, Debug, Hash)]
struct Running {
    tokens: Vec<Token>,
    work: Work,
}

#[derive(Clone, Debug, Hash)]
enum Work {
    Compare {
        /// The rest of the range, not looked at yet.
        more: Option<Range>,
        /// What the donor says it holds.
        donor: Digest,
        except: BTreeSet<PointId>,
        counted: Digest,
        excepted: Digest,
    },
    Replace {
        collection: CollectionId,
        more: Option<Range>,
        /// Points of the batch that weren't found equal so far.
        missing: BTreeMap<PointId, StoredPoint>,
        /// Points that were found and aren't in the batch.
        surplus: Vec<PointId>,
    },
    Drain {
        groups: Vec<(CollectionId, Vec<Write>)>,
        old: Digest,
    },
}

impl Recipient {
    pub fn new(me: ShardId, transition: TransitionId, moves: Moves, swept_now: bool) -> Self {
        Self { me, transition, moves, swept_now, inbound: BTreeMap::new(), cannot_hold: None }
    }

    pub fn transition(&self) -> TransitionId {
        self.transition
    }

    pub fn on_frame(&mut self, token: Token, frame: Frame, ctx: &mut Context<'_>) {
        if let Err(refusal) = self.take_in(token, frame, ctx) {
            ctx.answer(token, Answer::Frame(Err(refusal)));
        }
    }

    fn take_in(
        &mut self,
        token: Token,
        frame: Frame,
        ctx: &mut Context<'_>,
    ) -> Result<(), FrameRefusal> {
        let mv = Move { donor: frame.donor, recipient: self.me };
        if frame.recipient != self.me || !self.moves.pairs().contains(&mv) {
            return Err(FrameRefusal::OtherGate);
        }
        self.check_ids(mv, &frame.content)?;
        if ctx.buggify("a recipient doesn't know a stream that it knows") {
            return Err(FrameRefusal::UnknownStream);
        }
        self.accept_stream(&frame)?;
        let Some(inbound) = self.inbound.get_mut(&frame.donor) else {
            return Err(FrameRefusal::UnknownStream);
        };
        if frame.seq < inbound.expected {
            let verdict = inbound.answered.get(&frame.seq).ok_or(FrameRefusal::OldStream)?;
            mark!("a repeated frame is answered from memory");
            ctx.answer(token, Answer::Frame(Ok(*verdict)));
            return Ok(());
        }
        if frame.seq >= inbound.expected + AHEAD_FRAMES_MAX {
            return Err(FrameRefusal::TooFarAhead { seq: frame.seq, expected: inbound.expected });
        }
        if frame.seq != inbound.expected && inbound.waiting.contains_key(&frame.seq) {
            // The donor asks again: it may be waiting for a frame that it takes for carried out.
            mark!("a frame is repeated before its turn has come");
            return Err(FrameRefusal::TooFarAhead { seq: frame.seq, expected: inbound.expected });
        }
        match &mut inbound.running {
            Some(running) if frame.seq == inbound.expected => {
                mark!("a frame is repeated while it is carried out");
                running.tokens.push(token);
            }
            _ => {
                mark!(frame.seq > inbound.expected, "a frame comes before its turn");
                let waiting = Waiting { tokens: vec![token], content: frame.content };
                inbound.waiting.insert(frame.seq, waiting);
            }
        }
        self.advance(frame.donor, ctx);
        Ok(())
    }

    /// A stream may only carry points of its own move.
    fn check_ids(&self, mv: Move, content: &Content) -> Result<(), FrameRefusal> {
        let belongs = |id: &PointId| self.moves.of(id.placement_key()) == Some(mv);
        let fits = match content {
            Content::BeginPass | Content::Check { .. } | Content::Seal { .. } => true,
            Content::Replace { points, .. } => points.iter().all(|point| belongs(&point.id)),
            Content::Drain { deltas } => deltas.iter().all(|delta| belongs(delta.id())),
        };
        if fits { Ok(()) } else { Err(FrameRefusal::OtherGate) }
    }

    /// Lets a later stream of the donor take the place of the one before, once nothing of that is under way.
    fn accept_stream(&mut self, frame: &Frame) -> Result<(), FrameRefusal> {
        let known = self.inbound.get(&frame.donor);
        match known {
            Some(inbound) if inbound.stream == frame.stream => return Ok(()),
            Some(inbound) if inbound.stream > frame.stream => {
                mark!("a frame of an earlier stream comes late");
                return Err(FrameRefusal::OldStream);
            }
            Some(inbound) if inbound.running.is_some() => {
                mark!("a new stream waits for the last frame of the one before");
                return Err(FrameRefusal::NotPrepared);
            }
            _ => {}
        }
        if frame.seq != 1 || frame.content != Content::BeginPass {
            mark!("a recipient doesn't know a frame's stream");
            return Err(FrameRefusal::UnknownStream);
        }
        let answered = BTreeMap::new();
        // Whether anything can be here is told once, to the first stream.
        if known.is_some() {
            mark!("a later stream takes the place of one before");
            self.swept_now = false;
        }
        self.inbound.insert(
            frame.donor,
            Inbound {
                stream: frame.stream,
                expected: 1,
                waiting: BTreeMap::new(),
                answered,
                running: None,
                digest: Digest::default(),
                sealed: None,
            },
        );
        Ok(())
    }

    /// Carries out frames as long as the next one is there and needs no engine.
    fn advance(&mut self, donor: ShardId, ctx: &mut Context<'_>) {
        loop {
            let Some(inbound) = self.inbound.get_mut(&donor) else { return };
            if inbound.running.is_some() {
                return;
            }
            let Some(waiting) = inbound.waiting.remove(&inbound.expected) else { return };
            if !matches!(waiting.content, Content::Seal { .. }) {
                inbound.sealed = None;
            }
            let work = match waiting.content {
                Content::BeginPass => {
                    inbound.digest = Digest::default();
                    let empty = self.swept_now && inbound.expected == 1;
                    inbound.finish(waiting.tokens, Verdict::Begun { empty }, ctx);
                    continue;
                }
                Content::Seal { attempt, digest } => {
                    inbound.sealed = Some(Sealed { attempt, donor: digest });
                    let digest = inbound.digest;
                    inbound.finish(waiting.tokens, Verdict::Sealed { digest }, ctx);
                    continue;
                }
                Content::Check { range, digest, except } => Work::Compare {
                    more: Some(range),
                    donor: digest,
                    except: except.into_iter().collect(),
                    counted: Digest::default(),
                    excepted: Digest::default(),
                },
                Content::Replace { range, points } => Work::Replace {
                    collection: range.collection,
                    more: Some(range),
                    missing: points.into_iter().map(|point| (point.id.clone(), point)).collect(),
                    surplus: Vec::new(),
                },
                Content::Drain { deltas } => {
                    Work::Drain { groups: groups_of(deltas), old: Digest::default() }
                }
            };
            inbound.running = Some(Running { tokens: waiting.tokens, work });
            self.work_on(donor, ctx);
        }
    }

    /// Asks the engine for the next thing that the running frame needs, or ends the frame.
    fn work_on(&mut self, donor: ShardId, ctx: &mut Context<'_>) {
        let mv = Move { donor, recipient: self.me };
        let owner = JobOwner::Ingest { transition: self.transition, donor };
        let Some(inbound) = self.inbound.get_mut(&donor) else { return };
        let Some(running) = &mut inbound.running else { return };
        match running.work.next_step() {
            Step::Scan(range) => {
                let points_max = ctx.limits().check_range_points_max;
                ctx.call(owner, scan(range, points_max, self.moves.clone(), mv));
            }
            Step::Apply { collection, writes } => {
                ctx.call(owner, EngineCall::Apply { collection, writes });
            }
            Step::End(verdict) => {
                if let Work::Compare { counted, excepted, .. } = running.work {
                    inbound.digest = inbound.digest.plus(counted).plus(excepted);
                }
                if let Some(running) = inbound.running.take() {
                    inbound.finish(running.tokens, verdict, ctx);
                }
            }
        }
    }

    pub fn on_engine(&mut self, donor: ShardId, reply: EngineReply, ctx: &mut Context<'_>) {
        let Some(inbound) = self.inbound.get_mut(&donor) else { return };
        match reply {
            EngineReply::Page(page) => inbound.on_page(page),
            EngineReply::Applied(changes) => inbound.on_applied(&changes),
            EngineReply::Points(_) | EngineReply::Done => {}
            EngineReply::NoCollection(id) => {
                inbound.fail(&format!("there is no collection {id} here"), ctx);
            }
            EngineReply::CannotHold { reason } => {
                inbound.fail(&reason, ctx);
                self.cannot_hold = Some(reason);
            }
            EngineReply::Failed { reason } => inbound.fail(&reason, ctx),
        }
        self.work_on(donor, ctx);
        self.advance(donor, ctx);
    }

    /// The transition is over: who waits is told so. Engine calls that are under way are waited for by the sweep.
    pub fn end(&mut self, ctx: &mut Context<'_>) {
        for inbound in std::mem::take(&mut self.inbound).into_values() {
            let running = inbound.running.into_iter().flat_map(|running| running.tokens);
            let waiting = inbound.waiting.into_values().flat_map(|waiting| waiting.tokens);
            for token in running.chain(waiting) {
                mark!("a transition ends while a recipient has frames to answer");
                ctx.answer(token, Answer::Frame(Err(FrameRefusal::NoTransition)));
            }
        }
    }

    pub fn cannot_hold(&self) -> Option<&String> {
        self.cannot_hold.as_ref()
    }

    pub fn reports(&self) -> Vec<RecipientReport> {
        self.inbound
            .iter()
            .map(|(from, inbound)| RecipientReport {
                from: *from,
                stream: inbound.stream,
                seq: inbound.expected - 1,
                digest: inbound.digest,
                sealed: inbound.sealed,
            })
            .collect()
    }

    /// Seals that the coordinator should hear of.
    pub fn seals(&self) -> impl Iterator<Item = Option<Sealed>> {
        self.inbound.values().map(|inbound| inbound.sealed)
    }
}

/// What a frame that is being carried out needs next.
enum Step {
    Scan(Range),
    Apply { collection: CollectionId, writes: Vec<Write> },
    End(Verdict),
}

impl Work {
    fn next_step(&mut self) -> Step {
        match self {
            Self::Compare { more, donor, counted, excepted, .. } => match more {
                Some(range) => Step::Scan(range.clone()),
                None => {
                    Step::End(Verdict::Checked { equal: counted == donor, excepted: *excepted })
                }
            },
            Self::Replace { collection, more, missing, surplus } => {
                let collection = *collection;
                if !surplus.is_empty() {
                    mark!("a recipient deletes points that the donor doesn't have");
                    let writes = std::mem::take(surplus).into_iter().map(Write::Delete).collect();
                    Step::Apply { collection, writes }
                } else if let Some(range) = more {
                    Step::Scan(range.clone())
                } else if !missing.is_empty() {
                    let points = std::mem::take(missing).into_values();
                    Step::Apply { collection, writes: points.map(Write::Upsert).collect() }
                } else {
                    Step::End(Verdict::Replaced)
                }
            }
            Self::Drain { groups, old } => match groups.pop() {
                Some((collection, writes)) => Step::Apply { collection, writes },
                None => Step::End(Verdict::Drained { old: *old }),
            },
        }
    }
}

impl Inbound {
    fn on_page(&mut self, page: Page) {
        let Some(running) = &mut self.running else { return };
        match &mut running.work {
            Work::Compare { more, except, counted, excepted, .. } => {
                for scanned in &page.points {
                    let part =
                        if except.contains(&scanned.id) { &mut *excepted } else { &mut *counted };
                    part.add(scanned.hash);
                }
                *more = more.as_ref().and_then(|range| rest_of(range, page.looked_through));
            }
            Work::Replace { more, missing, surplus, .. } => {
                for scanned in page.points {
                    match missing.get(&scanned.id) {
                        None => surplus.push(scanned.id),
                        Some(point) if point.hash == scanned.hash => {
                            missing.remove(&scanned.id);
                        }
                        Some(_) => {}
                    }
                }
                *more = more.as_ref().and_then(|range| rest_of(range, page.looked_through));
            }
            Work::Drain { .. } => {}
        }
    }

    fn on_applied(&mut self, changes: &[Changed]) {
        let Some(Running { work: Work::Drain { old, .. }, .. }) = &mut self.running else { return };
        let mut before = Digest::default();
        for change in changes {
            if let Some(hash) = change.old {
                before.add(hash);
                self.digest.take(hash);
            }
            if let Some(hash) = change.new {
                self.digest.add(hash);
            }
        }
        *old = old.plus(before);
    }

    fn finish(&mut self, tokens: Vec<Token>, verdict: Verdict, ctx: &mut Context<'_>) {
        for token in tokens {
            ctx.answer(token, Answer::Frame(Ok(verdict)));
        }
        self.answered.insert(self.expected, verdict);
        self.expected += 1;
        while self.answered.len() > AHEAD_FRAMES_MAX as usize {
            self.answered.pop_first();
        }
    }

    /// The frame may have been carried out in part: the donor has to begin anew, and compare.
    fn fail(&mut self, reason: &str, ctx: &mut Context<'_>) {
        mark!("a recipient's engine fails at a frame");
        let running = self.running.take().into_iter().flat_map(|running| running.tokens);
        let waiting = std::mem::take(&mut self.waiting);
        for token in running.chain(waiting.into_values().flat_map(|waiting| waiting.tokens)) {
            let refusal = FrameRefusal::Engine { reason: reason.to_owned() };
            ctx.answer(token, Answer::Frame(Err(refusal)));
        }
        // No frame of this stream is in turn any more.
        self.expected = u64::MAX - AHEAD_FRAMES_MAX;
        self.answered.clear();
        self.sealed = None;
    }
}

fn scan(range: Range, points_max: usize, moves: Moves, mv: Move) -> EngineCall {
    EngineCall::Scan(Scan {
        collection: range.collection,
        after: range.after,
        through: range.through,
        points_max,
        bytes_max: usize::MAX,
        bodies: false,
        select: Select::Moving { moves, mv },
    })
}

/// What is left of a range behind what was looked through.
fn rest_of(range: &Range, looked_through: Option<PointId>) -> Option<Range> {
    let looked = looked_through?;
    if range.through.as_ref().is_some_and(|through| looked >= *through) {
        return None;
    }
    Some(Range { after: Some(looked), ..range.clone() })
}

/// The deltas as writes, by collection; the last group is carried out first.
fn groups_of(deltas: Vec<Delta>) -> Vec<(CollectionId, Vec<Write>)> {
    let mut groups: BTreeMap<CollectionId, Vec<Write>> = BTreeMap::new();
    for delta in deltas {
        let collection = delta.collection();
        groups.entry(collection).or_default().push(match delta {
            Delta::Put { point, .. } => Write::Upsert(point),
            Delta::Deleted { id, .. } => Write::Delete(id),
        });
    }
    groups.into_iter().collect()
}
