//! The checkers that judge what engines hold, and who changed it.

use sheaf_checkers::capture_gapless::CaptureGapless;
use sheaf_checkers::nothing_destroyed::NothingDestroyed;
use sheaf_checkers::sweep_foreign::SweepForeign;
use sheaf_checkers::{By, EndState, Fact, Held, NodeId, PointAt, Stamp};
use sheaf_types::ShardId;

use crate::facts::{
    after, applied, before, entry, fires, held, holds, map_of, moving, persisted, quiet, staying,
    stored,
};

/// A point, its stamp, and whether a write may still change it.
type Seen = (PointAt, Option<Stamp>, bool);

fn old() -> Fact {
    stored(1, &before(), None)
}

fn new() -> Fact {
    stored(2, &after(), None)
}

#[test]
fn i7_fires_when_the_sides_differ_at_the_commit() {
    let at_commit =
        |donor: &[Seen], recipient: &[Seen]| [old(), holds(1, donor), holds(2, recipient), new()];
    let point = |stamp| [(moving(), Some(stamp), false)];
    let fires = |facts: &[Fact]| fires(CaptureGapless::default(), facts, "I7 capture-gapless");
    fires(&at_commit(&point(8), &point(7)));
    fires(&at_commit(&point(8), &[]));
    fires(&at_commit(&[], &point(7)));
    let quiet = |facts: &[Fact]| quiet(CaptureGapless::default(), facts);
    quiet(&at_commit(&point(8), &point(8)));
    quiet(&at_commit(&[(moving(), Some(8), true)], &point(7)));
    quiet(&at_commit(&[(staying(), Some(8), false)], &[]));
    // Nothing is judged before the commit.
    quiet(&[old(), holds(1, &point(8)), holds(2, &point(7)), stored(2, &before(), None)]);
}

#[test]
fn i11_fires_when_a_gate_itself_changes_what_its_shard_owns() {
    let sweeps = |shard, point, after| applied(shard, By::Gate, point, Some(7), after);
    let fires = |facts: &[Fact]| fires(SweepForeign::default(), facts, "I11 sweep-foreign");
    fires(&[old(), sweeps(1, moving(), None)]);
    fires(&[old(), new(), sweeps(1, staying(), None)]);
    fires(&[old(), new(), sweeps(2, moving(), Some(6))]);
    let quiet = |facts: &[Fact]| quiet(SweepForeign::default(), facts);
    quiet(&[old(), new(), sweeps(1, moving(), None)]);
    quiet(&[old(), sweeps(2, moving(), Some(8))]);
    quiet(&[old(), sweeps(1, moving(), Some(7))]);
    quiet(&[old(), applied(1, By::Request, moving(), Some(7), None)]);
    let dropped = stored(2, &map_of(2, 0, vec![entry(1)], vec![]), None);
    quiet(&[old(), dropped, sweeps(1, moving(), None)]);
}

fn ended() -> Fact {
    let (unfinished, unclean) = (vec![], vec![]);
    let (stale_routers, hanging) = (vec![], vec![]);
    let state = EndState { unfinished, unclean, stale_routers, hanging };
    Fact::Ended { state: Box::new(state) }
}

#[test]
fn p8_fires_when_the_only_copy_is_deleted_or_one_whose_owner_does_not_know_of_it() {
    let written = || applied(1, By::Request, moving(), None, Some(7));
    let arrives = |stamp| applied(2, By::Gate, moving(), None, Some(stamp));
    let swept = || applied(1, By::Gate, moving(), Some(7), None);
    let serves = || applied(2, By::Request, staying(), None, None); // By this, node 2 is known as shard 2.
    let fires = |facts: &[Fact]| fires(NothingDestroyed::default(), facts, "P8 nothing-destroyed");
    fires(&[old(), written(), serves(), new(), swept()]);
    fires(&[old(), written(), arrives(6), new(), swept()]);
    fires(&[old(), written(), arrives(7), swept()]); // Not committed yet: it is the owner itself.
    let quiet = |facts: &[Fact]| quiet(NothingDestroyed::default(), facts);
    let knows = Held { shard: Some(ShardId(2)), ..held(2, &after(), None) };
    let knows = Fact::Persisted { node: NodeId(2), held: knows };
    fires(&[old(), written(), arrives(7), new(), swept()]); // Its owner doesn't know yet that it is.
    quiet(&[old(), written(), arrives(7), new(), knows, swept()]);
    quiet(&[old(), written(), applied(1, By::Request, moving(), Some(7), None)]);
    let aborted = applied(2, By::Gate, moving(), Some(7), None);
    quiet(&[persisted(held(1, &before(), None)), old(), written(), arrives(7), aborted]);
}

