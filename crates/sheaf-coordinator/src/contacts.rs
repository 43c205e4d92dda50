//! The conversation with the gates: one long poll for each, always, and what they last said.
//!
//! Decides when a gate is told and what is known of it. Never decides what it is told (`directives.rs`) or what
//! follows from its reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_protocol::{Directive, DirectiveRefusal, GateReport};
use sheaf_types::{Incarnation, Serial, ShardId, StoreId, Time, mark};

use crate::directives::Intent;
use crate::effect::{Outgoing, WakeReason};
use crate::event::PollAnswer;
use crate::jitter::Jitter;
use crate::record::CoordinatorRecord;

/// Milliseconds that a gate without news may hold a poll, and the longest pause before one that fails is asked again.
const POLL_WAIT_MS: u64 = 1_000;
/// Gates that are asked in a second while nothing happens: more of them are each asked less often. Source: answers cost two cores
/// a quarter of a core at 1,000 a second.
const POLLS_PER_S_MAX: u64 = 1_000;
/// Milliseconds that the answer of a poll may be late. Source: a fsync and a slow network.
const POLL_GRACE_MS: u64 = 2_000;
/// Milliseconds to the next poll of a gate that failed to answer once; doubles up to the time that a poll may be held.
const BACKOFF_MS_MIN: u64 = 50;
/// Answers in a row from an earlier incarnation after which the gate's disk is taken to be set back.
const REGRESSIONS_MAX: u32 = 3;

/// What is known of a gate.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Observed {
    /// It was not heard of since this coordinator speaks to it.
    Never {
        since: Time,
    },
    Up {
        report: Box<GateReport>,
        since: Time,
    },
    /// It answers, and doesn't follow.
    Refusing {
        refusal: DirectiveRefusal,
        since: Time,
        last: Option<Box<GateReport>>,
    },
    /// Another node answers at its address, or its disk was replaced.
    Imposter {
        store_id: StoreId,
        since: Time,
    },
    /// Whether it follows is unknown.
    Unreachable {
        since: Time,
        reason: String,
        last: Option<Box<GateReport>>,
    },
}

#[derive(Clone, Debug, Hash)]
struct Contact {
    url: String,
    directive: Arc<Directive>,
    observed: Observed,
    /// The newest report that was believed, to tell late ones.
    seen: (Incarnation, u64),
    poll: Option<Poll>,
    /// Counted for each gate, so that how often one is asked says nothing of another.
    next_poll: Serial,
    due: Time,
    failures: u32,
    regressions: u32,
}

#[derive(Clone, Debug, Hash)]
struct Poll {
    id: Serial,
    sent: Time,
    /// The newest report when it was sent.
    seen: (Incarnation, u64),
}

/// What an answer means beyond this gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// The gate follows a coordinator of a higher term.
    HigherTerm,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Contacts {
    gates: BTreeMap<ShardId, Contact>,
    /// When each gate is to be looked at again.
    due: BTreeSet<(Time, ShardId)>,
    /// Those that refuse their directives, so that nobody has to look for them among all.
    refusing: BTreeSet<ShardId>,
    jitter: Jitter,
}

impl Contacts {
    pub(crate) fn new(jitter: Jitter) -> Self {
        Self { gates: BTreeMap::new(), due: BTreeSet::new(), refusing: BTreeSet::new(), jitter }
    }

    /// Speaks to these gates from now on; those whose directive has changed are told at once.
    pub(crate) fn adopt(&mut self, now: Time, intents: BTreeMap<ShardId, Intent>) {
        self.gates.retain(|shard, contact| {
            let stays = intents.contains_key(shard);
            if !stays {
                self.due.remove(&(contact.due, *shard));
                self.refusing.remove(shard);
            }
            stays
        });
        for (shard, intent) in intents {
            match self.gates.get_mut(&shard) {
                Some(contact) => {
                    // The revision is not content: a gate hears of one only when something changed for it.
                    let revision = contact.directive.revision;
                    if (Directive { revision, ..intent.directive.clone() }) == *contact.directive {
                        continue;
                    }
                    contact.directive = Arc::new(intent.directive);
                    contact.poll = None; // Superseded: its answer is still believed, but ends nothing.
                    contact.failures = 0;
                }
                None => {
                    let contact = Contact {
                        url: intent.url,
                        directive: Arc::new(intent.directive),
                        observed: Observed::Never { since: now },
                        seen: (Incarnation(0), 0),
                        poll: None,
                        next_poll: Serial(1),
                        due: now,
                        failures: 0,
                        regressions: 0,
                    };
                    self.gates.insert(shard, contact);
                }
            }
            self.reschedule(shard, now);
        }
    }

    /// Forgets everybody: this coordinator is deposed.
    pub(crate) fn clear(&mut self) {
        self.gates.clear();
        self.due.clear();
        self.refusing.clear();
    }

