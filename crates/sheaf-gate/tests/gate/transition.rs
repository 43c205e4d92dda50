//! Two gates through a transition, driven by hand: what a coordinator would say is said by the test.

use std::sync::Arc;

use crate::world::{WORDS, World, map_of, order};
use sheaf_gate::{Answer, Operation, Scope};
use sheaf_map::Map;
use sheaf_protocol::{CopyState, DirectiveRefusal, Order, Refusal, Stage};
use sheaf_types::{Attempt, PointId, ShardId, TransitionId};

const IDS: [&str; 12] = ["", "a", "a/b", "a?b", "b", "c", "d", "doc#3", "e", "zz", "ünïcode", "🦀"];

/// Shard 1 owns everything; shard 2 joins.
fn grow() -> (World, Arc<Map>, Arc<Map>) {
    let mut world = World::new(&[1, 2]);
    let (current, next) = (map_of(1, 0, &[1]), map_of(2, 1, &[1, 2]));
    world.direct(&[1], &current, None);
    for (value, id) in IDS.iter().enumerate() {
        let token = world.write(1, id, Some(value as u32));
        assert!(world.delivered(1, token), "{id}");
    }
    (world, current, next)
}

fn moving<'a>(next: &Map) -> Vec<&'a str> {
    let goes = |id: &&str| next.owner(PointId::from(*id).placement_key()) == Some(ShardId(2));
    IDS.into_iter().filter(goes).collect()
}

fn staying<'a>(next: &Map) -> Vec<&'a str> {
    let goes = moving(next);
    IDS.into_iter().filter(|id| !goes.contains(id)).collect()
}

fn copy(world: &mut World, current: &Arc<Map>, next: &Arc<Map>) {
    world.direct(&[1, 2], current, Some(order(Stage::Prepare, 0, next)));
    assert!(world.report(1).prepared && world.report(2).prepared);
    world.direct(&[1, 2], current, Some(order(Stage::Copy, 0, next)));
    world.pass(100);
    assert_eq!(world.report(1).outgoing[0].state, CopyState::Converged);
}

#[test]
fn a_join_moves_every_outgoing_point_and_sweeps_it_at_the_donor() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(50);
    let donor = world.report(1).outgoing[0].clone();
    let proof = donor.proof.expect("drained");
    let recipient = world.report(2).incoming[0];
    assert_eq!((proof.attempt, proof.donor), (Attempt(1), proof.recipient));
    assert_eq!(proof.donor.points, moving(&next).len() as u64);
    assert_eq!((recipient.seq, recipient.digest), (proof.seq, proof.donor));
    assert_eq!(recipient.sealed.map(|sealed| sealed.donor), Some(proof.donor));
    world.direct(&[1, 2], &next, None);
    world.pass(200);
    assert_eq!(world.ids_at(2), moving(&next));
    assert_eq!(world.ids_at(1), staying(&next));
    assert!(world.report(1).clean && world.report(2).clean);
}

#[test]
fn writes_and_deletes_during_the_copy_arrive_before_the_seal() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let ids = moving(&next);
    world.cut = true;
    world.write(1, ids[0], Some(100));
    world.write(1, ids[1], None);
    world.write(1, ids[2], Some(7));
    world.write(1, ids[2], Some(102));
    assert_ne!(world.value_at(2, ids[0]), Some(100));
    world.cut = false;
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(1_000);
    assert!(world.report(1).outgoing[0].proof.is_some());
    assert_eq!(world.value_at(2, ids[0]), Some(100));
    assert_eq!(world.value_at(2, ids[1]), None);
    assert_eq!(world.value_at(2, ids[2]), Some(102));
}

#[test]
fn a_fence_holds_outgoing_ids_and_searches_and_lets_others_through() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    let stays = world.write(1, staying(&next)[0], Some(5));
    assert!(world.delivered(1, stays));
    let goes = world.write(1, moving(&next)[0], Some(6));
    let search = world.token();
    world.request(1, search, Operation::Gather);
    assert!(world.answer(1, goes).is_none() && world.answer(1, search).is_none());
    world.direct(&[2, 1], &next, None);
    let moved = Refusal::Moved { version: next.version() };
    assert_eq!(world.refusal(1, goes), Some(moved));
    assert_eq!(world.value_at(2, moving(&next)[0]), Some(first_value(moving(&next)[0])));
}

/// The value that `grow` gave to an id.
fn first_value(id: &str) -> u32 {
    IDS.iter().position(|known| *known == id).map_or(0, |at| at as u32)
}

