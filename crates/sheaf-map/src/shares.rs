//! How much of a donor's points each move takes: the average over all keys, calculated, not sampled.
//!
//! Decides nothing: plans and progress rest on it, ownership never does.
//!
//! Under weighted rendezvous, shard k has a depth E_k / w_k, where the E_k are independent and exponentially
//! distributed, and the least depth owns. A point goes from i to j if E_i / w_i = t is the least depth before and
//! E_j / w'_j = t' the least one after. With r = t' / t, all E_k being at least max(w_k, w'_k r) t, that has the
//! probability w_i w'_j ∫ dr / S(r)^2, where S(r) is the sum of max(w_k, w'_k r) over all shards, from r = w_j / w'_j to
//! r = w_i / w'_i. S is linear between those ratios, so the integral is a sum of (r2 - r1) / (S(r1) S(r2)).

use std::collections::BTreeMap;

use sheaf_types::ShardId;

use crate::{Moves, Placement};

/// The integral of 1 / S^2 from 0 on, where S bends.
struct Knot {
    ratio: f64,
    sum: f64,
    /// Of S, from here to the next knot.
    slope: f64,
    integral: f64,
}

struct Curve(Vec<Knot>);

impl Moves {
    /// For each of [`Moves::pairs`], which share of the donor's points it takes, from 0 to 1.
    pub fn shares(&self) -> Vec<f64> {
        let before = |shard| weight(self.current(), shard);
        let after = |shard| weight(self.next(), shard);
        let total: f64 = self.current().shards().map(|(shard, _)| before(shard)).sum();
        let curve = Curve::between(self.current(), self.next());
        let share = |donor, recipient| {
            let from = curve.integral_to(before(recipient) / after(recipient));
            let to = curve.integral_to(before(donor) / after(donor));
            (total * after(recipient) * (to - from)).clamp(0.0, 1.0)
        };
        self.pairs().iter().map(|pair| share(pair.donor, pair.recipient)).collect()
    }
}

/// 0 where the shard is absent.
fn weight(placement: &Placement, shard: ShardId) -> f64 {
    placement.weight(shard).map_or(0.0, |weight| f64::from(weight.thousandths()))
}

impl Curve {
    fn between(current: &Placement, next: &Placement) -> Self {
        let sum = current.shards().map(|(shard, _)| weight(current, shard)).sum();
        let mut knots = vec![Knot { ratio: 0.0, sum, slope: 0.0, integral: 0.0 }];
        // The bits of numbers that are not negative are in the order of the numbers.
        let mut bends: BTreeMap<u64, f64> = BTreeMap::new();
        for (shard, _) in next.shards() {
            let after = weight(next, shard);
            *bends.entry((weight(current, shard) / after).to_bits()).or_default() += after;
        }
        for (ratio, bend) in bends.into_iter().map(|(bits, bend)| (f64::from_bits(bits), bend)) {
            let Some(last) = knots.last() else { continue };
            let sum = last.sum + last.slope * (ratio - last.ratio);
            let integral = last.integral + (ratio - last.ratio) / (last.sum * sum);
            knots.push(Knot { ratio, sum, slope: last.slope + bend, integral });
        }
        Self(knots)
    }

    /// The integral of 1 / S^2 from 0 to the ratio of a shard, which is infinite for one that leaves.
    fn integral_to(&self, ratio: f64) -> f64 {
        let after = self.0.partition_point(|knot| knot.ratio <= ratio);
        let Some(knot) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return 0.0 };
        match ratio.is_finite() {
            true => knot.integral, // Every finite ratio is that of a knot.
            false => knot.integral + 1.0 / (knot.slope * knot.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sheaf_types::PlacementKey;

    use super::*;
    use crate::Weight;

    fn moves(current: &[(u64, u32)], next: &[(u64, u32)]) -> Moves {
        let placement = |shards: &[(u64, u32)]| {
            let weight = |n| Weight::from_thousandths(n).unwrap();
            Placement::new(shards.iter().map(|&(id, n)| (ShardId(id), weight(n))))
        };
        Moves::between(&placement(current), &placement(next))
    }

    fn assert_near(shares: &[f64], wanted: &[f64]) {
        assert_eq!(shares.len(), wanted.len());
        for (share, wanted) in shares.iter().zip(wanted) {
            assert!((share - wanted).abs() < 1e-12, "{shares:?} {wanted:?}");
        }
    }

    #[test]
    fn a_join_takes_its_weights_share_of_every_shard() {
        let moves = moves(&[(1, 1_000), (2, 3_000)], &[(1, 1_000), (2, 3_000), (3, 1_000)]);
        assert_near(&moves.shares(), &[0.2, 0.2]);
    }

    #[test]
    fn a_drain_gives_to_each_by_its_weight_and_keeps_nothing() {
        let moves = moves(&[(1, 1_000), (2, 3_000), (3, 5_000)], &[(1, 1_000), (2, 3_000)]);
        assert_near(&moves.shares(), &[0.25, 0.75]);
    }

    #[test]
    fn the_first_and_the_last_shards_move_nothing() {
        assert_near(&moves(&[], &[(1, 1_000)]).shares(), &[]);
        assert_near(&moves(&[(1, 1_000)], &[]).shares(), &[]);
    }

    /// Up to six shards, some of which are in one of the two only.
    fn shards() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let weight = prop_oneof![Just(1_000), 100..8_000u32];
        let shards = prop::collection::vec(prop::option::weighted(0.8, weight), 1..=6);
        shards.prop_map(|shards| {
            let present = |(at, weight): (usize, Option<u32>)| Some((at as u64, weight?));
            shards.into_iter().enumerate().filter_map(present).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn the_shares_are_those_of_many_points(current in shards(), next in shards()) {
            const POINTS: u64 = 40_000;
            let moves = moves(&current, &next);
            let mut owned: BTreeMap<ShardId, f64> = BTreeMap::new();
            let mut moved: BTreeMap<_, f64> = BTreeMap::new();
            for n in 0..POINTS {
                let key = PlacementKey::of(&format!("point-{n}"));
                if let Some(owner) = moves.current().owner(key) {
                    *owned.entry(owner).or_default() += 1.0;
                }
                if let Some(pair) = moves.of(key) {
                    *moved.entry(pair).or_default() += 1.0;
                }
            }
            for (pair, share) in moves.pairs().iter().zip(moves.shares()) {
                let owned = owned.get(&pair.donor).copied().unwrap_or_default();
                let moved = moved.get(pair).copied().unwrap_or_default();
                // Six standard deviations of a count.
                let spread = 6.0 * (owned * share * (1.0 - share)).sqrt() + 1.0;
                prop_assert!((moved - owned * share).abs() < spread, "{pair:?} {share} of {owned}: {moved}");
            }
        }
    }
}
