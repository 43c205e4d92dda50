//! Requests: which may be served now, which are held, which are refused; and what an answer is worth when the engine is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_map::{Map, Moves};
use sheaf_protocol::{Refusal, StallReport};
use sheaf_types::{CollectionId, MapVersion, PointId, ShardId, Time, mark};

use crate::context::Context;
use crate::effect::{Answer, Scope, WakeReason};
use crate::event::{Change, Operation, Outcome, Request, Token};
use crate::ledger::Ledger;

/// Stalls that are remembered for the percentile.
const STALLS_MAX: usize = 10_000;

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Requests {
    held: BTreeMap<Token, Held>,
    deadlines: BTreeSet<(Time, Token)>,
    in_flight: BTreeMap<Token, InFlight>,
    /// Acknowledgements that are held back, with what was written.
    delayed: BTreeMap<(Time, Token), Vec<PointId>>,
    stalls_ms: Vec<u64>,
}

#[derive(Clone, Debug, Hash)]
struct Held {
    request: Request,
    since: Time,
    fenced: bool,
}

/// A request that the engine is carrying out.
#[derive(Clone, Debug, Hash)]
pub(crate) struct InFlight {
    pub collection: CollectionId,
    pub operation: Operation,
    /// The version at which it was admitted.
    version: MapVersion,
    unfiltered: bool,
}

/// What else bears on a request.
pub(crate) struct Surroundings<'a> {
    pub ledger: &'a Ledger,
    /// The moves whose donors are fenced.
    pub fence: Option<&'a Moves>,
    /// Whether every point in the engine is owned, and will be for as long as a request takes.
    pub engine_is_clean: bool,
}

enum Judgement {
    Go {
        collection: CollectionId,
        version: MapVersion,
        scope: Scope,
    },
    Refuse(Refusal),
    /// Until the fence ends.
    HoldFenced,
    /// Until a map of this version is durable here.
    HoldFor(MapVersion),
}

impl Requests {
    /// Judges a new request. Returns the version of the map that has to be fetched for it, if any.
    pub fn arrive(
        &mut self,
        token: Token,
        request: Request,
        around: &Surroundings<'_>,
        ctx: &mut Context<'_>,
    ) -> Option<MapVersion> {
        match judge(&request, around) {
            Judgement::Go { collection, version, scope } => {
                self.admit(token, request.operation, collection, version, scope, ctx);
                None
            }
            Judgement::Refuse(refusal) => {
                ctx.answer(token, Answer::Refused(refusal));
                None
            }
            Judgement::HoldFenced => {
                assert_stalled_by_moves(&request, around);
                self.hold(token, request, true, ctx);
                None
            }
            Judgement::HoldFor(version) => {
                self.hold(token, request, false, ctx);
                Some(version)
            }
        }
    }

    fn hold(&mut self, token: Token, request: Request, fenced: bool, ctx: &mut Context<'_>) {
        let (held, limit) = (self.held.len(), ctx.limits().held_requests_max);
        if held >= limit {
            mark!("too many requests are held for one more");
            let refusal = Refusal::TooManyHeld { held, limit };
            ctx.answer(token, Answer::Refused(refusal));
            return;
        }
        self.deadlines.insert((request.deadline, token));
        self.held.insert(token, Held { request, since: ctx.now, fenced });
    }

    fn admit(
        &mut self,
        token: Token,
        operation: Operation,
        collection: CollectionId,
        version: MapVersion,
        scope: Scope,
        ctx: &mut Context<'_>,
    ) {
        let unfiltered = matches!(scope, Scope::All) && operation == Operation::Gather;
        let admitted = InFlight { collection, operation, version, unfiltered };
        let before = self.in_flight.insert(token, admitted);
        assert!(before.is_none(), "I17 answers-fit: {token:?} is let through twice");
        ctx.answer(token, Answer::Go { collection, version, scope });
    }

