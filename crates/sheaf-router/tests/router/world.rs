//! A small world for operations: maps, and a table of what was asked of whom. Has no opinion of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::{Map, ShardEntry, Weight};
use sheaf_router::{Call, CallId, Effects, Event, Op, Operation, Outcome, Verdict};
use sheaf_types::{ClusterId, MapVersion, PlacementKey, ShardId, StoreId, Time, TransitionId};

pub fn map(version: u64, shards: impl IntoIterator<Item = u64>) -> Arc<Map> {
    let entry = |id| ShardEntry {
        id: ShardId(id),
        primary_url: format!("http://shard-{id}"),
        replica_urls: Vec::new(),
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{id}")),
    };
    let shards = shards.into_iter().map(entry).collect();
    let cluster = ClusterId::from("test");
    Arc::new(Map::new(cluster, MapVersion(version), TransitionId(0), shards, vec![]).unwrap())
}

pub fn keys(count: u64) -> Vec<PlacementKey> {
    (0..count).map(|n| PlacementKey::of(&format!("point-{n}"))).collect()
}

/// An operation with what it asked for so far.
pub struct World {
    pub now: Time,
    pub operation: Operation,
    /// Sent and not answered.
    pub open: BTreeMap<CallId, Call>,
    pub sent: Vec<Call>,
    pub verdict: Option<Verdict>,
    pub last: Effects,
}

pub const DEADLINE: Time = Time(10_000);

impl World {
    pub fn new(map: Arc<Map>, op: Op) -> Self {
        let mut world = Self {
            now: Time(0),
            operation: Operation::new(Time(0), map, op, DEADLINE, 7),
            open: BTreeMap::new(),
            sent: Vec::new(),
            verdict: None,
            last: Effects::default(),
        };
        world.say(Event::Start);
        world
    }

    pub fn say(&mut self, event: Event) -> &mut Self {
        if let Event::Replied { call, .. } = &event {
            self.open.remove(call);
        }
        let effects = self.operation.handle(self.now, event);
        for call in &effects.calls {
            self.sent.push(call.clone());
            assert!(self.open.insert(call.id, call.clone()).is_none(), "a call id is used twice");
        }
        for discarded in &effects.discard {
            self.open.remove(discarded);
        }
        if let Some(verdict) = &effects.answer {
            assert!(self.verdict.replace(verdict.clone()).is_none(), "answered twice");
        }
        self.last = effects;
        self
    }

    pub fn reply(&mut self, shard: u64, outcome: Outcome) -> &mut Self {
        let call = self.open.values().find(|call| call.shard == ShardId(shard));
        let call = call.unwrap_or_else(|| panic!("nothing is open at s{shard}")).id;
        self.say(Event::Replied { call, outcome })
    }

    pub fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Time(ms);
        self.say(Event::Tick)
    }

    /// Goes on to the moment that the core asked to be woken at.
    pub fn wake(&mut self) -> &mut Self {
        self.now = self.last.wake.expect("a running operation wants to be woken").0;
        self.say(Event::Tick)
    }

    pub fn adopt(&mut self, map: Arc<Map>) -> &mut Self {
        self.say(Event::MapAdopted { map })
    }

    /// Shard, version and items of all open calls.
    pub fn asks(&self) -> Vec<(u64, u64, Vec<u32>)> {
        self.open.values().map(|c| (c.shard.0, c.version.0, c.items.clone())).collect()
    }
}

pub fn done(version: u64) -> Outcome {
    Outcome::Done { version: MapVersion(version) }
}
