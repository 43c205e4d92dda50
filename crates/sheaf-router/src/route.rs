//! Which shard is asked for which items.
//!
//! Decides by the map alone; never whether a call may be repeated.

use std::collections::BTreeMap;

use sheaf_map::Map;
use sheaf_types::{PlacementKey, ShardId};

/// Splits `items` (indices into `keys`) by the owner of their keys; each share keeps the given order.
/// `None` when the map has no shard.
pub fn split(map: &Map, keys: &[PlacementKey], items: &[u32]) -> Option<Vec<(ShardId, Vec<u32>)>> {
    if let [item] = *items {
        let key = keys.get(item as usize)?;
        return Some(vec![(map.owner(*key)?, vec![item])]);
    }
    if let [only] = map.shards() {
        return Some(vec![(only.id, items.to_vec())]);
    }
    let mut shares: BTreeMap<ShardId, Vec<u32>> = BTreeMap::new();
    for &item in items {
        let key = keys.get(item as usize)?;
        shares.entry(map.owner(*key)?).or_default().push(item);
    }
    let split: usize = shares.values().map(Vec::len).sum();
    assert_eq!(split, items.len(), "I6 total-map: each item has exactly one owner");
    Some(shares.into_iter().collect())
}
