//! A transition from its start to its end: the phases, the fence, the proof, the sweep.

use std::collections::BTreeSet;

use crate::world::{World, options, shard, url};
use sheaf_coordinator::{Ask, AskRefusal, AskedOptions, CopyLimits, Outcome, Reply};
use sheaf_protocol::Stage;
use sheaf_types::{Attempt, MapVersion, ShardId, StoreId, TransitionId};

#[test]
fn a_grow_goes_through_all_phases_and_leaves_a_proof() {
    let mut world = World::of_shards(2);
    world.gate(1).points = 100;
    let before = world.version();
    let id = world.grow(3);
    for phase in ["prepare", "copy", "fence", "committed", "sweep", "none"] {
        world.advance_to(phase);
    }
    assert_eq!((world.map_ids(), world.version()), (vec![1, 2, 3], before + 1));
    assert_eq!(world.core.map().committed(), id);
    let report = world.core.report(id).unwrap();
    assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 1));
    assert_eq!(report.to_version, Some(MapVersion(before + 1)));
    let pairs: Vec<_> = report.moves.iter().map(|mv| (mv.donor.0, mv.recipient.0)).collect();
    assert_eq!(pairs, [(1, 3), (2, 3)]);
    assert!(report.moves.iter().all(|mv| mv.donor_digest == mv.recipient_digest));
    assert_eq!(report.confirmed.iter().map(|c| c.shard).collect::<Vec<_>>(), [shard(3)]);
    assert_eq!((report.points, report.stall.held_requests), (100, 6));
    assert!(report.unswept.is_empty());
}

#[test]
fn what_is_to_move_is_counted_anew_when_the_copy_begins() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("prepare");
    assert_eq!(world.record().transition.as_ref().unwrap().points_expected, 0);
    // Written before the transition began, and not yet reported then.
    world.gate(1).points = 3_000;
    world.gate(2).points = 3_000;
    world.advance_to("copy");
    let expected = world.record().transition.as_ref().unwrap().points_expected;
    assert!((1_500..2_500).contains(&expected), "about a third of 6,000: {expected}");
}

#[test]
fn a_drained_node_is_a_standby_again_and_may_join_again_under_a_new_id() {
    let mut world = World::of_shards(3);
    world.accepted(Ask::Drain { shard: shard(2), options: options() });
    world.finish();
    assert_eq!(world.map_ids(), [1, 3]);
    assert_eq!(world.gate(2).shard(), None);
    assert!(world.record().retiring.is_empty());
    world.grow(2);
    world.finish();
    assert_eq!(world.map_ids(), [1, 3, 4]);
}

#[test]
fn a_replacement_joins_and_drains_in_one_transition() {
    let mut world = World::of_shards(2);
    let with = sheaf_coordinator::NewShard::at(&url(3));
    world.accepted(Ask::Replace { shard: shard(1), with, options: options() });
    world.finish();
    assert_eq!(world.map_ids(), [2, 3]);
    assert_eq!(world.gate(1).shard(), None);
}

#[test]
fn a_new_weight_moves_points_between_the_shards_that_are_there() {
    let mut world = World::of_shards(2);
    let weight = "2.5".parse().unwrap();
    let id = world.accepted(Ask::Reweight { shard: shard(1), weight, options: options() });
    world.finish();
    assert_eq!(world.core.map().shard(shard(1)).unwrap().weight, weight);
    let pairs: Vec<_> = world
        .core
        .report(id)
        .unwrap()
        .moves
        .iter()
        .map(|mv| (mv.donor.0, mv.recipient.0))
        .collect();
    assert_eq!(pairs, [(2, 1)]);
}

#[test]
fn only_participants_get_the_order_and_bystanders_keep_their_directive() {
    let mut world = World::of_shards(3);
    world.accepted(Ask::Drain { shard: shard(1), options: options() });
    world.finish();
    // Shards 2 and 3 change their weights by the same factor: nothing moves between them, so only the joiner takes.
    world.sent.clear();
    world.grow(4);
    world.finish();
    let told: BTreeSet<ShardId> = world
        .sent
        .iter()
        .filter(|out| out.directive.order.is_some())
        .map(|out| out.shard)
        .collect();
    assert_eq!(told, [shard(2), shard(3), shard(4)].into());
}