    pub(crate) fn on_reported(
        &mut self,
        now: Time,
        shard: ShardId,
        poll: u64,
        answer: PollAnswer,
    ) -> Heard {
        let pause_ms_max = self.poll_wait_ms();
        let Some(contact) = self.gates.get_mut(&shard) else {
            mark!("a gate answers that has left meanwhile");
            return Heard::Nothing; // It has left meanwhile.
        };
        let ended = contact.poll.take_if(|current| current.id == Serial(poll));
        let heard = contact.hear(now, ended.is_some(), answer);
        match contact.observed {
            Observed::Refusing { .. } => self.refusing.insert(shard),
            _ => self.refusing.remove(&shard),
        };
        if let Some(ended) = ended {
            let pause_ms = contact.pause_ms(now, &ended, pause_ms_max, &mut self.jitter);
            self.reschedule(shard, now.plus_ms(pause_ms));
        }
        heard
    }

    /// Polls whoever is due; a poll that is over without an answer counts as unreachable.
    pub(crate) fn flush(&mut self, now: Time, send: &mut Vec<Outgoing>) {
        let wait_ms = self.poll_wait_ms();
        while let Some(&(due, shard)) = self.due.first() {
            if due > now {
                break;
            }
            let Some(contact) = self.gates.get_mut(&shard) else {
                self.due.pop_first();
                continue;
            };
            if contact.poll.take().is_some() {
                mark!("a poll has no answer in time");
                let reason = format!("no answer within {} ms", wait_ms + POLL_GRACE_MS);
                contact.hear(now, true, PollAnswer::Unreachable { reason });
                self.refusing.remove(&shard);
            }
            let poll = contact.next_poll.take();
            contact.poll = Some(Poll { id: Serial(poll), sent: now, seen: contact.seen });
            send.push(Outgoing {
                shard,
                poll,
                url: contact.url.clone(),
                directive: Arc::clone(&contact.directive),
                wait_ms,
                seen_incarnation: contact.seen.0,
                seen_seq: contact.seen.1,
            });
            self.reschedule(shard, now.plus_ms(wait_ms + POLL_GRACE_MS));
        }
    }

    /// Milliseconds that a gate may hold a poll, so that there are not too many in a second.
    fn poll_wait_ms(&self) -> u64 {
        POLL_WAIT_MS.max(self.gates.len() as u64 * 1_000 / POLLS_PER_S_MAX)
    }

    pub(crate) fn wake(&self) -> Option<(Time, WakeReason)> {
        self.due.first().map(|&(due, _)| (due, WakeReason::Poll))
    }

    /// The gate's report, if it answers to the directive that it has now and the gate was reachable last.
    pub(crate) fn fresh(&self, shard: ShardId) -> Option<&GateReport> {
        let contact = self.gates.get(&shard)?;
        let Observed::Up { report, .. } = &contact.observed else {
            return None;
        };
        let (term, revision) = (contact.directive.term, contact.directive.revision);
        (report.term == term && report.revision == revision).then_some(report)
    }

    /// The gate's newest report, however old.
    pub(crate) fn last(&self, shard: ShardId) -> Option<&GateReport> {
        self.gates.get(&shard)?.observed.last()
    }

    /// A gate that follows a later record than this coordinator has: the store was set back, or another coordinator reigns. What was
    /// decided on such a record could be a second map of a version that exists.
    pub(crate) fn ahead_of(&self, record: &CoordinatorRecord) -> Option<ShardId> {
        let is_ahead = |shard: &ShardId| match self.observed(*shard) {
            Some(Observed::Refusing { refusal: DirectiveRefusal::Deposed { highest }, .. }) => {
                *highest > record.term
            }
            Some(Observed::Refusing {
                refusal: DirectiveRefusal::Stale { revision, map }, ..
            }) => *revision > record.revision || *map > record.map.version(),
            _ => false,
        };
        self.refusing.iter().copied().find(is_ahead)
    }

    pub(crate) fn observed(&self, shard: ShardId) -> Option<&Observed> {
        self.gates.get(&shard).map(|contact| &contact.observed)
    }

    /// How long the gate has not followed, in milliseconds; 0 while it does.
    pub(crate) fn silent_ms(&self, shard: ShardId, now: Time) -> u64 {
        match self.observed(shard) {
            None | Some(Observed::Up { .. }) => 0,
            Some(
                Observed::Never { since }
                | Observed::Refusing { since, .. }
                | Observed::Imposter { since, .. }
                | Observed::Unreachable { since, .. },
            ) => now.ms_since(*since),
        }
    }

    /// The revisions that gates are told, for the invariants.
    pub(crate) fn told(&self) -> impl Iterator<Item = (ShardId, &Directive)> {
        self.gates.iter().map(|(shard, contact)| (*shard, &*contact.directive))
    }

