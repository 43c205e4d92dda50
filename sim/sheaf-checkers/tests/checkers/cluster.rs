//! The checkers that judge what the coordinator stores and says, and how a run ends.

use std::sync::Arc;

use sheaf_checkers::commit_proven::CommitProven;
use sheaf_checkers::converges::Converges;
use sheaf_checkers::fact::Decided;
use sheaf_checkers::ids_fresh::IdsFresh;
use sheaf_checkers::intent_first::IntentFirst;
use sheaf_checkers::map_monotone::MapMonotone;
use sheaf_checkers::short_stall::ShortStall;
use sheaf_checkers::total_map::TotalMap;
use sheaf_checkers::{Checker, EndState, Fact, Moment, NodeId, OpId, Phase};
use sheaf_map::{Map, ShardEntry};
use sheaf_protocol::Stage;
use sheaf_types::{MapVersion, Revision, StoreId, Term, TransitionId};

use crate::facts::{
    after, before, collection, directive, entry, fires, map_of, order, proof, quiet, running, seal,
    stored,
};

#[test]
fn p6_fires_when_something_is_left_unfinished() {
    let still =
        || EndState { unfinished: vec![], unclean: vec![], stale_routers: vec![], hanging: vec![] };
    let ended = |state| [Fact::Ended { state: Box::new(state) }];
    quiet(Converges::default(), &ended(still()));
    for state in [
        EndState { unfinished: vec![TransitionId(1)], ..still() },
        EndState { unclean: vec![(NodeId(1), "foreign points".into())], ..still() },
        EndState { stale_routers: vec![(0, Some(MapVersion(1)))], ..still() },
        EndState { hanging: vec![OpId(1)], ..still() },
    ] {
        fires(Converges::default(), &ended(state), "P6 converges");
    }
}

#[test]
fn p6_fires_when_a_transition_is_gone_without_an_end() {
    let at = |revision, phase| stored(revision, &before(), running(1, 1, phase, &after()));
    let gone = |revision| stored(revision, &before(), None);
    for phase in [Phase::Prepare, Phase::Copy, Phase::Fence] {
        fires(Converges::default(), &[at(1, phase), gone(2)], "P6 converges");
        let other = stored(2, &before(), running(2, 0, Phase::Prepare, &after()));
        fires(Converges::default(), &[at(1, phase), other], "P6 converges");
        quiet(Converges::default(), &[at(1, phase), at(2, Phase::Abort), gone(3)]);
    }
    let committed = stored(2, &after(), running(1, 1, Phase::Sweep, &after()));
    let ended = stored(3, &after(), None);
    quiet(Converges::default(), &[at(1, Phase::Fence), committed, ended]);
}

#[test]
fn i2_fires_when_the_store_or_a_router_goes_back() {
    let fires = |facts: &[Fact]| fires(MapMonotone::default(), facts, "I2 map-monotone");
    let in_term = |term, fact| match fact {
        Fact::Stored { decided } => {
            Fact::Stored { decided: Box::new(Decided { term: Term(term), ..*decided }) }
        }
        other => other,
    };
    let next = |revision| stored(revision, &after(), None);
    fires(&[next(2), next(1)]);
    fires(&[next(1), next(1)]);
    fires(&[next(1), stored(2, &before(), None)]);
    fires(&[in_term(2, next(1)), in_term(1, next(2))]);
    quiet(MapMonotone::default(), &[stored(1, &before(), None), next(2), in_term(2, next(3))]);

    let adopted = |life, version| Fact::RouterAdopted { router: 1, life, version };
    fires(&[adopted(1, MapVersion(2)), adopted(1, MapVersion(1))]);
    let restarted = [adopted(1, MapVersion(2)), adopted(2, MapVersion(1))];
    quiet(MapMonotone::default(), &restarted);
}