    /// Judges all held requests again, the oldest first. Returns the tokens that were admitted.
    pub fn judge_held_again(
        &mut self,
        around: &Surroundings<'_>,
        ctx: &mut Context<'_>,
    ) -> Vec<Token> {
        let mut admitted = Vec::new();
        for (token, held) in std::mem::take(&mut self.held) {
            match judge(&held.request, around) {
                Judgement::HoldFenced => {
                    assert_stalled_by_moves(&held.request, around);
                    let since = if held.fenced { held.since } else { ctx.now };
                    self.held.insert(token, Held { since, fenced: true, ..held });
                }
                Judgement::HoldFor(_) => {
                    self.note_stall(&held, ctx.now);
                    self.held.insert(token, Held { fenced: false, ..held });
                }
                Judgement::Go { collection, version, scope } => {
                    self.release(token, &held, ctx.now);
                    mark!(held.fenced, "a request that a fence held is served after all");
                    mark!(!held.fenced, "a request that waited for a map is served");
                    self.admit(token, held.request.operation, collection, version, scope, ctx);
                    admitted.push(token);
                }
                Judgement::Refuse(refusal) => {
                    mark!(held.fenced, "a request that a fence held is refused: its point moved");
                    self.release(token, &held, ctx.now);
                    ctx.answer(token, Answer::Refused(refusal));
                }
            }
        }
        admitted
    }

    /// The highest version that held requests wait for.
    pub fn wanted_version(&self, around: &Surroundings<'_>) -> Option<MapVersion> {
        let known = around.ledger.decided().map.as_ref().map(|map| map.version());
        self.held
            .values()
            .filter_map(|held| held.request.version)
            .filter(|version| known.is_some_and(|known| *version > known))
            .max()
    }

    /// Refuses what has reached its deadline, answers what was delayed, and asks to be woken for the rest.
    pub fn look_at_deadlines(&mut self, around: &Surroundings<'_>, ctx: &mut Context<'_>) {
        while let Some((deadline, token)) = self.deadlines.first().copied() {
            if deadline > ctx.now {
                ctx.wake(deadline, WakeReason::HeldRequest);
                break;
            }
            if let Some(held) = self.held.remove(&token) {
                mark!(held.fenced, "a request that a fence holds expires");
                mark!(!held.fenced, "a request that waits for a map expires");
                self.release(token, &held, ctx.now);
                ctx.answer(token, Answer::Refused(refusal_at_deadline(&held.request, around)));
            } else {
                self.deadlines.remove(&(deadline, token));
            }
        }
        if let Some((due, _)) = self.acknowledge_until(ctx.now, around.ledger, ctx) {
            ctx.wake(due, WakeReason::DelayedAnswer);
        }
        assert!(
            self.deadlines.len() == self.held.len()
                && self.held.len() <= ctx.limits().held_requests_max,
            "I13 hold-has-deadline: {} held, {} deadlines",
            self.held.len(),
            self.deadlines.len()
        );
    }

    /// Gives the acknowledgements that were held back until `now`; returns the next one.
    fn acknowledge_until(
        &mut self,
        now: Time,
        ledger: &Ledger,
        ctx: &mut Context<'_>,
    ) -> Option<(Time, Token)> {
        while let Some(((due, token), ids)) = self.delayed.pop_first() {
            if due > now {
                self.delayed.insert((due, token), ids);
                return Some((due, token));
            }
            ctx.answer(token, acknowledgement(ledger, &ids));
        }
        None
    }

    /// Gives all acknowledgements that are held back: after the fence they would come from a gate that may not own the ids any more.
    pub fn acknowledge_all(&mut self, ledger: &Ledger, ctx: &mut Context<'_>) {
        mark!(!self.delayed.is_empty(), "a fence finds acknowledgements that are held back");
        self.acknowledge_until(Time::NEVER, ledger, ctx);
    }

    fn release(&mut self, token: Token, held: &Held, now: Time) {
        self.deadlines.remove(&(held.request.deadline, token));
        self.note_stall(held, now);
    }

    fn note_stall(&mut self, held: &Held, now: Time) {
        if held.fenced && self.stalls_ms.len() < STALLS_MAX {
            self.stalls_ms.push(now.ms_since(held.since));
        }
    }

    pub fn abandon(&mut self, token: Token) {
        if let Some(held) = self.held.remove(&token) {
            mark!("a held request is abandoned by who sent it");
            self.deadlines.remove(&(held.request.deadline, token));
        }
    }

    pub fn in_flight(&self, token: Token) -> Option<&InFlight> {
        self.in_flight.get(&token)
    }

    /// Writes that the engine has not answered.
    pub fn writes_in_flight(&self) -> impl Iterator<Item = (Token, CollectionId, &[PointId])> {
        self.in_flight.iter().filter_map(|(token, request)| match &request.operation {
            // What is discarded is nothing that this gate could hand over.
            Operation::Write { change: Change::Discard, .. } => None,
            Operation::Write { ids, .. } => Some((*token, request.collection, ids.as_slice())),
            Operation::Read { .. } | Operation::Gather => None,
        })
    }

