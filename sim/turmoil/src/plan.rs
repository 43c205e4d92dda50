//! A run as it is drawn from a seed: the cluster, its clients, what the operator asks, and what goes wrong when.

use sheaf_checkers::Phase;

use crate::dice::{Dice, Purpose};
use crate::operator::{Ask, shard_name};

/// The hosts that can fail or be cut off.
pub const COORDINATOR: &str = "coordinator";

/// The host of each of several coordinators.
pub fn coordinator_name(number: u32) -> String {
    match number {
        0 => COORDINATOR.to_owned(),
        _ => format!("{COORDINATOR}-{}", number + 1),
    }
}

pub fn router_name(number: u32) -> String {
    format!("router-{number}")
}

/// When a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds after the cluster was founded.
    At(u64),
    /// Milliseconds after a transition was first stored in this phase.
    Phase(Phase, u64),
}

/// Something that goes wrong, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets from the one to the others, nor back if `both`.
    Cut { host: String, others: Vec<String>, both: bool },
    /// Nothing is delivered either way until the end, then everything.
    Hold { host: String, other: String },
    /// Of a thousand messages between the two, so many break the link for a moment.
    Loss { host: String, other: String, permille: u64 },
    /// Messages of this host take up to so many milliseconds.
    Lag { host: String, ms_max: u64 },
    /// The host goes off, and on again at the end; what it didn't sync is lost. `silent`: nobody hears of it, as when the
    /// power fails.
    Off { host: String, silent: bool },
    /// Of a million calls of the host's disk, so many fail.
    DiskFails { host: String, ppm: u32 },
    /// Nothing can be written.
    DiskFull { host: String },
    /// One of several coordinators reaches neither their store nor their election.
    StoreAway { host: String },
    /// Each call of the engine takes about so long.
    Slow { host: String, mean_us: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub when: When,
    pub for_ms: u64,
    pub fault: Fault,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub tick_ms: u64,
    pub latency_ms: (u64, u64),
    pub routers: u32,
    /// One has its store on its own disk; several share one, and elect who leads.
    pub coordinators: u32,
    /// Before each start of a coordinator, the version of Sheaf before this one has run.
    pub is_upgraded: bool,
    /// Maps are left out of directives, or sent as what has changed, as large ones are.
    pub has_short_directives: bool,
    /// Shards of the new cluster: the first of all.
    pub founders: u32,
    pub shards: u32,
    pub clients: u64,
    pub points: u64,
    pub think_ms: u64,
    pub skews_ms: Vec<u64>,
    pub engine_us: u64,
    /// Bytes that a disk writes whole or not at all; `None`: what wasn't synced is lost whole.
    pub torn_bytes: Option<u64>,
    pub fence_budget_ms: Option<u64>,
    /// How fast a migration may copy, so that it lasts long enough to be met by faults.
    pub copy_points_per_s: Option<u64>,
    /// Milliseconds of the phase in which nothing may go wrong.
    pub safety_ms: u64,
    pub asks: Vec<(u64, Ask)>,
    pub faults: Vec<Planned>,
}

impl Plan {
    /// A cluster without faults and asks.
    pub fn quiet(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Purpose::Knobs);
        let shards = dice.between(3, 4) as u32;
        let low = dice.between(0, 2);
        Self {
            seed,
            tick_ms: dice.pick(&[1, 2, 5, 5, 5, 10, 10, 10, 10, 10]),
            latency_ms: (low, low + dice.between(1, 8)),
            routers: 2,
            coordinators: 1,
            is_upgraded: false,
            has_short_directives: false,
            founders: 2,
            shards,
            clients: dice.between(3, 5),
            points: dice.pick(&[24, 60, 150, 300]),
            think_ms: dice.pick(&[80, 150, 300]),
            skews_ms: (0..10).map(|_| dice.below(20_000)).collect(),
            engine_us: dice.pick(&[0, 300, 2_000, 8_000]),
            torn_bytes: dice.pick(&[None, Some(512), Some(4_096)]),
            fence_budget_ms: dice.pick(&[None, None, Some(100), Some(2_000)]),
            copy_points_per_s: dice.pick(&[None, Some(10), Some(30), Some(100)]),
            safety_ms: dice.between(45, 60) * 1_000,
            asks: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// What the swarm runs under this seed.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::quiet(seed);
        let mut dice = Dice::new(seed, Purpose::Coordinators);
        plan.coordinators = dice.pick(&[1, 1, 3]);
        plan.is_upgraded = dice.chance(0.25);
        plan.has_short_directives = dice.chance(0.5);
        plan.asks = draw_asks(&plan);
        plan.faults = draw_faults(&plan);
        plan
    }

