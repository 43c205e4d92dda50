//! Collections: which map they are in, when they may change, and when a name is given again.

use crate::world::World;
use sheaf_coordinator::{Ask, AskRefusal, Reply};
use sheaf_types::{CollectionConfig, IndexKind, MapVersion, Metric};

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
fn a_collection_created_during_a_copy_is_part_of_the_next_map_too() {
    let mut world = World::of_shards(2);
    world.gate(1).converges = false;
    world.grow(3);
    world.advance_to("copy");
    let version = MapVersion(world.version() + 1);
    let Ok(Reply::Created { collection: created, version: at }) =
        world.ask(Ask::CreateCollection { config: collection("films") })
    else {
        panic!("not created");
    };
    assert_eq!(at, version);
    world.advance(10);
    let order = world.gate(3).follows().unwrap().order.clone().unwrap();
    assert_eq!(order.next.version(), version.next());
    assert_eq!(order.next.collection("films"), Some(&created));
    world.gate(1).converges = true;
    world.finish();
    assert_eq!(world.map_ids(), [1, 2, 3]);
    assert_eq!(world.core.map().collection("films"), Some(&created));
}

#[test]
fn the_catalogue_waits_while_a_fence_stands() {
    let mut world = World::of_shards(2);
    world.gate(1).drains = false;
    world.grow(3);
    world.advance_to("fence");
    let create = Ask::CreateCollection { config: collection("films") };
    let token = world.ask_later(create, None, None);
    world.advance(100);
    assert!(world.phase() == "fence" && !world.answers.contains_key(&token));
    world.advance_to("copy");
    world.advance(10);
    assert!(matches!(world.answers[&token], Ok(Reply::Created { .. })));
}

#[test]
fn a_name_that_is_dropped_and_created_again_gets_a_new_id() {
    let mut world = World::of_shards(1);
    let create = || Ask::CreateCollection { config: collection("films") };
    let drop = || Ask::DropCollection { name: "films".to_owned() };
    let id = |reply| match reply {
        Ok(Reply::Created { collection, .. }) => collection.id,
        other => panic!("{other:?}"),
    };
    let first = id(world.ask(create()));
    let exists = AskRefusal::CollectionExists { name: "films".to_owned() };
    assert_eq!(world.ask(create()), Err(exists));
    let version = MapVersion(world.version() + 1);
    assert_eq!(world.ask(drop()), Ok(Reply::Dropped { existed: true, version }));
    assert_eq!(world.ask(drop()), Ok(Reply::Dropped { existed: false, version }));
    assert!(id(world.ask(create())) > first);
    let mut bad = collection("");
    assert!(world.ask(Ask::CreateCollection { config: bad.clone() }).is_err());
    bad = CollectionConfig { dim: 0, ..collection("x") };
    assert!(world.ask(Ask::CreateCollection { config: bad }).is_err());
}

/// Swarm seed 2522: a shard and a router that were cut off served the old collection under the new one's name, and would have
/// acknowledged writes that are lost when the shard hears of the drop.
#[test]
fn a_dropped_name_is_not_given_again_while_a_shard_may_still_serve_what_was_dropped() {
    let mut world = World::of_shards(2);
    let create = |name| Ask::CreateCollection { config: collection(name) };
    world.ask(create("films")).unwrap();
    world.advance(10);
    world.gate(2).alive = false;
    world.ask(Ask::DropCollection { name: "films".to_owned() }).unwrap();
    let again = world.ask_later(create("films"), None, None);
    world.advance(1_000);
    assert!(!world.answers.contains_key(&again), "shard 2 still has the first one");
    let other = world.ask(create("books"));
    assert!(matches!(other, Ok(Reply::Created { .. })), "nobody has served another name");
    world.restart();
    let again = world.ask_later(create("films"), None, None);
    world.advance(1_000);
    assert!(!world.answers.contains_key(&again), "nor does another coordinator give it");
    world.gate(2).alive = true;
    world.advance(3_000);
    assert!(matches!(world.answers[&again], Ok(Reply::Created { .. })));
    assert_eq!(world.record().dropped, [], "all shards have heard: nothing is remembered");
}