#[test]
fn a_fence_over_its_budget_is_backed_out_and_tried_again_under_a_higher_attempt() {
    let mut world = World::of_shards(2);
    world.gate(1).drains = false;
    let id = world.grow(3);
    world.advance_to("fence");
    let began = world.now;
    world.advance_to("copy");
    assert!(world.now.ms_since(began) >= 500, "not before its budget is over");
    assert_eq!(
        world.gate(1).follows().unwrap().order.as_ref().map(|o| o.attempt),
        Some(Attempt(1))
    );
    world.advance_to("fence");
    assert_eq!(world.record().transition.as_ref().unwrap().attempt, Attempt(2));
    world.gate(1).drains = true;
    world.finish();
    let report = world.core.report(id).unwrap();
    assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 2));
    assert!(report.fences[0].outcome.contains("500 ms"), "{:?}", report.fences);
    assert_eq!(report.fences[1].outcome, "committed");
}

#[test]
fn fences_that_fail_are_tried_ever_more_rarely() {
    let mut world = World::of_shards(2);
    world.gate(1).drains = false;
    world.grow(3);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        world.advance_to("fence");
        world.advance_to("copy");
        let since = world.now;
        world.advance_to("fence");
        pauses.push(world.now.ms_since(since));
    }
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
}

#[test]
fn a_proof_of_an_earlier_attempt_changes_nothing() {
    let mut world = World::of_shards(2);
    world.gate(1).drains = false;
    let id = world.grow(3);
    world.advance_to("fence");
    world.advance_to("copy");
    world.gate(1).drains = true;
    world.gate(1).claims = Some(Attempt(1));
    world.advance_to("fence");
    world.advance_to("copy");
    assert_eq!(world.map_ids(), [1, 2], "attempt 2 was not committed by a proof of attempt 1");
    world.gate(1).claims = None;
    world.finish();
    assert_eq!(world.core.report(id).unwrap().attempts, 3);
}

#[test]
fn differing_digests_back_the_fence_out_at_once_and_nothing_is_committed() {
    let mut world = World::of_shards(2);
    world.gate(1).miscounts = 1;
    world.grow(3);
    world.advance_to("fence");
    let began = world.now;
    world.advance_to("copy");
    assert!(world.now.ms_since(began) < 500);
    assert!(world.has_history("s1 holds 1:"), "{:?}", world.history());
    assert_eq!(world.map_ids(), [1, 2]);
}

#[test]
fn without_the_recipients_own_seal_nothing_is_committed() {
    let mut world = World::of_shards(2);
    world.gate(3).seals = false;
    world.grow(3);
    world.advance_to("fence");
    world.advance_to("copy");
    assert!(world.has_history("s3 has not confirmed the seal of s1"), "{:?}", world.history());
    world.gate(3).seals = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn a_participant_that_restarts_or_dies_under_the_fence_backs_it_out_at_once() {
    for (node, restarts) in [(1, true), (3, true), (1, false), (3, false)] {
        let mut world = World::of_shards(2);
        world.gate(2).drains = false;
        world.grow(3);
        world.advance_to("fence");
        for _ in 0..10 {
            world.step();
        }
        let began = world.now;
        if restarts {
            world.gate(node).restart();
        } else {
            world.gate(node).alive = false;
        }
        world.advance_to("copy");
        assert!(world.now.ms_since(began) < 400, "node {node}: {:?}", world.history());
        world.gate(node).alive = true;
        world.gate(2).drains = true;
        world.finish();
        assert_eq!(world.map_ids(), [1, 2, 3]);
    }
}

#[test]
fn a_donor_sweeps_only_after_every_recipient_has_confirmed() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("fence");
    while world.phase() == "fence" {
        world.step();
    }
    assert_eq!(world.phase(), "committed");
    world.gate(3).alive = false;
    world.advance(100_000);
    assert_eq!(world.phase(), "committed", "no time permits a sweep");
    assert!(!world.gate(1).follows().unwrap().sweep);
    assert!(!world.gate(1).clean, "the donor keeps what it has");
    world.gate(3).alive = true;
    world.finish();
    assert!(world.gate(1).clean);
}

#[test]
fn a_recipient_with_another_disk_never_confirms() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("committed");
    world.gate(3).store_id = StoreId::from("swapped");
    world.advance(100_000);
    assert_eq!(world.phase(), "committed");
    assert!(!world.gate(1).clean && !world.gate(2).clean, "the donors keep what they have");
}

#[test]
fn a_gate_that_is_silent_for_long_ends_no_transition_before_its_time_and_sweeps_later() {
    let mut world = World::of_shards(2);
    world.gate(1).sweeps = false;
    let id = world.grow(3);
    world.advance_to("sweep");
    world.gate(1).alive = false;
    world.advance(29_000);
    assert_eq!(world.phase(), "sweep");
    world.advance(3_000);
    assert_eq!(world.phase(), "none");
    assert_eq!(world.core.report(id).unwrap().unswept, [shard(1)]);
    world.gate(1).alive = true;
    world.gate(1).sweeps = true;
    world.advance(3_000);
    assert!(world.gate(1).clean);
}