#[test]
fn p8_fires_when_a_point_is_not_at_its_owner_and_only_there_at_the_end() {
    let written = || applied(1, By::Request, moving(), None, Some(7));
    let arrives = || applied(2, By::Gate, moving(), None, Some(7));
    let point = || [(moving(), Some(7), false)];
    let end = |at_1: &[Seen], at_2: &[Seen]| {
        [old(), written(), arrives(), new(), holds(1, at_1), holds(2, at_2), ended()]
    };
    let fires = |facts: &[Fact]| fires(NothingDestroyed::default(), facts, "P8 nothing-destroyed");
    fires(&end(&point(), &point()));
    fires(&end(&[], &[]));
    fires(&end(&[], &[(moving(), Some(6), false)]));
    quiet(NothingDestroyed::default(), &end(&[], &point()));
}

#[test]
fn p8_fires_when_the_last_copy_of_what_was_found_is_deleted_or_an_old_value_comes_over_a_newer_one()
{
    let found = |shard, stamp| applied(shard, By::Found, moving(), None, Some(stamp));
    let inserted = || applied(2, By::Request, moving(), None, Some(7));
    let discarded = || applied(1, By::Request, moving(), Some(7), None);
    let deleted = || applied(2, By::Request, moving(), Some(7), None);
    let fires = |facts: &[Fact]| fires(NothingDestroyed::default(), facts, "P8 nothing-destroyed");
    let swept = || applied(1, By::Gate, moving(), Some(7), None);
    fires(&[new(), found(1, 7), discarded()]);
    fires(&[new(), found(1, 7), swept()]);
    // The owner has another point, which says nothing of this one.
    fires(&[new(), found(1, 7), applied(2, By::Found, staying(), None, Some(9)), discarded()]);
    // It comes back after a client deleted it, or over what a client wrote.
    fires(&[new(), found(1, 7), inserted(), deleted(), inserted()]);
    let written = || applied(2, By::Request, moving(), None, Some(8));
    let over = applied(2, By::Request, moving(), Some(8), Some(7));
    fires(&[new(), found(1, 7), written(), over]);
    let quiet = |facts: &[Fact]| quiet(NothingDestroyed::default(), facts);
    quiet(&[new(), found(1, 7), inserted(), discarded()]);
    quiet(&[new(), found(1, 7), found(2, 7), discarded()]);
    quiet(&[new(), found(1, 7), found(2, 6), discarded()]);
    quiet(&[new(), found(1, 7), written(), discarded()]);
    quiet(&[new(), found(2, 7), deleted()]);
}

#[test]
fn i11_fires_when_an_unproven_gate_itself_deletes_anything() {
    let knows = |unproven| persisted(Held { unproven, ..held(2, &after(), None) });
    let foreign = || applied(1, By::Gate, moving(), Some(7), None);
    let fires = |facts: &[Fact]| fires(SweepForeign::default(), facts, "I11 sweep-foreign");
    fires(&[new(), knows(true), foreign()]);
    let quiet = |facts: &[Fact]| quiet(SweepForeign::default(), facts);
    quiet(&[new(), knows(true), knows(false), foreign()]);
    quiet(&[new(), knows(true), applied(1, By::Request, moving(), Some(7), None)]);
}
