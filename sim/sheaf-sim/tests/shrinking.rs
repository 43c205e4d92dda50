//! Shrinking leaves what breaks something, and only that; and twins are compared where they can be.

use sheaf_sim::draw;
use sheaf_sim::plan::{Deed, Plan, Step, Who};
use sheaf_sim::shrink::shrink;
use sheaf_sim::span::Span;
use sheaf_sim::twin;

/// So slow that what begins meanwhile doesn't end before patience does.
const FOR_EVER: u64 = 10_000_000;

/// A plan with one step that breaks P6: what a machine so slow has begun is not over when the last call should be.
fn plan_that_fails() -> Plan {
    let mut plan = draw::plan(3);
    plan.knobs.safety_us = 3_000_000;
    plan.steps.retain(|step| step.at < Span(2_000_000) && step.phase.is_none());
    let who = Who::Gate(0);
    let deed = Deed::Slow { who, times: FOR_EVER, lasts: Span(100_000) };
    plan.steps.push(Step::at(Span(1_000_000), deed));
    plan
}

#[test]
fn a_failing_plan_is_made_small_and_fails_in_the_same_way() {
    let plan = plan_that_fails();
    let before = plan.size();
    let shrunk = shrink("test", plan, 1, &|| false).expect("the plan fails");
    let failure = shrunk.outcome.failure.as_ref().expect("it still fails");
    assert_eq!(failure.number(), "P6", "{}", failure.violation);
    assert!(before > 20 && shrunk.after <= 5, "{before} steps, then {}", shrunk.after);
    let culprit = |step: &Step| matches!(step.deed, Deed::Slow { times: FOR_EVER, .. });
    assert!(shrunk.plan.steps.iter().any(culprit), "{:?}", shrunk.plan);
}

#[test]
fn a_plan_that_does_not_fail_is_not_made_smaller() {
    assert!(shrink("test", draw::plan(3), 1, &|| false).is_none());
}

#[test]
fn migrations_are_invisible_beside_a_shard_that_never_migrates() {
    for seed in 0..8 {
        let compared = twin::judge(draw::plan(seed)).unwrap_or_else(|error| panic!("{error}"));
        // The last reads alone are as many.
        assert!(compared.equal > 12, "seed {seed}: {compared:?}");
    }
}
