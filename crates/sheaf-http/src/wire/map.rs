//! The map as coordinators publish it: its own fields, and what is under way.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_map::Map;
use sheaf_types::{MapVersion, ShardId};

use super::map_delta::MapDelta;

/// The fields that make up the map itself; coordinators may publish more.
const FIELDS: [&str; 5] = ["cluster_id", "version", "committed", "shards", "collections"];

/// `GET /cluster/map`.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedMap<'a> {
    #[serde(flatten)]
    pub map: &'a Map,
    #[serde(flatten)]
    pub underway: Underway,
}

/// What is under way, beside the map: it changes nothing about who owns what.
#[derive(Clone, Debug, Serialize)]
pub struct Underway {
    /// Shards that are about to own their part; they are not in the map yet.
    pub joining: Vec<ShardId>,
    /// Shards that are about to own nothing. Until then they own what they did.
    pub draining: Vec<ShardId>,
    /// Nothing, ever: a router that was made for Quiver takes a shard in here for one that owns nothing any more, and writes all
    /// points of it twice.
    leaving: [ShardId; 0],
}

impl Underway {
    pub fn new(joining: Vec<ShardId>, draining: Vec<ShardId>) -> Self {
        Self { joining, draining, leaving: [] }
    }
}

/// `GET /cluster/map` for whoever has an earlier one.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedDelta {
    #[serde(flatten)]
    pub delta: MapDelta,
    #[serde(flatten)]
    pub underway: Underway,
}

/// The map in a coordinator's answer to somebody who has `known`: whole, or as a difference from that one.
///
/// # Errors
/// It is no map, none that Sheaf would have made, or a difference from another one.
pub fn read_after(body: &[u8], known: Option<&Map>) -> Result<Map, String> {
    #[derive(Deserialize)]
    struct Kind {
        since: Option<MapVersion>,
    }
    let kind: Kind = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    match (kind.since, known) {
        (None, _) => read(body).map_err(|error| error.to_string()),
        (Some(_), Some(known)) => {
            let delta: MapDelta =
                serde_json::from_slice(body).map_err(|error| error.to_string())?;
            delta.apply(known).map_err(|error| error.to_string())
        }
        (Some(since), None) => {
            Err(format!("it is a difference from map {since}, which isn't known"))
        }
    }
}

/// The map in a coordinator's answer; other fields are ignored.
///
/// # Errors
/// It is no map, or none that Sheaf would have made.
pub fn read(body: &[u8]) -> Result<Map, serde_json::Error> {
    let mut published: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
    published.retain(|name, _| FIELDS.contains(&name.as_str()));
    serde_json::from_value(Value::Object(published))
}

#[cfg(test)]
mod tests {
    use sheaf_map::ShardEntry;
    use sheaf_types::{ClusterId, MapVersion, StoreId, TransitionId};

    use super::*;

    #[test]
    fn a_published_map_is_read_back_and_further_fields_are_ignored() {
        let shard = ShardEntry {
            id: ShardId(4),
            primary_url: "http://node:1".to_owned(),
            replica_urls: Vec::new(),
            weight: Default::default(),
            store_id: StoreId::from("store"),
        };
        let cluster = ClusterId::from("c");
        let map = Map::new(cluster, MapVersion(7), TransitionId(3), vec![shard], vec![]).unwrap();
        let underway = Underway::new(vec![ShardId(5)], vec![ShardId(4)]);
        let published = PublishedMap { map: &map, underway };
        let mut json = serde_json::to_value(&published).unwrap();
        let underway = (&json["joining"], &json["draining"], &json["leaving"]);
        let expected = (serde_json::json!([5]), serde_json::json!([4]), serde_json::json!([]));
        assert_eq!(underway, (&expected.0, &expected.1, &expected.2));
        assert_eq!(json["shards"][0]["primary_url"], "http://node:1");
        json["later"] = serde_json::json!({"more": 1});
        assert_eq!(read(&serde_json::to_vec(&json).unwrap()).unwrap(), map);
        assert!(read(b"[]").is_err());
        assert!(read(b"{\"version\": 1}").is_err());
    }
}
