//! From the shards' answers to one: the best of ranked lists, and a page of lists in id order.
//!
//! Decides order and cut; never what a hit looks like. The lists come from other processes: what is wrong with them
//! is an error, not a panic.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// A hit of a search.
pub trait Ranked {
    fn id(&self) -> &str;
    fn score(&self) -> f64;
}

/// Something with an id.
pub trait Identified {
    fn id(&self) -> &str;
}

/// Why shards' answers don't make up one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error(
        "two shards answered with the point {id:?} at one version of the map: a point has one owner, so one of them serves what it doesn't own"
    )]
    Twice { id: String },
    #[error(
        "a shard answered with the point {id:?} twice in one list: its engine, or what searches it, is at fault"
    )]
    TwiceInOne { id: String },
    #[error("a shard's answer is not in order at {id:?}, so the best can't be told from it")]
    OutOfOrder { id: String },
    #[error("a shard's answer has a score that is not a number at {id:?}")]
    NoNumber { id: String },
}

/// The `k` best of these lists, best first; equal scores in the order of ids.
///
/// # Errors
/// A list isn't sorted by score (equal scores may come in any order), a score isn't a number, or an id is there twice
/// among the best: in one list or in two.
pub fn best<T: Ranked>(
    lists: Vec<Vec<T>>,
    k: usize,
    lower_is_better: bool,
) -> Result<Vec<T>, MergeError> {
    // Adding zero makes -0 and 0 the same.
    let up = |a: f64, b: f64| (a + 0.0).total_cmp(&(b + 0.0));
    let rank = |a: f64, b: f64| if lower_is_better { up(a, b) } else { up(b, a) };
    for list in &lists {
        check_ranks(list, rank)?;
    }
    let order = |(_, a): &(usize, T), (_, b): &(usize, T)| {
        rank(a.score(), b.score()).then_with(|| a.id().cmp(b.id()))
    };
    // Where the k-th hit ties with others, which of them is among the best is decided by id; so all of a
    // list's equals must be in order before lists are merged.
    let sorted = lists.into_iter().enumerate().map(|(number, list)| {
        let mut list: Vec<(usize, T)> = list.into_iter().map(|hit| (number, hit)).collect();
        list.sort_by(order);
        list
    });
    let merged = merge(sorted.collect(), k, order);
    let mut seen = BTreeMap::new();
    for (list, hit) in &merged {
        let id = || hit.id().to_owned();
        match seen.insert(hit.id(), list) {
            Some(before) if before == list => return Err(MergeError::TwiceInOne { id: id() }),
            Some(_) => return Err(MergeError::Twice { id: id() }),
            None => {}
        }
    }
    Ok(merged.into_iter().map(|(_, hit)| hit).collect())
}

fn check_ranks<T: Ranked>(
    list: &[T],
    rank: impl Fn(f64, f64) -> Ordering,
) -> Result<(), MergeError> {
    if let Some(hit) = list.iter().find(|hit| hit.score().is_nan()) {
        return Err(MergeError::NoNumber { id: hit.id().to_owned() });
    }
    match list.windows(2).find(|pair| rank(pair[0].score(), pair[1].score()).is_gt()) {
        Some(pair) => Err(MergeError::OutOfOrder { id: pair[1].id().to_owned() }),
        None => Ok(()),
    }
}

/// Those behind the first `offset` of these lists, `limit` at most, in the order of ids' bytes. Each list must have begun at
/// the very first id, and hold `offset + limit` points where it can.
///
/// # Errors
/// A list isn't in order, or an id is there twice.
pub fn page<T: Identified>(
    lists: Vec<Vec<T>>,
    offset: usize,
    limit: usize,
) -> Result<Vec<T>, MergeError> {
    for list in &lists {
        if let Some(pair) = list.windows(2).find(|pair| pair[0].id() >= pair[1].id()) {
            return Err(MergeError::OutOfOrder { id: pair[1].id().to_owned() });
        }
    }
    let mut merged = merge(lists, offset.saturating_add(limit), |a: &T, b: &T| a.id().cmp(b.id()));
    if let Some(pair) = merged.windows(2).find(|pair| pair[0].id() == pair[1].id()) {
        return Err(MergeError::Twice { id: pair[0].id().to_owned() });
    }
    Ok(merged.split_off(offset.min(merged.len())))
}

/// The head of one list, in a heap whose greatest is the first of all.
struct Head<T, F> {
    item: T,
    rest: std::vec::IntoIter<T>,
    order: F,
}

impl<T, F: Fn(&T, &T) -> Ordering> Ord for Head<T, F> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.order)(&other.item, &self.item)
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialOrd for Head<T, F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialEq for Head<T, F> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> Eq for Head<T, F> {}

/// The first `count` of these sorted lists, sorted.
fn merge<T>(lists: Vec<Vec<T>>, count: usize, order: impl Fn(&T, &T) -> Ordering + Copy) -> Vec<T> {
    let total: usize = lists.iter().map(Vec::len).sum();
    let heads = lists.into_iter().filter_map(|list| {
        let mut rest = list.into_iter();
        rest.next().map(|item| Head { item, rest, order })
    });
    let mut heads: BinaryHeap<_> = heads.collect();
    let mut merged = Vec::with_capacity(count.min(total));
    while merged.len() < count
        && let Some(mut head) = heads.peek_mut()
    {
        match head.rest.next() {
            Some(next) => merged.push(std::mem::replace(&mut head.item, next)),
            None => merged.push(std::collections::binary_heap::PeekMut::pop(head).item),
        }
    }
    merged
}
