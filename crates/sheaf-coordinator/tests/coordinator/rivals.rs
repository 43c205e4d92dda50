//! Defects that another cluster layer shipped in its control plane, tried on this coordinator.
//!
//! `docs/REGRESSIONS.md` lists all of them, and where each one is caught. Asserts nothing about points: there are none here.

use crate::world::{StoreMood, World, options, shard, url};
use sheaf_coordinator::{Ask, AskRefusal, Config, Health, NewShard, Outcome, Reply};
use sheaf_types::collection::{FieldType, FilterableField};
use sheaf_types::{CollectionConfig, IndexKind, Metric, VectorEncryption};

fn grow(n: u64) -> Ask {
    Ask::Grow { shards: vec![NewShard::at(&url(n))], options: options() }
}

fn drain(n: u64) -> Ask {
    Ask::Drain { shard: shard(n), options: options() }
}

/// A configuration in which nothing has its default.
fn films() -> CollectionConfig {
    CollectionConfig {
        name: "films".to_owned(),
        dim: 7,
        metric: Metric::Cosine,
        index: IndexKind::Ivf,
        pq_subspaces: Some(8),
        binary: Some(true),
        filterable: vec![FilterableField {
            path: "year".to_owned(),
            field_type: FieldType::Numeric,
        }],
        multivector: Some(true),
        vector_encryption: VectorEncryption::Dcpe,
    }
}

/// Quiver 1.1 D5: a grow that was asked for again put one node into the map twice; its slice was then "cleaned up" on itself.
#[test]
fn a_grow_that_is_asked_for_again_at_any_step_never_takes_a_node_twice() {
    for at in 0.. {
        let mut world = World::of_shards(2);
        world.grow(3);
        for _ in 0..at {
            world.step();
        }
        let over = world.record().transition.is_none() && world.record().queue.is_empty();
        world.restart();
        let refused = world.ask(grow(3));
        assert!(
            matches!(refused, Err(AskRefusal::UrlTaken { .. })),
            "after step {at}: {refused:?}"
        );
        world.finish();
        assert_eq!(world.map_ids(), [1, 2, 3]);
        if over {
            return;
        }
    }
}

/// Quiver 1.1 D7: an error in the clean-up after the flip took the new shard out of the map again, with all that it had acknowledged.
#[test]
fn nothing_that_fails_after_the_commit_takes_it_back() {
    let mut world = World::of_shards(2);
    world.ask(Ask::CreateCollection { config: films() }).unwrap();
    let id = world.grow(3);
    world.advance_to("committed");
    let version = world.version();
    world.gate(1).alive = false;
    world.gate(3).alive = false;
    world.ask(Ask::DropCollection { name: "films".to_owned() }).unwrap();
    assert_eq!(
        world.ask(Ask::Cancel { transition: id }),
        Err(AskRefusal::Committed { transition: id })
    );
    world.mood = StoreMood::ForgetsSilently;
    world.advance(20_000);
    world.mood = StoreMood::Works;
    world.advance(200_000);
    world.restart();
    world.advance(200_000);
    assert_eq!((world.map_ids(), world.phase()), (vec![1, 2, 3], "committed"));
    world.gate(1).alive = true;
    world.gate(3).alive = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    assert!(world.version() > version);
    assert_eq!(world.core.report(id).unwrap().outcome, Outcome::Committed);
}

/// Quiver 1.1 D8: a drain that a crash had interrupted could neither go on nor be given up.
#[test]
fn a_drain_that_a_crash_interrupted_can_still_be_given_up() {
    for phase in ["prepare", "copy", "fence"] {
        let mut world = World::of_shards(3);
        world.gate(2).drains = false;
        let transition = world.accepted(drain(2));
        world.advance_to(phase);
        world.restart();
        world.ask(Ask::Cancel { transition }).unwrap();
        world.finish();
        assert_eq!(world.map_ids(), [1, 2, 3], "crashed in {phase}");
        world.gate(2).drains = true;
        world.accepted(drain(2));
        world.finish();
        assert_eq!(world.map_ids(), [1, 3]);
    }
}

