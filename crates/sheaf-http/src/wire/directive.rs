//! A directive on the wire: with the whole map, or with its checksum for a gate that was told that map before.
//!
//! Decides when a map is left out. A gate that doesn't have it says so, and is told everything; so what is left out is never guessed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sheaf_map::Map;
use sheaf_protocol::{Directive, Order};
use sheaf_types::limits::SHARDS_MAX;
use sheaf_types::{ClusterId, Revision, ShardId, StoreId, Term};
use twox_hash::XxHash3_128;

/// Bytes of a map that is always sent whole: that of about a hundred shards.
const WHOLE_BYTES_MAX: usize = 16 * 1024;
/// Gates whose maps are remembered; after more, all are told whole maps again.
const GATES_MAX: usize = 2 * SHARDS_MAX;

#[derive(Serialize)]
struct Sent<'a> {
    cluster_id: &'a ClusterId,
    term: Term,
    revision: Revision,
    shard: ShardId,
    store_id: &'a StoreId,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map_checksum: Option<&'a str>,
    order: &'a Option<Order>,
    sweep: bool,
    retired: bool,
}

#[derive(Deserialize)]
struct Received {
    cluster_id: ClusterId,
    term: Term,
    revision: Revision,
    shard: ShardId,
    store_id: StoreId,
    map: Option<Arc<Map>>,
    map_checksum: Option<String>,
    order: Option<Order>,
    sweep: bool,
    retired: bool,
}

/// A map as it is sent.
#[derive(Clone)]
struct Text {
    map: Arc<Map>,
    json: Arc<RawValue>,
    checksum: Arc<str>,
}

impl Text {
    fn of(map: &Arc<Map>) -> Result<Self, serde_json::Error> {
        let json = serde_json::value::to_raw_value(&**map)?;
        let checksum = format!("{:032x}", XxHash3_128::oneshot(json.get().as_bytes()));
        Ok(Self { map: Arc::clone(map), json: json.into(), checksum: checksum.into() })
    }
}

/// What a coordinator remembers of the maps that it sent.
#[derive(Default)]
pub struct ToldMaps(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// The map that was written down last.
    last: Option<Text>,
    /// By the gate's URL: the checksum of the map that it has, as far as is known.
    by_gate: BTreeMap<String, Arc<str>>,
}

/// A directive that is ready to be sent.
pub struct Written {
    pub body: Bytes,
    /// The map is in it.
    pub is_whole: bool,
    checksum: Arc<str>,
}

impl ToldMaps {
    /// The directive for the gate at this URL. `whole`: it has said that it needs the map.
    ///
    /// # Errors
    /// It can't be written down.
    pub fn write(
        &self,
        url: &str,
        directive: &Directive,
        whole: bool,
    ) -> Result<Written, serde_json::Error> {
        let (text, is_whole) = {
            let mut told = self.lock();
            let text = match &told.last {
                Some(text) if Arc::ptr_eq(&text.map, &directive.map) => text.clone(),
                Some(_) | None => told.last.insert(Text::of(&directive.map)?).clone(),
            };
            // One that was never told anything may have it from an earlier coordinator, or may not be there at all.
            let lacks_it = told.by_gate.get(url).is_some_and(|known| *known != text.checksum);
            let is_whole = whole || lacks_it || text.json.get().len() <= WHOLE_BYTES_MAX;
            (text, is_whole)
        };
        let Directive {
            cluster_id, term, revision, shard, store_id, order, sweep, retired, ..
        } = directive;
        let body = serde_json::to_vec(&Sent {
            cluster_id,
            term: *term,
            revision: *revision,
            shard: *shard,
            store_id,
            map: is_whole.then_some(&*text.json),
            map_checksum: Some(&text.checksum),
            order,
            sweep: *sweep,
            retired: *retired,
        })?;
        Ok(Written { body: body.into(), is_whole, checksum: text.checksum })
    }

