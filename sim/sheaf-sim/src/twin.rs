//! The differential oracle: what clients were told, beside what one shard that never migrates tells for the same calls.
//!
//! A plan runs with no checker. Then all its calls with a known outcome are made again, one after the other, in a world of one
//! gate. An answer counts for each point that nobody else was writing and of which no write is in doubt; the last reads
//! of a run are such answers, so the final contents are compared, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_checkers::{Answer, Call, Fact, OpId, Panel, Stamp, Violation};
use sheaf_types::PointId;

use crate::clients::LASTING;
use crate::draw;
use crate::knobs::Knobs;
use crate::plan::Plan;
use crate::report::take_panic;
use crate::trace::Trace;
use crate::wire::{ClientRequest, Work};
use crate::world::World;

/// Milliseconds that a call may take in the twin, where nothing goes wrong.
const TIMEOUT_MS: u64 = 5_000;

/// A call with its answer.
#[derive(Clone, Debug)]
struct Told {
    op: OpId,
    call: Arc<Call>,
    began: u64,
    /// `None`: it has no answer.
    ended: Option<u64>,
    answer: Answer,
}

/// The clients' calls in a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    told: Vec<Told>,
    open: BTreeMap<OpId, (u64, Arc<Call>)>,
    facts: u64,
}

impl History {
    pub fn learn(&mut self, fact: &Fact) {
        self.facts += 1;
        match fact {
            Fact::Invoked { op, call } => {
                self.open.insert(*op, (self.facts, Arc::clone(call)));
            }
            Fact::Returned { op, answer } => {
                let ended = (!matches!(answer, Answer::Unknown)).then_some(self.facts);
                self.told(*op, ended, answer.clone());
            }
            _ => {}
        }
    }

    fn told(&mut self, op: OpId, ended: Option<u64>, answer: Answer) {
        if let Some((began, call)) = self.open.remove(&op) {
            self.told.push(Told { op, call, began, ended, answer });
        }
    }

    /// All calls on the collection that is never dropped; those without an answer at the end are in doubt.
    fn finish(mut self) -> Vec<Told> {
        for op in self.open.keys().copied().collect::<Vec<_>>() {
            self.told(op, None, Answer::Unknown);
        }
        self.told.retain(|told| matches!(&*told.call,
            Call::Upsert { collection, .. } | Call::Delete { collection, .. }
            | Call::Get { collection, .. } | Call::Gather { collection } if &**collection == LASTING));
        self.told
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Points in answers that had to be equal, and were.
    pub equal: u64,
    /// Those that someone was writing meanwhile, or that a write in doubt may change.
    pub left_out: u64,
}

/// When someone was writing a point: from, until, and whether it surely was applied.
#[derive(Clone, Copy, Debug)]
struct Write {
    began: u64,
    ended: u64,
}

/// The writes of each point.
struct Writes(BTreeMap<PointId, Vec<Write>>);

impl Writes {
    fn of(told: &[Told]) -> Self {
        let mut writes: BTreeMap<PointId, Vec<Write>> = BTreeMap::new();
        for Told { call, began, ended, answer, .. } in told {
            let ids: Vec<&PointId> = match &**call {
                Call::Upsert { points, .. } => points.iter().map(|(id, _)| id).collect(),
                Call::Delete { ids, .. } => ids.iter().collect(),
                _ => continue,
            };
            if matches!(answer, Answer::Refused) {
                continue;
            }
            let write = Write { began: *began, ended: ended.unwrap_or(u64::MAX) };
            ids.into_iter().for_each(|id| writes.entry(id.clone()).or_default().push(write));
        }
        Self(writes)
    }

