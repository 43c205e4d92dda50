//! Who may join and leave, what is refused, and what an ask with a key or an expectation comes to.

use crate::world::{StoreMood, World, options, shard, url};
use sheaf_coordinator::{
    Ask, AskRefusal, AutoscaleConfig, Config, Health, NewShard, Outcome, PlanRequest, Reply,
};
use sheaf_types::limits::QUEUED_TRANSITIONS_MAX;
use sheaf_types::{
    ClusterId, CollectionConfig, IndexKind, MapVersion, Metric, ShardId, StoreId, TransitionId,
};

fn grow(n: u64) -> Ask {
    Ask::Grow { shards: vec![NewShard::at(&url(n))], options: options() }
}

fn collection(name: &str) -> CollectionConfig {
    CollectionConfig {
        name: name.to_owned(),
        dim: 3,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    }
}

#[test]
fn the_first_shards_are_in_the_map_at_once() {
    let mut world = World::unborn(3, Config::default());
    world.tick();
    let shards = vec![NewShard::at("HTTP://Node-1:7000/"), NewShard::at(&url(2))];
    let reply = world.ask(Ask::AddShards { shards }).unwrap();
    let shards = vec![shard(1), shard(2)];
    assert_eq!(reply, Reply::Added { shards, version: MapVersion(2) });
    assert_eq!(world.core.map().shard_by_url(&url(1)).unwrap().id, ShardId(1));
}

#[test]
fn a_shard_is_added_to_an_empty_cluster_by_a_transition_and_refused_when_there_are_points() {
    let mut world = World::of_shards(2);
    let add = |n| Ask::AddShards { shards: vec![NewShard::at(&url(n))] };
    world.accepted(add(3));
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    world.gate(1).points = 5;
    world.advance(2_000);
    assert_eq!(world.ask(add(4)), Err(AskRefusal::ClusterNotEmpty { points: 5 }));
    // What it held when it was last heard counts.
    world.gate(1).alive = false;
    world.advance(2_000);
    assert_eq!(world.ask(add(4)), Err(AskRefusal::ClusterNotEmpty { points: 5 }));
}

