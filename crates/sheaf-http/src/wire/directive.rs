//! A directive on the wire: with whole maps, or without what the gate was told before.
//!
//! Decides when a map is left out, and when it is sent as its difference from one that the gate has. A gate that doesn't have that one
//! says so, and is told everything; so what is left out is never guessed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sheaf_map::Map;
use sheaf_protocol::{CopyOptions, Directive, Order, Stage};
use sheaf_types::limits::SHARDS_MAX;
use sheaf_types::{Attempt, ClusterId, Revision, ShardId, StoreId, Term, TransitionId};
use twox_hash::XxHash3_128;

use super::map_delta::MapDelta;

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
    /// The difference from the map that was told before.
    #[serde(skip_serializing_if = "Option::is_none")]
    map_delta: Option<&'a RawValue>,
    map_checksum: &'a str,
    order: Option<SentOrder<'a>>,
    sweep: bool,
    retired: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unproven: bool,
}

#[derive(Serialize)]
struct SentOrder<'a> {
    transition: TransitionId,
    attempt: Attempt,
    stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a Map>,
    /// The difference from the map of the same directive.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_delta: Option<&'a RawValue>,
    copy: CopyOptions,
}

#[derive(Deserialize)]
struct Received {
    cluster_id: ClusterId,
    term: Term,
    revision: Revision,
    shard: ShardId,
    store_id: StoreId,
    map: Option<Arc<Map>>,
    map_delta: Option<MapDelta>,
    map_checksum: Option<String>,
    order: Option<ReceivedOrder>,
    sweep: bool,
    retired: bool,
    #[serde(default)]
    unproven: bool,
}

#[derive(Deserialize)]
struct ReceivedOrder {
    transition: TransitionId,
    attempt: Attempt,
    stage: Stage,
    next: Option<Arc<Map>>,
    next_delta: Option<MapDelta>,
    copy: CopyOptions,
}

impl ReceivedOrder {
    /// `None`: its next map is a difference from another map than this one.
    fn complete(self, map: &Map) -> Option<Order> {
        let next = match (self.next, self.next_delta) {
            (Some(next), _) => next,
            (None, delta) => Arc::new(delta?.apply(map).ok()?),
        };
        let Self { transition, attempt, stage, copy, .. } = self;
        Some(Order { transition, attempt, stage, next, copy })
    }
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

/// The difference between two maps as it is sent; `None`: it would be about as long as the whole.
type Delta = Option<Arc<RawValue>>;

fn delta(old: &Map, new: &Map) -> Result<Delta, serde_json::Error> {
    let delta = MapDelta::between(old, new);
    delta.map(|delta| Ok(serde_json::value::to_raw_value(&delta)?.into())).transpose()
}

/// What a coordinator remembers of the maps that it sent.
pub struct ToldMaps {
    told: Mutex<Told>,
    whole_bytes_max: usize,
}

impl Default for ToldMaps {
    fn default() -> Self {
        Self::new(WHOLE_BYTES_MAX)
    }
}

#[derive(Default)]
struct Told {
    /// The map that was written down last.
    last: Option<Text>,
    /// The checksum of the one before, and what has changed since.
    since: Option<(Arc<str>, Delta)>,
    /// A next map, the map that it is to replace, and the difference.
    next: Option<(Arc<Map>, Arc<Map>, Delta)>,
    /// By the gate's URL: the checksum of the map that it has, as far as is known.
    by_gate: BTreeMap<String, Arc<str>>,
}

/// A directive that is ready to be sent.
pub struct Written {
    pub body: Bytes,
    /// Nothing is left out.
    pub is_whole: bool,
    checksum: Arc<str>,
}

impl ToldMaps {
    /// Maps of up to so many bytes are always sent whole.
    pub fn new(whole_bytes_max: usize) -> Self {
        Self { told: Mutex::default(), whole_bytes_max }
    }