    /// Whether a request that sees every point of the engine is under way.
    pub fn has_unfiltered(&self) -> bool {
        self.in_flight.values().any(|request| request.unfiltered)
    }

    /// Whether a discard is under way.
    pub fn discards(&self) -> bool {
        let discards = |request: &InFlight| {
            matches!(request.operation, Operation::Write { change: Change::Discard, .. })
        };
        self.in_flight.values().any(discards)
    }

    /// The engine is done: says what the caller may be told. `delay_ms` holds back a write's acknowledgement. What a read was told, a
    /// failure too, says nothing once another map may have taken away what it was to see.
    pub fn done(
        &mut self,
        token: Token,
        outcome: Outcome,
        delay_ms: u64,
        around: &Surroundings<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(request) = self.in_flight.remove(&token) else {
            return; // The shell repeats itself.
        };
        let answer = match (&request.operation, outcome) {
            (Operation::Write { .. }, Outcome::Failed) => Answer::Deliver,
            (Operation::Write { .. }, Outcome::Unknown) => Answer::OutcomeUnknown,
            (Operation::Write { change: Change::Discard, .. }, Outcome::Done) => Answer::Deliver,
            (Operation::Write { ids, .. }, Outcome::Done) => {
                let answer = acknowledgement(around.ledger, ids);
                if delay_ms > 0 && matches!(answer, Answer::Deliver) {
                    self.delayed.insert((ctx.now.plus_ms(delay_ms), token), ids.clone());
                    return;
                }
                answer
            }
            (Operation::Read { ids }, _) => match newest_version(around.ledger) {
                Some(version) if !owns_all(around.ledger, ids) => {
                    mark!("a read is done after its point moved");
                    Answer::Refused(Refusal::Moved { version })
                }
                Some(_) => Answer::Deliver,
                None => Answer::Refused(Refusal::NotServing),
            },
            (Operation::Gather, _) => match newest_version(around.ledger) {
                Some(version) if version != request.version => {
                    mark!("a search is done after the map changed");
                    Answer::Refused(Refusal::OtherVersion { version })
                }
                Some(_) => Answer::Deliver,
                None => Answer::Refused(Refusal::NotServing),
            },
        };
        ctx.answer(token, answer);
    }

    /// Forgets the stalls of earlier transitions.
    pub fn forget_stalls(&mut self) {
        self.stalls_ms.clear();
    }

