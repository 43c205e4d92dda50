//! Draws the swarm's plans: which calls, changes and faults a seed has, and when.
//!
//! Each client, each kind of fault and the operator draw from streams of their own.

use crate::dice::{Dice, Purpose};
use crate::knobs::{Habits, Knobs, draw as draw_knobs};
use crate::plan::{ClientCall, Deed, Job, PhaseName, Plan, Step, Ways, Who, Wish, WishOptions};
use crate::span::Span;

/// Microseconds after the faults for which clients go on calling, at a third of their pace.
const TAIL_US: u64 = 8_000_000;
/// Entries into one phase at which someone may die.
const ENTRIES: u32 = 6;

/// A kind of fault that strikes again and again.
#[derive(Clone, Copy, Debug)]
enum Kind {
    CrashGate = 1,
    CrashCoordinator = 2,
    CrashRouter = 3,
    Freeze = 4,
    Slow = 5,
    Cut = 6,
    Takeover = 7,
    Outage = 8,
    Jump = 9,
    CrashAll = 10,
    FillDisk = 11,
}

/// The swarm's plan for this seed.
pub fn plan(seed: u64) -> Plan {
    let (knobs, habits) = draw_knobs(seed);
    let mut steps = calls(seed, &knobs, habits.think_us);
    steps.extend(asks(seed, &knobs, &habits));
    let kinds = [
        (Kind::CrashGate, habits.crash_gate_every_us),
        (Kind::CrashCoordinator, habits.crash_coordinator_every_us),
        (Kind::CrashRouter, habits.crash_router_every_us),
        (Kind::Freeze, habits.freeze_every_us),
        (Kind::Slow, habits.slow_every_us),
        (Kind::Cut, habits.cut_every_us),
        (Kind::Takeover, habits.takeover_every_us),
        (Kind::Outage, habits.outage_every_us),
        (Kind::Jump, habits.jump_every_us),
        (Kind::CrashAll, habits.crash_all_every_us),
        (Kind::FillDisk, habits.fill_disk_every_us),
    ];
    for (kind, every_us) in kinds {
        if let Some(mean) = every_us {
            let mut dice = Dice::new(seed, Purpose::Faults, kind as u64);
            let times = times(&mut dice, mean, 0, knobs.safety_us);
            for at_us in times {
                let deed = fault(kind, &mut dice, &knobs);
                let flaps = matches!(kind, Kind::Cut) && dice.chance(0.15);
                match flaps {
                    true => steps.extend(flapping(at_us, &deed, &mut dice, &knobs)),
                    false => steps.push(step(at_us, deed)),
                }
            }
        }
    }
    steps.extend(crashes_at_phases(seed, &knobs, habits.crash_at_phase));
    steps.extend(cuts_at_phases(seed, &knobs, habits.cut_at_phase));
    steps.extend(full_disks_at_copies(seed, habits.fill_at_copy));
    Plan { seed, knobs, steps }
}

fn step(at_us: u64, deed: Deed) -> Step {
    Step::at(Span(at_us), deed)
}

/// When something happens that happens once in `mean` microseconds, and never twice within `least`.
fn times(dice: &mut Dice, mean: u64, least: u64, end_us: u64) -> Vec<u64> {
    let mut at_us = 0;
    std::iter::from_fn(|| {
        at_us += 1 + least + dice.around(mean);
        (at_us < end_us).then_some(at_us)
    })
    .collect()
}

/// What clients do: each one call after another.
pub fn calls(seed: u64, knobs: &Knobs, think_us: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for client in 0..knobs.clients {
        let mut dice = Dice::new(seed, Purpose::Calls, u64::from(client));
        let mut at_us = dice.below(50_000);
        while at_us < knobs.safety_us + TAIL_US {
            steps.push(step(at_us, Deed::Call(call(&mut dice, client, knobs))));
            let pace = if at_us < knobs.safety_us { 1 } else { 3 };
            at_us += 1 + dice.around(think_us * pace);
        }
    }
    steps
}

