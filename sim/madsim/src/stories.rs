//! Scenarios written by hand. Each names its fault and asserts nothing: the checkers judge.

use sheaf_checkers::Phase;

use crate::operator::Wish;
use crate::plan::{Fault, Others, Plan, Planned, Way, When, Whom};

/// A scenario's name, and what it makes of a quiet plan.
pub type Story = (&'static str, fn(&mut Plan));

pub const STORIES: [Story; 6] = [
    ("grow", grow),
    ("leader-sleeps-through-its-lease", leader_sleeps),
    ("leader-without-etcd", leader_without_etcd),
    ("leader-whom-etcd-does-not-answer", unanswered_leader),
    ("leader-without-gates", leader_without_gates),
    ("etcd-restarts-at-the-commit", etcd_restarts),
];

/// The newcomer of all stories.
const JOINS: u32 = 2;

fn grow(plan: &mut Plan) {
    plan.wishes = vec![(3_000, Wish::Grow(JOINS)), (20_000, Wish::Drain(0))];
}

/// Of each phase's beginning.
fn at(phase: Phase, for_ms: u64, fault: Fault) -> Planned {
    Planned { when: When::Phase(phase, 0), for_ms, fault }
}

/// The leader stands still in the fence, for longer than its lease, and goes on as if nothing had been; the next one, too.
fn leader_sleeps(plan: &mut Plan) {
    grow(plan);
    plan.lease_secs = 3;
    let pause = || Fault::Pause(Whom::Leader);
    plan.faults = vec![
        at(Phase::Copy, 12_000, pause()),
        at(Phase::Fence, 9_000, pause()),
        at(Phase::Sweep, 12_000, pause()),
    ];
}

/// The leader hears nothing of etcd and can't reach it; the gates go on hearing the leader.
fn leader_without_etcd(plan: &mut Plan) {
    grow(plan);
    let cut = || Fault::Cut { whom: Whom::Leader, others: Others::Etcd, way: Way::Both };
    plan.faults = vec![at(Phase::Copy, 15_000, cut()), at(Phase::Fence, 15_000, cut())];
}

/// etcd carries out what the leader asks for, and its answers don't arrive: whether a decision is stored is unknown.
fn unanswered_leader(plan: &mut Plan) {
    grow(plan);
    plan.engine_us = plan.engine_us.max(2_000);
    let cut = || Fault::Cut { whom: Whom::Leader, others: Others::Etcd, way: Way::In };
    let phases = [Phase::Prepare, Phase::Copy, Phase::Fence, Phase::Sweep];
    plan.faults = phases.map(|phase| at(phase, 7_000, cut())).to_vec();
}

/// The leader keeps its lease and reaches no gate.
fn leader_without_gates(plan: &mut Plan) {
    grow(plan);
    let cut = || Fault::Cut { whom: Whom::Leader, others: Others::Shards, way: Way::Both };
    plan.faults = vec![at(Phase::Copy, 4_000, cut()), at(Phase::Fence, 4_000, cut())];
}

/// etcd is gone for a while from the fence on, and again when the commit is stored.
fn etcd_restarts(plan: &mut Plan) {
    grow(plan);
    plan.faults =
        vec![at(Phase::Fence, 6_000, Fault::EtcdDown), at(Phase::Sweep, 6_000, Fault::EtcdDown)];
}
