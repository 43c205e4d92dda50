//! Placement seen from outside: compatible with existing clusters, balanced, and moving no more than it must.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;
use sheaf_map::{Move, Moves, Placement, Weight, score};
use sheaf_types::{PlacementKey, ShardId};

type Shards = BTreeMap<ShardId, Weight>;

/// Owners and scores of existing clusters.
#[derive(Deserialize)]
struct Vectors {
    owners: Vec<Owners>,
    scores: Vec<Score>,
}

#[derive(Deserialize)]
struct Owners {
    shards: Vec<ShardId>,
    owners: BTreeMap<String, ShardId>,
}

#[derive(Deserialize)]
struct Score {
    shard: ShardId,
    id: String,
    score: String,
}

fn thousandths(n: u32) -> Weight {
    Weight::from_thousandths(n).expect("within the range of weights")
}

fn key(n: u32) -> PlacementKey {
    PlacementKey::of(&format!("point-{n}"))
}

fn placed(shards: &Shards) -> Placement {
    Placement::new(shards.iter().map(|(&id, &weight)| (id, weight)))
}

/// The rule of existing clusters, word for word.
fn plain_owner(key: PlacementKey, shards: &Shards) -> Option<ShardId> {
    shards.keys().copied().max_by_key(|&shard| (score(key, shard), Reverse(shard)))
}

#[test]
fn points_of_existing_clusters_are_where_they_were_placed() {
    let vectors: Vectors = serde_json::from_str(include_str!("placement.json")).unwrap();
    assert!(vectors.owners.len() >= 6 && vectors.scores.len() >= 16);
    for Score { shard, id, score: expected } in &vectors.scores {
        assert_eq!(score(PlacementKey::of(id), *shard).to_string(), *expected, "{id:?} on {shard}");
    }
    for Owners { shards, owners } in &vectors.owners {
        for weight in [Weight::ONE, Weight::MIN, thousandths(2_500), Weight::MAX] {
            let placement = Placement::new(shards.iter().map(|&id| (id, weight)));
            for (id, owner) in owners {
                let found = placement.owner(PlacementKey::of(id));
                assert_eq!(found, Some(*owner), "{id:?} on {shards:?} of weight {weight}");
            }
        }
    }
}

/// Calculated with 60 digits by another program. Changing any of these numbers moves points of weighted clusters without a transition.
#[test]
fn weighted_owners_never_change_between_releases() {
    let weights = [1_000, 2_000, 500, 10, 3_333, 2_500];
    let placement = Placement::new((0..).map(ShardId).zip(weights.map(thousandths)));
    let owners = (0..32).map(|n| placement.owner(key(n)).unwrap().0).collect::<Vec<_>>();
    assert_eq!(
        owners,
        [
            0, 2, 1, 4, 5, 4, 4, 5, 1, 4, 4, 5, 4, 4, 4, 1, 5, 5, 0, 4, 1, 1, 4, 0, 5, 5, 2, 5, 0,
            4, 4, 5
        ]
    );
    let few = Placement::new((0..).map(ShardId).zip([1_000, 1_500, 2_000, 700].map(thousandths)));
    let owners = (0..32).map(|n| few.owner(key(n)).unwrap().0).collect::<Vec<_>>();
    assert_eq!(
        owners,
        [
            0, 2, 1, 2, 1, 3, 2, 2, 2, 2, 2, 2, 2, 2, 0, 3, 2, 1, 0, 2, 2, 3, 1, 0, 1, 1, 2, 1, 0,
            0, 3, 1
        ]
    );
}

/// The largest deviation of a shard's share of `ids` points from its share of the weight, in percent.
fn deviation_percent(weights: &[u32], ids: u32) -> f64 {
    let shards: Shards = (0..).map(ShardId).zip(weights.iter().copied().map(thousandths)).collect();
    let placement = placed(&shards);
    let mut held: BTreeMap<ShardId, u32> = BTreeMap::new();
    for n in 0..ids {
        *held.entry(placement.owner(key(n)).unwrap()).or_default() += 1;
    }
    let total: u32 = weights.iter().sum();
    let deviation = |(id, weight): (&ShardId, &Weight)| {
        let due = f64::from(ids) * f64::from(weight.thousandths()) / f64::from(total);
        (f64::from(held.get(id).copied().unwrap_or_default()) / due - 1.0).abs() * 100.0
    };
    shards.iter().map(deviation).fold(0.0, f64::max)
}

#[test]
fn each_shard_holds_its_share_of_the_points() {
    assert!(deviation_percent(&[1_000, 2_000, 4_000], 200_000) < 2.0);
    assert!(deviation_percent(&[1_000; 3], 200_000) < 2.0);
    assert!(deviation_percent(&[500, 1_000, 1_000, 1_500, 3_000, 10_000], 200_000) < 2.0);
    // The smallest share is 1,000 points, whose deviation by chance alone is 3 %.
    assert!(deviation_percent(&[500, 9_500, 30_000, 60_000], 200_000) < 6.0);
    // Many shards of different weights: 3,125 points each on average, 1.8 % by chance.
    let many: Vec<u32> = (0..64).map(|n| 900 + n * 3).collect();
    assert!(deviation_percent(&many, 200_000) < 6.0);
}

/// Few ids, so that shards of two maps meet, and some far apart.
fn id() -> impl Strategy<Value = ShardId> {
    prop_oneof![4 => 0..12_u64, 1 => any::<u64>()].prop_map(ShardId)
}

