//! A run as it is drawn from a seed: the cluster, its clients, what the operator asks, and what goes wrong when.

use sheaf_checkers::Phase;

use crate::dice::{Dice, Purpose};
use crate::operator::Wish;
use crate::place::{ETCD, coordinator_name, router_name, shard_name};

/// Coordinators of every run.
pub const COORDINATORS: u32 = 3;

/// When a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds after the cluster was founded.
    At(u64),
    /// Milliseconds after a transition was first stored in this phase.
    Phase(Phase, u64),
}

/// Whom a fault meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process with this name.
    Named(String),
    /// The coordinator that leads when the fault begins.
    Leader,
}

/// To whom a link is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    Etcd,
    Coordinators,
    Shards,
    All,
    Named(String),
}

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the one who is met.
    Out,
    /// To the one who is met.
    In,
    Both,
}

/// Something that goes wrong, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, and is started again at the end.
    Kill(Whom),
    /// The process stands still, and goes on at the end as if nothing had been.
    Pause(Whom),
    /// What is said on a cut link arrives late; nobody new is reached.
    Cut { whom: Whom, others: Others, way: Way },
    /// etcd goes down and keeps its data; from the end on it is there again.
    EtcdDown,
    /// Messages take up to so many milliseconds.
    Lag { ms_max: u64 },
    /// Of a thousand messages and connections, so many fail at the first try.
    Loss { permille: u64 },
    /// Each call of the shard's engine and ledger takes about so long.
    Slow { shard: u32, mean_us: u64 },
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
    pub routers: u32,
    /// Shards of the new cluster: the first of all.
    pub founders: u32,
    pub shards: u32,
    pub clients: u64,
    pub points: u64,
    pub think_ms: u64,
    pub skews_ms: Vec<u64>,
    pub engine_us: u64,
    pub lease_secs: u32,
    /// Of a thousand calls of etcd, so many are not answered in time, and not carried out.
    pub etcd_timeouts_permille: u64,
    pub fence_budget_ms: Option<u64>,
    /// How fast a migration may copy, so that it lasts long enough to be met by faults.
    pub copy_points_per_s: Option<u64>,
    /// Milliseconds of the phase in which nothing may go wrong.
    pub safety_ms: u64,
    pub wishes: Vec<(u64, Wish)>,
    pub faults: Vec<Planned>,
}

impl Plan {
    /// A cluster without faults and wishes.
    pub fn quiet(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Purpose::Knobs);
        Self {
            seed,
            routers: 2,
            founders: 2,
            shards: dice.between(3, 4) as u32,
            clients: dice.between(2, 4),
            points: dice.pick(&[24, 60, 150]),
            think_ms: dice.pick(&[80, 150, 300]),
            skews_ms: (0..10).map(|_| dice.below(20_000)).collect(),
            engine_us: dice.pick(&[0, 300, 2_000, 8_000]),
            lease_secs: dice.pick(&[2, 3, 5, 10]),
            etcd_timeouts_permille: 0,
            fence_budget_ms: dice.pick(&[None, None, Some(100), Some(2_000)]),
            copy_points_per_s: dice.pick(&[None, Some(10), Some(30), Some(100)]),
            safety_ms: dice.between(45, 60) * 1_000,
            wishes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// What the swarm runs under this seed.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::quiet(seed);
        let mut dice = Dice::new(seed, Purpose::Faults);
        if dice.chance(0.3) {
            plan.etcd_timeouts_permille = dice.pick(&[2, 10, 50]);
        }
        plan.wishes = draw_wishes(&plan);
        plan.faults = draw_faults(&plan, &mut dice);
        plan
    }

    /// The processes of the cluster, etcd among them.
    pub fn hosts(&self) -> Vec<String> {
        let coordinators = (0..COORDINATORS).map(coordinator_name);
        let shards = (0..self.shards).map(shard_name);
        let routers = (0..self.routers).map(router_name);
        let etcd = std::iter::once(ETCD.to_owned());
        etcd.chain(coordinators).chain(shards).chain(routers).collect()
    }
}

