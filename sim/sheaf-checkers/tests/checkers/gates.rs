//! The checkers that judge what gates admit, acknowledge, serve, and report.

use sheaf_checkers::fence_holds::FenceHolds;
use sheaf_checkers::intent_first::IntentFirst;
use sheaf_checkers::invisible::Invisible;
use sheaf_checkers::map_monotone::MapMonotone;
use sheaf_checkers::one_writer::OneWriter;
use sheaf_checkers::{Fact, Held, NodeId};
use sheaf_protocol::{GateReport, Stage};
use sheaf_types::{Incarnation, MapVersion, Revision, ShardId, TransitionId};

use crate::facts::{
    acknowledged, admitted, after, before, directive, fires, held, moving, order, persisted, quiet,
    report, reported, served, staying, stored,
};

#[test]
fn i2_fires_when_a_gates_ledger_goes_back() {
    let now = || held(2, &after(), None);
    for back in [
        held(1, &after(), None),
        held(2, &before(), None),
        Held { map: None, ..now() },
        Held { incarnation: Incarnation(0), ..now() },
    ] {
        let facts = [persisted(now()), persisted(back)];
        fires(MapMonotone::default(), &facts, "the ledger of node 1");
    }
    let left = Held { shard: None, map: None, ..held(3, &after(), None) };
    let again = Held { incarnation: Incarnation(2), ..now() };
    quiet(MapMonotone::default(), &[persisted(now()), persisted(again.clone())]);
    quiet(MapMonotone::default(), &[persisted(now()), persisted(left)]);
    let other = Fact::Persisted { node: NodeId(2), held: held(1, &before(), None) };
    quiet(MapMonotone::default(), &[persisted(again), other]);
}

#[test]
fn i4_fires_when_a_gate_reports_what_is_not_durable() {
    let durable = || persisted(Held { clean: false, ..held(1, &before(), None) });
    let honest = || GateReport { clean: false, ..report(1) };
    let transition = Some(TransitionId(1));
    for ahead in [
        GateReport { revision: Revision(2), ..honest() },
        GateReport { map_version: Some(MapVersion(2)), ..honest() },
        GateReport { clean: true, ..honest() },
        GateReport { transition, ..honest() },
        GateReport { prepared: true, ..honest() },
        GateReport { shard: None, ..honest() },
        GateReport { incarnation: Incarnation(2), ..honest() },
    ] {
        let report = Fact::Reported { node: NodeId(1), report: Box::new(ahead) };
        fires(IntentFirst::default(), &[durable(), report], "I4 intent-first");
    }
    fires(IntentFirst::default(), &[reported(honest())], "before it started");
    let behind = GateReport { revision: Revision(0), map_version: None, ..honest() };
    quiet(IntentFirst::default(), &[durable(), reported(honest()), reported(behind)]);
    let ordered = persisted(held(1, &before(), Some(order(Stage::Copy, 0))));
    let prepared = GateReport { transition, prepared: true, ..honest() };
    quiet(IntentFirst::default(), &[ordered, reported(prepared)]);
}

#[test]
fn i3_fires_when_somebody_else_than_the_owner_acknowledges() {
    let fires = |facts: &[Fact]| fires(OneWriter::default(), facts, "I3 one-writer");
    let (old, new) = (|| stored(1, &before(), None), || stored(2, &after(), None));
    fires(&[old(), acknowledged(2, 1, moving())]);
    fires(&[old(), new(), acknowledged(1, 1, moving())]);
    fires(&[old(), new(), acknowledged(1, 2, moving())]);
    fires(&[old(), new(), acknowledged(2, 2, staying())]);
    let facts = [
        old(),
        acknowledged(1, 1, moving()),
        new(),
        acknowledged(2, 2, moving()),
        acknowledged(1, 1, staying()),
    ];
    quiet(OneWriter::default(), &facts);
}

#[test]
fn i8_fires_when_a_gate_shows_what_it_does_not_own() {
    let fires = |facts: &[Fact], text| fires(Invisible::default(), facts, text);
    let (old, new) = (|| stored(1, &before(), None), || stored(2, &after(), None));
    fires(&[old(), served(2, 1, moving())], "I8 invisible-until-commit");
    fires(&[old(), new(), served(1, 2, moving())], "I8 invisible-until-commit");
    fires(&[old(), served(2, 2, moving())], "never committed");
    // A read at the old version may end late: it shows what was so then.
    let facts = [old(), new(), served(1, 1, moving()), served(2, 2, moving())];
    quiet(Invisible::default(), &facts);
}

#[test]
fn i10_fires_when_a_fenced_donor_admits_something() {
    let fires = |facts: &[Fact]| fires(FenceHolds::default(), facts, "I10 fence-holds");
    let fenced = || persisted(held(3, &before(), Some(order(Stage::Fence, 1))));
    let says = |directive| Fact::Directed { node: NodeId(1), directive };
    fires(&[fenced(), admitted(false, vec![moving()])]);
    fires(&[fenced(), admitted(true, vec![])]);
    let started = Fact::GateStarted {
        node: NodeId(1),
        held: held(3, &before(), Some(order(Stage::Fence, 1))),
    };
    fires(&[started, admitted(false, vec![moving()])]);
    let same_again = says(directive(4, &before(), Some(order(Stage::Fence, 1))));
    fires(&[fenced(), same_again, admitted(false, vec![moving()])]);
    let late = says(directive(2, &before(), Some(order(Stage::Copy, 1))));
    fires(&[fenced(), late, admitted(false, vec![moving()])]);
}

#[test]
fn i10_is_quiet_once_the_coordinator_has_ended_the_fence() {
    let quiet = |facts: &[Fact]| quiet(FenceHolds::default(), facts);
    let fenced = || persisted(held(3, &before(), Some(order(Stage::Fence, 1))));
    let says = |directive| Fact::Directed { node: NodeId(1), directive };
    let backed_out = || says(directive(4, &before(), Some(order(Stage::Copy, 1))));
    let goes_on = || admitted(true, vec![moving()]);
    quiet(&[fenced(), admitted(false, vec![staying()])]);
    quiet(&[fenced(), backed_out(), goes_on()]);
    quiet(&[backed_out(), fenced(), goes_on()]); // Its ledger was slower than the word.
    quiet(&[fenced(), Fact::MapFetched { node: NodeId(1), map: after() }, goes_on()]);
    let copying = persisted(held(3, &before(), Some(order(Stage::Copy, 1))));
    quiet(&[copying, goes_on()]);
    let elsewhere = Held { shard: Some(ShardId(2)), ..held(3, &before(), None) };
    let order = Some(order(Stage::Fence, 1));
    quiet(&[persisted(Held { order, ..elsewhere }), goes_on()]); // A recipient has nothing to hold.
}