    /// The hosts of the cluster.
    pub fn hosts(&self) -> Vec<String> {
        let shards = (0..self.shards).map(shard_name);
        let routers = (0..self.routers).map(router_name);
        (0..self.coordinators).map(coordinator_name).chain(shards).chain(routers).collect()
    }
}

fn draw_asks(plan: &Plan) -> Vec<(u64, Ask)> {
    let mut dice = Dice::new(plan.seed, Purpose::Operator);
    let mut asks = Vec::new();
    let mut at_ms = dice.between(2_000, 8_000);
    let spare = plan.founders;
    let grow = dice.chance(0.75);
    asks.push((at_ms, if grow { Ask::Grow(spare) } else { Ask::Drain(0) }));
    // A migration of this size is over within seconds, so what shall meet it must follow soon.
    if dice.chance(0.3) {
        asks.push((at_ms + dice.between(20, 4_000), Ask::Cancel));
    }
    if dice.chance(0.2) {
        let pause_ms = at_ms + dice.between(20, 1_500);
        asks.push((pause_ms, Ask::Pause));
        asks.push((pause_ms + dice.between(200, 3_000), Ask::Resume));
    }
    for _ in 0..dice.between(0, 3) {
        at_ms += dice.between(500, 12_000);
        let shard = dice.below(u64::from(plan.shards)) as u32;
        let ask = match dice.below(10) {
            0..4 => Ask::Drain(shard),
            4..8 => Ask::Grow(shard),
            _ => Ask::Reweight(shard, dice.pick(&[0.25, 0.5, 2.0, 4.0])),
        };
        asks.push((at_ms, ask));
        if dice.chance(0.2) {
            asks.push((at_ms + dice.between(20, 4_000), Ask::Cancel));
        }
    }
    asks.sort_by_key(|(at_ms, _)| *at_ms);
    asks
}

/// Which kinds of faults a seed has at all is drawn first: what never fails together is met, too.
fn draw_faults(plan: &Plan) -> Vec<Planned> {
    let mut dice = Dice::new(plan.seed, Purpose::Faults);
    let kinds = if plan.coordinators > 1 { KINDS + 1 } else { KINDS };
    let kinds: Vec<u64> = (0..kinds).filter(|_| dice.chance(0.4)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let count = dice.between(2, 10);
    (0..count)
        .map(|_| {
            let kind = dice.pick(&kinds);
            let when = if dice.chance(0.5) {
                let phases = [Phase::Prepare, Phase::Copy, Phase::Fence, Phase::Sweep];
                When::Phase(dice.pick(&phases), dice.pick(&[0, 5, 30, 100, 400, 1_500]))
            } else {
                When::At(dice.below(plan.safety_ms))
            };
            let for_ms = dice.pick(&[50, 300, 1_000, 3_000, 8_000]);
            Planned { when, for_ms, fault: draw_fault(plan, &mut dice, kind) }
        })
        .collect()
}

/// How many kinds of faults `draw_fault` knows of one coordinator; several have one more.
const KINDS: u64 = 9;

fn draw_fault(plan: &Plan, dice: &mut Dice, kind: u64) -> Fault {
    let hosts = plan.hosts();
    let host = dice.pick(&hosts);
    let others: Vec<String> = hosts.iter().filter(|other| **other != host).cloned().collect();
    let other = dice.pick(&others);
    let shard = shard_name(dice.below(u64::from(plan.shards)) as u32);
    let with_disk = if dice.chance(0.3) { COORDINATOR.to_owned() } else { shard };
    match kind {
        // Cut off from all, or from one.
        0 => {
            let others = if dice.chance(0.5) { others } else { vec![other] };
            Fault::Cut { host, others, both: true }
        }
        1 => {
            let others = if dice.chance(0.3) { others } else { vec![other] };
            Fault::Cut { host, others, both: false }
        }
        2 => Fault::Hold { host, other },
        3 => Fault::Loss { host, other, permille: dice.pick(&[5, 20, 100]) },
        4 => Fault::Lag { host, ms_max: dice.pick(&[50, 300, 1_500]) },
        5 => Fault::Off { host, silent: dice.chance(0.6) },
        6 => Fault::DiskFails { host: with_disk, ppm: dice.pick(&[2_000, 20_000, 300_000]) },
        7 => Fault::DiskFull { host: with_disk },
        KINDS => {
            let number = dice.below(u64::from(plan.coordinators)) as u32;
            Fault::StoreAway { host: coordinator_name(number) }
        }
        _ => Fault::Slow { host: with_disk, mean_us: dice.pick(&[10_000, 100_000, 700_000]) },
    }
}