fn draw_wishes(plan: &Plan) -> Vec<(u64, Wish)> {
    let mut dice = Dice::new(plan.seed, Purpose::Operator);
    let mut at_ms = dice.between(1_000, 6_000);
    let first = if dice.chance(0.75) { Wish::Grow(plan.founders) } else { Wish::Drain(0) };
    let mut wishes = vec![(at_ms, first)];
    if dice.chance(0.3) {
        wishes.push((at_ms + dice.between(20, 4_000), Wish::Cancel));
    }
    for _ in 0..dice.between(1, 4) {
        at_ms += dice.between(500, 12_000);
        let shard = dice.below(u64::from(plan.shards)) as u32;
        let wish = match dice.below(10) {
            0..4 => Wish::Drain(shard),
            4..8 => Wish::Grow(shard),
            _ => Wish::Reweight(shard, dice.pick(&[250, 500, 2_000, 4_000])),
        };
        wishes.push((at_ms, wish));
        if dice.chance(0.2) {
            wishes.push((at_ms + dice.between(20, 4_000), Wish::Cancel));
        }
    }
    wishes.sort_by_key(|(at_ms, _)| *at_ms);
    wishes
}

/// Which kinds of faults a seed has at all is drawn first: what never fails together is met, too.
fn draw_faults(plan: &Plan, dice: &mut Dice) -> Vec<Planned> {
    let kinds: Vec<u64> = (0..KINDS).filter(|_| dice.chance(0.4)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let count = dice.between(2, 12);
    let planned = |_| {
        let kind = dice.pick(&kinds);
        let when = if dice.chance(0.6) {
            let phases = [Phase::Prepare, Phase::Copy, Phase::Fence, Phase::Sweep, Phase::Abort];
            When::Phase(dice.pick(&phases), dice.pick(&[0, 0, 5, 30, 100, 400, 1_500]))
        } else {
            When::At(dice.below(plan.safety_ms))
        };
        let for_ms = dice.pick(&[50, 300, 1_000, 3_000, 8_000, 15_000]);
        Planned { when, for_ms, fault: draw_fault(plan, dice, kind) }
    };
    (0..count).map(planned).collect()
}

/// How many kinds of faults `draw_fault` knows.
const KINDS: u64 = 9;

fn draw_fault(plan: &Plan, dice: &mut Dice, kind: u64) -> Fault {
    let hosts = plan.hosts();
    let (host, other) = (dice.pick(&hosts), dice.pick(&hosts));
    let processes: Vec<String> = hosts.into_iter().filter(|host| host != ETCD).collect();
    let process = dice.pick(&processes);
    let whom = |dice: &mut Dice, named: String| match dice.chance(0.5) {
        true => Whom::Leader,
        false => Whom::Named(named),
    };
    let way = dice.pick(&[Way::Out, Way::In, Way::Both]);
    match kind {
        0 => Fault::Kill(whom(dice, process)),
        1 => Fault::Pause(whom(dice, process)),
        2 => Fault::Pause(Whom::Named(host)),
        // A leader that etcd doesn't hear, or the other way round, while the gates hear it.
        3 => Fault::Cut { whom: Whom::Leader, others: Others::Etcd, way },
        4 => Fault::Cut { whom: Whom::Leader, others: Others::Shards, way },
        5 => {
            let others = [Others::Coordinators, Others::All, Others::Named(other)];
            let others = dice.pick(&others);
            Fault::Cut { whom: whom(dice, process), others, way }
        }
        6 => Fault::EtcdDown,
        7 if dice.chance(0.5) => Fault::Lag { ms_max: dice.pick(&[50, 300, 1_500, 3_000]) },
        7 => Fault::Loss { permille: dice.pick(&[10, 100, 400]) },
        _ => {
            let shard = dice.below(u64::from(plan.shards)) as u32;
            Fault::Slow { shard, mean_us: dice.pick(&[10_000, 100_000, 700_000]) }
        }
    }
}