    pub fn stalls(&self) -> StallReport {
        let mut sorted = self.stalls_ms.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        StallReport {
            held_requests: sorted.len() as u64,
            stall_ms_max: sorted.last().copied().unwrap_or_default(),
            stall_ms_p99: sorted.get(at).copied().unwrap_or_default(),
        }
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// Without a fence in between, a map can only take ids away by an operator's accepting the loss.
fn acknowledgement(ledger: &Ledger, ids: &[PointId]) -> Answer {
    if owns_all(ledger, ids) { Answer::Deliver } else { Answer::OutcomeUnknown }
}

fn newest_version(ledger: &Ledger) -> Option<MapVersion> {
    ledger.decided().map.as_ref().map(|map| map.version())
}

/// Whether this gate owns the ids in the map that it serves by and in the newest that it has decided on.
fn owns_all(ledger: &Ledger, ids: &[PointId]) -> bool {
    [ledger.durable(), ledger.decided()].iter().all(|record| match (&record.map, record.shard) {
        (Some(map), Some(me)) => ids.iter().all(|id| map.owner(id.placement_key()) == Some(me)),
        _ => false,
    })
}

fn refusal_at_deadline(request: &Request, around: &Surroundings<'_>) -> Refusal {
    let Some(version) = around.ledger.map().map(|map| map.version()) else {
        return Refusal::NotServing;
    };
    match judge(request, around) {
        Judgement::HoldFor(wanted) => Refusal::Behind { version, wanted },
        Judgement::HoldFenced | Judgement::Go { .. } => Refusal::Fenced { version },
        Judgement::Refuse(refusal) => refusal,
    }
}

fn judge(request: &Request, around: &Surroundings<'_>) -> Judgement {
    let ledger = around.ledger;
    let (Some(map), Some(me)) = (ledger.map(), ledger.shard()) else {
        return Judgement::Refuse(Refusal::NotServing);
    };
    let (Some(newest), Some(_)) = (&ledger.decided().map, ledger.decided().shard) else {
        return Judgement::Refuse(Refusal::NotServing);
    };
    if map.shard(me).is_some_and(|entry| entry.store_id != ledger.durable().store_id) {
        return Judgement::Refuse(Refusal::NotServing);
    }
    if request.shard.is_some_and(|shard| shard != me) {
        return Judgement::Refuse(Refusal::OtherShard { me });
    }
    if let Some(wanted) = request.version.filter(|version| *version > map.version()) {
        return Judgement::HoldFor(wanted);
    }
    let Some(collection) = map.collection(&request.collection) else {
        return Judgement::Refuse(Refusal::NoCollection { version: map.version() });
    };
    let verdict = match &request.operation {
        Operation::Read { ids } => judge_ids(ids, me, map, newest, around),
        Operation::Write { ids, change } => {
            judge_change(*change, ids, me, map, ledger).or_else(|| {
                judge_ids(ids, me, map, newest, around).filter(|_| *change != Change::Discard)
            })
        }
        Operation::Gather => judge_gather(request.version, me, map, newest, around),
    };
    verdict.unwrap_or_else(|| Judgement::Go {
        collection: collection.id,
        version: map.version(),
        scope: if around.engine_is_clean {
            Scope::All
        } else {
            Scope::Owned { map: Arc::clone(map), me }
        },
    })
}

/// What unproven gates do, and only they. `None`: nothing stands against it.
fn judge_change(
    change: Change,
    ids: &[PointId],
    me: ShardId,
    map: &Map,
    ledger: &Ledger,
) -> Option<Judgement> {
    let (decided, durable) = (ledger.decided(), ledger.durable());
    let may_repair = decided.unproven && durable.unproven && decided.order.is_none();
    let is_stray = |id: &PointId| map.owner(id.placement_key()) != Some(me);
    let refusal = match change {
        Change::Delete if decided.unproven || durable.unproven => {
            mark!("an unproven gate refuses a delete");
            Refusal::Unproven
        }
        Change::Insert if !may_repair => Refusal::NothingToRepair { version: map.version() },
        Change::Discard if !may_repair || !ids.iter().all(is_stray) => {
            Refusal::NothingToRepair { version: map.version() }
        }
        Change::Upsert | Change::Delete | Change::Insert | Change::Discard => return None,
    };
    Some(Judgement::Refuse(refusal))
}

/// `None`: nothing stands against it.
fn judge_ids(
    ids: &[PointId],
    me: ShardId,
    map: &Map,
    newest: &Map,
    around: &Surroundings<'_>,
) -> Option<Judgement> {
    let mut hold = None;
    for id in ids {
        let key = id.placement_key();
        if newest.owner(key) != Some(me) {
            return Some(Judgement::Refuse(Refusal::Moved { version: newest.version() }));
        }
        if map.owner(key) != Some(me) {
            hold = Some(Judgement::HoldFor(newest.version()));
        } else if around.fence.is_some_and(|fence| fence.of(key).is_some_and(|mv| mv.donor == me)) {
            hold = Some(Judgement::HoldFenced);
        }
    }
    hold
}

/// P7: a fence stalls only requests on points that move, and at donors those on all points.
fn assert_stalled_by_moves(request: &Request, around: &Surroundings<'_>) {
    let (fence, me) = (around.fence, around.ledger.shard());
    let from_me = |id: &PointId| {
        let mv = fence.and_then(|fence| fence.of(id.placement_key()));
        mv.map(|mv| mv.donor) == me
    };
    let moves = match &request.operation {
        Operation::Read { ids } | Operation::Write { ids, .. } => {
            me.is_some() && ids.iter().any(from_me)
        }
        Operation::Gather => fence.zip(me).is_some_and(|(fence, me)| fence.donors().contains(&me)),
    };
    assert!(moves, "P7 short-stall: {me:?} holds a request of which nothing moves");
}

/// `None`: nothing stands against it.
fn judge_gather(
    version: Option<MapVersion>,
    me: ShardId,
    map: &Map,
    newest: &Map,
    around: &Surroundings<'_>,
) -> Option<Judgement> {
    if newest.version() != map.version() {
        return Some(match version {
            Some(version) if version < newest.version() => {
                Judgement::Refuse(Refusal::OtherVersion { version: newest.version() })
            }
            _ => Judgement::HoldFor(newest.version()),
        });
    }
    if version.is_some_and(|version| version != map.version()) {
        return Some(Judgement::Refuse(Refusal::OtherVersion { version: map.version() }));
    }
    let fenced = around.fence.is_some_and(|fence| fence.donors().contains(&me));
    fenced.then_some(Judgement::HoldFenced)
}