    /// Whether there is only one value that a read between these facts can find.
    fn are_settled(&self, id: &PointId, began: u64, ended: u64) -> bool {
        let Some(writes) = self.0.get(id) else { return true };
        let before = || writes.iter().filter(|write| write.began < ended);
        if before().any(|write| write.ended > began) {
            return false;
        }
        // The last write met no other.
        let Some(last) = before().max_by_key(|write| write.ended) else { return true };
        before().filter(|write| write.ended > last.began).count() == 1
    }
}

/// Makes the calls of a history again where nothing moves, and compares the answers.
///
/// # Errors
/// An answer differs, or the twin itself fails.
fn compare(plan: &Plan, history: History) -> Result<Compared, Violation> {
    let mut told = history.finish();
    let writes = Writes::of(&told);
    told.retain(|told| told.ended.is_some() && !matches!(told.answer, Answer::Refused));
    told.sort_by_key(|told| told.ended);
    let answers = twin(plan, &told)?;
    let mut compared = Compared::default();
    for (told, answer) in told.iter().zip(answers) {
        let ended = told.ended.unwrap_or(u64::MAX);
        let mut check = |id: &PointId, here: Option<Stamp>, there: Option<Stamp>| {
            if !writes.are_settled(id, told.began, ended) {
                compared.left_out += 1;
                return Ok(());
            }
            compared.equal += 1;
            if here == there {
                return Ok(());
            }
            let text = format!(
                "call {} found {id:?} = {here:?}, a shard that never migrates has {there:?}",
                told.op.0
            );
            Err(Violation::new("P2 as-if-unmoved", text))
        };
        match (&*told.call, &told.answer, &answer) {
            (Call::Get { id, .. }, Answer::Point(here), Answer::Point(there)) => {
                check(id, *here, *there)?;
            }
            (Call::Gather { .. }, Answer::Points(here), Answer::Points(there)) => {
                let (here, there): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    (here.iter().cloned().collect(), there.iter().cloned().collect());
                for id in here.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
                    check(id, here.get(id).copied(), there.get(id).copied())?;
                }
            }
            _ => {}
        }
    }
    Ok(compared)
}

/// The answers of one shard to these calls, in their order.
fn twin(plan: &Plan, told: &[Told]) -> Result<Vec<Answer>, Violation> {
    let knobs = Knobs {
        gates: 1,
        first_shards: 1,
        routers: 1,
        clients: 1,
        coordinators: 1,
        ids: plan.knobs.ids,
        preload: false,
        safety_us: 100_000,
        delay_mean_us: 100,
        ..Knobs::calm()
    };
    let mut world =
        World::new(Plan { seed: plan.seed, knobs, steps: Vec::new() }, Trace::new(false));
    world.panel = Panel::silent();
    world.history = Some(History::default());
    world.clients.script(told.iter().map(|told| request(&told.call)));
    world.run(None);
    let failed = |text: String| Violation::new("the twin failed", text);
    if let Some(violation) = world.violation {
        return Err(failed(violation.to_string()));
    }
    // One after the other: the order of the calls is that of the answers; the twin's own last reads follow.
    let answers: Vec<Answer> =
        world.history.unwrap_or_default().finish().into_iter().map(|told| told.answer).collect();
    let bad = |answer: &&Answer| matches!(answer, Answer::Refused | Answer::Unknown);
    match answers.iter().find(bad) {
        Some(answer) => Err(failed(format!("{answer:?} in a world without faults"))),
        None if answers.len() < told.len() => Err(failed("it didn't answer every call".to_owned())),
        None => Ok(answers),
    }
}

fn request(call: &Call) -> ClientRequest {
    let work = match call {
        Call::Upsert { points, .. } => Work::Upsert(points.clone()),
        Call::Delete { ids, .. } => Work::Delete(ids.clone()),
        Call::Get { id, .. } => Work::Get(id.clone()),
        _ => Work::Gather,
    };
    ClientRequest { collection: Arc::from(LASTING), work, timeout_ms: TIMEOUT_MS }
}

/// Runs a plan without checkers and compares its answers with those of the twin.
///
/// # Errors
/// An answer differs, or a core's assertion fails.
pub fn judge(plan: Plan) -> Result<Compared, Violation> {
    let ran = std::panic::catch_unwind(|| {
        let mut world = World::new(plan.clone(), Trace::new(false));
        world.panel = Panel::silent();
        world.history = Some(History::default());
        world.run(None);
        match world.violation {
            Some(violation) => Err(violation),
            None => compare(&plan, world.history.unwrap_or_default()),
        }
    });
    ran.unwrap_or_else(|_| Err(Violation::new("assertion in a core", take_panic())))
}

/// Compares the swarm's plans with their twins; false, and a letter, at the first difference.
pub fn run_all(seeds: std::ops::Range<u64>, threads: usize) -> bool {
    let (next, count) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let (equal, left_out) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    match judge(draw::plan(seed)) {
                        Ok(compared) => {
                            equal.fetch_add(compared.equal, Ordering::Relaxed);
                            left_out.fetch_add(compared.left_out, Ordering::Relaxed);
                        }
                        Err(violation) => {
                            failed.fetch_min(seed, Ordering::Relaxed);
                            println!("FAILED  seed {seed}: {violation}\nreplay  cargo xtask sim twin --seed {seed}\n");
                        }
                    }
                }
            });
        }
    });
    println!(
        "twin: {} seeds; points in answers: {} equal, {} left out",
        count.into_inner(),
        equal.into_inner(),
        left_out.into_inner()
    );
    failed.into_inner() == u64::MAX
}
