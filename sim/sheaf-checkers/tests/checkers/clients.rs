//! The checkers that judge what clients were told.

use std::sync::Arc;

use sheaf_checkers::acked_survives::AckedSurvives;
use sheaf_checkers::dropped_stays_dropped::DroppedStaysDropped;
use sheaf_checkers::gather_exact::GatherExact;
use sheaf_checkers::honest_answers::HonestAnswers;
use sheaf_checkers::linearizable::Linearizable;
use sheaf_checkers::{Answer, Call, Fact, Panel};

use crate::facts::{asks, delete, fires, gather, get, hears, put, quiet};

const NOTHING: Answer = Answer::Point(None);

/// A call that ends before anything else happens.
fn call(op: u64, call: Call, answer: Answer) -> [Fact; 2] {
    [asks(op, call), hears(op, answer)]
}

fn history<const N: usize>(calls: [[Fact; 2]; N]) -> Vec<Fact> {
    calls.into_iter().flatten().collect()
}

fn done(op: u64, what: Call) -> [Fact; 2] {
    call(op, what, Answer::Done)
}

fn reads(op: u64, stamp: Option<u64>) -> [Fact; 2] {
    call(op, get(), Answer::Point(stamp))
}

#[test]
fn p1_fires_when_an_acknowledged_write_is_not_found() {
    let fires = |facts: &[Fact], text| fires(AckedSurvives::default(), facts, text);
    fires(&history([done(1, put(7)), reads(2, None)]), "P1 acked-survives");
    fires(&history([done(1, put(7)), done(2, put(8)), reads(3, Some(7))]), "found 7");
    fires(&history([done(1, put(7)), done(2, delete()), reads(3, Some(7))]), "found 7");
    fires(&history([reads(1, Some(7))]), "never written");
}

#[test]
fn p1_is_quiet_about_writes_that_may_show_or_not() {
    let quiet = |facts: &[Fact]| quiet(AckedSurvives::default(), facts);
    quiet(&history([done(1, put(7)), reads(2, Some(7)), done(3, delete()), reads(4, None)]));
    for seen in [Some(7), Some(8)] {
        quiet(&history([done(1, put(7)), call(2, put(8), Answer::Unknown), reads(3, seen)]));
        // The read begins before the write is acknowledged.
        let [ask, hear] = done(2, put(8));
        let [reads, finds] = reads(3, seen);
        let [first, then] = done(1, put(7));
        quiet(&[first, then, ask, reads, hear, finds]);
    }
    for seen in [Some(7), None] {
        quiet(&history([done(1, put(7)), call(2, delete(), Answer::Unknown), reads(3, seen)]));
    }
}

#[test]
fn p2_honest_answers_fires_when_a_refused_write_is_seen() {
    let refused = || call(1, put(7), Answer::Refused);
    let fires = |facts: &[Fact]| fires(HonestAnswers::default(), facts, "P2 honest-answers");
    fires(&history([refused(), reads(2, Some(7))]));
    let shows = Answer::Points(vec![("p".into(), 7)]);
    fires(&history([refused(), call(2, gather(), shows)]));
    let [ask, refuse] = refused();
    let [get, finds] = reads(2, Some(7));
    fires(&[ask, get, finds, refuse]); // Seen first, refused then.
    for answer in [Answer::Done, Answer::Unknown] {
        let facts = history([call(1, put(7), answer), reads(2, Some(7))]);
        quiet(HonestAnswers::default(), &facts);
    }
    quiet(HonestAnswers::default(), &history([refused(), reads(2, None)]));
}

