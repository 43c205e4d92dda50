//! Defects that another cluster layer shipped, tried on two gates at every moment at which they could happen here.
//!
//! `docs/REGRESSIONS.md` lists all of them, and where each one is caught. Asserts nothing about time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::world::{WORDS, World, config, map_of, map_with, order};
use sheaf_gate::{Answer, Change, Operation, Request, Scope};
use sheaf_map::Map;
use sheaf_protocol::{CopyState, Order, Refusal, Stage};
use sheaf_types::collection::{FieldType, FilterableField};
use sheaf_types::{
    CollectionConfig, CollectionId, IndexKind, MapVersion, Metric, PointId, ShardId, TransitionId,
    VectorEncryption,
};

const IDS: [&str; 12] = ["", "a", "a/b", "a?b", "b", "c", "d", "doc#3", "e", "zz", "ünïcode", "🦀"];

/// What a shard holds of a collection.
type Held = BTreeMap<String, u32>;

/// Shard 1 owns everything, the n-th id has the value n; shard 2 is prepared to join.
fn prepared() -> (World, Arc<Map>, Arc<Map>) {
    let mut world = World::new(&[1, 2]);
    let (current, next) = (map_of(1, 0, &[1]), map_of(2, 1, &[1, 2]));
    world.direct(&[1], &current, None);
    for (value, id) in (0..).zip(IDS) {
        world.write(1, id, Some(value));
    }
    world.direct(&[1, 2], &current, Some(order(Stage::Prepare, 0, &next)));
    (world, current, next)
}

/// Shard 2 holds a copy of what moves to it.
fn copied() -> (World, Arc<Map>, Arc<Map>) {
    let (mut world, current, next) = prepared();
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(100);
    assert_eq!(world.report(1).outgoing[0].state, CopyState::Converged);
    (world, current, next)
}

fn fence(world: &mut World, current: &Arc<Map>, next: &Arc<Map>) {
    world.direct(&[1, 2], current, Some(order(Stage::Fence, 1, next)));
    world.pass(1_000);
    let proof = world.report(1).outgoing[0].proof.expect("proven");
    assert_eq!(proof.donor, proof.recipient);
}

/// Fences, commits, and sweeps.
fn finish(world: &mut World, current: &Arc<Map>, next: &Arc<Map>) {
    fence(world, current, next);
    world.direct(&[2, 1], next, None);
    world.pass(500);
}

fn moves(next: &Map, id: &str) -> bool {
    next.owner(PointId::from(id).placement_key()) == Some(ShardId(2))
}

fn moving(next: &Map) -> Vec<&'static str> {
    IDS.into_iter().filter(|id| moves(next, id)).collect()
}

fn held(world: &World, shard: u64, collection: u64) -> Held {
    let points = &world.nodes[&ShardId(shard)].engine.points;
    let of = points.iter().filter(|(key, _)| key.0 == CollectionId(collection));
    of.map(|(key, point)| (key.1.to_string(), point.body.vector()[0] as u32)).collect()
}

/// What `prepared` wrote, of the ids that move or of those that stay.
fn first_values(next: &Map, goes: bool) -> Held {
    let all = IDS.into_iter().zip(0..).filter(|(id, _)| moves(next, id) == goes);
    all.map(|(id, value)| (id.to_owned(), value)).collect()
}

fn order_of(transition: u64, stage: Stage, attempt: u64, next: &Arc<Map>) -> Order {
    Order { transition: TransitionId(transition), ..order(stage, attempt, next) }
}