#[test]
fn a_fence_that_is_backed_out_lets_held_requests_go_on_and_can_be_tried_again() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let id = moving(&next)[0];
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    let held = world.write(1, id, Some(55));
    assert!(world.answer(1, held).is_none());
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 1, &next)));
    assert!(world.delivered(1, held));
    world.pass(50);
    assert_eq!(world.report(1).outgoing[0].proof, None);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 2, &next)));
    world.pass(50);
    let proof = world.report(1).outgoing[0].proof.expect("drained");
    assert_eq!(proof.attempt, Attempt(2));
    assert_eq!(world.value_at(2, id), Some(55));
}

#[test]
fn a_held_request_is_refused_at_its_deadline_and_nothing_is_applied() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let id = moving(&next)[0];
    let before = world.value_at(1, id);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    let held = world.write(1, id, Some(55));
    world.pass(1_100);
    assert_eq!(world.refusal(1, held), Some(Refusal::Fenced { version: current.version() }));
    assert_eq!(world.value_at(1, id), before);
}

/// Found by the swarm, seed 2078200005644: a gate that had been frozen met all of this at once.
#[test]
fn a_fence_that_is_still_on_its_way_to_the_disk_is_not_taken_for_one_of_the_next_transition() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let later = map_of(2, 1, &[1, 3, 4, 5]);
    let second = Order { transition: TransitionId(2), ..order(Stage::Prepare, 0, &later) };
    world.direct_later(&[1], &current, Some(order(Stage::Fence, 1, &next)));
    world.direct_later(&[1], &current, None);
    world.direct_later(&[1], &current, Some(second));
    (0..3).for_each(|_| assert!(world.step()));
    let leaves = |id: &&str| later.owner(PointId::from(*id).placement_key()) != Some(ShardId(1));
    let id = staying(&next).into_iter().find(leaves).unwrap();
    let written = world.write_at_once(1, id, Some(7));
    assert!(world.delivered(1, written));
    world.run();
    let written = world.write(1, moving(&next)[0], Some(8));
    assert!(world.delivered(1, written));
}

#[test]
fn a_late_fence_directive_after_the_back_out_changes_nothing() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    let late = world.directive(1, 4, &current, Some(order(Stage::Fence, 1, &next)));
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 1, &next)));
    let refusal = world.direct_with(1, late);
    assert!(matches!(refusal, Some(DirectiveRefusal::Stale { .. })), "{refusal:?}");
    let token = world.write(1, moving(&next)[0], Some(1));
    assert!(world.delivered(1, token));
}

#[test]
fn a_donor_that_restarts_during_the_copy_compares_everything_again() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let id = moving(&next)[0];
    world.cut = true;
    world.write(1, id, Some(77)); // Acknowledged, dirty, and not sent.
    world.restart(1);
    world.cut = false;
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(1_000);
    let report = world.report(1).outgoing[0].clone();
    assert_eq!(report.state, CopyState::Converged);
    assert!(report.sent_points < moving(&next).len() as u64, "only what differs is sent");
    assert_eq!(world.value_at(2, id), Some(77));
}

#[test]
fn a_recipient_that_restarts_gets_a_new_stream_that_repairs_what_differs() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let (lost, extra) = (moving(&next)[1], moving(&next)[2]);
    world.restart(2);
    world.write(1, extra, None);
    world.nodes.get_mut(&ShardId(2)).unwrap().engine.points.remove(&(WORDS, lost.into()));
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(2_000);
    assert_eq!(world.report(1).outgoing[0].state, CopyState::Converged);
    assert!(world.value_at(2, lost).is_some());
    assert_eq!(world.value_at(2, extra), None);
}

#[test]
fn a_restarted_fenced_donor_holds_until_it_is_told_the_outcome() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.restart(1);
    let held = world.write(1, moving(&next)[0], Some(9));
    world.pass(500);
    assert!(world.answer(1, held).is_none());
    world.direct(&[1], &next, None);
    assert_eq!(world.refusal(1, held), Some(Refusal::Moved { version: next.version() }));
}

#[test]
fn an_abort_sweeps_the_recipient_and_frees_the_donor() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    assert!(!world.ids_at(2).is_empty());
    world.direct(&[1, 2], &current, None);
    world.pass(100);
    assert!(world.ids_at(2).is_empty() && world.report(2).clean);
    let token = world.write(1, moving(&next)[0], Some(3));
    assert!(world.delivered(1, token));
}

