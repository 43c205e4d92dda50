//! One version of the map: the shards, the catalogue, and who owns what under it.
//!
//! Decides whether a map is well-formed, and never what should be in it. A map never changes: the next version is a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use sheaf_types::limits::{COLLECTIONS_MAX, SHARDS_MAX};
use sheaf_types::{
    ClusterId, CollectionConfig, CollectionId, MapVersion, PlacementKey, ShardId, StoreId,
    TransitionId,
};

use crate::{Placement, Weight};

/// A shard as the map knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Assigned once, never reused.
    pub id: ShardId,
    /// Where its gate is reached.
    pub primary_url: String,
    /// Where its replicas are reached.
    #[serde(default)]
    pub replica_urls: Vec<String>,
    /// Its capacity relative to the others.
    #[serde(default)]
    pub weight: Weight,
    /// The data directory that this shard proved to have when it was admitted.
    pub store_id: StoreId,
}

impl ShardEntry {
    /// The primary's URL, then the replicas'.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.primary_url).chain(&self.replica_urls).map(String::as_str)
    }
}

/// A collection in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// Assigned once; a name that is dropped and created again gets a new one.
    pub id: CollectionId,
    /// Everything but its points.
    pub config: Arc<CollectionConfig>,
}

impl Collection {
    /// Its name, by which users know it.
    pub fn name(&self) -> &str {
        &self.config.name
    }
}

/// Why something is not a map. No version was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("{shard} is in the map twice; each shard has its own id")]
    DuplicateShard { shard: ShardId },
    #[error("{shard} has an empty URL, so nobody could reach it; give the address of its node")]
    EmptyUrl { shard: ShardId },
    #[error(
        "{url} belongs to {first} already and can't serve {second} too; give a node of its own"
    )]
    DuplicateUrl { url: String, first: ShardId, second: ShardId },
    #[error(
        "data directory {store} belongs to {first} already and can't serve {second} too; start an empty node"
    )]
    DuplicateStore { store: StoreId, first: ShardId, second: ShardId },
    #[error(
        "the collection {name:?} is in the catalogue already; choose another name or drop it first"
    )]
    DuplicateCollectionName { name: String },
    #[error("the collection id {collection} is in the catalogue twice; ids are never reused")]
    DuplicateCollectionId { collection: CollectionId },
    #[error("there is no collection {collection} in the catalogue, so there is nothing to drop")]
    UnknownCollection { collection: CollectionId },
    #[error(
        "the map's shards are not in id order or its collections not in name order: it was not written by Sheaf, or is damaged; restore it"
    )]
    Unsorted,
    #[error("{given} shards are more than the {max} that a map can have")]
    TooManyShards { given: usize, max: usize },
    #[error(
        "{given} collections are more than the {max} that a catalogue can have; drop one first"
    )]
    TooManyCollections { given: usize, max: usize },
    #[error(
        "{version} is the last version that a map can have: no such number is reached by counting, the map is damaged; restore it"
    )]
    LastVersion { version: MapVersion },
}

/// One version of the map, well-formed. Cheap to clone.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Record")]
pub struct Map(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: Record,
    /// All below is calculated from the record.
    placement: Placement,
    collections_by_id: BTreeMap<CollectionId, usize>,
}

/// What a map consists of, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    cluster_id: ClusterId,
    version: MapVersion,
    /// The last transition that was committed; 0 when there was none.
    committed: TransitionId,
    /// Sorted by id.
    shards: Vec<ShardEntry>,
    /// Sorted by name.
    collections: Vec<Collection>,
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.record == other.0.record
    }
}

impl Eq for Map {}

impl Hash for Map {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.record.hash(state);
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.record.serialize(serializer)
    }
}

impl TryFrom<Record> for Map {
    type Error = MapError;

    fn try_from(record: Record) -> Result<Self, MapError> {
        record.check()?;
        let placement = Placement::new(record.shards.iter().map(|s| (s.id, s.weight)));
        let positions = record.collections.iter().enumerate();
        let collections_by_id = positions.map(|(at, collection)| (collection.id, at)).collect();
        Ok(Self(Arc::new(Inner { record, placement, collections_by_id })))
    }
}

impl Map {
    /// The map of these shards and collections, in any order.
    ///
    /// # Errors
    /// An id, a URL, a data directory or a name is there twice, a URL is empty, or there are too many.
    /// URLs that differ in letter case or in slashes at the end are the same.
    pub fn new(
        cluster_id: ClusterId,
        version: MapVersion,
        committed: TransitionId,
        shards: Vec<ShardEntry>,
        collections: Vec<Collection>,
    ) -> Result<Self, MapError> {
        Record { cluster_id, version, committed, shards, collections }.sorted().try_into()
    }

