//! JSON shapes and header names that more than one role reads or writes.
//!
//! Decides how data is written; never what it says.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use sheaf_map::{Collection, Map, MapError, ShardEntry};
use sheaf_types::limits::{REQUEST_MS_DEFAULT, REQUEST_MS_MAX};
use sheaf_types::{ClusterId, CollectionConfig, MapVersion, ShardId, TransitionId};

use crate::problem::Problem;

/// The version of the map that a router routed by, or that an answer was made at.
pub const MAP_VERSION: HeaderName = HeaderName::from_static("sheaf-map-version");
/// The shard that a router means.
pub const SHARD: HeaderName = HeaderName::from_static("sheaf-shard");
/// Milliseconds that are left for a request.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("sheaf-timeout-ms");

/// How long a request may take: what its header says, at most `REQUEST_MS_MAX`.
///
/// # Errors
/// 400: the header is not a number of milliseconds from 1 up.
pub fn timeout(headers: &HeaderMap) -> Result<Duration, Problem> {
    let ms = match headers.get(TIMEOUT_MS) {
        None => REQUEST_MS_DEFAULT,
        Some(value) => {
            let ms = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            ms.filter(|ms| *ms > 0).ok_or_else(|| {
                Problem::bad_request("the header sheaf-timeout-ms is not a number of milliseconds from 1 up; nothing was applied")
            })?
        }
    };
    Ok(Duration::from_millis(ms.min(REQUEST_MS_MAX)))
}

/// The map that an answer says it was made at.
pub fn map_version(headers: &HeaderMap) -> Option<MapVersion> {
    headers.get(MAP_VERSION)?.to_str().ok()?.parse().ok().map(MapVersion)
}

/// `GET /cluster/map`. Fields that a later version adds are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapAnswer {
    pub version: MapVersion,
    pub cluster_id: ClusterId,
    #[serde(default)]
    pub committed: TransitionId,
    pub shards: Vec<ShardEntry>,
    #[serde(default)]
    pub collections: Vec<Collection>,
    /// Shards that a running transition adds, and those that it takes out.
    #[serde(default)]
    pub joining: Vec<ShardId>,
    #[serde(default)]
    pub leaving: Vec<ShardId>,
}

impl MapAnswer {
    /// This map, and what the running transition changes about its shards.
    pub fn new(map: &Map, joining: Vec<ShardId>, leaving: Vec<ShardId>) -> Self {
        Self {
            version: map.version(),
            cluster_id: map.cluster_id().clone(),
            committed: map.committed(),
            shards: map.shards().to_vec(),
            collections: map.collections().to_vec(),
            joining,
            leaving,
        }
    }

    /// # Errors
    /// What was answered is no map.
    pub fn into_map(self) -> Result<Map, MapError> {
        Map::new(self.cluster_id, self.version, self.committed, self.shards, self.collections)
    }
}

/// A collection as clients see it.
#[derive(Clone, Debug, Serialize)]
pub struct CollectionAnswer<'a> {
    #[serde(flatten)]
    pub config: &'a CollectionConfig,
    /// Points of the whole cluster.
    pub count: u64,
    /// Always: points that the index doesn't hold yet are searched one by one.
    pub index_ready: bool,
}

impl<'a> CollectionAnswer<'a> {
    pub fn new(config: &'a CollectionConfig, count: u64) -> Self {
        Self { config, count, index_ready: true }
    }
}

/// The answer to an upsert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    pub upserted: u64,
}

/// The answer to a deletion of points: how many there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub deleted: u64,
}

/// The answer to the deletion of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
}

/// The answer to `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_map_survives_the_wire_and_fields_of_later_versions_are_ignored() {
        let written = json!({
            "version": 7, "cluster_id": "c", "committed": 3, "joining": [9], "leaving": [], "later": true,
            "shards": [{ "id": 1, "primary_url": "http://a", "store_id": "s" }],
            "collections": [{ "id": 4, "config": { "name": "words", "dim": 3 } }]
        });
        let answer: MapAnswer = serde_json::from_value(written).unwrap();
        let map = answer.clone().into_map().unwrap();
        assert_eq!((map.version(), map.committed()), (MapVersion(7), TransitionId(3)));
        assert_eq!(map.collection("words").unwrap().config.dim, 3);
        assert_eq!(MapAnswer::new(&map, vec![ShardId(9)], vec![]), answer);
    }

    #[test]
    fn a_timeout_is_what_the_client_says_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_MS, text.parse().unwrap());
            timeout(&headers).map(|timeout| timeout.as_millis() as u64).map_err(|p| p.status.as_u16())
        };
        assert_eq!(timeout(&HeaderMap::new()).unwrap().as_millis() as u64, REQUEST_MS_DEFAULT);
        assert_eq!((of("1"), of("250"), of("99999999")), (Ok(1), Ok(250), Ok(REQUEST_MS_MAX)));
        assert_eq!((of("0"), of("-1"), of("1.5"), of("")), (Err(400), Err(400), Err(400), Err(400)));
    }
}
