//! One run: processes on madsim's network, faults, stages, and the panel that judges. The supervisor of the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Handle;
use sheaf_checkers::{EndState, Fact, NodeId, Panel, Phase, Violation};
use sheaf_runtime::Clock;
use sheaf_types::Time;

use crate::book::{Book, Stage};
use crate::build;
use crate::fleet::Outcome;
use crate::judges;
use crate::place::{shard_name, url};
use crate::plan::{Fault, Plan, Planned, When};
use crate::process::Machine;
use crate::trace;
use crate::weather::{Begun, Site, Weather};

/// Between two looks of the supervisor.
const STEP: Duration = Duration::from_millis(5);
/// Simulated seconds in which a cluster without faults must be founded.
const SETUP_S_MAX: u64 = 120;
/// Simulated seconds after the last fault in which all must be quiet.
const QUIET_S_MAX: u64 = 240;
/// Simulated seconds that the last reads may take.
const AUDIT_S_MAX: u64 = 240;

/// A fault with its times, in milliseconds of the run.
struct Scheduled {
    begin_ms: u64,
    for_ms: u64,
    fault: Fault,
}

pub struct World {
    plan: Plan,
    book: Arc<Book>,
    /// One machine stands for all: what they have in common.
    machine: Machine,
    site: Site,
    clock: Clock,
    weather: Weather,
    panel: Panel,
    steps: u64,
    entered_ms: u64,
    /// Faults that wait for a phase, those whose time is known, and those that last.
    waiting: Vec<Planned>,
    scheduled: Vec<Scheduled>,
    lasting: Vec<(u64, Begun)>,
    /// Phases that were seen since the cluster was founded.
    seen: BTreeSet<Phase>,
    adopted: BTreeMap<u32, (u32, u64)>,
    /// Times at which two coordinators believed that they lead.
    rivals: u64,
    leaders: Vec<u32>,
    /// Who was seen to begin to lead last: an earlier one may stand still and not know.
    leader: u32,
}

impl World {
    /// To be called in the simulation.
    pub fn new(plan: Plan) -> Self {
        let book = Arc::new(Book::default());
        let (machine, site) = build::site(&plan, &book, Handle::current(), NetSim::current());
        Self {
            book,
            machine,
            site,
            clock: Clock::starting_at(Time(0)),
            weather: Weather::default(),
            panel: judges::panel(),
            steps: 0,
            entered_ms: 0,
            waiting: plan.faults.clone(),
            scheduled: Vec::new(),
            lasting: Vec::new(),
            seen: BTreeSet::new(),
            adopted: BTreeMap::new(),
            rivals: 0,
            leaders: Vec::new(),
            leader: 0,
            plan,
        }
    }

    /// Runs to the end, or until a promise is broken.
    pub async fn run(&mut self) -> Outcome {
        let broken = loop {
            match self.step().await {
                Ok(false) => {}
                Ok(true) => break None,
                Err(violation) => break Some(violation),
            }
        };
        self.outcome(broken.map(|violation| violation.to_string()))
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().0
    }

    /// Lets the simulation go on for a moment; true: the run is over.
    async fn step(&mut self) -> Result<bool, Violation> {
        trace::at(self.now_ms());
        self.change_weather().await;
        tokio::time::sleep(STEP).await;
        self.steps += 1;
        self.look_at_routers();
        self.look_at_leaders();
        self.judge()?;
        self.move_on()
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let us = self.now_ms() * 1_000;
        for fact in self.book.take_facts() {
            if let Fact::Stored { decided } = &fact {
                let phase = decided.running.as_ref().map(|running| running.phase);
                trace::fold(format_args!("{} {} {phase:?}", decided.term, decided.revision));
                self.reached(phase);
            }
            self.panel.tell(us, self.steps, &fact)?;
        }
        self.book.take_broken().map_or(Ok(()), Err)
    }

    fn reached(&mut self, phase: Option<Phase>) {
        let Some(phase) = phase.filter(|_| self.book.stage() == Stage::Safety) else { return };
        if !self.seen.insert(phase) {
            return;
        }
        self.schedule(|planned| match planned.when {
            When::Phase(wanted, delay_ms) if wanted == phase => Some(delay_ms),
            When::Phase(..) | When::At(_) => None,
        });
    }

    /// Gives those faults their times that `delay_ms` names.
    fn schedule(&mut self, delay_ms: impl Fn(&Planned) -> Option<u64>) {
        let now_ms = self.now_ms();
        for planned in std::mem::take(&mut self.waiting) {
            match delay_ms(&planned) {
                Some(delay_ms) => {
                    let (begin_ms, for_ms) = (now_ms + delay_ms, planned.for_ms);
                    self.scheduled.push(Scheduled { begin_ms, for_ms, fault: planned.fault });
                }
                None => self.waiting.push(planned),
            }
        }
    }

