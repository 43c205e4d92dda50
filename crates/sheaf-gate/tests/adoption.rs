//! An unproven gate: it serves what it owns, and deletes nothing (ADR 0006).

mod world;

use std::sync::Arc;

use sheaf_gate::{Answer, Change, Operation, Scope};
use sheaf_map::Map;
use sheaf_protocol::{Refusal, Stage};
use sheaf_types::{MapVersion, PointBody, PointId, ShardId, StoredPoint};
use world::{WORDS, World, map_of, order};

const IDS: [&str; 8] = ["", "a", "a/b", "b", "c", "doc#3", "zz", "🦀"];

fn owned_by(map: &Map, shard: u64) -> Vec<&'static str> {
    let owner = |id: &str| map.owner(PointId::from(id).placement_key());
    IDS.into_iter().filter(|id| owner(id) == Some(ShardId(shard))).collect()
}

/// Shards 1 and 2 were adopted; the engine of 1 holds every point.
fn adopted() -> (World, Arc<Map>) {
    let mut world = World::new(&[1, 2]);
    for id in IDS {
        let point = StoredPoint::new(WORDS, PointId::from(id), PointBody::encode(&[1.0], None));
        let node = world.nodes.get_mut(&ShardId(1)).unwrap();
        node.engine.points.insert((WORDS, PointId::from(id)), point);
    }
    let map = map_of(5, 0, &[1, 2]);
    world.latest = Some(Arc::clone(&map));
    direct(&mut world, &map, true);
    (world, map)
}

fn direct(world: &mut World, map: &Arc<Map>, unproven: bool) {
    // The coordinator of this world permits sweeps, too: unproven is the stronger word.
    world.unproven = unproven;
    world.direct(&[1, 2], map, None);
    world.pass(100);
}

fn change(world: &mut World, shard: u64, ids: &[&str], change: Change) -> sheaf_gate::Token {
    let token = world.token();
    let ids = ids.iter().map(|id| PointId::from(*id)).collect();
    world.request(shard, token, Operation::Write { ids, change });
    token
}

#[test]
fn strays_are_counted_and_stay_and_are_shown_to_nobody() {
    let (mut world, map) = adopted();
    let strays = owned_by(&map, 2);
    assert!(!strays.is_empty());
    world.pass(60_000);
    let report = world.report(1);
    assert!(report.unproven && !report.clean);
    assert_eq!(report.strays, Some(strays.len() as u64));
    assert_eq!(world.ids_at(1).len(), IDS.len());
    let token = world.token();
    world.request(1, token, Operation::Gather);
    assert!(matches!(world.answers(1, token)[0], Answer::Go { scope: Scope::Owned { .. }, .. }));
    assert!(world.report(2).clean && world.report(2).unproven, "it has looked and found none");
}

#[test]
fn an_unproven_gate_takes_upserts_and_refuses_deletes() {
    let (mut world, map) = adopted();
    let mine = owned_by(&map, 1)[0];
    let token = change(&mut world, 1, &[mine], Change::Delete);
    assert_eq!(world.refusal(1, token), Some(Refusal::Unproven));
    let token = world.write(1, mine, Some(3));
    assert!(world.delivered(1, token));
    direct(&mut world, &map, false);
    let token = change(&mut world, 1, &[mine], Change::Delete);
    assert_eq!(world.refusal(1, token), None);
}

#[test]
fn a_repair_moves_strays_and_its_end_is_seen_by_a_look() {
    let (mut world, map) = adopted();
    let strays = owned_by(&map, 2);
    let token = change(&mut world, 2, &strays, Change::Insert);
    assert!(matches!(world.answers(2, token)[0], Answer::Go { .. }));
    let token = world.discard(1, &strays);
    assert!(world.delivered(1, token));
    world.pass(5_000);
    assert_eq!(world.ids_at(1), owned_by(&map, 1));
    let report = world.report(1);
    assert_eq!((report.clean, report.strays), (true, Some(0)));
}

#[test]
fn what_is_owned_is_never_discarded_and_what_is_foreign_never_inserted() {
    let (mut world, map) = adopted();
    let (mine, strays) = (owned_by(&map, 1), owned_by(&map, 2));
    let nothing = Some(Refusal::NothingToRepair { version: MapVersion(5) });
    let token = change(&mut world, 1, &[strays[0], mine[0]], Change::Discard);
    assert_eq!(world.refusal(1, token), nothing);
    let token = change(&mut world, 1, &[strays[0]], Change::Insert);
    assert_eq!(world.refusal(1, token), Some(Refusal::Moved { version: MapVersion(5) }));
    assert_eq!(world.ids_at(1).len(), IDS.len());
}

#[test]
fn a_late_repair_finds_a_proven_gate_that_refuses_it() {
    let (mut world, map) = adopted();
    let strays = owned_by(&map, 2);
    world.discard(1, &strays);
    world.pass(5_000);
    direct(&mut world, &map, false);
    let nothing = Some(Refusal::NothingToRepair { version: MapVersion(5) });
    let token = change(&mut world, 2, &[strays[0]], Change::Insert);
    assert_eq!(world.refusal(2, token), nothing);
    let token = change(&mut world, 1, &[strays[0]], Change::Discard);
    assert_eq!(world.refusal(1, token), nothing);
}

#[test]
fn a_gate_is_not_prepared_while_a_discard_is_under_way() {
    let (mut world, map) = adopted();
    let strays = owned_by(&map, 2);
    world.slow = Some(Vec::new());
    let token = world.discard(1, &strays);
    for id in &strays {
        let node = world.nodes.get_mut(&ShardId(1)).unwrap();
        node.engine.points.remove(&(WORDS, PointId::from(*id)));
    }
    world.pass(5_000);
    assert!(world.report(1).clean);
    direct(&mut world, &map, false);
    let next = map_of(6, 1, &[1]);
    let prepare = order(Stage::Prepare, 0, &next);
    world.direct(&[1, 2], &map, Some(prepare));
    assert!(!world.report(1).prepared, "what arrives could be deleted");
    world.release_requests();
    assert!(world.delivered(1, token));
    assert!(world.report(1).prepared);
}

#[test]
fn a_restart_forgets_neither_that_it_is_unproven_nor_that_it_has_to_look() {
    let (mut world, map) = adopted();
    world.restart(1);
    world.pass(100);
    let token = change(&mut world, 1, &[owned_by(&map, 1)[0]], Change::Delete);
    assert_eq!(world.refusal(1, token), Some(Refusal::Unproven));
    world.pass(60_000);
    assert_eq!(world.ids_at(1).len(), IDS.len());
    assert_eq!(world.report(1).strays, Some(owned_by(&map, 2).len() as u64));
}