    /// The first map of a cluster: version 1, no shards, no collections.
    pub fn empty(cluster_id: ClusterId) -> Self {
        let record = Record {
            cluster_id,
            version: MapVersion(1),
            committed: TransitionId(0),
            shards: Vec::new(),
            collections: Vec::new(),
        };
        let placement = Placement::new([]);
        Self(Arc::new(Inner { record, placement, collections_by_id: BTreeMap::new() }))
    }

    /// The next version, with these shards instead, in any order: `committed` is what led to them.
    ///
    /// # Errors
    /// See [`Map::new`].
    pub fn with_shards(
        &self,
        committed: TransitionId,
        shards: Vec<ShardEntry>,
    ) -> Result<Self, MapError> {
        Record { committed, shards, ..self.next()? }.sorted().try_into()
    }

    /// The next version, with this collection besides the others.
    ///
    /// # Errors
    /// Its id or its name is in the catalogue already, or the catalogue is full.
    pub fn with_collection(&self, collection: Collection) -> Result<Self, MapError> {
        let mut next = self.next()?;
        next.collections.push(collection);
        next.sorted().try_into()
    }

    /// The next version, without this collection.
    ///
    /// # Errors
    /// It isn't in the catalogue.
    pub fn without_collection(&self, collection: CollectionId) -> Result<Self, MapError> {
        if self.collection_by_id(collection).is_none() {
            return Err(MapError::UnknownCollection { collection });
        }
        let mut next = self.next()?;
        next.collections.retain(|kept| kept.id != collection);
        next.try_into()
    }

    /// The cluster whose map this is.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.0.record.cluster_id
    }

    /// Which version this is.
    pub fn version(&self) -> MapVersion {
        self.0.record.version
    }

    /// The last transition that was committed; 0 when there was none.
    pub fn committed(&self) -> TransitionId {
        self.0.record.committed
    }

    /// The shards, sorted by id.
    pub fn shards(&self) -> &[ShardEntry] {
        &self.0.record.shards
    }

    /// The catalogue, sorted by name.
    pub fn collections(&self) -> &[Collection] {
        &self.0.record.collections
    }

    /// The shard that owns the point with this key; `None` only when there is no shard.
    pub fn owner(&self, key: PlacementKey) -> Option<ShardId> {
        self.0.placement.owner(key)
    }

    /// The shards, prepared for finding owners.
    pub fn placement(&self) -> &Placement {
        &self.0.placement
    }

    /// The shard with this id.
    pub fn shard(&self, id: ShardId) -> Option<&ShardEntry> {
        let shards = self.shards();
        let at = shards.binary_search_by_key(&id, |shard| shard.id).ok()?;
        shards.get(at)
    }

    /// The shard that is reached by this URL, as its primary or as a replica.
    ///
    /// Letter case and slashes at the end of a URL don't matter.
    pub fn shard_by_url(&self, url: &str) -> Option<&ShardEntry> {
        let wanted = endpoint(url);
        self.shards().iter().find(|shard| shard.urls().any(|url| endpoint(url) == wanted))
    }

    /// The shard that was admitted with this data directory.
    pub fn shard_by_store(&self, store: &StoreId) -> Option<&ShardEntry> {
        self.shards().iter().find(|shard| shard.store_id == *store)
    }

    /// The collection with this name.
    pub fn collection(&self, name: &str) -> Option<&Collection> {
        let collections = self.collections();
        let at = collections.binary_search_by_key(&name, Collection::name).ok()?;
        collections.get(at)
    }

    /// The collection with this id.
    pub fn collection_by_id(&self, id: CollectionId) -> Option<&Collection> {
        self.0.collections_by_id.get(&id).and_then(|&at| self.collections().get(at))
    }

    /// What this map consists of, one version later.
    fn next(&self) -> Result<Record, MapError> {
        let mut next = self.0.record.clone();
        let version = next.version;
        next.version =
            MapVersion(version.0.checked_add(1).ok_or(MapError::LastVersion { version })?);
        Ok(next)
    }
}

impl Record {
    fn sorted(mut self) -> Self {
        self.shards.sort_by_key(|shard| shard.id);
        self.collections.sort_by(|a, b| a.name().cmp(b.name()));
        self
    }

    fn check(&self) -> Result<(), MapError> {
        if self.shards.len() > SHARDS_MAX {
            let given = self.shards.len();
            return Err(MapError::TooManyShards { given, max: SHARDS_MAX });
        }
        if self.collections.len() > COLLECTIONS_MAX {
            let given = self.collections.len();
            return Err(MapError::TooManyCollections { given, max: COLLECTIONS_MAX });
        }
        if !self.shards.is_sorted_by_key(|shard| shard.id)
            || !self.collections.is_sorted_by(|a, b| a.name() <= b.name())
        {
            return Err(MapError::Unsorted);
        }
        self.check_shards()?;
        self.check_collections()
    }

