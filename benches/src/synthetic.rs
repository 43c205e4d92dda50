//! Made-up points as the bytes of requests: clustered vectors with all digits of a float, as a model would give.
//!
//! The same number makes the same point, so what one measurement moved another can load.

use std::fmt::Write;

use bytes::Bytes;
use sheaf_map::{Placement, Weight};
use sheaf_types::{PointId, ShardId};

/// Numbers in a vector: those of a common sentence model.
pub const DIM: usize = 384;
/// Clusters around which the vectors lie.
const CLUSTERS: u64 = 200;

/// The id of this point.
pub fn id(number: usize) -> String {
    format!("point-{number}")
}

/// The shard that owns it among shards 1 to `shards`.
pub fn owner(number: usize, shards: u64) -> u64 {
    let placement = Placement::new((1..=shards).map(|id| (ShardId(id), Weight::ONE)));
    let key = PointId::from(id(number)).placement_key();
    placement.owner(key).map_or(0, |shard| shard.0)
}

/// The vector of this point as JSON.
pub fn vector_json(number: usize) -> String {
    let number = number as u64;
    let mut text = String::with_capacity(DIM * 13);
    for at in 0..DIM as u64 {
        let centre = uniform((number % CLUSTERS) << 32 | at);
        let own = uniform((number + 1) << 40 | at);
        let comma = if at == 0 { '[' } else { ',' };
        let value = (centre + 0.5 * own) * 0.05;
        write!(text, "{comma}{value}").expect("text takes what is written to it");
    }
    text.push(']');
    text
}

/// The body of an upsert of these points.
pub fn upsert(numbers: &[usize]) -> Bytes {
    let mut text = String::from("{\"points\":[");
    for (at, &number) in numbers.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let (id, vector) = (id(number), vector_json(number));
        write!(
            text,
            "{comma}{{\"id\":\"{id}\",\"vector\":{vector},\"payload\":{{\"n\":{number},\"word\":\"made up\"}}}}"
        )
        .expect("text takes what is written to it");
    }
    text.push_str("]}");
    text.into()
}

/// From -1 to 1, the same for the same seed (splitmix64).
fn uniform(seed: u64) -> f32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upsert_is_json_with_vectors_of_the_right_length() {
        let body: serde_json::Value = serde_json::from_slice(&upsert(&[3, 4])).unwrap();
        assert_eq!(body["points"][1]["id"], "point-4");
        assert_eq!(body["points"][0]["vector"].as_array().map(Vec::len), Some(DIM));
    }

    #[test]
    fn half_of_the_points_move_when_one_shard_becomes_two() {
        let moved = (0..1_000).filter(|&number| owner(number, 2) == 2).count();
        assert!((400..600).contains(&moved), "{moved}");
    }
}
