//! From several rankings of the same points to one, by reciprocal rank fusion.
//!
//! Decides by ranks alone: scores of different kinds can't be compared. The rankings must be those of all shards together, since a
//! point's rank among one shard's is not its rank.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Candidates of each ranking for each hit of the answer, so that a point that is far down in one can rise by another. Source: the
/// public API.
const DEPTH_FACTOR: usize = 10;
/// Candidates of each ranking at least. Source: the public API.
const DEPTH_MIN: usize = 100;

/// How many candidates of each ranking are needed for `k` hits.
pub fn depth(k: usize) -> usize {
    k.saturating_mul(DEPTH_FACTOR).max(DEPTH_MIN)
}

/// The `k` best of these rankings, best first, with their fused scores; equal scores in the order of ids. A point at `rank`, counted
/// from 0, gets `1 / (k0 + rank + 1)`; a `k0` below zero counts as zero.
pub fn fuse<'a>(rankings: &[Vec<&'a str>], k0: f32, k: usize) -> Vec<(&'a str, f32)> {
    let k0 = k0.max(0.0);
    let mut scores: BTreeMap<&str, f32> = BTreeMap::new();
    for ranking in rankings {
        for (rank, id) in ranking.iter().enumerate() {
            *scores.entry(id).or_default() += 1.0 / (k0 + rank as f32 + 1.0);
        }
    }
    let mut fused: Vec<(&str, f32)> = scores.into_iter().collect();
    // Stable, and in the order of ids before. Scores are never below zero, so their bits are in their order.
    fused.sort_by_key(|(_, score)| Reverse(score.to_bits()));
    fused.truncate(k);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_both_rankings_beats_the_best_of_one() {
        let fused = fuse(&[vec!["a", "b"], vec!["c", "b"]], 60.0, 10);
        let b = 1.0 / 62.0 + 1.0 / 62.0;
        assert_eq!(fused, [("b", b), ("a", 1.0 / 61.0), ("c", 1.0 / 61.0)]);
        assert_eq!(fuse(&[vec!["a", "b"], vec!["c", "b"]], 60.0, 2).len(), 2);
        assert_eq!(fuse(&[], 60.0, 2), []);
    }

    #[test]
    fn a_constant_below_zero_turns_no_ranking_round() {
        for k0 in [-1.0, -1.5, -1e30] {
            assert_eq!(fuse(&[vec!["a", "b"]], k0, 9), [("a", 1.0), ("b", 0.5)]);
        }
    }

    #[test]
    fn there_are_always_candidates_enough() {
        assert_eq!(
            (depth(0), depth(10), depth(11), depth(usize::MAX)),
            (100, 100, 110, usize::MAX)
        );
    }
}