/// Quiver 1.1 D12: a drain and a grow ran at once, each by a map of its own, and points moved onto a shard that was being emptied.
#[test]
fn gates_never_have_orders_of_two_transitions_at_once() {
    let mut world = World::of_shards(3);
    world.grow(4);
    world.accepted(drain(1));
    world.accepted(drain(2));
    world.grow(5);
    while world.record().transition.is_some() || !world.record().queue.is_empty() {
        world.step();
        let orders = world.gates.values().filter_map(|gate| gate.follows()?.order.as_ref());
        let running: std::collections::BTreeSet<_> =
            orders.map(|order| (order.transition, order.next.version())).collect();
        assert!(running.len() <= 1, "{running:?}");
    }
    assert_eq!(world.map_ids(), [3, 4, 5]);
}

/// Quiver 1.1 D16: a collection that was dropped in a migration ended it with an error, before the flip or after it.
#[test]
fn a_collection_that_is_dropped_in_any_phase_ends_no_transition() {
    for phase in ["prepare", "copy", "committed", "sweep"] {
        let mut world = World::of_shards(2);
        world.ask(Ask::CreateCollection { config: films() }).unwrap();
        let id = world.grow(3);
        world.advance_to(phase);
        let dropped = world.ask(Ask::DropCollection { name: "films".to_owned() });
        assert!(matches!(dropped, Ok(Reply::Dropped { existed: true, .. })), "{dropped:?}");
        world.finish();
        assert_eq!(
            world.core.report(id).unwrap().outcome,
            Outcome::Committed,
            "dropped in {phase}"
        );
        assert_eq!(world.map_ids(), [1, 2, 3]);
        assert!(world.core.map().collections().is_empty(), "it never comes back");
    }
}

/// Quiver 1.1 D17: what was copied by hand to the new shard's collection lacked a field of its configuration.
#[test]
fn a_new_shard_is_told_the_whole_configuration_of_each_collection_also_after_a_restart() {
    let mut world = World::of_shards(2);
    world.ask(Ask::CreateCollection { config: films() }).unwrap();
    world.restart();
    world.grow(3);
    world.finish();
    let told = &world.gate(3).follows().unwrap().map;
    assert_eq!(*told.collection("films").unwrap().config, films());
}

/// Quiver 1.1 D20: one node that took connections and never answered made health and a drain wait for ever.
#[test]
fn a_node_that_hangs_delays_no_answer_about_the_cluster_and_its_drain_can_be_given_up() {
    let mut world = World::of_shards(3);
    world.gate(2).hangs = true;
    let transition = world.accepted(drain(2));
    world.advance(10_000);
    let health: Vec<_> = world.core.status().shards.iter().map(|shard| shard.health).collect();
    assert_eq!(health, [Health::Up, Health::Down, Health::Up]);
    assert_eq!(world.core.running().unwrap().waiting_for, ["s2 doesn't answer"]);
    world.ask(Ask::Cancel { transition }).unwrap();
    world.gate(2).hangs = false;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
}

/// Quiver 1.1 D21: when a map couldn't be stored it was published all the same, and a restart served a lower version.
#[test]
fn no_map_is_published_that_a_restart_would_not_know() {
    let mut world = World::unborn(4, Config::default());
    world.tick();
    world.ask(Ask::AddShards { shards: vec![NewShard::at(&url(1))] }).unwrap();
    world.published.clear();
    world.mood = StoreMood::ForgetsSilently;
    world.ask_later(Ask::CreateCollection { config: films() }, None, None);
    world.ask_later(grow(2), None, None);
    let before = world.version();
    world.advance(3_000);
    assert!(world.published.iter().all(|map| map.version().0 <= before), "{:?}", world.published);
    world.mood = StoreMood::Works;
    world.restart();
    world.advance(100);
    assert!(world.version() >= before);
    assert!(world.published.iter().all(|map| map.version().0 <= world.version()));
}

/// Quiver 1.1 D24: a shard that was down could be neither drained nor replaced, for a drain needs it alive.
#[test]
fn a_dead_shard_stands_in_nobodys_way_once_its_loss_is_accepted() {
    let mut world = World::of_shards(2);
    world.gate(2).alive = false;
    world.advance(10_000);
    let transition = world.accepted(drain(2));
    world.advance(10_000);
    world.ask(Ask::Cancel { transition }).unwrap();
    world.advance(10_000);
    let remove = |accept_data_loss| Ask::Remove { shard: shard(2), accept_data_loss };
    assert_eq!(world.ask(remove(false)), Err(AskRefusal::StillOwns { shard: shard(2) }));
    assert!(matches!(world.ask(remove(true)), Ok(Reply::Removed { .. })));
    world.grow(3);
    world.finish();
    assert_eq!(world.map_ids(), [1, 3]);
}
