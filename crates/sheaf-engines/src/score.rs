//! Scores and the best `k` of them: the one arithmetic that every exact search here uses.
//!
//! An approximate index only proposes points; their scores come from here, so engines agree to the bit.
//! Never reads payloads and never decides which points may be seen.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use sheaf_types::{Metric, PointId};

/// Numbers added up side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// The inner product. Both slices have the same length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| x * y)
}

/// The squared Euclidean distance. Both slices have the same length.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| (x - y) * (x - y))
}

/// The Euclidean length; infinite when its square is too large for a float.
pub fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f32>() + rest
}

/// A vector to compare others with.
#[derive(Clone, Debug)]
pub struct Query {
    metric: Metric,
    vector: Vec<f32>,
    norm: f32,
}

impl Query {
    pub fn new(metric: Metric, vector: Vec<f32>) -> Self {
        let norm = norm(&vector);
        Self { metric, vector, norm }
    }

    /// The Euclidean length of the vector.
    pub fn norm(&self) -> f32 {
        self.norm
    }

    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The score of a vector with this Euclidean length, always finite: what overflows counts as the largest
    /// float, what is undefined as the worst score.
    pub fn score(&self, vector: &[f32], vector_norm: f32) -> f32 {
        let score = match self.metric {
            Metric::L2 => l2_squared(&self.vector, vector),
            Metric::Dot => dot(&self.vector, vector),
            Metric::Cosine => dot(&self.vector, vector) / (self.norm * vector_norm),
        };
        if score.is_nan() {
            return self.worst();
        }
        // Adding zero turns -0 into 0: they are equal scores.
        score.clamp(f32::MIN, f32::MAX) + 0.0
    }

    /// No score is worse.
    pub fn worst(&self) -> f32 {
        if self.metric.lower_is_better() { f32::MAX } else { f32::MIN }
    }

    /// The score as a rank: lower is better for every metric.
    pub fn rank(&self, score: f32) -> f32 {
        if self.metric.lower_is_better() { score } else { -score + 0.0 }
    }
}

/// A point that may be among the best.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub rank: f32,
    pub score: f32,
    pub id: &'a PointId,
    /// The engine's own number of the point.
    pub slot: u64,
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Better ones first; equal ranks in the order of ids.
impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.total_cmp(&other.rank).then_with(|| self.id.cmp(other.id))
    }
}

/// Keeps the best `k` of all candidates that it was offered.
#[derive(Debug)]
pub struct Best<'a> {
    k: usize,
    worst_first: BinaryHeap<Candidate<'a>>,
}

impl<'a> Best<'a> {
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::new() }
    }

    pub fn offer(&mut self, candidate: Candidate<'a>) {
        if self.worst_first.len() < self.k {
            self.worst_first.push(candidate);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<Candidate<'a>> {
        self.worst_first.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_the_public_conventions() {
        let a = vec![1.0, 2.0];
        let b = [3.0, 5.0];
        let of = |metric| Query::new(metric, a.clone()).score(&b, norm(&b));
        assert_eq!(of(Metric::L2), 13.0, "squared");
        assert_eq!(of(Metric::Dot), 13.0);
        assert!((of(Metric::Cosine) - 13.0 / (5.0f32 * 34.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_score_is_finite_whatever_overflows() {
        let big = vec![f32::MAX; 20];
        let query = Query::new(Metric::L2, big.clone());
        assert_eq!(query.score(&[f32::MIN; 20], norm(&big)), f32::MAX);
        let query = Query::new(Metric::Dot, vec![f32::MAX, f32::MAX]);
        assert_eq!(query.score(&[f32::MAX, f32::MIN], 1.0), f32::MIN, "undefined: the worst");
        let query = Query::new(Metric::Cosine, big);
        assert!(query.score(&[f32::MAX; 20], f32::INFINITY).is_finite());
    }

    #[test]
    fn the_best_are_sorted_and_ties_go_to_the_smaller_id() {
        let ids: Vec<PointId> = ["d", "b", "a", "c"].map(PointId::from).to_vec();
        let mut best = Best::new(3);
        for (n, id) in ids.iter().enumerate() {
            let rank = if id.as_str() == "d" { 0.0 } else { 1.0 };
            best.offer(Candidate { rank, score: rank, id, slot: n as u64 });
        }
        let found: Vec<&str> = best.into_sorted().iter().map(|c| c.id.as_str()).collect();
        assert_eq!(found, ["d", "a", "b"]);
    }
}