    fn reschedule(&mut self, shard: ShardId, due: Time) {
        if let Some(contact) = self.gates.get_mut(&shard) {
            self.due.remove(&(contact.due, shard));
            contact.due = due;
            self.due.insert((due, shard));
        }
    }
}

impl Contact {
    /// Believes an answer, or knows why not. `current`: it ends the newest poll.
    fn hear(&mut self, now: Time, current: bool, answer: PollAnswer) -> Heard {
        match answer {
            PollAnswer::Report(report) => {
                self.hear_report(now, current, report);
                Heard::Nothing
            }
            PollAnswer::Refused(DirectiveRefusal::Deposed { highest })
                if highest > self.directive.term =>
            {
                let refusal = DirectiveRefusal::Deposed { highest };
                self.observe_refusal(now, refusal);
                Heard::HigherTerm
            }
            PollAnswer::Refused(DirectiveRefusal::OtherStore { mine }) => {
                if mine != self.directive.store_id {
                    self.observe_imposter(now, mine);
                }
                Heard::Nothing
            }
            PollAnswer::Refused(refusal) if current => {
                self.observe_refusal(now, refusal);
                Heard::Nothing
            }
            PollAnswer::Unreachable { reason } if current => {
                self.observe_silence(now, reason);
                Heard::Nothing
            }
            // A superseded poll: the newer one tells.
            PollAnswer::Refused(_) | PollAnswer::Unreachable { .. } => {
                mark!("a superseded poll fails");
                Heard::Nothing
            }
        }
    }

    fn hear_report(&mut self, now: Time, current: bool, report: Box<GateReport>) {
        if report.store_id != self.directive.store_id {
            self.observe_imposter(now, report.store_id);
            return;
        }
        let seen = (report.incarnation, report.seq);
        if seen < self.seen {
            // Late: a newer report overtook it. Again and again means that the disk went back in time.
            mark!("a report comes after a newer one");
            self.regressions += u32::from(current);
            if self.regressions >= REGRESSIONS_MAX {
                let reason = "it reports an earlier incarnation than before: its disk was set back";
                self.observe_silence(now, reason.to_owned());
            }
            return;
        }
        mark!(!current, "a superseded poll brings a report that counts");
        self.seen = seen;
        self.failures = 0;
        self.regressions = 0;
        let since = match &self.observed {
            Observed::Up { since, .. } => *since,
            Observed::Never { .. }
            | Observed::Refusing { .. }
            | Observed::Imposter { .. }
            | Observed::Unreachable { .. } => now,
        };
        self.observed = Observed::Up { report, since };
    }

    fn observe_silence(&mut self, now: Time, reason: String) {
        self.failures = self.failures.saturating_add(1);
        let since = self.since_unless_up(now);
        let last = self.observed.last().cloned().map(Box::new);
        self.observed = Observed::Unreachable { since, reason, last };
    }

    fn observe_refusal(&mut self, now: Time, refusal: DirectiveRefusal) {
        self.failures = self.failures.saturating_add(1);
        let since = self.since_unless_up(now);
        let last = self.observed.last().cloned().map(Box::new);
        self.observed = Observed::Refusing { refusal, since, last };
    }

    fn observe_imposter(&mut self, now: Time, store_id: StoreId) {
        self.failures = self.failures.saturating_add(1);
        let since = self.since_unless_up(now);
        self.observed = Observed::Imposter { store_id, since };
    }

    /// Since when the gate has not followed: now, if it did until now.
    fn since_unless_up(&self, now: Time) -> Time {
        match &self.observed {
            Observed::Up { .. } => now,
            Observed::Never { since }
            | Observed::Refusing { since, .. }
            | Observed::Imposter { since, .. }
            | Observed::Unreachable { since, .. } => *since,
        }
    }

    /// Milliseconds until the next poll.
    fn pause_ms(&self, now: Time, ended: &Poll, pause_ms_max: u64, jitter: &mut Jitter) -> u64 {
        if self.failures > 0 {
            let doubled = BACKOFF_MS_MIN << (self.failures - 1).min(9);
            return jitter.around(doubled.min(pause_ms_max));
        }
        // A gate without news holds the poll; one that doesn't is not asked at once again.
        let held = now.ms_since(ended.sent) >= BACKOFF_MS_MIN;
        if held || self.seen > ended.seen { 0 } else { BACKOFF_MS_MIN }
    }
}

impl Observed {
    /// The newest report of this gate, however old.
    pub(crate) fn last(&self) -> Option<&GateReport> {
        match self {
            Self::Up { report, .. } => Some(report),
            Self::Refusing { last, .. } | Self::Unreachable { last, .. } => last.as_deref(),
            Self::Never { .. } | Self::Imposter { .. } => None,
        }
    }
}