    /// The directive for the gate at this URL. `whole`: it has said that it needs all of it.
    ///
    /// # Errors
    /// It can't be written down.
    pub fn write(
        &self,
        url: &str,
        directive: &Directive,
        whole: bool,
    ) -> Result<Written, serde_json::Error> {
        let (text, map, next_delta) = {
            let mut told = self.lock();
            let text = told.text(&directive.map)?;
            if whole || text.json.get().len() <= self.whole_bytes_max {
                (text, SentMap::Whole, None)
            } else {
                let map = told.map_for(url, &text);
                let next = directive.order.as_ref().map(|order| &order.next);
                let next_delta = next.map(|next| told.next_delta(&text.map, next)).transpose()?;
                (text, map, next_delta.flatten())
            }
        };
        let order = directive.order.as_ref().map(|order| SentOrder {
            transition: order.transition,
            attempt: order.attempt,
            stage: order.stage,
            next: next_delta.is_none().then_some(&*order.next),
            next_delta: next_delta.as_deref(),
            copy: order.copy,
        });
        let Directive { cluster_id, term, revision, shard, store_id, .. } = directive;
        let body = serde_json::to_vec(&Sent {
            cluster_id,
            term: *term,
            revision: *revision,
            shard: *shard,
            store_id,
            map: matches!(map, SentMap::Whole).then_some(&*text.json),
            map_delta: if let SentMap::Delta(delta) = &map { Some(&**delta) } else { None },
            map_checksum: &text.checksum,
            order,
            sweep: directive.sweep,
            retired: directive.retired,
            unproven: directive.unproven,
        })?;
        let is_whole = matches!(map, SentMap::Whole) && next_delta.is_none();
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
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a map that is large is told.
enum SentMap {
    Whole,
    Delta(Arc<RawValue>),
    Nothing,
}

impl Told {
    /// This map as it is sent.
    fn text(&mut self, map: &Arc<Map>) -> Result<Text, serde_json::Error> {
        if let Some(text) = self.last.as_ref().filter(|text| Arc::ptr_eq(&text.map, map)) {
            return Ok(text.clone());
        }
        let text = Text::of(map)?;
        if let Some(before) = self.last.replace(text.clone()) {
            self.since = Some((before.checksum, delta(&before.map, map)?));
        }
        Ok(text)
    }

    /// What the gate at this URL is sent of the map that was written down last.
    fn map_for(&self, url: &str, text: &Text) -> SentMap {
        match (self.by_gate.get(url), &self.since) {
            // One that was never told anything may have it from an earlier coordinator, or may not be there at all.
            (None, _) => SentMap::Nothing,
            (Some(known), _) if *known == text.checksum => SentMap::Nothing,
            (Some(known), Some((since, Some(delta)))) if known == since => {
                SentMap::Delta(Arc::clone(delta))
            }
            (Some(_), _) => SentMap::Whole,
        }
    }

    fn next_delta(&mut self, map: &Arc<Map>, next: &Arc<Map>) -> Result<Delta, serde_json::Error> {
        match &self.next {
            Some((old, new, delta)) if Arc::ptr_eq(old, map) && Arc::ptr_eq(new, next) => {
                Ok(delta.clone())
            }
            Some(_) | None => {
                let delta = delta(map, next)?;
                self.next = Some((Arc::clone(map), Arc::clone(next), delta.clone()));
                Ok(delta)
            }
        }
    }
}

/// The map that a gate was told last.
#[derive(Default)]
pub struct HeardMap(Mutex<Option<(String, Arc<Map>)>>);

/// What a gate makes of a directive's bytes.
pub enum Read {
    Directive(Box<Directive>),
    /// What was left out isn't of the map that was told last.
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
        let map = match (received.map, received.map_delta, &*heard) {
            (Some(map), ..) => map,
            (None, Some(delta), Some((_, known))) => match delta.apply(known) {
                Ok(map) => Arc::new(map),
                Err(_another_base) => return Ok(Read::MapNeeded),
            },
            (None, None, Some((known, map))) if received.map_checksum.as_ref() == Some(known) => {
                Arc::clone(map)
            }
            (None, ..) => return Ok(Read::MapNeeded),
        };
        *heard = received.map_checksum.map(|checksum| (checksum, Arc::clone(&map)));
        let order = match received.order.map(|order| order.complete(&map)) {
            Some(None) => return Ok(Read::MapNeeded),
            Some(Some(order)) => Some(order),
            None => None,
        };
        let Received { cluster_id, term, revision, shard, store_id, .. } = received;
        let Received { sweep, retired, unproven, .. } = received;
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
            unproven,
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
            unproven: false,
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
        assert!(written.body.len() < 700, "only what changed: {} bytes", written.body.len());
        assert_eq!(heard(&gate, &written).as_ref(), Some(&changed));
        // A late directive of before: its map isn't the one that was told last.
        assert_eq!(heard(&gate, &short), None);
    }

    #[test]
    fn of_a_large_map_that_changed_only_the_change_is_sent_and_so_of_the_next_one() {
        let (told, gate) = (ToldMaps::default(), HeardMap::default());
        let before = directive(7, 1_000);
        let whole = told.write(URL, &before, true).unwrap();
        assert_eq!(heard(&gate, &whole).as_ref(), Some(&before));
        told.sent(URL, &whole);
        let mut after = directive(8, 1_001);
        after.order = Some(Order {
            transition: TransitionId(2),
            attempt: Attempt(1),
            stage: Stage::Copy,
            next: directive(9, 1_002).map,
            copy: CopyOptions::default(),
        });
        let short = told.write(URL, &after, false).unwrap();
        assert!(!short.is_whole && short.body.len() < 2_000, "{} bytes", short.body.len());
        assert_eq!(heard(&gate, &short).as_ref(), Some(&after));
        told.sent(URL, &short);
        let again = told.write(URL, &after, false).unwrap();
        assert!(again.body.len() < short.body.len(), "it has the map now");
        assert_eq!(heard(&gate, &again).as_ref(), Some(&after));
        // One that never heard of the first map.
        let other = HeardMap::default();
        assert_eq!(heard(&other, &short), None);
        let whole = told.write(URL, &after, true).unwrap();
        assert!(whole.is_whole && whole.body.len() > 100_000);
        assert_eq!(heard(&other, &whole).as_ref(), Some(&after));
        // One that missed a map in between.
        let late = told.write("http://other:1", &directive(7, 1_000), true).unwrap();
        told.sent("http://other:1", &late);
        told.write(URL, &directive(10, 1_003), false).unwrap();
        let last = directive(11, 1_004);
        assert!(told.write("http://other:1", &last, false).unwrap().is_whole);
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
