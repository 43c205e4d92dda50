//! The course of a run, on whichever network: its stages, when planned faults are due, and the panel that judges.
//!
//! Decides what comes next; the world around it carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sheaf_checkers::{EndState, Fact, NodeId, Panel, Phase, Violation};

use crate::book::{Book, Stage};
use crate::fleet::Outcome;
use crate::harness::{SETUP_S_MAX, TARGET, shard_url};
use crate::judges;
use crate::plan::{Fault, Plan, Planned, When};
use crate::trace;

/// Simulated seconds after the last fault in which all must be quiet.
const QUIET_S_MAX: u64 = 240;
/// Simulated seconds that the last reads may take.
const AUDIT_S_MAX: u64 = 240;

/// A fault whose time is known, in milliseconds of the run.
pub struct Due {
    pub begin_ms: u64,
    pub for_ms: u64,
    pub fault: Fault,
}

/// What follows from a look at the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    GoesOn,
    /// All faults are over, for ever.
    Heals,
    Over,
}

pub struct Course {
    book: Arc<Book>,
    panel: Panel,
    seed: u64,
    shards: u32,
    safety_ms: u64,
    pub steps: u64,
    entered_ms: u64,
    /// Faults that wait for a phase, and those whose time is known.
    waiting: Vec<Planned>,
    due: Vec<Due>,
    /// Phases that were seen since the cluster was founded.
    seen: BTreeSet<Phase>,
    /// What each router had adopted: which life of it, and the version.
    adopted: BTreeMap<u32, (u32, u64)>,
}

impl Course {
    pub fn new(plan: &Plan, book: Arc<Book>) -> Self {
        Self {
            book,
            panel: judges::panel(),
            seed: plan.seed,
            shards: plan.shards,
            safety_ms: plan.safety_ms,
            steps: 0,
            entered_ms: 0,
            waiting: plan.faults.clone(),
            due: Vec::new(),
            seen: BTreeSet::new(),
            adopted: BTreeMap::new(),
        }
    }

    /// The faults that begin now, in the order in which they were planned.
    pub fn begin(&mut self, now_ms: u64) -> Vec<Due> {
        let (now, later) =
            std::mem::take(&mut self.due).into_iter().partition(|due| due.begin_ms <= now_ms);
        self.due = later;
        now
    }

