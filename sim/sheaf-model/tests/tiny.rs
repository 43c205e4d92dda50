//! The smallest scopes in the ordinary test run, and that the harness tells what it finds.

use sheaf_model::marks::Mark;
use sheaf_model::run::{Found, search};
use sheaf_model::scope::{self, Scope};

fn searched(name: &str) -> (Scope, Found) {
    let scope = scope::named(name).pop().expect("there is such a scope");
    let found = search(&scope, 2, None).expect("the cluster comes up");
    (scope, found)
}

#[test]
fn a_join_with_one_write_keeps_its_promises_in_every_order() {
    let (scope, found) = searched("tiny");
    assert_eq!(found.letter, None);
    assert!(found.exhausted);
    assert!(found.states > 1_000, "{} states are too few to be all", found.states);
    assert_eq!(found.missing(&scope), []);
    // What it can't meet is said to be missing.
    let greedy = Scope { meets: &[Mark::Committed, Mark::UnknownCommit], ..scope };
    assert_eq!(found.missing(&greedy), [Mark::UnknownCommit]);
}

#[test]
fn two_searches_of_a_scope_find_the_same_states() {
    let (first, second) = (searched("grow-crash-store").1, searched("grow-crash-store").1);
    assert_eq!((first.states, first.steps), (second.states, second.steps));
    assert_eq!(first.letter, None);
}

#[test]
fn a_search_that_was_given_up_is_not_exhausted() {
    let scope = scope::named("grow-writes").pop().expect("there is such a scope");
    let found = search(&scope, 1, Some(1_000)).expect("the cluster comes up");
    assert!(!found.exhausted && found.letter.is_none());
}

#[test]
fn every_scope_has_a_name_of_its_own_and_something_to_meet() {
    let mut names: Vec<&str> = scope::ALL.iter().map(|scope| scope.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), scope::ALL.len());
    assert!(scope::ALL.iter().all(|scope| !scope.meets.is_empty()));
}
