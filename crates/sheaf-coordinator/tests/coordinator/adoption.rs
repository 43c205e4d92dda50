//! A cluster that has points already is taken over, and proven before anything of it is moved (ADR 0006).

use crate::world::{World, options, shard, url};
use sheaf_coordinator::{AdoptedShard, Ask, AskRefusal, Config, NewShard, Reply};
use sheaf_types::{CollectionConfig, IndexKind, MapVersion, Metric, ShardId, VectorEncryption};

fn collection(name: &str) -> CollectionConfig {
    CollectionConfig {
        name: name.to_owned(),
        dim: 3,
        metric: Metric::Cosine,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: VectorEncryption::None,
    }
}

/// Node n is the shard n - 1, as Quiver counts.
fn adopt(nodes: u64) -> Ask {
    let shard = |n| AdoptedShard { id: ShardId(n - 1), node: NewShard::at(&url(n)) };
    Ask::Adopt {
        shards: (1..=nodes).map(shard).collect(),
        next_shard: ShardId(7),
        version: MapVersion(40),
        collections: vec![collection("docs"), collection("images")],
    }
}

fn adopted(nodes: u64) -> World {
    let mut world = World::unborn(nodes + 2, Config::default());
    world.tick();
    for n in 1..=nodes {
        world.gate(n).points = 100;
    }
    let reply = world.ask(adopt(nodes)).unwrap();
    let shards = (0..nodes).map(ShardId).collect();
    assert_eq!(reply, Reply::Adopted { shards, version: MapVersion(41) });
    world.advance(100);
    world
}

fn grow(n: u64) -> Ask {
    Ask::Grow { shards: vec![NewShard::at(&url(n))], options: options() }
}

#[test]
fn the_shards_keep_their_ids_and_their_points_and_later_ones_get_ids_that_nobody_had() {
    let mut world = adopted(2);
    assert_eq!(world.map_ids(), [0, 1]);
    let names: Vec<_> = world.core.map().collections().iter().map(|c| c.name()).collect();
    assert_eq!(names, ["docs", "images"]);
    world.gate(1).strays = Some(0);
    world.gate(2).strays = Some(0);
    world.advance(2_000);
    world.accepted(grow(3));
    world.finish();
    assert_eq!(world.map_ids(), [0, 1, 7]);
}

#[test]
fn nothing_is_moved_swept_or_taken_out_before_every_shard_has_looked() {
    let mut world = adopted(2);
    world.gate(1).strays = Some(0);
    world.advance(5_000);
    let refused = Err(AskRefusal::Unproven);
    assert_eq!(world.ask(grow(3)), refused, "one has not looked");
    world.gate(2).strays = Some(3);
    world.advance(5_000);
    assert_eq!(world.ask(grow(3)), refused, "one holds strays");
    assert_eq!(world.ask(Ask::Drain { shard: shard(1), options: options() }), refused);
    let remove = Ask::Remove { shard: shard(1), accept_data_loss: true };
    assert_eq!(world.ask(remove), refused);
    assert!(world.sent.iter().all(|outgoing| !outgoing.directive.sweep));
    world.gate(2).strays = Some(0);
    world.advance(5_000);
    assert!(world.has_history("is proven"));
    world.accepted(grow(3));
    world.finish();
}

#[test]
fn an_unproven_cluster_stays_unproven_when_its_coordinator_restarts() {
    let mut world = adopted(2);
    world.gate(1).strays = Some(2);
    world.gate(2).strays = Some(0);
    world.restart();
    world.advance(5_000);
    assert_eq!(world.ask(grow(3)), Err(AskRefusal::Unproven));
    world.gate(1).strays = Some(0);
    world.advance(5_000);
    world.accepted(grow(3));
}

#[test]
fn a_shard_that_is_silent_proves_nothing_though_it_was_clean_when_last_heard() {
    let mut world = adopted(2);
    world.gate(1).strays = Some(0);
    world.advance(2_000);
    world.gate(1).alive = false;
    world.advance(10_000);
    world.gate(2).strays = Some(0);
    world.advance(10_000);
    assert_eq!(world.ask(grow(3)), Err(AskRefusal::Unproven));
    world.gate(1).alive = true;
    world.advance(10_000);
    world.accepted(grow(3));
}

#[test]
fn only_a_cluster_without_shards_and_collections_takes_over_another() {
    let mut world = World::of_shards(1);
    assert_eq!(world.ask(adopt(1)), Err(AskRefusal::UrlTaken { url: url(1), by: "s1".to_owned() }));
    let other = Ask::Adopt {
        shards: vec![AdoptedShard { id: ShardId(5), node: NewShard::at(&url(2)) }],
        next_shard: ShardId(6),
        version: MapVersion(1),
        collections: Vec::new(),
    };
    assert_eq!(world.ask(other), Err(AskRefusal::NotNew));
    let mut world = World::unborn(1, Config::default());
    world.tick();
    world.ask(Ask::CreateCollection { config: collection("docs") }).unwrap();
    assert_eq!(world.ask(adopt(1)), Err(AskRefusal::NotNew));
}

#[test]
fn a_map_that_is_none_is_refused_whole() {
    let mut world = World::unborn(2, Config::default());
    world.tick();
    let twice = |ids: [u64; 2], collections| Ask::Adopt {
        shards: (1..)
            .zip(ids)
            .map(|(n, id)| AdoptedShard { id: ShardId(id), node: NewShard::at(&url(n)) })
            .collect(),
        next_shard: ShardId(0),
        version: MapVersion(u64::MAX),
        collections,
    };
    assert!(world.ask(twice([3, 3], vec![])).is_err());
    assert!(world.ask(twice([3, u64::MAX], vec![])).is_err());
    assert!(world.ask(twice([3, 4], vec![collection("a"), collection("a")])).is_err());
    assert!(world.ask(twice([3, 4], vec![])).is_err(), "no version comes after the last");
    assert_eq!(world.map_ids(), [0; 0]);
}