    /// Has the checkers judge what happened since the last time.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn judge(&mut self, now_ms: u64) -> Result<(), Violation> {
        self.look_at_routers();
        for fact in self.book.take_facts() {
            if let Fact::Stored { decided } = &fact {
                let phase = decided.running.as_ref().map(|running| running.phase);
                trace::fold(format_args!("{} {} {phase:?}", decided.term, decided.revision));
                self.reached(now_ms, phase);
            }
            self.panel.tell(now_ms * 1_000, self.steps, &fact)?;
        }
        self.book.take_broken().map_or(Ok(()), Err)
    }

    fn look_at_routers(&mut self) {
        for (router, (life, host)) in self.book.routers() {
            let Some(map) = host.map() else { continue };
            let now = (life, map.version().0);
            if self.adopted.insert(router, now) != Some(now) {
                self.book.fact(Fact::RouterAdopted { router, life, version: map.version() });
            }
        }
    }

    fn reached(&mut self, now_ms: u64, phase: Option<Phase>) {
        let Some(phase) = phase.filter(|_| self.book.stage() == Stage::Safety) else { return };
        if !self.seen.insert(phase) {
            return;
        }
        self.schedule(now_ms, |planned| match planned.when {
            When::Phase(wanted, delay_ms) if wanted == phase => Some(delay_ms),
            When::Phase(..) | When::At(_) => None,
        });
    }

    /// Gives those faults their times that `delay_ms` names.
    fn schedule(&mut self, now_ms: u64, delay_ms: impl Fn(&Planned) -> Option<u64>) {
        for planned in std::mem::take(&mut self.waiting) {
            match delay_ms(&planned) {
                Some(delay_ms) => {
                    let (begin_ms, for_ms) = (now_ms + delay_ms, planned.for_ms);
                    self.due.push(Due { begin_ms, for_ms, fault: planned.fault });
                }
                None => self.waiting.push(planned),
            }
        }
    }

    fn enter(&mut self, now_ms: u64, stage: Stage) {
        self.book.enter(stage);
        self.entered_ms = now_ms;
        tracing::info!(target: TARGET, "stage {stage:?}");
    }

    /// Enters the next stage when its time has come.
    ///
    /// # Errors
    /// It doesn't come.
    pub fn move_on(&mut self, now_ms: u64) -> Result<Turn, Violation> {
        let for_ms = now_ms - self.entered_ms;
        match self.book.stage() {
            Stage::Setup if self.book.founded.load(Ordering::SeqCst) => {
                self.enter(now_ms, Stage::Safety);
                self.schedule(now_ms, |planned| match planned.when {
                    When::At(at_ms) => Some(at_ms),
                    When::Phase(..) => None,
                });
            }
            Stage::Setup if for_ms > SETUP_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the cluster is not founded"));
            }
            Stage::Safety if for_ms >= self.safety_ms => {
                self.enter(now_ms, Stage::Liveness);
                self.waiting.clear();
                self.due.clear();
                self.book.fact(Fact::Healed);
                return Ok(Turn::Heals);
            }
            Stage::Liveness => {
                let state = self.end_state();
                let quiet = is_quiet(&state) && self.book.operator_done.load(Ordering::SeqCst);
                if quiet {
                    self.enter(now_ms, Stage::Audit);
                } else if for_ms > QUIET_S_MAX * 1_000 {
                    self.panel.tell(now_ms * 1_000, self.steps, &ended(state))?;
                    let text = "the operator's ask has no answer that decides";
                    return Err(Violation::new("P6 converges", text));
                }
            }
            Stage::Audit if self.book.audited.load(Ordering::SeqCst) => {
                self.panel.tell(now_ms * 1_000, self.steps, &ended(self.end_state()))?;
                self.panel.finish()?;
                return Ok(Turn::Over);
            }
            Stage::Audit if for_ms > AUDIT_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the last reads don't end"));
            }
            Stage::Setup | Stage::Safety | Stage::Audit => {}
        }
        Ok(Turn::GoesOn)
    }

    /// What isn't as it should be when all is quiet.
    fn end_state(&self) -> EndState {
        let mut state = EndState {
            unfinished: Vec::new(),
            unclean: Vec::new(),
            stale_routers: Vec::new(),
            hanging: Vec::new(),
        };
        let Some(record) = self.book.record() else { return state };
        let running = record.transition.iter().map(|running| running.id);
        let queued = record.queue.iter().map(|queued| queued.id);
        let retiring = record.retiring.iter().filter_map(|retiring| retiring.transition);
        state.unfinished = running.chain(queued).chain(retiring).collect();
        for number in 0..self.shards {
            let url = shard_url(number);
            let Some(ledger) = self.book.ledger(number) else { continue };
            let entry = record.map.shard_by_url(&url);
            let version = ledger.map.as_ref().map(|map| map.version());
            let right = ledger.shard == entry.map(|entry| entry.id)
                && (entry.is_none()
                    || (version == Some(record.map.version())
                        && ledger.order.is_none()
                        && ledger.clean));
            if !right {
                let (shard, clean) = (ledger.shard, ledger.clean);
                let text = format!("{url} is {shard:?} at {version:?}, clean {clean}");
                state.unclean.push((NodeId(number), text));
            }
        }
        for (router, (_, host)) in self.book.routers() {
            let version = host.map().map(|map| map.version());
            if version != Some(record.map.version()) {
                state.stale_routers.push((router, version));
            }
        }
        state
    }

    /// What the run came to. `more`: what only this harness counts; `faults`: by their kinds.
    pub fn outcome(
        &self,
        now_ms: u64,
        broken: Option<&Violation>,
        more: &[(&str, u64)],
        faults: &BTreeMap<&'static str, u64>,
    ) -> Outcome {
        let (hash, events) = trace::hash();
        let counts = &self.book.counts;
        let record = self.book.record();
        let reports: Vec<_> = record.iter().flat_map(|record| record.ended.iter()).collect();
        let migrations = reports.iter().filter(|report| report.committed.is_some()).count();
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        Outcome {
            seed: self.seed,
            hash: format!("{hash:032x}"),
            events,
            simulated_ms: now_ms,
            steps: self.steps,
            migrations: migrations as u64,
            aborts: (reports.len() - migrations) as u64,
            calls: counts.calls.load(Ordering::SeqCst),
            done: counts.done.load(Ordering::SeqCst),
            refused: counts.refused.load(Ordering::SeqCst),
            unknown: counts.unknown.load(Ordering::SeqCst),
            boots: counts.boots.load(Ordering::SeqCst),
            failed_boots: counts.failed_boots.load(Ordering::SeqCst),
            more: more.iter().copied().map(named).collect(),
            faults: faults.iter().map(|(kind, count)| named((kind, *count))).collect(),
            broken: broken.map(|violation| (violation.to_string(), now_ms, self.steps)),
        }
    }
}

fn is_quiet(state: &EndState) -> bool {
    state.unfinished.is_empty() && state.unclean.is_empty() && state.stale_routers.is_empty()
}

fn ended(state: EndState) -> Fact {
    Fact::Ended { state: Box::new(state) }
}