#[test]
fn a_shard_is_added_right_after_the_first_which_nobody_has_heard_yet() {
    let mut world = World::unborn(3, Config::default());
    world.tick();
    let add = |n| Ask::AddShards { shards: vec![NewShard::at(&url(n))] };
    world.ask(add(1)).unwrap();
    world.accepted(add(2));
    world.accepted(add(3));
    world.finish();
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn a_node_that_is_part_of_the_cluster_already_is_refused_with_the_reason() {
    let mut world = World::of_shards(2);
    let refused = |world: &mut World, n| world.ask(grow(n)).unwrap_err();
    let by = "s1".to_owned();
    assert_eq!(refused(&mut world, 1), AskRefusal::UrlTaken { url: url(1), by });

    // The same disk behind another address.
    world.gate(3).store_id = StoreId::from("store-2");
    let taken = AskRefusal::NodeTaken { url: url(3), shard: shard(2) };
    assert_eq!(refused(&mut world, 3), taken);

    world.gate(1).converges = false;
    world.grow(4);
    let by = "s3, which joins by x1".to_owned();
    assert_eq!(refused(&mut world, 4), AskRefusal::UrlTaken { url: url(4), by });
    world.gate(5).store_id = StoreId::from("store-4");
    let taken = AskRefusal::NodeTaken { url: url(5), shard: shard(3) };
    assert_eq!(refused(&mut world, 5), taken);
}

#[test]
fn a_node_that_would_lose_something_or_does_not_answer_is_refused() {
    let mut world = World::of_shards(1);
    world.gate(2).points = 7;
    assert_eq!(world.ask(grow(2)), Err(AskRefusal::NodeNotEmpty { url: url(2), points: 7 }));
    world.gate(3).cluster_id = Some(ClusterId::from("other"));
    let cluster = ClusterId::from("other");
    assert_eq!(world.ask(grow(3)), Err(AskRefusal::OtherCluster { url: url(3), cluster }));
    world.gate(4).alive = false;
    let reason = "nobody listens".to_owned();
    assert_eq!(world.ask(grow(4)), Err(AskRefusal::NodeUnreachable { url: url(4), reason }));
    assert_eq!(world.record().next_shard, ShardId(2), "no id was given out");
}

#[test]
fn one_node_can_not_be_two_shards_of_one_call() {
    let mut world = World::of_shards(1);
    let twice = |a: &str, b: &str| Ask::Grow {
        shards: vec![NewShard::at(a), NewShard::at(b)],
        options: options(),
    };
    assert!(matches!(
        world.ask(twice(&url(2), "http://NODE-2:7000/")),
        Err(AskRefusal::NodeTaken { .. })
    ));
    let mut replicated = NewShard::at(&url(3));
    replicated.replica_urls = vec![url(2)];
    let ask = Ask::Grow { shards: vec![NewShard::at(&url(2)), replicated], options: options() };
    assert!(matches!(world.ask(ask), Err(AskRefusal::UrlTaken { .. })));
}

#[test]
fn a_node_that_has_not_confirmed_that_it_left_can_not_join_until_it_has() {
    let mut world = World::of_shards(3);
    world.gate(2).sweeps = false;
    world.accepted(Ask::Drain { shard: shard(2), options: options() });
    world.advance_to("sweep");
    let retiring = AskRefusal::NodeRetiring { url: url(2), shard: shard(2) };
    assert_eq!(world.ask(grow(2)), Err(retiring));
    world.gate(2).sweeps = true;
    world.finish();
    world.accepted(grow(2));
}

#[test]
fn a_shard_that_owns_something_is_removed_only_by_who_accepts_the_loss_and_its_disk_is_kept() {
    let mut world = World::of_shards(2);
    let remove = |accept_data_loss| Ask::Remove { shard: shard(2), accept_data_loss };
    assert_eq!(world.ask(remove(false)), Err(AskRefusal::StillOwns { shard: shard(2) }));
    world.gate(2).points = 9;
    world.gate(2).clean = false;
    let version = MapVersion(world.version() + 1);
    assert_eq!(world.ask(remove(true)), Ok(Reply::Removed { shard: shard(2), version }));
    world.advance(5_000);
    let told = world.gate(2).follows().unwrap().clone();
    assert!(told.retired && !told.sweep, "it knows, and keeps what it has");
    assert!(!world.gate(2).clean);
    assert_eq!(world.map_ids(), [1]);
    assert_eq!(world.ask(remove(false)), Ok(Reply::Forgotten { shard: shard(2) }));
    let unknown = AskRefusal::UnknownShard { shard: shard(2) };
    assert_eq!(world.ask(remove(true)), Err(unknown));
}

#[test]
fn nothing_is_removed_while_a_transition_may_still_commit() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let transition = world.grow(3);
    let remove = Ask::Remove { shard: shard(2), accept_data_loss: true };
    assert_eq!(world.ask(remove), Err(AskRefusal::Busy { transition }));
}

#[test]
fn a_recipient_lost_after_the_commit_can_be_given_up_by_who_accepts_the_loss() {
    let mut world = World::of_shards(2);
    world.grow(3);
    world.advance_to("committed");
    world.gate(3).alive = false;
    world.advance(10_000);
    let remove = Ask::Remove { shard: shard(3), accept_data_loss: true };
    assert!(matches!(world.ask(remove), Ok(Reply::Removed { .. })));
    world.finish();
    assert_eq!(world.map_ids(), [1, 2]);
}

#[test]
fn the_last_shard_is_not_drained_and_unknown_ones_are_refused() {
    let mut world = World::of_shards(1);
    let drain = |n| Ask::Drain { shard: shard(n), options: options() };
    assert_eq!(world.ask(drain(1)), Err(AskRefusal::LastShard { shard: shard(1) }));
    assert_eq!(world.ask(drain(9)), Err(AskRefusal::UnknownShard { shard: shard(9) }));
}

#[test]
fn a_shard_is_drained_once() {
    let mut world = World::of_shards(3);
    world.gate(1).converges = false;
    let drain = || Ask::Drain { shard: shard(1), options: options() };
    let transition = world.accepted(drain());
    world.advance_to("copy");
    let refused = AskRefusal::InTransition { shard: shard(1), transition };
    assert_eq!(world.ask(drain()), Err(refused));
}

#[test]
fn the_queue_is_bounded() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    world.grow(3);
    world.advance_to("copy");
    let weigh = |thousandths| Ask::Reweight {
        shard: shard(1),
        weight: sheaf_map::Weight::from_thousandths(thousandths).unwrap(),
        options: options(),
    };
    for n in 0..QUEUED_TRANSITIONS_MAX as u32 {
        world.accepted(weigh(2_000 + n));
    }
    let limit = QUEUED_TRANSITIONS_MAX;
    assert_eq!(world.ask(weigh(1_000)), Err(AskRefusal::QueueFull { limit }));
}

