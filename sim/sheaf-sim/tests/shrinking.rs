//! Shrinking leaves what breaks something, and only that; and twins are compared where they can be.

use sheaf_sim::draw;
use sheaf_sim::knobs::Knobs;
use sheaf_sim::plan::{Deed, PhaseName, Plan, Step, Who, Wish, WishOptions};
use sheaf_sim::shrink::shrink;
use sheaf_sim::span::Span;
use sheaf_sim::twin;

/// So slow that what begins meanwhile doesn't end before patience does.
const FOR_EVER: u64 = 10_000_000;

/// A plan that breaks P6: a transition can't end that needs an engine so slow, and neither the change nor the fault is enough.
fn plan_that_fails() -> Plan {
    let slow = Knobs { engine_mean_us: 20_000, engine_page_max: 1, ..Knobs::calm() };
    let knobs = Knobs { gates: 3, safety_us: 3_000_000, loss: 0.01, ..slow };
    let mut steps = draw::calls(3, &knobs, 100_000);
    let grow = Wish::Grow { nodes: vec![0], options: WishOptions::default() };
    steps.push(Step::at(Span(500_000), Deed::Ask(grow)));
    let who = Who::Gate(0);
    let deed = Deed::Slow { who, times: FOR_EVER, lasts: Span(2_000_000) };
    steps.push(Step { phase: Some(PhaseName::Copy), ..Step::at(Span(30_000), deed) });
    Plan { seed: 3, knobs, steps }
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
    assert_eq!(shrunk.plan.knobs.loss, 0.0);
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