    fn check_shards(&self) -> Result<(), MapError> {
        let mut ids = BTreeSet::new();
        let mut endpoints = BTreeMap::new();
        let mut stores = BTreeMap::new();
        for shard in &self.shards {
            let second = shard.id;
            if !ids.insert(second) {
                return Err(MapError::DuplicateShard { shard: second });
            }
            for url in shard.urls() {
                let endpoint = endpoint(url);
                if endpoint.is_empty() {
                    return Err(MapError::EmptyUrl { shard: second });
                }
                if let Some(first) = endpoints.insert(endpoint, second) {
                    return Err(MapError::DuplicateUrl { url: url.to_owned(), first, second });
                }
            }
            if let Some(first) = stores.insert(&shard.store_id, second) {
                let store = shard.store_id.clone();
                return Err(MapError::DuplicateStore { store, first, second });
            }
        }
        Ok(())
    }

    fn check_collections(&self) -> Result<(), MapError> {
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for collection in &self.collections {
            if !names.insert(collection.name()) {
                let name = collection.name().to_owned();
                return Err(MapError::DuplicateCollectionName { name });
            }
            if !ids.insert(collection.id) {
                return Err(MapError::DuplicateCollectionId { collection: collection.id });
            }
        }
        Ok(())
    }
}

/// What makes two URLs the same node: letter case and slashes at the end don't matter.
fn endpoint(url: &str) -> String {
    url.trim().trim_end_matches('/').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u64) -> ShardEntry {
        ShardEntry {
            id: ShardId(id),
            primary_url: format!("http://node-{id}:7000"),
            replica_urls: vec![format!("http://replica-{id}:7000")],
            weight: Weight::ONE,
            store_id: StoreId::from(format!("store-{id}")),
        }
    }

    fn collection(id: u64, name: &str) -> Collection {
        let config = serde_json::json!({ "name": name, "dim": 3 });
        Collection {
            id: CollectionId(id),
            config: Arc::new(serde_json::from_value(config).unwrap()),
        }
    }

    fn map_of(shards: Vec<ShardEntry>, collections: Vec<Collection>) -> Result<Map, MapError> {
        Map::new(ClusterId::from("c"), MapVersion(7), TransitionId(3), shards, collections)
    }

    fn example() -> Map {
        let shards = vec![shard(5), shard(1), shard(3)];
        map_of(shards, vec![collection(1, "words"), collection(9, "films")]).unwrap()
    }

    #[test]
    fn a_map_survives_json_unchanged_and_owns_the_same() {
        let map = example();
        let text = serde_json::to_string(&map).unwrap();
        let again: Map = serde_json::from_str(&text).unwrap();
        assert_eq!(again, map);
        assert_eq!(again.placement(), map.placement());
        assert_eq!(again.collection_by_id(CollectionId(9)).map(Collection::name), Some("films"));
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }

    #[test]
    fn an_entry_without_weight_and_replicas_has_weight_1_and_no_replicas() {
        let text = r#"{"id": 1, "primary_url": "http://a", "store_id": "s"}"#;
        let entry: ShardEntry = serde_json::from_str(text).unwrap();
        assert_eq!((entry.weight, entry.replica_urls), (Weight::ONE, vec![]));
    }

    #[test]
    fn shards_and_collections_are_found_by_all_their_names() {
        let map = example();
        assert_eq!(map.shards().iter().map(|s| s.id.0).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(map.shard(ShardId(3)).map(|s| s.id), Some(ShardId(3)));
        assert_eq!(map.shard(ShardId(2)), None);
        assert_eq!(map.shard_by_url("HTTP://Node-5:7000/").map(|s| s.id), Some(ShardId(5)));
        assert_eq!(map.shard_by_url("http://replica-1:7000").map(|s| s.id), Some(ShardId(1)));
        assert_eq!(map.shard_by_url("http://node-2:7000"), None);
        assert_eq!(map.shard_by_store(&StoreId::from("store-1")).map(|s| s.id), Some(ShardId(1)));
        assert_eq!(map.shard_by_store(&StoreId::from("store-2")), None);
        assert_eq!(map.collection("words").map(|c| c.id), Some(CollectionId(1)));
        assert_eq!(map.collection("word"), None);
        assert_eq!(map.collection_by_id(CollectionId(2)), None);
    }

    #[test]
    fn each_change_is_the_next_version_and_leaves_the_old_one_as_it_was() {
        let first = Map::empty(ClusterId::from("c"));
        assert_eq!((first.version(), first.committed()), (MapVersion(1), TransitionId(0)));
        assert_eq!(first.owner(PlacementKey::of("a")), None);

        let grown = first.with_shards(TransitionId(4), vec![shard(2), shard(1)]).unwrap();
        assert_eq!((grown.version(), grown.committed()), (MapVersion(2), TransitionId(4)));
        assert!(grown.owner(PlacementKey::of("a")).is_some());

        let with = grown.with_collection(collection(1, "words")).unwrap();
        assert_eq!((with.version(), with.committed()), (MapVersion(3), TransitionId(4)));
        let without = with.without_collection(CollectionId(1)).unwrap();
        assert_eq!((without.version(), without.collections()), (MapVersion(4), &[][..]));
        assert_eq!(without.shards(), grown.shards());
        assert_eq!((first.shards().len(), with.collections().len()), (0, 1));
        assert_eq!(with.cluster_id(), first.cluster_id());
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let with = |change: fn(&mut ShardEntry)| {
            let mut second = shard(2);
            change(&mut second);
            map_of(vec![shard(1), second], vec![]).unwrap_err()
        };
        let (first, second) = (ShardId(1), ShardId(2));
        assert_eq!(with(|s| s.id = ShardId(1)), MapError::DuplicateShard { shard: first });
        let url = "http://node-1:7000".to_owned();
        let twice = MapError::DuplicateUrl { url: url.clone(), first, second };
        assert_eq!(with(|s| s.primary_url = "http://node-1:7000".into()), twice);
        assert_eq!(with(|s| s.replica_urls.push("http://node-1:7000".into())), twice);
        assert_eq!(
            with(|s| s.replica_urls.push("HTTP://node-2:7000/".into())),
            MapError::DuplicateUrl { url: "HTTP://node-2:7000/".into(), first: second, second }
        );
        let store = StoreId::from("store-1");
        let twice = MapError::DuplicateStore { store: store.clone(), first, second };
        assert_eq!(with(|s| s.store_id = StoreId::from("store-1")), twice);
        assert_eq!(with(|s| s.primary_url = " /".into()), MapError::EmptyUrl { shard: second });

        let map = example();
        let refused = |c| map.with_collection(c).unwrap_err();
        let name = "words".to_owned();
        assert_eq!(refused(collection(2, "words")), MapError::DuplicateCollectionName { name });
        let collection_id = CollectionId(9);
        assert_eq!(
            refused(collection(9, "other")),
            MapError::DuplicateCollectionId { collection: collection_id }
        );
        assert_eq!(
            map.without_collection(CollectionId(2)).unwrap_err(),
            MapError::UnknownCollection { collection: CollectionId(2) }
        );
    }

    #[test]
    fn a_written_map_that_sheaf_would_not_have_written_is_refused() {
        let written = serde_json::to_value(example()).unwrap();
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut changed = written.clone();
            change(&mut changed);
            serde_json::from_value::<Map>(changed).unwrap_err().to_string()
        };
        let unsorted = MapError::Unsorted.to_string();
        assert_eq!(refused(&|m| m["shards"].as_array_mut().unwrap().reverse()), unsorted);
        assert_eq!(refused(&|m| m["collections"].as_array_mut().unwrap().reverse()), unsorted);
        assert!(refused(&|m| m["shards"][1]["id"] = 1.into()).contains("s1 is in the map twice"));
        assert!(refused(&|m| m["shards"][0]["weight"] = 0.into()).contains("out of range"));
        assert!(refused(&|m| m["extra"] = 0.into()).contains("unknown field"));
        assert!(refused(&|m| m["shards"][0]["extra"] = 0.into()).contains("unknown field"));
    }

    #[test]
    fn a_map_has_bounds() {
        let shards = |n| (0..n as u64).map(shard).collect::<Vec<_>>();
        assert!(map_of(shards(SHARDS_MAX), vec![]).is_ok());
        let given = SHARDS_MAX + 1;
        let refused = map_of(shards(given), vec![]).unwrap_err();
        assert_eq!(refused, MapError::TooManyShards { given, max: SHARDS_MAX });

        let one = collection(0, "a");
        let given = COLLECTIONS_MAX + 1;
        let refused = map_of(vec![], vec![one.clone(); given]).unwrap_err();
        assert_eq!(refused, MapError::TooManyCollections { given, max: COLLECTIONS_MAX });

        let version = MapVersion(u64::MAX);
        let id = ClusterId::from("c");
        let last = Map::new(id, version, TransitionId(0), vec![], vec![]).unwrap();
        assert_eq!(last.with_collection(one).unwrap_err(), MapError::LastVersion { version });
    }
}
