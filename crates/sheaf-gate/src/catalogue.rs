//! Catalogue: the engine's collections follow the map's, before the map is served and after it is replaced.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_map::Map;
use sheaf_types::{CollectionId, Time};

use crate::context::{Context, JobOwner};
use crate::effect::{EngineCall, JobId, WakeReason};
use crate::event::EngineReply;

/// Milliseconds before a failed call is tried again.
const RETRY_MS: u64 = 200;

#[derive(Debug)]
pub(crate) struct Catalogue {
    /// Collections that the engine has.
    ready: BTreeSet<CollectionId>,
    /// Calls under way; the flag says whether it creates.
    open: BTreeMap<JobId, (CollectionId, bool)>,
    retry_at: Time,
}

impl Catalogue {
    pub fn new(ready: impl IntoIterator<Item = CollectionId>) -> Self {
        Self { ready: ready.into_iter().collect(), open: BTreeMap::new(), retry_at: Time(0) }
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn collections(&self) -> Vec<CollectionId> {
        self.ready.iter().copied().collect()
    }

    pub fn has_all_of(&self, map: &Map) -> bool {
        map.collections().iter().all(|collection| self.ready.contains(&collection.id))
    }

    /// Creates what `map` has and the engine hasn't.
    pub fn create_missing(&mut self, map: &Map, ctx: &mut Context<'_>) {
        if self.waits(ctx) {
            return;
        }
        for collection in map.collections() {
            let id = collection.id;
            let under_way = self.open.values().any(|(open, _)| *open == id);
            if !self.ready.contains(&id) && !under_way {
                let config = collection.config.clone();
                let job =
                    ctx.call(JobOwner::Catalogue, EngineCall::CreateCollection { id, config });
                self.open.insert(job, (id, true));
            }
        }
    }

    /// Drops what the map in force hasn't. An id never comes back, so nothing newer can be meant.
    pub fn drop_surplus(&mut self, map: Option<&Map>, ctx: &mut Context<'_>) {
        let wanted = map.map_or(0, |map| map.collections().len());
        if self.ready.len() <= wanted || self.waits(ctx) {
            return;
        }
        for id in self.collections() {
            let under_way = self.open.values().any(|(open, _)| *open == id);
            let kept = map.is_some_and(|map| map.collection_by_id(id).is_some());
            if !kept && !under_way {
                let job = ctx.call(JobOwner::Catalogue, EngineCall::DropCollection { id });
                self.open.insert(job, (id, false));
            }
        }
    }

    fn waits(&self, ctx: &mut Context<'_>) -> bool {
        if self.retry_at > ctx.now {
            ctx.wake(self.retry_at, WakeReason::Retry);
        }
        self.retry_at > ctx.now
    }

    pub fn on_engine(&mut self, job: JobId, reply: &EngineReply, now: Time) {
        let Some((id, creates)) = self.open.remove(&job) else { return };
        match reply {
            EngineReply::Done if creates => {
                self.ready.insert(id);
            }
            EngineReply::Done | EngineReply::NoCollection(_) if !creates => {
                self.ready.remove(&id);
            }
            _ => self.retry_at = now.plus_ms(RETRY_MS),
        }
    }
}