#[test]
fn p2_linearizable_fires_when_no_order_explains_what_was_read() {
    let came_and_went = |last| {
        history([
            done(1, put(7)),
            call(2, put(8), Answer::Unknown),
            reads(3, Some(8)),
            reads(4, last),
        ])
    };
    fires(Linearizable::default(), &came_and_went(Some(7)), "P2 linearizable");
    fires(Linearizable::default(), &came_and_went(None), "P2 linearizable");
    quiet(Linearizable::default(), &came_and_went(Some(8)));
    let shows = |stamp| call(2, gather(), Answer::Points(vec![("p".into(), stamp)]));
    quiet(Linearizable::default(), &history([done(1, put(7)), shows(7)]));
    let facts = history([done(1, put(7)), shows(7), done(3, delete()), reads(4, Some(7))]);
    fires(Linearizable::default(), &facts, "P2 linearizable");
}

#[test]
fn p3_fires_when_a_gather_doubles_misses_or_ages_a_point() {
    let shows = |op, stamps: &[u64]| {
        call(op, gather(), Answer::Points(stamps.iter().map(|s| ("p".into(), *s)).collect()))
    };
    let fires = |facts: &[Fact], text| fires(GatherExact::default(), facts, text);
    fires(&history([done(1, put(7)), shows(2, &[7, 7])]), "twice");
    fires(&history([done(1, put(7)), shows(2, &[])]), "P3 gather-exact");
    fires(&history([done(1, put(7)), done(2, put(8)), shows(3, &[7])]), "found 7");
    fires(&history([shows(1, &[7])]), "never written");
    quiet(GatherExact::default(), &history([done(1, put(7)), shows(2, &[7])]));
    quiet(GatherExact::default(), &history([done(1, put(7)), done(2, delete()), shows(3, &[])]));
    let [ask, hear] = done(1, put(7));
    let [begins, ends] = shows(2, &[]);
    quiet(GatherExact::default(), &[ask, begins, hear, ends]);
}

#[test]
fn i15_fires_when_a_dropped_collection_shows_an_old_point() {
    let name: Arc<str> = "temporary-1".into();
    let collection = || Arc::clone(&name);
    let upsert = || Call::Upsert { collection: collection(), points: vec![("p".into(), 7)] };
    let get = || Call::Get { collection: collection(), id: "p".into() };
    let create = |op| done(op, Call::Create { collection: collection() });
    let drop = |op| done(op, Call::Drop { collection: collection() });
    let finds = |op, stamp| call(op, get(), Answer::Point(stamp));
    let label = "I15 dropped-stays-dropped";
    let written = || done(2, upsert());
    let again = history([create(1), written(), drop(3), create(4), finds(5, Some(7))]);
    fires(DroppedStaysDropped::default(), &again, label);
    let shown =
        call(5, Call::Gather { collection: collection() }, Answer::Points(vec![("p".into(), 7)]));
    let gathered = history([create(1), written(), drop(3), create(4), shown]);
    fires(DroppedStaysDropped::default(), &gathered, label);
    let quiet = |facts: &[Fact]| quiet(DroppedStaysDropped::default(), facts);
    quiet(&history([create(1), written(), drop(3), create(4), finds(5, None)]));
    quiet(&history([create(1), written(), finds(3, Some(7))]));
    // The write may have come after the drop.
    let late = call(2, upsert(), Answer::Unknown);
    quiet(&history([create(1), late, drop(3), create(4), finds(5, Some(7))]));
}

#[test]
fn the_panel_ends_at_the_first_broken_promise_and_names_it() {
    let mut panel = Panel::default();
    let facts = history([done(1, put(7)), call(2, get(), NOTHING)]);
    let said: Vec<_> = facts.iter().map(|fact| panel.tell(1, 1, fact)).collect();
    assert!(said[..3].iter().all(Result::is_ok));
    assert_eq!(said[3].as_ref().unwrap_err().label, "P1 acked-survives");
    let mut panel = Panel::default();
    let facts = history([done(1, put(7)), reads(2, Some(7))]);
    assert!(facts.iter().all(|fact| panel.tell(1, 1, fact).is_ok()));
    assert_eq!(panel.finish(), Ok(()));
}