#[test]
fn a_recipient_says_why_its_engine_refuses_a_point_as_long_as_the_transition_runs() {
    let (mut world, current, next) = grow();
    world.nodes.get_mut(&ShardId(2)).unwrap().engine.refuses = true;
    world.direct(&[1, 2], &current, Some(order(Stage::Prepare, 0, &next)));
    assert_eq!(world.report(2).cannot_hold, None);
    let before = world.report(2).seq;
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(100);
    assert_eq!(world.report(2).cannot_hold.as_deref(), Some("it is too large"));
    assert!(world.report(2).seq > before, "a coordinator hears of it at once");
    assert_ne!(world.report(1).outgoing[0].state, CopyState::Converged);
    world.nodes.get_mut(&ShardId(2)).unwrap().engine.refuses = false;
    world.direct(&[1, 2], &current, None);
    world.pass(100);
    assert_eq!(world.report(2).cannot_hold, None);
}

/// A shard that has left drops its collections: a search that was under way then failed for want of them, and its client was told
/// that there is no such collection.
#[test]
fn a_read_that_fails_after_the_map_changed_is_refused_and_not_answered_with_the_failure() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.slow = Some(Vec::new());
    let (search, gone, stays) = (world.token(), world.token(), world.token());
    world.request(1, search, Operation::Gather);
    world.request(1, gone, Operation::Read { ids: vec![moving(&next)[0].into()] });
    world.request(1, stays, Operation::Read { ids: vec![staying(&next)[0].into()] });
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(50);
    world.direct(&[1, 2], &next, None);
    world.fail_requests();
    let version = next.version();
    assert_eq!(world.refusal(1, search), Some(Refusal::OtherVersion { version }));
    assert_eq!(world.refusal(1, gone), Some(Refusal::Moved { version }));
    assert!(world.delivered(1, stays), "nobody else could do better");
}

#[test]
fn what_arrives_stays_invisible_until_the_commit() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let search = world.token();
    world.request(2, search, Operation::Gather);
    let answers = &world.nodes[&ShardId(2)].answers[&search];
    assert!(matches!(answers[0], Answer::Go { scope: Scope::Owned { .. }, .. }), "{answers:?}");
}

#[test]
fn a_recipient_that_is_asked_before_it_heard_the_commit_fetches_the_map_and_serves() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(50);
    world.latest = Some(Arc::clone(&next));
    let token = world.token();
    let request = sheaf_gate::Request {
        version: Some(next.version()),
        shard: Some(ShardId(2)),
        collection: "words".into(),
        operation: Operation::Read { ids: vec![moving(&next)[0].into()] },
        deadline: world.now.plus_ms(1_000),
    };
    world.event(2, sheaf_gate::Event::Requested { token, request });
    assert!(world.delivered(2, token));
    assert_eq!(world.report(2).map_version, Some(next.version()));
}

#[test]
fn a_late_copy_of_a_streams_first_frame_at_a_restarted_recipient_does_not_stop_the_copy() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let begin = world.sent[0].clone();
    world.restart(2);
    world.direct(&[2], &current, Some(order(Stage::Copy, 0, &next)));
    world.deliver_again(&begin);
    world.write(1, moving(&next)[0], Some(77));
    world.lose_answer_to_the_last_frame(); // It waits at the recipient for frames that were carried out before.
    world.pass(10_000);
    let report = world.report(1).outgoing[0].clone();
    assert_eq!((report.state, report.dirty), (CopyState::Converged, 0));
    assert_eq!(world.value_at(2, moving(&next)[0]), Some(77));
}

#[test]
fn a_copy_converges_though_writes_never_pause() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    world.restart(1); // From here on ranges are compared.
    world.write(1, moving(&next)[0], Some(99));
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    let mut rounds = 0;
    for value in 100..200 {
        let id = moving(&next)[value as usize % moving(&next).len()];
        world.write(1, id, Some(value));
        world.pass(10);
        if world.report(1).outgoing[0].state == CopyState::Converged {
            break;
        }
        rounds += 1;
    }
    assert!(rounds < 20, "not converged after {rounds} writes, one in every pass");
}

#[test]
fn an_acknowledged_write_is_captured_though_another_one_of_the_same_id_fails() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let id = moving(&next)[0];
    world.slow = Some(Vec::new());
    let (first, fails) = (world.write(1, id, Some(70)), world.write(1, id, Some(71)));
    world.slow.as_mut().unwrap().retain(|(_, token, _)| *token == first);
    world.release_requests();
    assert!(world.delivered(1, first));
    let outcome = sheaf_gate::Outcome::Failed;
    world.event(1, sheaf_gate::Event::RequestDone { token: fails, outcome });
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(100);
    assert!(world.report(1).outgoing[0].proof.is_some());
    assert_eq!(world.value_at(2, id), Some(70));
}

