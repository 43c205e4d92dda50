//! Operations on all points, step by step.

use sheaf_protocol::Refusal;
use sheaf_router::{CallId, Event, Op, Outcome, Reason, Verdict};
use sheaf_types::{MapVersion, ShardId};

use crate::world::{DEADLINE, World, done, map};

fn other_version(version: u64) -> Outcome {
    Outcome::Refused(Refusal::OtherVersion { version: MapVersion(version) })
}

fn complete(world: &World) -> (u64, Vec<u64>) {
    match &world.verdict {
        Some(Verdict::Complete { version, calls }) => {
            (version.0, calls.iter().map(|call| call.0).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn reason(world: &World) -> &Reason {
    match &world.verdict {
        Some(Verdict::Incomplete(incomplete)) => &incomplete.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_shard_is_asked_once_and_all_answers_make_the_whole() {
    let mut world = World::new(map(3, [1, 2, 5]), Op::Gather);
    assert_eq!(world.asks(), [(1, 3, vec![]), (2, 3, vec![]), (5, 3, vec![])]);
    world.reply(5, done(3)).reply(1, done(3));
    assert_eq!(world.verdict, None);
    world.reply(2, done(3));
    assert_eq!(complete(&world), (3, vec![1, 2, 3]));
}

#[test]
fn one_shard_at_a_newer_version_throws_all_answers_away() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    let late = *world.open.keys().nth(1).unwrap();
    world.reply(1, other_version(4));
    assert_eq!(world.last.need_map, Some(MapVersion(4)));
    assert_eq!(world.last.discard, [CallId(1), CallId(2)]);
    world.adopt(map(4, [1, 2, 3]));
    assert_eq!(world.asks().len(), 3);
    // An answer of the first round doesn't count in the second.
    world.say(Event::Replied { call: late, outcome: done(3) });
    world.reply(1, done(4)).reply(3, done(4));
    assert_eq!(world.verdict, None);
    world.reply(2, done(4));
    assert_eq!(complete(&world), (4, vec![3, 4, 5]));
}

#[test]
fn an_answer_at_another_version_than_asked_is_not_taken() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(1, done(3)).reply(2, done(4));
    assert_eq!(world.verdict, None);
    assert_eq!(world.last.discard, [CallId(1), CallId(2)]);
    assert_eq!(world.last.need_map, Some(MapVersion(4)));
}

#[test]
fn a_shard_that_is_only_away_is_asked_again_alone_at_the_same_version() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(1, done(3)).reply(2, Outcome::NotSent).wake();
    assert_eq!(world.asks(), [(2, 3, vec![])]);
    world.reply(2, Outcome::Lost).wake().reply(2, done(3));
    assert_eq!(complete(&world), (3, vec![1, 4]));
}

#[test]
fn a_shard_that_has_to_be_asked_again_after_a_newer_map_restarts_all() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(1, done(3)).reply(2, Outcome::NotSent).adopt(map(4, [1, 2]));
    assert_eq!(world.asks(), [(1, 4, vec![]), (2, 4, vec![])]);
    world.reply(1, done(4)).reply(2, done(4));
    assert_eq!(complete(&world).0, 4);
}

#[test]
fn a_newer_map_alone_does_not_disturb_answers_under_way() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(1, done(3)).adopt(map(4, [1, 2])).reply(2, done(3));
    assert_eq!(complete(&world), (3, vec![1, 2]));
}

#[test]
fn one_shards_final_error_ends_the_gather() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(2, Outcome::Failed);
    assert_eq!(*reason(&world), Reason::Failed { call: CallId(2), shard: ShardId(2) });
}

#[test]
fn at_the_deadline_the_silent_shard_is_named() {
    let mut world = World::new(map(3, [1, 2]), Op::Gather);
    world.reply(1, done(3)).at(DEADLINE.0);
    assert_eq!(*reason(&world), Reason::Lost { shard: ShardId(2) });
}

#[test]
fn a_map_without_shards_is_not_an_empty_answer() {
    let world = World::new(map(1, []), Op::Gather);
    assert_eq!(*reason(&world), Reason::NoShards);
}