#[test]
fn a_repeat_with_the_same_key_gets_the_first_answer_also_after_a_restart() {
    let mut world = World::of_shards(2);
    let first = world.ask_with(grow(3), Some("k"), None).unwrap();
    assert_eq!(world.ask_with(grow(3), Some("k"), None), Ok(first.clone()));
    world.restart();
    world.advance(10);
    assert_eq!(world.ask_with(grow(3), Some("k"), None), Ok(first));
    let reused = AskRefusal::KeyReused { key: "k".to_owned() };
    assert_eq!(world.ask_with(grow(4), Some("k"), None), Err(reused));
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3], "it was done once");
}

#[test]
fn two_asks_with_the_same_key_at_the_same_time_are_done_once() {
    let mut world = World::of_shards(2);
    let tokens = [0, 1].map(|_| world.ask_later(grow(3), Some("k"), None));
    world.advance(100);
    assert_eq!(world.answers[&tokens[0]], world.answers[&tokens[1]]);
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn an_ask_based_on_another_map_is_refused() {
    let mut world = World::of_shards(2);
    let version = MapVersion(world.version());
    let expected = MapVersion(1);
    let refused = world.ask_with(grow(3), None, Some(expected));
    assert_eq!(refused, Err(AskRefusal::OtherVersion { expected, version }));
    assert!(world.ask_with(grow(3), None, Some(version)).is_ok());
}

#[test]
fn an_ask_that_waits_too_long_is_refused_and_nothing_is_changed() {
    let mut world = World::of_shards(2);
    world.mood = StoreMood::Hangs;
    let first = world.ask_later(Ask::CreateCollection { config: collection("a") }, None, None);
    let second = world.ask_later(grow(3), None, None);
    world.advance(6_000);
    assert!(!world.answers.contains_key(&first), "its outcome isn't known");
    assert_eq!(world.answers[&second], Err(AskRefusal::TimedOut));
}

#[test]
fn a_transition_is_given_up_by_its_operator_in_every_phase_before_the_commit_and_in_none_after() {
    for phase in ["prepare", "copy", "fence"] {
        let mut world = World::of_shards(2);
        world.gate(1).drains = false;
        let transition = world.grow(3);
        world.advance_to(phase);
        world.gate(3).sweeps = false;
        world.ask(Ask::Cancel { transition }).unwrap();
        assert_eq!(world.phase(), "abort");
        world.advance(100);
        assert!(world.gate(1).follows().unwrap().order.is_none(), "donors let go at once");
        let again = AskRefusal::Aborting { transition };
        assert_eq!(world.ask(Ask::Cancel { transition }), Err(again));
        world.gate(3).sweeps = true;
        world.finish();
        assert_eq!(world.map_ids(), [1, 2], "cancelled in {phase}");
        assert_eq!(world.core.report(transition).unwrap().outcome, Outcome::Aborted);
        assert_eq!(world.gate(3).shard(), None);
        // The node may join again, under a new id.
        world.gate(1).drains = true;
        world.grow(3);
        world.finish();
        assert_eq!(world.map_ids(), [1, 2, 4]);
    }
    for phase in ["committed", "sweep"] {
        let mut world = World::of_shards(2);
        let transition = world.grow(3);
        world.advance_to(phase);
        let refused = AskRefusal::Committed { transition };
        assert_eq!(world.ask(Ask::Cancel { transition }), Err(refused));
    }
}

#[test]
fn a_coordinator_restarted_in_an_abort_finishes_it() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let transition = world.grow(3);
    world.advance_to("copy");
    world.gate(3).sweeps = false;
    world.ask(Ask::Cancel { transition }).unwrap();
    world.restart();
    world.advance(100);
    assert_eq!(world.phase(), "abort");
    world.gate(3).sweeps = true;
    world.finish();
    assert!(world.record().retiring.is_empty());
}