fn call(dice: &mut Dice, client: u32, knobs: &Knobs) -> ClientCall {
    let router = dice.below(u64::from(knobs.routers)) as u32;
    let temporary = dice.chance(0.05);
    let timeout_ms = [300, 1_500, 4_000, 10_000][dice.below(4) as usize];
    let some = |dice: &mut Dice, count: u64| {
        let mut ids: Vec<u64> = (0..count).map(|_| id(dice, knobs.ids)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let work = match dice.below(100) {
        0..25 => Job::Upsert(some(dice, 1)),
        25..33 => {
            let count = dice.between(2, 6);
            Job::Upsert(some(dice, count))
        }
        33..43 => Job::Delete(some(dice, 1)),
        43..47 => {
            let count = dice.between(2, 4);
            Job::Delete(some(dice, count))
        }
        47..92 => Job::Get(id(dice, knobs.ids)),
        _ => Job::Gather,
    };
    ClientCall { client, router, timeout_ms, temporary, work }
}

/// A few ids are hot.
fn id(dice: &mut Dice, ids: u64) -> u64 {
    if dice.chance(0.3) { dice.below(ids.min(4)) } else { dice.below(ids) }
}

fn asks(seed: u64, knobs: &Knobs, habits: &Habits) -> Vec<Step> {
    let Some(mean) = habits.operator_us else { return Vec::new() };
    let mut dice = Dice::new(seed, Purpose::Asks, 0);
    let times = times(&mut dice, mean, 20_000, knobs.safety_us);
    let asked = |at_us| {
        let wish = wish(&mut dice, habits.catalogue_share);
        let deed = match dice.below(100) {
            0..65 => Deed::Ask(wish),
            65..95 => Deed::AskOnce(wish),
            _ => Deed::AskExpecting(wish),
        };
        step(at_us, deed)
    };
    times.into_iter().map(asked).collect()
}

fn wish(dice: &mut Dice, catalogue_share: f64) -> Wish {
    let number = |dice: &mut Dice| dice.below(64) as u32;
    let options = WishOptions {
        fence_budget_ms: dice.chance(0.4).then(|| dice.between(20, 2_000)),
        points_per_s_max: dice.chance(0.1).then(|| dice.between(20, 500)),
        by_hand: dice.chance(0.05),
    };
    let kind = match dice.chance(catalogue_share) {
        true => dice.between(89, 96),
        false => dice.below(100),
    };
    match kind {
        0..30 => {
            let first = number(dice);
            let second = dice.chance(0.3).then_some(first + 1);
            Wish::Grow { nodes: [first].into_iter().chain(second).collect(), options }
        }
        30..50 => Wish::Drain { shard: number(dice), options },
        50..58 => Wish::Replace { shard: number(dice), node: number(dice), options },
        58..70 => {
            let thousandths = [500, 1_000, 1_000, 2_000, 3_000][dice.below(5) as usize];
            Wish::Reweight { shard: number(dice), thousandths, options }
        }
        70..77 => Wish::Cancel,
        77..81 => Wish::Pause,
        81..87 => Wish::Resume,
        87..89 => Wish::Unthrottle,
        89..93 => Wish::Create,
        93..97 => Wish::Drop,
        97..98 => Wish::CancelNumber(1 + dice.below(4)),
        98..99 => Wish::GrowInto(number(dice)),
        _ => Wish::Remove { shard: number(dice) },
    }
}

fn fault(kind: Kind, dice: &mut Dice, knobs: &Knobs) -> Deed {
    match kind {
        Kind::CrashGate => crash(Who::Gate(dice.below(u64::from(knobs.gates)) as u32), dice, knobs),
        Kind::CrashCoordinator => {
            let n = dice.below(u64::from(knobs.coordinators)) as u32;
            crash(Who::Coordinator(n), dice, knobs)
        }
        Kind::CrashRouter => {
            crash(Who::Router(dice.below(u64::from(knobs.routers)) as u32), dice, knobs)
        }
        Kind::Freeze => {
            let mean = [20_000, 300_000, 3_000_000][dice.below(3) as usize];
            Deed::Freeze { who: server(dice, knobs), lasts: Span(dice.around(mean)) }
        }
        Kind::Slow => Deed::Slow {
            who: server(dice, knobs),
            times: dice.between(5, 60),
            lasts: Span(dice.around(2_000_000)),
        },
        Kind::Cut => cut(dice, knobs),
        Kind::Outage => Deed::Crash {
            who: Who::Gate(dice.below(u64::from(knobs.gates)) as u32),
            down: Span(dice.between(40, 120) * 1_000_000),
            instead: None,
        },
        Kind::CrashAll => Deed::CrashAll { down: Span(dice.around(500_000)) },
        Kind::FillDisk => Deed::FillDisk {
            who: Who::Gate(dice.below(u64::from(knobs.gates)) as u32),
            lasts: Span(100_000 + dice.around(1_500_000)),
        },
        Kind::Jump => {
            let mean = [100_000, 1_000_000, 30_000_000][dice.below(3) as usize];
            Deed::Jump { who: server(dice, knobs), by: Span(dice.around(mean)) }
        }
        Kind::Takeover => {
            Deed::Takeover { coordinator: dice.below(u64::from(knobs.coordinators)) as u32 }
        }
    }
}

/// A way that comes and goes.
fn flapping(at_us: u64, cut: &Deed, dice: &mut Dice, knobs: &Knobs) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at_us = at_us;
    for _ in 0..dice.between(3, 10) {
        let mut deed = cut.clone();
        let closed_us = dice.between(50_000, 500_000);
        if let Deed::Cut { lasts, .. } = &mut deed {
            *lasts = Span(closed_us);
        }
        if at_us < knobs.safety_us {
            steps.push(step(at_us, deed));
        }
        at_us += closed_us + dice.between(50_000, 500_000);
    }
    steps
}

/// A crash, and how long the process is down.
pub fn crash(who: Who, dice: &mut Dice, knobs: &Knobs) -> Deed {
    let mean = [5_000, 200_000, 2_000_000][dice.below(3) as usize];
    let down = Span(dice.around(mean));
    let other = dice.below(u64::from(knobs.coordinators)) as u32;
    let instead = matches!(who, Who::Coordinator(_)).then_some(other);
    Deed::Crash { who, down, instead }
}

fn server(dice: &mut Dice, knobs: &Knobs) -> Who {
    let at = dice.below(u64::from(knobs.coordinators + knobs.gates + knobs.routers)) as u32;
    match at {
        n if n < knobs.coordinators => Who::Coordinator(n),
        n if n < knobs.coordinators + knobs.gates => Who::Gate(n - knobs.coordinators),
        n => Who::Router(n - knobs.coordinators - knobs.gates),
    }
}

fn cut(dice: &mut Dice, knobs: &Knobs) -> Deed {
    let who = server(dice, knobs);
    let ways = match dice.below(8) {
        0..3 => Ways::Isolate,
        3 => Ways::Mute,
        4 => Ways::Deafen,
        5 => Ways::OneWay,
        6 => Ways::Pair,
        _ => Ways::Coordinators,
    };
    let other = server(dice, knobs);
    let other = matches!(ways, Ways::OneWay | Ways::Pair).then_some(other);
    let mean = [100_000, 1_000_000, 4_000_000][dice.below(3) as usize];
    Deed::Cut { who, ways, other, lasts: Span(50_000 + dice.around(mean)) }
}

/// Mostly one of those that have a part in the transition.
fn participant(dice: &mut Dice, knobs: &Knobs) -> Who {
    let number = dice.below(4) as u32;
    match dice.below(5) {
        0 => Who::Leader,
        1 | 2 => Who::Donor(number),
        3 => Who::Recipient(number),
        _ => server(dice, knobs),
    }
}

/// What a donor can't send for a while piles up in its memory; there it is lost if the donor dies.
fn cuts_at_phases(seed: u64, knobs: &Knobs, share: f64) -> Vec<Step> {
    let mut steps = Vec::new();
    for phase in [PhaseName::Copy, PhaseName::Fence] {
        let mut dice = Dice::new(seed, Purpose::Faults, 200 + phase as u64);
        for nth in 1..=ENTRIES {
            if !dice.chance(share) {
                continue;
            }
            let at = Span(dice.around(100_000));
            let (donor, recipient) = (Who::Donor(dice.below(4) as u32), dice.below(4) as u32);
            let (ways, other) = (Ways::Pair, Some(Who::Recipient(recipient)));
            let lasts = Span(100_000 + dice.around(1_500_000));
            let cut = Deed::Cut { who: donor, ways, other, lasts };
            let mut at_phase = |at, deed| steps.push(Step { at, phase: Some(phase), nth, deed });
            at_phase(at, cut);
            if dice.chance(0.6) {
                let deed = crash(donor, &mut dice, knobs);
                at_phase(Span(at.0 + dice.below(lasts.0)), deed);
            }
        }
    }
    steps
}

/// Both sides of a copy run out of room for a while: writes fail that a comparison has left out.
fn full_disks_at_copies(seed: u64, share: f64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut dice = Dice::new(seed, Purpose::Faults, 300);
    for nth in 1..=ENTRIES {
        if !dice.chance(share) {
            continue;
        }
        let number = dice.below(4) as u32;
        for who in [Who::Recipient(number), Who::Donor(dice.below(4) as u32)] {
            let lasts = Span(100_000 + dice.around(1_000_000));
            let (at, deed) = (Span(dice.around(50_000)), Deed::FillDisk { who, lasts });
            steps.push(Step { at, phase: Some(PhaseName::Copy), nth, deed });
        }
    }
    steps
}

/// The moments when a phase was stored are good ones to die.
fn crashes_at_phases(seed: u64, knobs: &Knobs, share: f64) -> Vec<Step> {
    let mut steps = Vec::new();
    for phase in PhaseName::ALL {
        let mut dice = Dice::new(seed, Purpose::Faults, 100 + phase as u64);
        for nth in 1..=ENTRIES {
            if dice.chance(share) {
                let who = participant(&mut dice, knobs);
                let deed = crash(who, &mut dice, knobs);
                steps.push(Step { at: Span(dice.around(10_000)), phase: Some(phase), nth, deed });
            }
        }
    }
    steps
}
