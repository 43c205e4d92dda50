//! Operations on named points, step by step.

use sheaf_protocol::Refusal;
use sheaf_router::{CallId, Event, Op, Outcome, Reason, Verdict};
use sheaf_types::{MapVersion, ShardId, Time};

use crate::world::{DEADLINE, World, done, keys, map};

fn moved(version: u64) -> Outcome {
    Outcome::Refused(Refusal::Moved { version: MapVersion(version) })
}

fn unavailable() -> Outcome {
    Outcome::Refused(Refusal::EngineUnavailable { reason: "restarting".into() })
}

fn write(count: u64) -> Op {
    Op::Write { keys: keys(count) }
}

#[test]
fn a_read_of_one_point_is_one_call_to_its_owner() {
    let mut world = World::new(map(3, [1]), Op::Read { keys: keys(1) });
    assert_eq!(world.asks(), [(1, 3, vec![0])]);
    world.reply(1, done(3));
    let complete = Verdict::Complete { version: MapVersion(3), calls: vec![CallId(1)] };
    assert_eq!(world.verdict, Some(complete));
}

#[test]
fn a_batch_is_split_by_owner_and_each_item_is_asked_once() {
    let map = map(3, [1, 2, 3]);
    let mut world = World::new(map.clone(), write(50));
    let mut items: Vec<u32> = Vec::new();
    for (shard, _, share) in world.asks() {
        assert!(share.is_sorted());
        for &item in &share {
            assert_eq!(map.owner(keys(50)[item as usize]), Some(ShardId(shard)));
        }
        items.extend(share);
    }
    items.sort_unstable();
    assert_eq!(items, (0..50).collect::<Vec<_>>());
    world.reply(1, done(3)).reply(3, done(3)).reply(2, done(3));
    let calls = vec![CallId(1), CallId(3), CallId(2)];
    assert_eq!(world.verdict, Some(Verdict::Complete { version: MapVersion(3), calls }));
}

#[test]
fn an_empty_batch_is_complete_at_once_and_asks_nobody() {
    for map in [map(3, [1]), map(3, [1, 2])] {
        let world = World::new(map, write(0));
        assert!(world.sent.is_empty());
        assert!(matches!(world.verdict, Some(Verdict::Complete { .. })));
    }
}

#[test]
fn a_moved_item_goes_to_its_new_owner_as_soon_as_the_map_is_there() {
    let mut world = World::new(map(3, [1]), write(20));
    world.reply(1, moved(4));
    assert_eq!(world.last.need_map, Some(MapVersion(4)));
    assert!(world.asks().is_empty());
    let next = map(4, [1, 2]);
    world.adopt(next.clone());
    assert_eq!(world.asks().len(), 2, "both owners are asked, without waiting");
    assert!(world.asks().iter().all(|(_, version, _)| *version == 4));
    world.reply(1, done(4)).reply(2, done(4));
    assert!(matches!(world.verdict, Some(Verdict::Complete { .. })));
}

#[test]
fn only_the_refused_part_of_a_batch_is_asked_again() {
    let mut world = World::new(map(3, [1, 2]), write(20));
    let refused = world.asks().into_iter().find(|ask| ask.0 == 2).unwrap().2;
    world.reply(1, done(3)).reply(2, unavailable());
    assert!(world.asks().is_empty());
    world.wake();
    assert_eq!(world.asks(), [(2, 3, refused)]);
    world.reply(2, done(3));
    assert!(matches!(world.verdict, Some(Verdict::Complete { .. })));
}

#[test]
fn a_lost_write_is_never_asked_again_and_the_rest_of_the_batch_is() {
    let mut world = World::new(map(3, [1, 2, 3]), write(30));
    let asks = world.asks();
    let items = |shard| asks.iter().find(|ask| ask.0 == shard).unwrap().2.clone();
    world.reply(1, Outcome::Lost).reply(2, Outcome::NotSent).reply(3, done(3));
    world.wake().reply(2, done(3));
    let Some(Verdict::Incomplete(incomplete)) = &world.verdict else {
        panic!("{:?}", world.verdict)
    };
    let mut applied = [items(2), items(3)].concat();
    applied.sort_unstable();
    assert_eq!(incomplete.applied, applied);
    assert_eq!(incomplete.unknown, items(1));
    assert_eq!(incomplete.not_applied, []);
    assert_eq!(incomplete.reason, Reason::Lost { shard: ShardId(1) });
    assert_eq!(world.sent.iter().filter(|call| call.shard == ShardId(1)).count(), 1);
}

