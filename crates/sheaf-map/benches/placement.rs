//! Prints what it costs to find the owner of a key, in nanoseconds. Asserts nothing: machines differ.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock; nothing depends on it")]

use std::hint::black_box;
use std::time::Instant;

use sheaf_map::{Placement, Weight};
use sheaf_types::{PlacementKey, ShardId};

/// Scores calculated in one measurement: about a tenth of a second.
const SCORES: usize = 100_000_000;
/// Keys in one batch. Source: a full upsert.
const BATCH: usize = 1_000;
/// Measurements; the fastest counts, as anything else the machine does only adds to the others.
const ROUNDS: usize = 5;

fn main() {
    println!("{:>7}  {:<26} {:>12} {:>12}", "shards", "weights", "ns per id", "in a batch");
    for shards in [3, 64, 1_000, 10_000] {
        let id = |n: u32| ShardId(u64::from(n));
        let uniform = Placement::new((0..shards).map(|n| (id(n), Weight::ONE)));
        report(shards, "all 1", &uniform);
        for (name, kinds) in [("1, 2, 4", 3), ("all different", shards)] {
            let weighted = (0..shards).map(|n| (id(n), weight(n % kinds, kinds)));
            report(shards, name, &Placement::new(weighted));
        }
    }
}

/// 1, 2, 4 for three kinds; 1.001, 1.002, … for more.
fn weight(kind: u32, kinds: u32) -> Weight {
    let thousandths = if kinds == 3 { 1_000 << kind } else { 1_001 + kind };
    Weight::from_thousandths(thousandths).expect("within the range of weights")
}

fn report(shards: u32, weights: &str, placement: &Placement) {
    let keys: Vec<PlacementKey> =
        (0..BATCH).map(|n| PlacementKey::of(&format!("point-{n}"))).collect();
    let batches = (SCORES / BATCH / shards as usize).clamp(1, 5_000);
    let single = fastest(batches, || {
        for &key in &keys {
            black_box(placement.owner(black_box(key)));
        }
    });
    let batch = fastest(batches, || {
        black_box(placement.owners(black_box(&keys)));
    });
    println!("{shards:>7}  {weights:<26} {single:>12.1} {batch:>12.1}");
}

/// Nanoseconds per key of the fastest round.
fn fastest(batches: usize, mut batch: impl FnMut()) -> f64 {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..batches {
            batch();
        }
        let keys = (batches * BATCH) as f64;
        fastest = fastest.min(start.elapsed().as_nanos() as f64 / keys);
    }
    fastest
}