#[test]
fn writers_who_outrun_a_throttle_do_not_keep_a_copy_from_converging() {
    let (mut world, current, next) = grow();
    let throttled = |stage| {
        let mut order = order(stage, 0, &next);
        order.copy.points_per_s_max = Some(5);
        Some(order)
    };
    world.direct(&[1, 2], &current, throttled(Stage::Prepare));
    world.direct(&[1, 2], &current, throttled(Stage::Copy));
    let id = moving(&next)[0];
    for value in 0..600 {
        world.write(1, id, Some(1_000 + value));
        world.pass(100);
    }
    assert_eq!(world.report(1).outgoing[0].state, CopyState::Converged);
}

#[test]
fn an_id_whose_write_fails_while_a_comparison_leaves_it_out_is_compared_again() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    let ids = moving(&next);
    let id = ids[0];
    // The recipient lacks what the donor holds, and the next pass can't tell: a write to the id is under way.
    world.nodes.get_mut(&ShardId(2)).unwrap().engine.points.remove(&(WORDS, PointId::from(id)));
    world.restart(2);
    world.slow = Some(Vec::new());
    let failing = world.write(1, id, Some(77));
    let under_way = world.slow.take();
    let passes = world.report(1).outgoing[0].passes;
    // The frame of a write that changes nothing finds that the recipient has restarted.
    world.write(1, ids[1], Some(first_value(ids[1])));
    world.pass(2_000);
    world.slow = under_way;
    let report = world.report(1).outgoing[0].clone();
    assert!(report.passes > passes && report.state == CopyState::Converged, "{report:?}");
    assert_eq!(world.value_at(2, id), None, "the pass left the id out");
    world.fail_requests();
    assert!(world.delivered(1, failing), "the engine's own answer is delivered");
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(2_000);
    let proof = world.report(1).outgoing[0].proof.expect("drained");
    assert_eq!(proof.donor.points, ids.len() as u64);
    assert_eq!(world.value_at(2, id), Some(first_value(id)));
}

#[test]
fn an_acknowledgement_that_back_pressure_holds_back_is_given_when_the_fence_begins() {
    let (mut world, current, next) = grow();
    copy(&mut world, &current, &next);
    // Nothing reaches the recipient, and writers dirty more ids than a fence can hand over.
    world.parked = Some(Vec::new());
    let goes =
        |id: &String| next.owner(PointId::from(id.as_str()).placement_key()) == Some(ShardId(2));
    for id in (0..).map(|number| format!("id-{number}")).filter(goes).take(3_000) {
        let token = world.write(1, &id, Some(1));
        assert!(world.delivered(1, token), "{id}: nothing is held back yet");
    }
    world.pass(1_000);
    let id = moving(&next)[0];
    let written = world.write(1, id, Some(77));
    assert_eq!(world.value_at(1, id), Some(77));
    assert!(!world.delivered(1, written), "the engine is done, the acknowledgement is held back");
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    assert!(world.delivered(1, written), "it is given before the fence can lead to the move");
    world.release_frames(|_| {});
    world.pass(5_000);
    assert!(world.report(1).outgoing[0].proof.is_some());
    world.direct(&[2, 1], &next, None);
    world.pass(500);
    assert_eq!(world.value_at(2, id), Some(77));
    let answers = &world.nodes[&ShardId(1)].answers[&written];
    assert!(matches!(answers.as_slice(), [Answer::Go { .. }, Answer::Deliver]), "{answers:?}");
}

#[test]
fn writes_that_go_on_keep_no_pass_from_ending_though_the_recipient_is_slow() {
    let (mut world, current, next) = grow();
    world.direct(&[1, 2], &current, Some(order(Stage::Prepare, 0, &next)));
    world.parked = Some(Vec::new());
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    let ids = moving(&next);
    for round in 0..300 {
        // There is always something written since the last frame, and always a frame on its way.
        world.write(1, ids[round % ids.len()], Some(1_000 + round as u32));
        if round % 2 == 0 {
            world.release_oldest_frame();
        }
        world.pass(1);
    }
    let report = world.report(1).outgoing[0].clone();
    assert!(report.passes >= 2, "only {} passes ended in 150 round trips", report.passes);
    assert_eq!(report.state, CopyState::Converged);
}
