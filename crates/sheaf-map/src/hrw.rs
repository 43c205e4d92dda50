//! Rendezvous hashing: the owner of a point is the shard with the highest score, weighted by capacity.
//!
//! Decides ownership and nothing else. With equal weights it is bit-identical to the placement of existing
//! clusters; it never depends on the order in which shards are given.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sheaf_types::{PlacementKey, ShardId};

use crate::Weight;
use crate::log2::depth;

/// Distance between the streams of two neighbouring shard ids. Source: wire format of existing clusters.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The score of `shard` for the point with this key. No two shards have the same score for one key.
pub fn score(key: PlacementKey, shard: ShardId) -> u64 {
    finalise(key.0.wrapping_add(shard.0.wrapping_mul(GOLDEN)))
}

/// The splitmix64 finaliser: a bijection of the 64-bit numbers.
#[inline(always)]
fn finalise(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The shards of one map, prepared for finding owners. Cheap to clone.
///
/// The owner of a key is the shard with the smallest `-log2((score + 1) / 2^64) / weight`, compared exactly;
/// ties go to the higher score, then to the smaller id. Among shards of equal weight that is the highest score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    /// Every shard, by id.
    shards: BTreeMap<ShardId, Weight>,
    /// Shards of equal weight together, the heaviest first.
    classes: Vec<Class>,
}

#[derive(Debug, PartialEq, Eq)]
struct Class {
    weight: Weight,
    /// In order, never empty.
    ids: Vec<ShardId>,
    /// What each shard's id adds to a key, in the order of `ids`.
    offsets: Vec<u64>,
}

/// All else is calculated from the shards.
impl Hash for Placement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.shards.hash(state);
    }
}

impl Placement {
    /// Prepares these shards, in any order. If an id is given twice, its last weight counts.
    pub fn new(shards: impl IntoIterator<Item = (ShardId, Weight)>) -> Self {
        let shards: BTreeMap<ShardId, Weight> = shards.into_iter().collect();
        let mut by_weight: BTreeMap<Reverse<Weight>, Vec<ShardId>> = BTreeMap::new();
        for (&id, &weight) in &shards {
            by_weight.entry(Reverse(weight)).or_default().push(id);
        }
        let class = |(Reverse(weight), ids): (Reverse<Weight>, Vec<ShardId>)| {
            let offsets = ids.iter().map(|id| id.0.wrapping_mul(GOLDEN)).collect();
            Class { weight, ids, offsets }
        };
        let classes = by_weight.into_iter().map(class).collect();
        Self(Arc::new(Inner { shards, classes }))
    }

    /// The owner of this key; `None` only when there is no shard.
    pub fn owner(&self, key: PlacementKey) -> Option<ShardId> {
        let (heaviest, lighter) = self.0.classes.split_first()?;
        let mut best = heaviest.highest(key);
        let mut record = best.score;
        for class in lighter {
            let rival = class.highest(key);
            // Otherwise a heavier shard with a higher score was seen already and comes before this one.
            // Records are rare, so few logarithms are needed however many weights there are.
            if rival.score > record {
                record = rival.score;
                if rival.beats(&best) {
                    best = rival;
                }
            }
        }
        Some(best.id)
    }

    /// The owners of these keys, in the same order; `None` only when there is no shard.
    pub fn owners(&self, keys: &[PlacementKey]) -> Option<Vec<ShardId>> {
        if self.is_empty() {
            return None;
        }
        keys.iter().map(|&key| self.owner(key)).collect()
    }

    /// The shards and their weights, in id order.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, Weight)> + '_ {
        self.0.shards.iter().map(|(&id, &weight)| (id, weight))
    }

    /// The weight of this shard, `None` when it is not one of these.
    pub fn weight(&self, shard: ShardId) -> Option<Weight> {
        self.0.shards.get(&shard).copied()
    }

    /// How many shards there are.
    pub fn len(&self) -> usize {
        self.0.shards.len()
    }

    /// Whether there is no shard, and so no owner for anything.
    pub fn is_empty(&self) -> bool {
        self.0.shards.is_empty()
    }
}

/// A shard that may own a key.
struct Candidate {
    id: ShardId,
    weight: Weight,
    score: u64,
}

impl Class {
    /// The shard of this class with the highest score; of equals the one with the smaller id.
    fn highest(&self, key: PlacementKey) -> Candidate {
        let (mut at, mut score) = (0, 0);
        for (i, offset) in self.offsets.iter().enumerate() {
            let x = finalise(key.0.wrapping_add(*offset));
            if x > score {
                (at, score) = (i, x);
            }
        }
        Candidate { id: self.ids[at], weight: self.weight, score }
    }
}

impl Candidate {
    /// Whether this shard comes before `other`: the smaller depth / weight, then the higher score, then the smaller id.
    fn beats(&self, other: &Self) -> bool {
        let order = |mine: &Self, theirs: &Self| {
            u128::from(depth(mine.score)) * u128::from(theirs.weight.thousandths())
        };
        let (mine, theirs) = (order(self, other), order(other, self));
        (mine, Reverse(self.score), self.id) < (theirs, Reverse(other.score), other.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn weight() -> impl Strategy<Value = Weight> {
        let few = prop::sample::select(vec![10, 500, 1_000, 1_000, 1_001, 2_000, 1_000_000]);
        prop_oneof![few, 10..=1_000_000_u32].prop_map(|n| Weight::from_thousandths(n).unwrap())
    }

    proptest! {
        #[test]
        fn the_owner_beats_every_other_shard(
            shards in btree_map(any::<u64>().prop_map(ShardId), weight(), 1..24),
            keys in vec(any::<u64>().prop_map(PlacementKey), 64),
        ) {
            let placement = Placement::new(shards.clone());
            for key in keys {
                let candidate = |id: ShardId| Candidate { id, weight: shards[&id], score: score(key, id) };
                let owner = candidate(placement.owner(key).unwrap());
                for &id in shards.keys().filter(|&&id| id != owner.id) {
                    prop_assert!(owner.beats(&candidate(id)));
                    prop_assert!(!candidate(id).beats(&owner));
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_higher_score_then_to_the_smaller_id() {
        let candidate = |id, thousandths, score| {
            let weight = Weight::from_thousandths(thousandths).unwrap();
            Candidate { id: ShardId(id), weight, score }
        };
        // So low in the range that neighbours have the same depth at the precision that there is.
        let high = (1 << 63) + 1;
        assert_eq!(depth(high), depth(high + 1));
        assert!(candidate(2, 1_000, high + 1).beats(&candidate(1, 1_000, high)));
        assert!(candidate(1, 1_000, high).beats(&candidate(2, 1_000, high)));
        // Depth 1 at weight 1 is depth 2 at weight 2: the higher score wins.
        let (half, quarter) = ((1 << 63) - 1, (1 << 62) - 1);
        assert!(candidate(9, 1_000, half).beats(&candidate(1, 2_000, quarter)));
        assert!(!candidate(1, 2_000, quarter).beats(&candidate(9, 1_000, half)));
        // Nothing lies above the highest score, whatever the weights.
        assert!(candidate(9, 10, u64::MAX).beats(&candidate(1, 1_000_000, u64::MAX - (1 << 20))));
    }

    #[test]
    fn without_a_shard_nothing_has_an_owner() {
        let nowhere = Placement::new([]);
        assert_eq!(nowhere.owner(PlacementKey::of("a")), None);
        assert_eq!(nowhere.owners(&[PlacementKey::of("a")]), None);
        assert!(nowhere.is_empty());
    }
}