#[test]
fn i6_fires_when_a_map_loses_its_last_shard() {
    let nobody = map_of(2, 0, vec![], vec![]);
    let fires = |facts: &[Fact]| fires(TotalMap::default(), facts, "I6 total-map");
    fires(&[stored(1, &before(), None), stored(2, &nobody, None)]);
    let leads_nowhere = running(1, 0, Phase::Prepare, &nobody);
    fires(&[stored(1, &before(), None), stored(2, &before(), leads_nowhere)]);
    quiet(TotalMap::default(), &[stored(1, &nobody, None), stored(2, &before(), None)]);
}

#[test]
fn i12_fires_when_an_id_is_given_out_twice() {
    let fires = |facts: &[Fact]| fires(IdsFresh::default(), facts, "I12 ids-fresh");
    let words = || vec![collection(1, "words")];
    let now = |map: &Arc<Map>| stored(2, map, None);
    let first = || stored(1, &before(), None);
    let other_disk = ShardEntry { store_id: StoreId::from("other"), ..entry(1) };
    fires(&[first(), now(&map_of(2, 0, vec![other_disk], words()))]);
    let other_name = vec![collection(1, "films")];
    fires(&[first(), now(&map_of(2, 0, vec![entry(1)], other_name))]);
    let dropped = map_of(2, 0, vec![entry(1)], vec![]);
    let back = map_of(3, 0, vec![entry(1)], words());
    fires(&[first(), now(&dropped), now(&dropped), now(&back)]);
    let runs = |id, attempt, phase| stored(2, &before(), running(id, attempt, phase, &after()));
    let (copy, fence) = (Phase::Copy, Phase::Fence);
    fires(&[runs(1, 0, copy), first(), runs(1, 0, copy)]);
    fires(&[runs(2, 0, copy), runs(1, 0, copy)]);
    fires(&[runs(1, 1, fence), runs(1, 1, copy), runs(1, 1, fence)]);
    let facts = [
        runs(1, 1, fence),
        runs(1, 1, copy),
        runs(1, 2, fence),
        now(&after()),
        runs(2, 0, copy),
        runs(2, 1, fence),
    ];
    quiet(IdsFresh::default(), &facts);
    let new_id = map_of(3, 0, vec![entry(1)], vec![collection(2, "words")]);
    quiet(IdsFresh::default(), &[first(), now(&dropped), now(&new_id)]);
}

/// In the fence of this attempt, the reports, and the commit.
fn commit(phase: Phase, attempt: u64, reports: Vec<Fact>) -> Vec<Fact> {
    let mut facts = vec![stored(1, &before(), running(1, attempt, phase, &after()))];
    facts.extend(reports);
    facts.push(stored(2, &after(), running(1, attempt, Phase::Sweep, &after())));
    facts
}

#[test]
fn i9_fires_when_a_commit_lacks_a_proof() {
    let proven = || vec![proof(2, 7, 7), seal(2, 7, 7)];
    quiet(CommitProven::default(), &commit(Phase::Fence, 2, proven()));
    for reports in [
        vec![],
        vec![proof(2, 7, 7)],
        vec![seal(2, 7, 7)],
        vec![proof(2, 7, 8), seal(2, 7, 8)],
        vec![proof(2, 7, 7), seal(2, 7, 8)],
        vec![proof(1, 7, 7), seal(1, 7, 7)],
        vec![proof(2, 7, 7), seal(1, 7, 7)],
    ] {
        let facts = commit(Phase::Fence, 2, reports);
        fires(CommitProven::default(), &facts, "I9 commit-proven");
    }
    let early = commit(Phase::Copy, 2, proven());
    fires(CommitProven::default(), &early, "committed in Copy");
}