#[test]
fn a_lost_read_is_asked_again() {
    let mut world = World::new(map(3, [1]), Op::Read { keys: keys(1) });
    world.reply(1, Outcome::Lost).wake();
    assert_eq!(world.asks(), [(1, 3, vec![0])]);
    world.reply(1, done(3));
    assert!(matches!(world.verdict, Some(Verdict::Complete { .. })));
}

#[test]
fn at_the_deadline_what_is_under_way_is_unknown_and_what_waits_is_not_applied() {
    let mut world = World::new(map(3, [1, 2, 3]), write(30));
    let asks = world.asks();
    let items = |shard| asks.iter().find(|ask| ask.0 == shard).unwrap().2.clone();
    world.reply(1, done(3));
    world.now = Time(DEADLINE.0 - 1);
    world.reply(2, unavailable()).at(DEADLINE.0);
    let Some(Verdict::Incomplete(incomplete)) = &world.verdict else {
        panic!("{:?}", world.verdict)
    };
    assert_eq!(incomplete.applied, items(1));
    assert_eq!(incomplete.not_applied, items(2));
    assert_eq!(incomplete.unknown, items(3));
    assert_eq!(incomplete.reason, Reason::Lost { shard: ShardId(3) });
}

#[test]
fn a_shard_is_asked_to_answer_before_the_client_gives_up() {
    let world = World::new(map(3, [1]), write(1));
    assert!(world.sent[0].answer_by < DEADLINE);
    assert!(world.sent[0].answer_by > Time(DEADLINE.0 / 2));
}

#[test]
fn a_final_error_of_one_shard_ends_the_batch_once_the_others_have_answered() {
    let mut world = World::new(map(3, [1, 2, 3]), write(30));
    world.reply(1, unavailable()).reply(2, Outcome::Failed);
    assert_eq!(world.verdict, None, "what is under way is waited for");
    world.reply(3, done(3));
    let Some(Verdict::Incomplete(incomplete)) = &world.verdict else {
        panic!("{:?}", world.verdict)
    };
    assert_eq!(incomplete.reason, Reason::Failed { call: CallId(2), shard: ShardId(2) });
    assert_eq!(incomplete.unknown, []);
    assert!(!incomplete.applied.is_empty() && !incomplete.not_applied.is_empty());
}

#[test]
fn a_collection_that_the_shards_newer_map_has_not_is_not_looked_for_again() {
    let mut world = World::new(map(3, [1]), write(1));
    let refusal = Refusal::NoCollection { version: MapVersion(4) };
    world.reply(1, Outcome::Refused(refusal.clone()));
    let Some(Verdict::Incomplete(incomplete)) = &world.verdict else {
        panic!("{:?}", world.verdict)
    };
    assert_eq!(incomplete.reason, Reason::Refused { shard: ShardId(1), refusal });
}

#[test]
fn without_shards_the_answer_says_so_at_once() {
    let world = World::new(map(1, []), write(2));
    let Some(Verdict::Incomplete(incomplete)) = &world.verdict else {
        panic!("{:?}", world.verdict)
    };
    assert_eq!(incomplete.reason, Reason::NoShards);
    assert_eq!(incomplete.not_applied, [0, 1]);
}

#[test]
fn an_older_map_or_one_of_another_cluster_changes_nothing() {
    let mut world = World::new(map(3, [1]), write(5));
    world.reply(1, moved(4));
    world.adopt(map(2, [2]));
    assert!(world.asks().is_empty());
    assert_eq!(world.last.need_map, Some(MapVersion(4)));
}

#[test]
fn a_second_reply_to_a_call_and_anything_after_the_answer_change_nothing() {
    let mut world = World::new(map(3, [1, 2]), write(20));
    let call = world.asks().len() as u64;
    assert_eq!(call, 2);
    let first = *world.open.keys().next().unwrap();
    world.say(Event::Replied { call: first, outcome: done(3) });
    world.say(Event::Replied { call: first, outcome: Outcome::Lost });
    world.reply(2, done(3));
    assert!(matches!(world.verdict, Some(Verdict::Complete { .. })));
    world.say(Event::Replied { call: first, outcome: Outcome::Lost }).at(DEADLINE.0);
    assert_eq!(world.last, Default::default());
}