#[test]
fn a_queued_transition_that_is_cancelled_never_starts() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    world.grow(3);
    let queued = world.grow(4);
    world.ask(Ask::Cancel { transition: queued }).unwrap();
    world.gate(1).converges = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    assert_eq!(world.core.report(queued).unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_recipient_that_is_gone_or_swapped_ends_the_transition_before_the_commit() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    let id = world.grow(3);
    world.advance_to("copy");
    world.gate(3).alive = false;
    world.advance(59_000);
    assert_eq!(world.phase(), "copy");
    world.advance(3_000);
    assert_eq!(world.phase(), "abort");
    world.advance(35_000);
    assert_eq!(world.core.report(id).unwrap().outcome, Outcome::Aborted);
    assert_eq!(world.record().retiring.len(), 1, "it is told when it is back");
    world.gate(3).alive = true;
    world.advance(3_000);
    assert!(world.record().retiring.is_empty());

    let swapped = world.grow(4);
    world.advance_to("copy");
    world.gate(4).store_id = StoreId::from("swapped");
    world.advance(3_000);
    assert!(world.has_history("another data directory, swapped"), "{:?}", world.history());
    world.advance(40_000);
    assert_eq!(world.core.report(swapped).unwrap().outcome, Outcome::Aborted);
}

#[test]
fn a_node_whose_engine_cannot_hold_a_collection_ends_its_transition_with_the_reason() {
    let mut world = World::of_shards(2);
    world.gate(3).cannot_hold = Some("it has one vector for each point".to_owned());
    let id = world.grow(3);
    world.advance(5_000);
    assert!(world.has_history("s3 can't take part: it has one vector"), "{:?}", world.history());
    world.finish();
    assert_eq!(world.core.report(id).unwrap().outcome, Outcome::Aborted);
    assert_eq!(world.map_ids(), [1, 2]);
}