#[test]
fn i9_fires_when_points_move_by_another_way_than_the_transition() {
    let fires = |facts: &[Fact], text| fires(CommitProven::default(), facts, text);
    let shards = || vec![entry(1), entry(2)];
    let first = || stored(1, &before(), None);
    fires(&[first(), stored(2, &after(), None)], "while no transition ran");
    let silent = map_of(2, 0, shards(), vec![]);
    fires(&[first(), stored(2, &silent, None)], "without a transition");
    let elsewhere = map_of(2, 1, vec![entry(1), entry(3)], vec![]);
    let mut facts = commit(Phase::Fence, 2, vec![proof(2, 7, 7), seal(2, 7, 7)]);
    facts.pop();
    facts.push(stored(2, &elsewhere, None));
    fires(&facts, "isn't what transition");
    let films = map_of(2, 0, vec![entry(1)], vec![collection(2, "films")]);
    quiet(CommitProven::default(), &[first(), stored(2, &films, None)]);
}

/// The first of these facts, each with its second, that breaks P7.
fn stalled(facts: impl IntoIterator<Item = (u64, Fact)>) -> Option<u64> {
    let mut checker = ShortStall::default();
    let mut breaks = |s: u64, fact: &Fact| {
        let moment = Moment { us: s * 1_000_000, ..Moment::default() };
        checker.judge(moment, fact).is_err_and(|violation| violation.label == "P7 short-stall")
    };
    facts.into_iter().find_map(|(s, fact)| breaks(s, &fact).then_some(s))
}

#[test]
fn p7_fires_when_a_coordinator_that_is_awake_leaves_a_fence_long_after_its_budget() {
    let fenced = |attempt| stored(1, &before(), running(1, attempt, Phase::Fence, &after()));
    let backed_out = || stored(2, &before(), running(1, 1, Phase::Copy, &after()));
    let says = || Fact::DirectiveSent { directive: directive(1, &before(), None) };
    let each_second = |until| (1..=until).map(move |s| (s, says()));
    let fence = || std::iter::once((0, fenced(1)));
    assert_eq!(stalled(fence().chain(each_second(30))), Some(6), "its budget is half a second");
    let stored_again = (1..=30).map(|s| (s, fenced(1)));
    assert_eq!(stalled(fence().chain(stored_again)), Some(6), "another change, the same fence");
    let over = || (6, backed_out());
    assert_eq!(stalled(fence().chain(each_second(5)).chain([over()]).chain(each_second(99))), None);
    let next = || (6, fenced(2));
    assert_eq!(stalled(fence().chain(each_second(5)).chain([next(), (19, says())])), None);
    assert_eq!(stalled(fence().chain([(300, says()), (600, says())])), None, "it was frozen");
    let of_another_term = |s| {
        let mut directive = directive(1, &before(), None);
        directive.term = Term(0);
        (s, Fact::DirectiveSent { directive })
    };
    assert_eq!(stalled(fence().chain((1..=30).map(of_another_term))), None);
}

#[test]
fn i4_fires_when_a_coordinator_says_what_is_not_stored() {
    let says = |directive| Fact::DirectiveSent { directive };
    let fires = |facts: &[Fact], text| fires(IntentFirst::default(), facts, text);
    let first = || stored(1, &before(), None);
    let copying = |revision| stored(revision, &before(), running(1, 0, Phase::Copy, &after()));
    let fencing = |revision| stored(revision, &before(), running(1, 1, Phase::Fence, &after()));
    fires(&[says(directive(1, &before(), None))], "before anything was stored");
    fires(&[first(), says(directive(2, &before(), None))], "ahead of the store");
    fires(&[first(), says(directive(1, &after(), None))], "never committed");
    let fence = |attempt| Some(order(Stage::Fence, attempt));
    fires(&[copying(1), says(directive(1, &before(), fence(1)))], "never stored");
    fires(&[fencing(1), says(directive(1, &before(), fence(2)))], "never stored");
    fires(&[first(), Fact::Published { map: after() }], "never committed");
    let mut later = directive(1, &before(), None);
    later.term = Term(2);
    fires(&[first(), says(later)], "ahead of the store");
    let mut stale = directive(9, &before(), None);
    (stale.term, stale.revision) = (Term(0), Revision(9));
    quiet(
        IntentFirst::default(),
        &[
            first(),
            says(stale),
            fencing(2),
            says(directive(2, &before(), fence(1))),
            Fact::Published { map: before() },
        ],
    );
}