#[test]
fn a_paused_transition_is_not_fenced_until_it_is_resumed() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let transition = world.grow(3);
    world.advance_to("copy");
    world.ask(Ask::Pause { transition }).unwrap();
    world.gate(1).converges = true;
    world.advance(10_000);
    assert_eq!(world.phase(), "copy");
    assert!(world.gate(1).follows().unwrap().order.as_ref().unwrap().copy.paused);
    assert!(world.core.running().unwrap().waiting_for.contains(&"it is paused".to_owned()));
    world.ask(Ask::Resume { transition }).unwrap();
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn a_throttle_reaches_the_donors() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let transition = world.grow(3);
    world.advance_to("copy");
    let limits = CopyLimits { points_per_s_max: Some(500), ..CopyLimits::default() };
    world.ask(Ask::Throttle { transition, limits }).unwrap();
    world.advance(10);
    let copy = world.gate(1).follows().unwrap().order.as_ref().unwrap().copy;
    assert_eq!(copy.points_per_s_max, Some(500));
}

#[test]
fn a_join_by_hand_is_fenced_only_when_asked_and_never_before_it_has_converged() {
    let mut world = World::of_shards(2);
    let by_hand = AskedOptions { by_hand: true, ..options() };
    let shards = vec![sheaf_coordinator::NewShard::at(&url(3))];
    world.gate(1).converges = false;
    world.accepted(Ask::Grow { shards, options: by_hand });
    world.advance(10_000);
    assert_eq!(world.phase(), "copy");
    world.ask(Ask::Promote { shard: shard(3) }).unwrap();
    world.advance(10_000);
    assert_eq!(world.phase(), "copy", "it has not converged");
    world.gate(1).converges = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    let refused = world.ask(Ask::Promote { shard: shard(3) }).unwrap_err();
    assert_eq!(refused, AskRefusal::NotJoining { shard: shard(3) });
}

#[test]
fn transitions_run_one_after_the_other_in_the_order_in_which_they_were_asked_for() {
    let mut world = World::of_shards(2);
    let first = world.grow(3);
    let second = world.grow(4);
    let third = world.accepted(Ask::Drain { shard: shard(1), options: options() });
    assert_eq!((first, second, third), (TransitionId(1), TransitionId(2), TransitionId(3)));
    let mut running = vec![];
    for _ in 0..10_000 {
        let now = world.record().transition.as_ref().map(|t| t.id.0);
        if now.is_some() && running.last() != now.as_ref() {
            running.extend(now);
        }
        world.step();
    }
    assert_eq!(running, [1, 2, 3]);
    assert_eq!(world.map_ids(), [2, 3, 4]);
}

#[test]
fn a_queued_transition_that_became_impossible_ends_with_the_reason() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let grow = world.grow(3);
    let drain = world.accepted(Ask::Drain { shard: shard(3), options: options() });
    world.ask(Ask::Cancel { transition: grow }).unwrap();
    world.finish();
    world.advance(5_000);
    let report = world.core.report(drain).unwrap();
    assert_eq!(report.outcome, Outcome::Refused);
    assert_eq!(report.reason, "s3 is not in the map");
}

#[test]
fn every_stage_is_durable_before_a_gate_hears_of_it() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("prepare");
    while world.phase() != "none" {
        world.step();
        let stored = std::sync::Arc::clone(&world.stored);
        for out in std::mem::take(&mut world.sent) {
            let directive = &out.directive;
            assert!(directive.revision <= stored.revision && directive.term <= stored.term);
            let fenced = directive.order.as_ref().is_some_and(|o| o.stage == Stage::Fence);
            assert!(!fenced || stored.transition.as_ref().is_some_and(|t| t.attempt.0 >= 1));
        }
    }
}

#[test]
fn who_asks_twice_for_the_same_steering_gets_the_same_answer() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let transition = world.grow(3);
    world.advance_to("copy");
    for _ in 0..2 {
        assert_eq!(world.ask(Ask::Pause { transition }), Ok(Reply::Steered { transition }));
    }
    let unknown = TransitionId(99);
    assert_eq!(
        world.ask(Ask::Pause { transition: unknown }),
        Err(AskRefusal::UnknownTransition { transition: unknown })
    );
}