    async fn change_weather(&mut self) {
        let now_ms = self.now_ms();
        for one in std::mem::take(&mut self.scheduled) {
            if one.begin_ms > now_ms {
                self.scheduled.push(one);
                continue;
            }
            tracing::info!(target: "sheaf_madsim", "begins: {:?}", one.fault);
            let begun = self.weather.begin(&self.site, &self.plan, one.fault, self.leader).await;
            self.lasting.push((self.now_ms() + one.for_ms, begun));
        }
        let now_ms = self.now_ms();
        for (end_ms, begun) in std::mem::take(&mut self.lasting) {
            if end_ms > now_ms {
                self.lasting.push((end_ms, begun));
                continue;
            }
            tracing::info!(target: "sheaf_madsim", "ends: {begun:?}");
            self.weather.end(&self.site, &self.plan, &begun);
        }
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

    fn look_at_leaders(&mut self) {
        let leaders = self.machine.reigns.leaders();
        self.rivals += u64::from(leaders.len() > 1 && self.leaders.len() < 2);
        let new = leaders.iter().find(|leader| !self.leaders.contains(leader));
        self.leader = new.copied().unwrap_or(self.leader);
        self.leaders = leaders;
    }

    fn enter(&mut self, stage: Stage) {
        self.book.enter(stage);
        self.entered_ms = self.now_ms();
        tracing::info!(target: "sheaf_madsim", "stage {stage:?}");
    }

    fn move_on(&mut self) -> Result<bool, Violation> {
        let now_ms = self.now_ms();
        let for_ms = now_ms - self.entered_ms;
        match self.book.stage() {
            Stage::Setup if self.book.founded.load(Ordering::SeqCst) => {
                self.enter(Stage::Safety);
                self.schedule(|planned| match planned.when {
                    When::At(at_ms) => Some(at_ms),
                    When::Phase(..) => None,
                });
            }
            Stage::Setup if for_ms > SETUP_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the cluster is not founded"));
            }
            Stage::Safety if for_ms >= self.plan.safety_ms => self.heal(),
            Stage::Liveness => {
                let state = self.end_state();
                let quiet = is_quiet(&state) && self.book.operator_done.load(Ordering::SeqCst);
                if quiet {
                    self.enter(Stage::Audit);
                } else if for_ms > QUIET_S_MAX * 1_000 {
                    self.panel.tell(now_ms * 1_000, self.steps, &ended(state))?;
                    let text = "the operator's ask has no answer that decides";
                    return Err(Violation::new("P6 converges", text));
                }
            }
            Stage::Audit if self.book.audited.load(Ordering::SeqCst) => {
                self.panel.tell(now_ms * 1_000, self.steps, &ended(self.end_state()))?;
                self.panel.finish()?;
                return Ok(true);
            }
            Stage::Audit if for_ms > AUDIT_S_MAX * 1_000 => {
                return Err(Violation::new("P6 converges", "the last reads don't end"));
            }
            _ => {}
        }
        Ok(false)
    }

    /// All faults end, for ever; only etcd goes on being late now and then.
    fn heal(&mut self) {
        self.enter(Stage::Liveness);
        self.waiting.clear();
        self.scheduled.clear();
        for (_, begun) in std::mem::take(&mut self.lasting) {
            self.weather.end(&self.site, &self.plan, &begun);
        }
        self.book.fact(Fact::Healed);
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
        for number in 0..self.plan.shards {
            let url = url(&shard_name(number));
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

    fn outcome(&self, broken: Option<String>) -> Outcome {
        let (hash, events) = trace::hash();
        let counts = &self.book.counts;
        let record = self.book.record();
        let ended = record.iter().flat_map(|record| record.ended.iter());
        let (mut migrations, mut aborts) = (0, 0);
        for report in ended {
            let committed = report.committed.is_some();
            migrations += u64::from(committed);
            aborts += u64::from(!committed);
        }
        let begun = self.weather.begun.iter();
        let more =
            [("terms", self.machine.reigns.terms()), ("times with two leaders", self.rivals)];
        Outcome {
            seed: self.plan.seed,
            hash: format!("{hash:032x}"),
            events,
            simulated_ms: self.now_ms(),
            steps: self.steps,
            migrations,
            aborts,
            calls: counts.calls.load(Ordering::SeqCst),
            done: counts.done.load(Ordering::SeqCst),
            refused: counts.refused.load(Ordering::SeqCst),
            unknown: counts.unknown.load(Ordering::SeqCst),
            boots: counts.boots.load(Ordering::SeqCst),
            failed_boots: counts.failed_boots.load(Ordering::SeqCst),
            more: more.map(|(name, count)| (name.to_owned(), count)).into(),
            faults: begun.map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            broken: broken.map(|text| (text, self.now_ms(), self.steps)),
        }
    }
}

fn is_quiet(state: &EndState) -> bool {
    state.unfinished.is_empty() && state.unclean.is_empty() && state.stale_routers.is_empty()
}

fn ended(state: EndState) -> Fact {
    Fact::Ended { state: Box::new(state) }
}