#[test]
fn a_donor_that_is_silent_is_waited_for() {
    let mut world = World::of_shards(2);
    world.gate(1).alive = false;
    world.grow(3);
    world.advance(200_000);
    assert_eq!(world.phase(), "prepare");
    let waiting = world.core.running().unwrap().waiting_for;
    assert_eq!(waiting, ["s1 doesn't answer"]);
    world.gate(1).alive = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn health_tells_suspect_from_down_and_unknown_from_both() {
    let mut world = World::of_shards(2);
    world.advance(100);
    let health =
        |world: &World| world.core.status().shards.iter().map(|s| s.health).collect::<Vec<_>>();
    assert_eq!(health(&world), [Health::Up, Health::Up]);
    world.gate(2).alive = false;
    world.advance(1_500);
    assert_eq!(health(&world), [Health::Up, Health::Suspect]);
    world.advance(4_000);
    assert_eq!(health(&world), [Health::Up, Health::Down]);
    assert_eq!(world.core.health().into_values().collect::<Vec<_>>(), [true, false]);
    world.gate(1).store_id = StoreId::from("swapped");
    world.advance(4_000);
    let reason = world.core.status().shards[0].reason.clone().unwrap();
    assert!(reason.contains("swapped"), "{reason}");
    world.mood = StoreMood::Hangs;
    world.restart();
    assert_eq!(health(&world), [Health::Unknown, Health::Unknown]);
}

#[test]
fn a_plan_counts_what_would_move_and_changes_nothing() {
    let mut world = World::of_shards(2);
    world.gate(1).points = 10_000;
    world.gate(2).points = 20_000;
    world.advance(2_000);
    let revision = world.record().revision;
    let planner = world.core.planner();
    let plan = planner.plan(&PlanRequest::Grow { shards: vec![NewShard::at(&url(3))] }).unwrap();
    assert_eq!(plan.pairs.len(), 2);
    assert!((9_500..10_500).contains(&plan.points), "a third of 30,000: {}", plan.points);
    let points = plan.bytes / 100; // As many bytes a point as the donors have, each pair rounded.
    assert!(points.abs_diff(plan.points) <= plan.pairs.len() as u64, "{points}");
    let drained = planner.plan(&PlanRequest::Drain { shard: shard(2) }).unwrap();
    assert_eq!(drained.points, 20_000);
    assert!(planner.plan(&PlanRequest::Drain { shard: shard(7) }).is_err());
    assert_eq!(world.record().revision, revision);
}

#[test]
fn replicas_are_written_into_the_map_and_into_the_next_one() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    world.grow(3);
    world.advance_to("copy");
    let set = |url: &str| Ask::SetReplicas { shard: shard(1), replica_urls: vec![url.to_owned()] };
    let version = MapVersion(world.version() + 1);
    let done = Reply::Replicated { shard: shard(1), version };
    assert_eq!(world.ask(set("HTTP://replica:1/")), Ok(done.clone()));
    assert_eq!(world.ask(set("http://replica:1")), Ok(done), "it is so already");
    assert!(world.ask(set(&url(2))).is_err(), "another shard's address");
    world.gate(1).converges = true;
    world.finish();
    assert_eq!(world.core.map().shard(shard(1)).unwrap().replica_urls, ["http://replica:1"]);
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

// --- autoscale

fn scaled(autoscale: AutoscaleConfig) -> Config {
    Config { autoscale: AutoscaleConfig { enabled: true, ..autoscale }, ..Config::default() }
}

fn growing() -> AutoscaleConfig {
    AutoscaleConfig {
        high_water_points: 100,
        standby_urls: vec![url(3)],
        interval_secs: 10,
        cooldown_secs: 60,
        ..AutoscaleConfig::default()
    }
}

#[test]
fn autoscale_grows_into_a_standby_once_and_explains_itself() {
    let mut world = World::configured(2, scaled(growing()));
    world.gate(1).points = 150;
    world.advance(12_000);
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    assert!(world.has_history("s1 holds 150 points, above the high-water mark 100"));
    world.advance(100_000);
    assert_eq!(world.map_ids(), [1, 2, 3], "there is no other standby");
    let why = "nothing is done: a shard is above the high-water mark, but there is no standby";
    let times = world.history().iter().filter(|line| *line == why).count();
    assert_eq!(times, 1, "said once: {:?}", world.history());
    // Restarted with the same settings, the consumed standby isn't taken in again.
    world.restart();
    world.advance(100_000);
    assert_eq!(world.core.autoscale().memory.standbys, Vec::<String>::new());
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

#[test]
fn an_unreachable_shard_is_unknown_to_autoscale_and_not_empty() {
    let mut world = World::configured(2, scaled(growing()));
    world.gate(1).points = 150;
    world.gate(2).alive = false;
    world.advance(60_000);
    assert_eq!(world.map_ids(), [1, 2]);
    assert!(world.has_history("nothing is done: s2 doesn't answer, so its load is unknown"));
}

#[test]
fn a_standby_is_given_back_when_its_transition_is_given_up() {
    let mut world = World::configured(2, scaled(growing()));
    world.gate(1).points = 150;
    world.gate(1).converges = false;
    world.advance_to("copy");
    assert!(world.core.autoscale().memory.standbys.is_empty());
    world.ask(Ask::Cancel { transition: TransitionId(1) }).unwrap();
    world.finish();
    assert_eq!(world.core.autoscale().memory.standbys, [url(3)]);
}

#[test]
fn a_standby_that_does_not_answer_makes_room_for_the_next() {
    let standby_urls = vec![url(3), url(4)];
    let mut world = World::configured(2, scaled(AutoscaleConfig { standby_urls, ..growing() }));
    world.gate(1).points = 150;
    world.gate(3).alive = false;
    world.advance(40_000);
    world.finish();
    assert!(world.core.map().shard_by_url(&url(4)).is_some(), "{:?}", world.history());
}

#[test]
fn autoscale_keeps_its_cooldown_and_its_maximum() {
    let standby_urls = vec![url(3), url(4), url(5)];
    let config = AutoscaleConfig { standby_urls, max_shards: 4, ..growing() };
    let mut world = World::configured(2, scaled(config));
    world.gate(1).points = 150;
    world.advance(40_000);
    assert_eq!(world.map_ids().len(), 3, "the cooldown is not over");
    world.advance(60_000);
    assert_eq!(world.map_ids().len(), 4);
    world.advance(200_000);
    assert_eq!(world.map_ids().len(), 4);
    assert!(world.has_history("max_shards is reached"));
}

#[test]
fn scaling_in_is_off_by_default_and_keeps_its_distance_from_scaling_out() {
    let run = |low_water_points| {
        let config = AutoscaleConfig { low_water_points, min_shards: 2, ..growing() };
        let mut world = World::configured(3, scaled(config));
        for n in 1..=3 {
            world.gate(n).points = 10 + n;
        }
        world.advance(30_000);
        world.finish();
        world.advance(100_000);
        (world.map_ids(), world.core.autoscale().memory.standbys)
    };
    assert_eq!(run(0).0, [1, 2, 3]);
    assert_eq!(run(60).0, [1, 2, 3], "more than half of the high-water mark");
    let (ids, standbys) = run(40);
    assert_eq!(ids, [2, 3], "the least loaded one, and no more than min_shards allows");
    assert!(standbys.contains(&url(1)), "its node is a standby: {standbys:?}");
}
