//! An unproven gate: it serves what it owns, and deletes nothing (ADR 0006).

use std::sync::Arc;

use crate::world::{WORDS, World, map_of, order};
use sheaf_gate::{Answer, Change, Operation, Scope};
use sheaf_map::Map;
use sheaf_protocol::{Refusal, Stage};
use sheaf_types::{MapVersion, PointBody, PointId, ShardId, StoredPoint};

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
    let token = world.take_away(1, &strays, Change::Discard);
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
    world.take_away(1, &strays, Change::Discard);
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
    let token = world.take_away(1, &strays, Change::Discard);
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

/// A repair of one point, as far as it has come: what a repairer knows, and sends again when it doesn't hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Insert(u32),
    Discard,
}

/// splitmix64: a course follows from its seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }
}

/// Two adopted gates, clients, and a repairer whose messages arrive late and twice. What each point must be is known at every moment.
struct Course {
    world: World,
    map: Arc<Map>,
    draw: Draw,
    proven: bool,
    /// The value that clients may see, by id; `None`: none.
    truth: std::collections::BTreeMap<&'static str, Option<u32>>,
    /// Strays: where, and what is to be done next.
    repairs: Vec<(&'static str, Step)>,
    /// Messages of the repairer that may arrive again, at any time.
    late: Vec<(&'static str, Step)>,
}

impl Course {
    fn new(seed: u64) -> Self {
        let (mut world, map) = adopted();
        let mut draw = Draw(seed);
        let mut truth = std::collections::BTreeMap::new();
        for id in IDS {
            let owner = map.owner(PointId::from(id).placement_key()).unwrap();
            // At home on shard 1 it is there. A stray is the last copy, or one of two.
            let known = owner == ShardId(1) || draw.below(2) == 0;
            if owner == ShardId(2) && known {
                let point = StoredPoint::new(WORDS, id.into(), PointBody::encode(&[1.0], None));
                world
                    .nodes
                    .get_mut(&owner)
                    .unwrap()
                    .engine
                    .points
                    .insert((WORDS, id.into()), point);
            }
            truth.insert(id, known.then_some(1));
        }
        let strays = owned_by(&map, 2);
        let repairs = strays.into_iter().map(|id| (id, Step::Read)).collect();
        Self { world, map, draw, proven: false, truth, repairs, late: Vec::new() }
    }

    fn owner(&self, id: &str) -> u64 {
        self.map.owner(PointId::from(id).placement_key()).unwrap().0
    }

    fn client(&mut self) {
        let id = IDS[self.draw.below(IDS.len())];
        let owner = self.owner(id);
        if self.draw.below(3) == 0 {
            let token = self.world.take_away(owner, &[id], Change::Delete);
            match self.world.refusal(owner, token) {
                Some(refusal) => assert_eq!(refusal, Refusal::Unproven),
                None => {
                    assert!(self.proven, "an unproven gate has deleted {id:?}");
                    self.truth.insert(id, None);
                }
            }
        } else {
            let value = 2 + self.draw.below(1_000) as u32;
            let token = self.world.write(owner, id, Some(value));
            assert!(self.world.delivered(owner, token));
            self.truth.insert(id, Some(value));
        }
    }

    /// The next step of one repair, as the coordinator takes it; its message may come again later.
    fn repair(&mut self) {
        if self.repairs.is_empty() {
            return;
        }
        let at = self.draw.below(self.repairs.len());
        let (id, step) = self.repairs[at];
        if self.draw.below(3) == 0 {
            self.late.push((id, step));
        }
        match self.arrive(id, step) {
            Some(next) => self.repairs[at].1 = next,
            None => drop(self.repairs.remove(at)),
        }
    }

    /// What a message of the repairer does; the next one, `None` at the end.
    fn arrive(&mut self, id: &'static str, step: Step) -> Option<Step> {
        match step {
            Step::Read => self.world.value_at(1, id).map(Step::Insert),
            Step::Insert(value) => {
                let inserted = self.world.insert(2, id, value);
                assert!(!(inserted && self.proven), "a late insert may bring {id:?} back");
                if inserted && self.world.value_at(2, id) == Some(value) {
                    let truth = self.truth.get_mut(id).unwrap();
                    *truth = truth.or(Some(value));
                }
                // The owner has another one: the operator said that it is right.
                inserted.then_some(Step::Discard)
            }
            Step::Discard => {
                let token = self.world.take_away(1, &[id], Change::Discard);
                let discarded = self.world.delivered(1, token);
                assert!(!(discarded && self.proven), "a late discard may hit what arrives");
                None
            }
        }
    }

    fn coordinator(&mut self) {
        let reports = [self.world.report(1), self.world.report(2)];
        if reports.iter().all(|report| report.unproven && report.clean) {
            self.proven = true;
            direct(&mut self.world, &Arc::clone(&self.map), false);
        }
    }

    fn check(&self) {
        for (id, truth) in &self.truth {
            assert_eq!(self.world.value_at(self.owner(id), id), *truth, "{id:?}");
            let somewhere = [1, 2].iter().any(|shard| self.world.value_at(*shard, id).is_some());
            let deleted = self.proven && truth.is_none();
            assert!(somewhere || deleted, "the last copy of {id:?} is gone");
        }
    }
}

#[test]
fn no_course_of_clients_repairs_late_messages_and_restarts_loses_a_point_or_brings_one_back() {
    let mut proven = 0;
    for seed in 0..400 {
        let mut course = Course::new(seed);
        for _ in 0..120 {
            match course.draw.below(10) {
                0..=3 => course.client(),
                4..=5 => course.repair(),
                6 if !course.late.is_empty() => {
                    let at = course.draw.below(course.late.len());
                    let (id, step) = course.late[at];
                    course.arrive(id, step);
                }
                7 => {
                    let shard = 1 + course.draw.below(2) as u64;
                    course.world.restart(shard);
                }
                8 => course.world.pass(300),
                _ => course.coordinator(),
            }
            course.check();
        }
        course.world.pass(20_000);
        course.check();
        proven += u32::from(course.proven);
    }
    assert!(proven > 200, "only {proven} courses came to their end");
}
