//! Scenarios written by hand. Each names its fault and asserts nothing: the checkers judge.

use sheaf_checkers::Phase;

use crate::operator::{Ask, shard_name};
use crate::plan::{COORDINATOR, Fault, Plan, Planned, When, coordinator_name, router_name};

/// A scenario's name, and what it makes of a quiet plan.
pub type Story = (&'static str, fn(&mut Plan));

pub const STORIES: [Story; 6] = [
    ("grow", grow),
    ("router-cut-off-across-a-migration", router_cut_off),
    ("shard-loses-power-while-it-copies", shard_power),
    ("coordinator-loses-power-at-the-commit", coordinator_power),
    ("recipient-has-a-full-disk", recipient_full),
    ("leaders-of-three-fail-in-each-phase", leaders_fail),
];

/// The newcomer of all stories.
const JOINS: u32 = 2;

fn grow(plan: &mut Plan) {
    plan.asks = vec![(3_000, Ask::Grow(JOINS))];
}

/// A router hears nothing of the coordinator from before the migration until after its sweep; its clients go on.
fn router_cut_off(plan: &mut Plan) {
    grow(plan);
    plan.asks.push((20_000, Ask::Drain(0)));
    let others = vec![COORDINATOR.to_owned()];
    let fault = Fault::Cut { host: router_name(0), others, both: true };
    plan.faults = vec![Planned { when: When::At(1_000), for_ms: 40_000, fault }];
}

/// Donor and recipient lose power in the copy, one after the other, at once and a little later.
fn shard_power(plan: &mut Plan) {
    grow(plan);
    plan.engine_us = plan.engine_us.max(2_000);
    let off = |shard: u32, delay_ms| Planned {
        when: When::Phase(Phase::Copy, delay_ms),
        for_ms: 800,
        fault: Fault::Off { host: shard_name(shard), silent: true },
    };
    plan.faults = vec![off(0, 0), off(JOINS, 20), off(1, 1_500), off(JOINS, 2_500)];
}

/// The coordinator loses power as soon as the fence is stored, and again as soon as the commit is.
fn coordinator_power(plan: &mut Plan) {
    grow(plan);
    let off = |phase, delay_ms| Planned {
        when: When::Phase(phase, delay_ms),
        for_ms: 1_200,
        fault: Fault::Off { host: COORDINATOR.to_owned(), silent: true },
    };
    plan.faults = vec![off(Phase::Fence, plan.seed % 60), off(Phase::Sweep, 0)];
    plan.is_upgraded = plan.seed % 2 == 1;
}

/// Nothing can be written at the recipient for a while, from the first frame on.
fn recipient_full(plan: &mut Plan) {
    grow(plan);
    plan.faults = vec![Planned {
        when: When::Phase(Phase::Copy, 0),
        for_ms: 8_000,
        fault: Fault::DiskFull { host: shard_name(JOINS) },
    }];
}

/// Three coordinators share a store: whichever leads loses power, its store or its links in each phase; the next one goes on.
fn leaders_fail(plan: &mut Plan) {
    grow(plan);
    plan.coordinators = 3;
    plan.asks.push((25_000, Ask::Drain(0)));
    plan.copy_points_per_s = Some(30);
    plan.is_upgraded = plan.seed % 2 == 1;
    let phases = [Phase::Copy, Phase::Fence, Phase::Sweep];
    for (number, phase) in phases.into_iter().enumerate() {
        let host = coordinator_name(number as u32);
        let (others, both) = (vec![shard_name(0), shard_name(JOINS)], true);
        let fault = match (number as u64 + plan.seed) % 3 {
            0 => Fault::Off { host, silent: true },
            1 => Fault::StoreAway { host },
            _ => Fault::Cut { host, others, both },
        };
        plan.faults.push(Planned { when: When::Phase(phase, 5), for_ms: 9_000, fault });
    }
}