    /// The gate has answered, or nobody was reached: then its map is left out the next time, too, until it says that it needs it.
    pub fn sent(&self, url: &str, written: &Written) {
        let mut told = self.lock();
        if told.by_gate.len() >= GATES_MAX && !told.by_gate.contains_key(url) {
            told.by_gate.clear();
        }
        told.by_gate.insert(url.to_owned(), Arc::clone(&written.checksum));
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The map that a gate was told last.
#[derive(Default)]
pub struct HeardMap(Mutex<Option<(String, Arc<Map>)>>);

/// What a gate makes of a directive's bytes.
pub enum Read {
    Directive(Box<Directive>),
    /// The map that was left out isn't the one that was told last.
    MapNeeded,
}

impl HeardMap {
    /// The directive in these bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn read(&self, body: &[u8]) -> Result<Read, serde_json::Error> {
        let received: Received = serde_json::from_slice(body)?;
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let map = match (received.map, received.map_checksum) {
            (Some(map), checksum) => {
                *heard = checksum.map(|checksum| (checksum, Arc::clone(&map)));
                map
            }
            (None, Some(checksum)) => match &*heard {
                Some((known, map)) if *known == checksum => Arc::clone(map),
                Some(_) | None => return Ok(Read::MapNeeded),
            },
            (None, None) => return Ok(Read::MapNeeded),
        };
        let Received { cluster_id, term, revision, shard, store_id, .. } = received;
        let Received { order, sweep, retired, .. } = received;
        Ok(Read::Directive(Box::new(Directive {
            cluster_id,
            term,
            revision,
            shard,
            store_id,
            map,
            order,
            sweep,
            retired,
        })))
    }
}

#[cfg(test)]
mod tests {
    use sheaf_map::ShardEntry;
    use sheaf_types::{MapVersion, TransitionId};

    use super::*;

    const URL: &str = "http://node:1";

    fn directive(version: u64, shards: u64) -> Directive {
        let shard = |id| ShardEntry {
            id: ShardId(id),
            primary_url: format!("http://node-{id}:7000"),
            replica_urls: Vec::new(),
            weight: Default::default(),
            store_id: StoreId::from(format!("store-{id}")),
        };
        let cluster = ClusterId::from("c");
        let shards = (1..=shards).map(shard).collect();
        let map = Map::new(cluster.clone(), MapVersion(version), TransitionId(1), shards, vec![]);
        Directive {
            cluster_id: cluster,
            term: Term(3),
            revision: Revision(version),
            shard: ShardId(1),
            store_id: StoreId::from("store-1"),
            map: Arc::new(map.unwrap()),
            order: None,
            sweep: true,
            retired: false,
        }
    }

    fn heard(gate: &HeardMap, written: &Written) -> Option<Directive> {
        match gate.read(&written.body).unwrap() {
            Read::Directive(directive) => Some(*directive),
            Read::MapNeeded => None,
        }
    }

    #[test]
    fn a_large_map_is_sent_once_and_again_when_it_changes_or_the_gate_has_lost_it() {
        let (told, gate) = (ToldMaps::default(), HeardMap::default());
        let first = directive(7, 1_000);
        let written = told.write(URL, &first, false).unwrap();
        assert!(!written.is_whole, "an earlier coordinator may have told it");
        assert_eq!(heard(&gate, &written), None);
        let written = told.write(URL, &first, true).unwrap();
        assert_eq!(heard(&gate, &written).as_ref(), Some(&first));
        told.sent(URL, &written);
        let short = told.write(URL, &first, false).unwrap();
        assert!(!short.is_whole && short.body.len() < 500, "{} bytes", short.body.len());
        assert_eq!(heard(&gate, &short).as_ref(), Some(&first));
        // The gate has started anew: it asks for the map.
        let again = HeardMap::default();
        assert_eq!(heard(&again, &short), None);
        let whole = told.write(URL, &first, true).unwrap();
        assert_eq!(heard(&again, &whole).as_ref(), Some(&first));
        let changed = directive(8, 1_000);
        let written = told.write(URL, &changed, false).unwrap();
        assert!(written.is_whole, "this map is new");
        assert_eq!(heard(&gate, &written).as_ref(), Some(&changed));
        // A late directive of before: its map isn't the one that was told last.
        assert_eq!(heard(&gate, &short), None);
    }

    #[test]
    fn a_small_map_is_always_whole() {
        let told = ToldMaps::default();
        let small = directive(7, 3);
        let written = told.write(URL, &small, false).unwrap();
        told.sent(URL, &written);
        assert!(told.write(URL, &small, false).unwrap().is_whole);
    }

    #[test]
    fn a_directive_as_it_was_written_before_is_read() {
        let whole = directive(7, 3);
        let gate = HeardMap::default();
        let read = gate.read(&serde_json::to_vec(&whole).unwrap()).unwrap();
        assert!(matches!(read, Read::Directive(read) if *read == whole));
        assert!(gate.read(b"{}").is_err());
    }
}