/// Writes to one id after every single step of a copy, in a run of its own each, and finishes the transition.
fn write_after_every_step(id_of: impl Fn(&[&'static str]) -> &'static str, value: Option<u32>) {
    for at in 0.. {
        let (mut world, current, next) = prepared();
        let id = id_of(&moving(&next));
        world.direct_later(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
        for _ in 0..at {
            world.step_or_wait();
        }
        let over = world.report(1).outgoing.iter().all(|mv| mv.state == CopyState::Converged);
        world.write_at_once(1, id, value);
        world.run();
        world.pass(200);
        finish(&mut world, &current, &next);
        let mut expected = first_values(&next, true);
        match value {
            Some(value) => expected.insert(id.to_owned(), value),
            None => expected.remove(id),
        };
        assert_eq!(held(&world, 2, 1), expected, "{id:?} was written after step {at}");
        assert_eq!(held(&world, 1, 1), first_values(&next, false));
        if over {
            assert!(at > 30, "a copy of many frames has more than {at} steps");
            return;
        }
    }
}

/// Quiver 1.1 D1: a copier read v1, a router wrote v2 and was acknowledged, and the copier then put v1 over it.
#[test]
fn an_acknowledged_update_is_never_replaced_by_a_copy_that_was_read_before_it() {
    write_after_every_step(|moving| moving[0], Some(77));
    write_after_every_step(|moving| moving[moving.len() - 1], Some(77));
}

/// Quiver 1.1 D2: a copier read a point, a client deleted it and was acknowledged, and the copier brought it back.
#[test]
fn an_acknowledged_delete_is_never_undone_by_a_copy_that_was_read_before_it() {
    write_after_every_step(|moving| moving[1], None);
}

/// Quiver 1.1 D3: when a point couldn't be read again, the copier sent what it had read a page ago.
#[test]
fn what_can_not_be_read_is_read_again_and_holds_up_the_proof_meanwhile() {
    let (mut world, current, next) = copied();
    let id = moving(&next)[0];
    world.nodes.get_mut(&ShardId(1)).unwrap().failing_reads = u32::MAX;
    let written = world.write(1, id, Some(77));
    assert!(world.delivered(1, written));
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(5_000);
    assert_eq!(world.report(1).outgoing[0].proof, None);
    world.nodes.get_mut(&ShardId(1)).unwrap().failing_reads = 0;
    world.pass(5_000);
    assert!(world.report(1).outgoing[0].proof.is_some());
    assert_eq!(world.value_at(2, id), Some(77));
}

/// Quiver 1.1 D4: pages were found by offset, so a delete before the page made the copier step over a live point.
#[test]
fn a_delete_behind_the_cursor_hides_no_point_ahead_of_it() {
    write_after_every_step(|moving| moving[0], None);
}

/// Quiver 1.1 D6: a failed join left its copies on the node, and the next one took them for current.
#[test]
fn a_node_that_joins_again_has_nothing_left_of_the_join_that_was_given_up() {
    let (mut world, current, next) = copied();
    world.direct(&[1], &current, None); // Given up; the recipient is away and sweeps nothing.
    world.restart(2);
    let (updated, deleted) = (moving(&next)[0], moving(&next)[1]);
    world.write(1, updated, Some(77));
    world.write(1, deleted, None);
    let next = map_of(2, 2, &[1, 2]);
    let stale = held(&world, 2, 1);
    assert!(stale.contains_key(deleted) && stale[updated] != 77);
    world.direct(&[1, 2], &current, Some(order_of(2, Stage::Prepare, 0, &next)));
    world.pass(500);
    assert!(world.report(2).prepared);
    assert_eq!(held(&world, 2, 1), Held::new(), "it says prepared when it is empty");
    world.direct(&[1, 2], &current, Some(order_of(2, Stage::Copy, 0, &next)));
    world.pass(500);
    world.direct(&[1, 2], &current, Some(order_of(2, Stage::Fence, 1, &next)));
    world.pass(500);
    world.direct(&[2, 1], &next, None);
    world.pass(500);
    let mut expected = first_values(&next, true);
    expected.insert(updated.to_owned(), 77);
    expected.remove(deleted);
    assert_eq!(held(&world, 2, 1), expected);
}

fn write_at(world: &mut World, shard: u64, version: u64, id: &str) -> sheaf_gate::Token {
    let token = world.token();
    let request = Request {
        version: Some(MapVersion(version)),
        shard: Some(ShardId(shard)),
        collection: "words".into(),
        operation: Operation::Write { ids: vec![id.into()], change: Change::Upsert },
        deadline: world.now.plus_ms(1_000),
    };
    world.event(shard, sheaf_gate::Event::Requested { token, request });
    token
}

/// Quiver 1.1 D9: a router that was cut off kept its old map and wrote to the donor, which acknowledged.
#[test]
fn no_time_makes_a_donor_acknowledge_a_write_of_an_old_map_once_it_is_fenced() {
    let (mut world, current, next) = copied();
    let id = moving(&next)[0];
    fence(&mut world, &current, &next);
    let before = (held(&world, 1, 1), held(&world, 2, 1));
    for _ in 0..5 {
        let token = write_at(&mut world, 1, 1, id);
        world.pass(60_000); // The coordinator is silent; it may have committed.
        let refused = Refusal::Fenced { version: current.version() };
        assert_eq!(world.refusal(1, token), Some(refused));
    }
    world.restart(1);
    let token = write_at(&mut world, 1, 1, id);
    world.pass(60_000);
    assert!(world.refusal(1, token).is_some());
    assert_eq!((held(&world, 1, 1), held(&world, 2, 1)), before, "nothing was applied");
    world.direct(&[2, 1], &next, None);
    let token = write_at(&mut world, 1, 1, id);
    assert_eq!(world.refusal(1, token), Some(Refusal::Moved { version: next.version() }));
}

/// Quiver 1.1 D10: a write that was under way when the grace time ended landed on the donor after the copy had passed.
#[test]
fn a_fence_is_proven_only_after_every_write_that_was_admitted_before_it_however_long_that_takes() {
    let (mut world, current, next) = copied();
    let id = moving(&next)[0];
    world.slow = Some(Vec::new());
    let slow = world.write(1, id, Some(77));
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(100_000);
    assert_eq!(world.report(1).outgoing[0].proof, None, "the engine may still apply it");
    world.release_requests();
    assert!(world.delivered(1, slow));
    world.pass(100);
    assert!(world.report(1).outgoing[0].proof.is_some());
    assert_eq!(world.value_at(2, id), Some(77));
}

/// Quiver 1.1 D11: two routers wrote to both shards in opposite orders, and the copies differed for ever.
#[test]
fn frames_that_arrive_in_any_order_and_twice_leave_both_sides_the_same() {
    let (mut world, current, next) = copied();
    let id = moving(&next)[0];
    world.parked = Some(Vec::new());
    for value in [Some(70), None, Some(71), Some(72)] {
        world.write(1, id, value);
    }
    world.release_frames(|frames| {
        assert!(frames.len() >= 3, "{} frames are on their way", frames.len());
        let again = frames.clone();
        frames.reverse();
        frames.extend(again);
    });
    world.pass(5_000);
    assert_eq!(world.value_at(2, id), Some(72));
    finish(&mut world, &current, &next);
    assert_eq!(world.value_at(2, id), Some(72));
}

/// Quiver 1.1 D13: before it deleted a point, the donor asked only whether the recipient had any point of that id.
#[test]
fn a_point_that_is_there_with_another_value_is_not_taken_for_copied() {
    let (mut world, current, next) = copied();
    let ids = moving(&next);
    let of = |id: &str| (WORDS, PointId::from(id));
    let points = &mut world.nodes.get_mut(&ShardId(2)).unwrap().engine.points;
    let body = points[&of(ids[1])].body.clone();
    let other = sheaf_types::StoredPoint::new(WORDS, ids[0].into(), body);
    points.insert(of(ids[0]), other);
    world.restart(2); // A new stream, and a recipient that can't say that it is empty.
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(2_000);
    finish(&mut world, &current, &next);
    assert_eq!(held(&world, 2, 1), first_values(&next, true));
}

/// Quiver 1.1 D14: until the clean-up ended, searches found the donor's old copies of points that had moved.
#[test]
fn a_donor_that_has_not_swept_shows_nothing_of_what_has_left() {
    let (mut world, current, next) = copied();
    fence(&mut world, &current, &next);
    let directive = world.directive(1, 100, &next, None);
    world.direct_with(1, sheaf_protocol::Directive { sweep: false, ..directive });
    world.pass(1_000);
    assert_eq!(held(&world, 1, 1).len(), IDS.len(), "nothing is swept without permission");
    let search = world.token();
    world.request(1, search, Operation::Gather);
    let answers = &world.nodes[&ShardId(1)].answers[&search];
    let Answer::Go { scope: Scope::Owned { map, me }, .. } = &answers[0] else {
        panic!("everything is shown: {answers:?}");
    };
    assert_eq!((map.version(), *me), (next.version(), ShardId(1)));
}

/// Quiver 1.1 D15: a collection that was created while points moved was not part of the move.
#[test]
fn a_collection_that_is_created_during_a_copy_moves_with_the_others() {
    let (mut world, _, _) = copied();
    let both = [config("words"), config("films")];
    let (current, next) = (map_with(2, 0, &[1], &both), map_with(3, 1, &[1, 2], &both));
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.collection = "films";
    for (value, id) in (0..).zip(IDS) {
        let token = world.write(1, id, Some(value));
        assert!(world.delivered(1, token), "{id:?}");
    }
    world.pass(1_000);
    finish(&mut world, &current, &next);
    for collection in [1, 2] {
        assert_eq!(held(&world, 2, collection), first_values(&next, true));
        assert_eq!(held(&world, 1, collection), first_values(&next, false));
    }
}

/// Quiver 1.1 D16: a collection that was dropped while points moved ended the migration with an error.
#[test]
fn a_collection_that_is_dropped_during_a_copy_is_gone_on_both_sides_and_the_others_move() {
    let mut world = World::new(&[1, 2]);
    let both = [config("words"), config("films")];
    let (current, next) = (map_with(1, 0, &[1], &both), map_with(2, 1, &[1, 2], &both));
    world.direct(&[1], &current, None);
    for collection in ["words", "films"] {
        world.collection = collection;
        for (value, id) in (0..).zip(IDS) {
            world.write(1, id, Some(value));
        }
    }
    for stage in [Stage::Prepare, Stage::Copy] {
        world.direct(&[1, 2], &current, Some(order(stage, 0, &next)));
    }
    world.pass(100);
    assert_eq!(held(&world, 2, 2), first_values(&next, true));
    let (current, next) = (map_of(2, 0, &[1]), map_of(3, 1, &[1, 2]));
    world.direct(&[1, 2], &current, Some(order(Stage::Copy, 0, &next)));
    world.pass(1_000);
    finish(&mut world, &current, &next);
    assert_eq!((held(&world, 1, 2), held(&world, 2, 2)), (Held::new(), Held::new()));
    assert_eq!(held(&world, 2, 1), first_values(&next, true));
}

/// Quiver 1.1 D17: the new shard's collection was created without its binary quantisation.
#[test]
fn a_new_shard_creates_each_collection_with_the_whole_configuration() {
    let films = CollectionConfig {
        name: "films".into(),
        dim: 7,
        metric: Metric::Cosine,
        index: IndexKind::Ivf,
        pq_subspaces: Some(8),
        binary: Some(true),
        filterable: vec![FilterableField { path: "year".into(), field_type: FieldType::Numeric }],
        multivector: Some(true),
        vector_encryption: VectorEncryption::Dcpe,
    };
    let mut world = World::new(&[1, 2]);
    let both = [config("words"), films.clone()];
    let (current, next) = (map_with(1, 0, &[1], &both), map_with(2, 1, &[1, 2], &both));
    world.direct(&[1], &current, None);
    world.direct(&[1, 2], &current, Some(order(Stage::Prepare, 0, &next)));
    for shard in [1, 2] {
        assert_eq!(*world.nodes[&ShardId(shard)].configs[&CollectionId(2)], films);
    }
}

/// Quiver 1.1 D22: every page of a copy read the whole collection.
#[test]
fn a_pass_reads_each_moving_point_once() {
    let (mut world, _, next) = copied();
    let passes = world.report(1).outgoing[0].passes as usize;
    let scans = &world.nodes[&ShardId(1)].scans;
    let read: usize = scans.iter().map(|(_, points)| points).sum();
    assert_eq!(read, passes * moving(&next).len());
    assert!(scans.windows(2).all(|pair| pair[0].0 < pair[1].0 || pair[1].0.is_none()));
}
