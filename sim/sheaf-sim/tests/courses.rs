//! The course of the main stories as text. After a change: `INSTA_UPDATE=always cargo test -p sheaf-sim --test courses`,
//! and read what became different.

use sheaf_sim::condensed::condensed;
use sheaf_sim::stories;
use sheaf_sim::swarm::{What, run_recorded};
use sheaf_sim::trace::Trace;

/// The seed whose luck is told.
const SEED: u64 = 1;

fn courses(names: &[&str]) -> String {
    let course = |name: &&str| {
        let story = stories::named(name).expect("there is such a story");
        let what = What::Story((*name).to_owned(), story);
        let (outcome, recorder) = run_recorded(&what, SEED, Trace::new(false), None);
        assert_eq!(outcome.letter(), None, "{name} keeps every promise");
        let recorder = recorder.expect("it was recorded");
        format!("== {name}\n{}", condensed(&recorder.borrow()))
    };
    names.iter().map(course).collect::<Vec<_>>().join("\n")
}

#[test]
fn calm_changes_take_their_course() {
    insta::assert_snapshot!(courses(&[
        "grow.calm.prepare",
        "grow-by-two.calm.prepare",
        "drain.calm.prepare",
    ]));
}

#[test]
fn a_cancel_in_each_phase_takes_its_course() {
    insta::assert_snapshot!(courses(&[
        "grow.cancel.prepare",
        "grow.cancel.copy",
        "grow.cancel.fence",
        "grow.cancel.sweep",
    ]));
}

#[test]
fn a_crash_of_the_coordinator_in_each_phase_takes_its_course() {
    insta::assert_snapshot!(courses(&[
        "grow.crash-coordinator.prepare",
        "grow.crash-coordinator.copy",
        "grow.crash-coordinator.fence",
        "grow.crash-coordinator.sweep",
    ]));
}

#[test]
fn a_crash_of_a_donor_in_each_phase_takes_its_course() {
    insta::assert_snapshot!(courses(&[
        "grow.crash-donor.prepare",
        "grow.crash-donor.copy",
        "grow.crash-donor.fence",
        "grow.crash-donor.sweep",
    ]));
}

#[test]
fn a_crash_of_the_recipient_in_each_phase_takes_its_course() {
    insta::assert_snapshot!(courses(&[
        "grow.crash-recipient.prepare",
        "grow.crash-recipient.copy",
        "grow.crash-recipient.fence",
        "grow.crash-recipient.sweep",
    ]));
}

#[test]
fn a_crash_of_a_router_in_each_phase_takes_its_course() {
    insta::assert_snapshot!(courses(&[
        "grow.crash-router.prepare",
        "grow.crash-router.copy",
        "grow.crash-router.fence",
        "grow.crash-router.sweep",
    ]));
}
