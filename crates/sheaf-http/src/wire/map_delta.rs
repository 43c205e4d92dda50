//! What changed between two maps, for whoever has the first: a map of thousands of shards is sent whole only when it must be.
//!
//! Decides when a delta is worth it, and that one which doesn't lead to the very same map is not believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sheaf_map::{Collection, Map, MapError, ShardEntry};
use sheaf_types::{ClusterId, CollectionId, MapVersion, ShardId, TransitionId};
use twox_hash::XxHash3_128;

/// A map as its difference from an earlier one. Coordinators publish more fields beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapDelta {
    /// The version that it is a difference from.
    pub since: MapVersion,
    pub cluster_id: ClusterId,
    pub version: MapVersion,
    pub committed: TransitionId,
    /// New ones, and those that are not as they were.
    pub shards_changed: Vec<ShardEntry>,
    pub shards_gone: Vec<ShardId>,
    pub collections_changed: Vec<Collection>,
    pub collections_gone: Vec<CollectionId>,
    /// Of the whole new map.
    pub checksum: String,
}

/// Why a delta leads to no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    #[error(
        "it is a difference from map {since} of cluster {cluster}, not from the one that is known"
    )]
    OtherBase { since: MapVersion, cluster: ClusterId },
    #[error("it leads to no map: {0}")]
    NoMap(#[from] MapError),
    #[error(
        "it leads to another map than the coordinator's, so one of them is not what its version says"
    )]
    OtherMap,
}

impl MapDelta {
    /// The difference, unless the whole map is about as short.
    pub fn between(old: &Map, new: &Map) -> Option<Self> {
        if old.cluster_id() != new.cluster_id() {
            return None;
        }
        let was = |entry: &&ShardEntry| old.shard(entry.id) == Some(*entry);
        let shards_changed: Vec<_> = new.shards().iter().filter(|e| !was(e)).cloned().collect();
        let shards = old.shards().iter().map(|entry| entry.id);
        let shards_gone: Vec<_> = shards.filter(|id| new.shard(*id).is_none()).collect();
        let was = |entry: &&Collection| old.collection_by_id(entry.id) == Some(*entry);
        let collections = new.collections().iter();
        let collections_changed: Vec<_> = collections.filter(|e| !was(e)).cloned().collect();
        let collections = old.collections().iter().map(|collection| collection.id);
        let collections_gone: Vec<_> =
            collections.filter(|id| new.collection_by_id(*id).is_none()).collect();
        let said = shards_changed.len() + collections_changed.len();
        let whole = new.shards().len() + new.collections().len();
        let checksum = checksum(new)?;
        (2 * said < whole).then(|| Self {
            since: old.version(),
            cluster_id: new.cluster_id().clone(),
            version: new.version(),
            committed: new.committed(),
            shards_changed,
            shards_gone,
            collections_changed,
            collections_gone,
            checksum,
        })
    }

    /// The map that this makes of `old`.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn apply(self, old: &Map) -> Result<Map, DeltaError> {
        let Self { since, cluster_id, version, committed, .. } = self;
        if since != old.version() || cluster_id != *old.cluster_id() {
            return Err(DeltaError::OtherBase { since, cluster: cluster_id });
        }
        let mut shards: BTreeMap<ShardId, ShardEntry> =
            old.shards().iter().map(|entry| (entry.id, entry.clone())).collect();
        shards.retain(|id, _| !self.shards_gone.contains(id));
        shards.extend(self.shards_changed.into_iter().map(|entry| (entry.id, entry)));
        let mut collections: BTreeMap<CollectionId, Collection> =
            old.collections().iter().map(|entry| (entry.id, entry.clone())).collect();
        collections.retain(|id, _| !self.collections_gone.contains(id));
        collections.extend(self.collections_changed.into_iter().map(|entry| (entry.id, entry)));
        let (shards, collections) =
            (shards.into_values().collect(), collections.into_values().collect());
        let map = Map::new(cluster_id, version, committed, shards, collections)?;
        if checksum(&map).as_ref() != Some(&self.checksum) {
            return Err(DeltaError::OtherMap);
        }
        Ok(map)
    }
}

/// Of everything in the map; `None`: it can't be written down.
fn checksum(map: &Map) -> Option<String> {
    let bytes = serde_json::to_vec(map).ok()?;
    Some(format!("{:032x}", XxHash3_128::oneshot(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_types::{CollectionConfig, StoreId};

    use super::*;

    fn shard(id: u64, url: &str) -> ShardEntry {
        ShardEntry {
            id: ShardId(id),
            primary_url: format!("http://{url}:7000"),
            replica_urls: Vec::new(),
            weight: Default::default(),
            store_id: StoreId::from(format!("store-{id}")),
        }
    }

    fn collection(id: u64, name: &str) -> Collection {
        let config: CollectionConfig =
            serde_json::from_value(serde_json::json!({ "name": name, "dim": 3, "metric": "l2" }))
                .unwrap();
        Collection { id: CollectionId(id), config: Arc::new(config) }
    }

    fn map(version: u64, shards: &[(u64, &str)], collections: &[(u64, &str)]) -> Map {
        let shards = shards.iter().map(|(id, url)| shard(*id, url)).collect();
        let collections = collections.iter().map(|(id, name)| collection(*id, name)).collect();
        let (cluster, committed) = (ClusterId::from("c"), TransitionId(version));
        Map::new(cluster, MapVersion(version), committed, shards, collections).unwrap()
    }

    const FIVE: [(u64, &str); 5] = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];

    #[test]
    fn a_delta_leads_from_one_map_to_the_other_whatever_changed() {
        let old = map(7, &FIVE, &[(1, "x"), (2, "y")]);
        let grown = map(8, &[&FIVE[..], &[(6, "f")]].concat(), &[(1, "x"), (2, "y")]);
        let drained = map(8, &FIVE[1..], &[(1, "x"), (2, "y")]);
        let moved = map(9, &[&FIVE[..4], &[(5, "elsewhere")]].concat(), &[(1, "x"), (2, "y")]);
        let catalogue = map(8, &FIVE, &[(2, "y"), (3, "x")]);
        for new in [grown, drained, moved, catalogue, old.clone()] {
            let delta = MapDelta::between(&old, &new).expect("most of it is as it was");
            let sent = serde_json::to_vec(&delta).unwrap();
            assert!(sent.len() < serde_json::to_vec(&new).unwrap().len());
            let received: MapDelta = serde_json::from_slice(&sent).unwrap();
            assert_eq!(received.apply(&old), Ok(new));
        }
    }

    #[test]
    fn when_most_of_it_is_new_the_whole_map_is_sent() {
        let old = map(7, &FIVE[..1], &[]);
        assert_eq!(MapDelta::between(&old, &map(8, &FIVE, &[])), None);
    }

    #[test]
    fn a_delta_is_never_applied_to_another_map_of_that_number() {
        let (old, new) = (map(7, &FIVE, &[]), map(8, &FIVE[1..], &[]));
        let delta = MapDelta::between(&old, &new).unwrap();
        let other = map(7, &[&FIVE[..4], &[(5, "elsewhere")]].concat(), &[]);
        assert_eq!(delta.clone().apply(&other), Err(DeltaError::OtherMap));
        let later = map(9, &FIVE, &[]);
        assert!(matches!(delta.apply(&later), Err(DeltaError::OtherBase { .. })));
    }
}