fn weight() -> impl Strategy<Value = Weight> {
    let few = prop::sample::select(vec![10, 500, 1_000, 1_000, 1_000, 2_000, 1_000_000]);
    prop_oneof![few, 10..=1_000_000_u32].prop_map(thousandths)
}

fn shards() -> impl Strategy<Value = Shards> {
    btree_map(id(), weight(), 1..16)
}

fn keys() -> impl Strategy<Value = Vec<PlacementKey>> {
    vec(any::<u64>().prop_map(PlacementKey), 128)
}

/// The moves of these points, each checked to be one of the announced pairs.
fn moved(current: &Shards, next: &Shards, keys: &[PlacementKey]) -> BTreeSet<Move> {
    let (current, next) = (placed(current), placed(next));
    let moves = Moves::between(&current, &next);
    for &key in keys {
        let (donor, recipient) = (current.owner(key).unwrap(), next.owner(key).unwrap());
        let expected = (donor != recipient).then_some(Move { donor, recipient });
        assert_eq!(moves.of(key), expected);
    }
    let seen: BTreeSet<Move> = keys.iter().filter_map(|&key| moves.of(key)).collect();
    for pair in &seen {
        assert!(moves.pairs().contains(pair), "{pair:?} is not among {:?}", moves.pairs());
    }
    seen
}

proptest! {
    #[test]
    fn every_key_has_one_owner_alone_and_in_a_batch(shards in shards(), keys in keys()) {
        let placement = placed(&shards);
        let owners = placement.owners(&keys).unwrap();
        prop_assert_eq!(owners.len(), keys.len());
        for (&key, &owner) in keys.iter().zip(&owners) {
            prop_assert!(shards.contains_key(&owner));
            prop_assert_eq!(placement.owner(key), Some(owner));
        }
    }

    #[test]
    fn at_equal_weights_the_highest_score_owns(ids in shards(), equal in weight(), keys in keys()) {
        let shards: Shards = ids.keys().map(|&id| (id, equal)).collect();
        let placement = placed(&shards);
        for key in keys {
            prop_assert_eq!(placement.owner(key), plain_owner(key, &shards));
        }
    }

    #[test]
    fn the_order_in_which_shards_are_given_does_not_matter(
        shuffled in shards().prop_map(|s| s.into_iter().collect::<Vec<_>>()).prop_shuffle(),
        keys in keys(),
    ) {
        let sorted: Shards = shuffled.iter().copied().collect();
        let (shuffled, sorted) = (Placement::new(shuffled), placed(&sorted));
        prop_assert_eq!(shuffled.owners(&keys), sorted.owners(&keys));
        prop_assert!(shuffled.shards().eq(sorted.shards()));
        prop_assert_eq!(shuffled, sorted);
    }

    #[test]
    fn a_join_moves_points_only_to_the_shard_that_joins(
        current in shards(), joins in id(), weight in weight(), keys in keys(),
    ) {
        prop_assume!(!current.contains_key(&joins));
        let mut next = current.clone();
        next.insert(joins, weight);
        for pair in moved(&current, &next, &keys) {
            prop_assert_eq!(pair.recipient, joins);
        }
        for pair in moved(&next, &current, &keys) {
            prop_assert_eq!(pair.donor, joins, "a drain is a join backwards");
        }
    }

    #[test]
    fn a_re_weight_moves_points_only_to_or_from_that_shard(
        current in shards(), which in any::<prop::sample::Index>(), weight in weight(), keys in keys(),
    ) {
        let &(&changed, &before) = which.get(&current.iter().collect::<Vec<_>>());
        let mut next = current.clone();
        next.insert(changed, weight);
        for pair in moved(&current, &next, &keys) {
            let expected = if weight > before { pair.recipient } else { pair.donor };
            prop_assert_eq!(expected, changed);
        }
    }

    #[test]
    fn between_any_two_maps_points_move_only_within_the_announced_pairs(
        current in shards(), next in shards(), keys in keys(),
    ) {
        moved(&current, &next, &keys);
        let (current, next) = (placed(&current), placed(&next));
        let moves = Moves::between(&current, &next);
        let weight = |of: &Placement, id| of.weight(id).map_or(0, |w| u64::from(w.thousandths()));
        let mut pairs = Vec::new();
        for (donor, before) in current.shards() {
            for (recipient, after) in next.shards() {
                // After / before of the recipient, and of the donor, without dividing.
                let rise = u64::from(after.thousandths()) * u64::from(before.thousandths());
                if rise > weight(&next, donor) * weight(&current, recipient) {
                    pairs.push(Move { donor, recipient });
                }
            }
        }
        prop_assert_eq!(moves.pairs(), pairs);
    }

    #[test]
    fn the_same_factor_for_all_weights_moves_nothing(
        ids in btree_map(id(), 10..=10_000_u32, 1..16), factor in 1..=100_u32, keys in keys(),
    ) {
        let times = |factor| ids.iter().map(|(&id, &n)| (id, thousandths(n * factor))).collect();
        let (current, next): (Shards, Shards) = (times(1), times(factor));
        prop_assert!(moved(&current, &next, &keys).is_empty());
        prop_assert!(Moves::between(&placed(&current), &placed(&next)).pairs().is_empty());
    }
}
