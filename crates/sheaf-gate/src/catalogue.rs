//! Catalogue: the engine's collections follow the map's, before the map is served and after it is replaced.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_map::Map;
use sheaf_types::{CollectionId, Time, mark};

use crate::context::{Context, JobOwner};
use crate::effect::{EngineCall, JobId, WakeReason};
use crate::event::EngineReply;

/// Milliseconds before a failed call is tried again.
const RETRY_MS: u64 = 200;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Catalogue {
    /// Collections that the engine has and keeps.
    ready: BTreeSet<CollectionId>,
    /// Collections that it may have, and that can't be used: a drop is not known to be done, or a creation has failed.
    doubtful: BTreeSet<CollectionId>,
    /// Calls under way; the flag says whether it creates.
    open: BTreeMap<JobId, (CollectionId, bool)>,
    /// Collections that the engine said it can't hold, and why.
    refused: BTreeMap<CollectionId, String>,
    retry_at: Time,
    /// A map was in force since the start.
    knows_map: bool,
}

impl Catalogue {
    pub fn new(ready: impl IntoIterator<Item = CollectionId>) -> Self {
        Self {
            ready: ready.into_iter().collect(),
            doubtful: BTreeSet::new(),
            open: BTreeMap::new(),
            refused: BTreeMap::new(),
            retry_at: Time(0),
            knows_map: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.doubtful.is_empty()
    }

    pub fn collections(&self) -> Vec<CollectionId> {
        self.ready.union(&self.doubtful).copied().collect()
    }

    pub fn has_all_of(&self, map: &Map) -> bool {
        map.collections().iter().all(|collection| self.ready.contains(&collection.id))
    }

    /// Why the engine can't hold a collection of this map; `None`: it has not said so.
    pub fn cannot_hold(&self, map: &Map) -> Option<&String> {
        let refused = self.refused.iter();
        refused.filter(|(id, _)| map.collection_by_id(**id).is_some()).map(|(_, why)| why).next()
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

    /// The gate has a map in force.
    pub fn knows_map(&mut self) {
        self.knows_map = true;
    }

    /// Drops what the map in force hasn't. A node that left and joins again may want it back: then it is created anew, after the drop.
    /// What was there at the start stays until there is a map: a collection that was taken over, with all its points, just before
    /// the gate was killed looks like one that is left over.
    pub fn drop_surplus(&mut self, map: Option<&Map>, ctx: &mut Context<'_>) {
        if !self.knows_map {
            return;
        }
        let wanted = map.map_or(0, |map| map.collections().len());
        if self.ready.len() + self.doubtful.len() <= wanted || self.waits(ctx) {
            return;
        }
        for id in self.collections() {
            let under_way = self.open.values().any(|(open, _)| *open == id);
            let kept = map.is_some_and(|map| map.collection_by_id(id).is_some());
            if !kept && !under_way {
                self.ready.remove(&id);
                self.doubtful.insert(id);
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
                self.doubtful.remove(&id);
                self.refused.remove(&id);
                self.ready.insert(id);
            }
            EngineReply::Done | EngineReply::NoCollection(_) if !creates => {
                self.doubtful.remove(&id);
            }
            EngineReply::CannotHold { reason } if creates => {
                self.refused.insert(id, reason.clone());
                self.retry_at = now.plus_ms(RETRY_MS);
            }
            _ => {
                if creates {
                    self.doubtful.insert(id);
                }
                mark!("an engine can't create or drop a collection at once");
                self.retry_at = now.plus_ms(RETRY_MS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_map::Collection;
    use sheaf_types::{ClusterId, CollectionConfig, IndexKind, Metric};

    use super::*;
    use crate::context::Jobs;
    use crate::effect::Effects;

    /// A map with one collection.
    fn map() -> (CollectionId, Map) {
        let config = CollectionConfig {
            name: "words".into(),
            dim: 1,
            metric: Metric::L2,
            index: IndexKind::Hnsw,
            pq_subspaces: None,
            binary: None,
            filterable: vec![],
            multivector: None,
            vector_encryption: Default::default(),
        };
        let id = CollectionId(1);
        let words = Collection { id, config: Arc::new(config) };
        let map = Map::empty(ClusterId::from("c")).with_collection(words).expect("it is the first");
        (id, map)
    }

    #[test]
    fn a_collection_that_is_wanted_again_while_it_is_dropped_is_not_ready_until_it_is_created_anew()
    {
        let (mut effects, mut jobs) = (Effects::default(), Jobs::default());
        let mut ctx = Context { now: Time(1), effects: &mut effects, jobs: &mut jobs };
        let (id, map) = map();
        let mut catalogue = Catalogue::new([id]);
        catalogue.drop_surplus(None, &mut ctx);
        assert!(ctx.effects.engine.is_empty(), "nothing says that nobody wants it");
        catalogue.knows_map();
        catalogue.drop_surplus(None, &mut ctx);
        let (drop, _) = ctx.effects.engine.pop().expect("a call");
        assert!(!catalogue.has_all_of(&map) && !catalogue.is_empty());
        catalogue.create_missing(&map, &mut ctx);
        assert!(ctx.effects.engine.is_empty(), "first the drop ends");
        catalogue.on_engine(drop, &EngineReply::Done, Time(2));
        catalogue.create_missing(&map, &mut ctx);
        let (create, _) = ctx.effects.engine.pop().expect("a call");
        catalogue.on_engine(create, &EngineReply::Done, Time(3));
        assert!(catalogue.has_all_of(&map));
    }

    #[test]
    fn a_collection_that_was_created_without_an_answer_is_dropped_once_no_map_has_it() {
        let (mut effects, mut jobs) = (Effects::default(), Jobs::default());
        let mut ctx = Context { now: Time(1), effects: &mut effects, jobs: &mut jobs };
        let (id, map) = map();
        let mut catalogue = Catalogue::new([]);
        catalogue.create_missing(&map, &mut ctx);
        let (create, _) = ctx.effects.engine.pop().expect("a call");
        let failed = EngineReply::Failed { reason: "no answer".to_owned() };
        catalogue.on_engine(create, &failed, Time(2));
        assert!(!catalogue.has_all_of(&map));
        assert_eq!(catalogue.collections(), [id], "it may be there, so it is swept");
        ctx.now = Time(2 + RETRY_MS);
        catalogue.knows_map();
        catalogue.drop_surplus(Some(&Map::empty(ClusterId::from("c"))), &mut ctx);
        let (drop, call) = ctx.effects.engine.pop().expect("a call");
        assert!(matches!(call, EngineCall::DropCollection { id: dropped } if dropped == id));
        catalogue.on_engine(drop, &EngineReply::NoCollection(id), ctx.now);
        assert!(catalogue.is_empty());
    }

    #[test]
    fn what_the_engine_cannot_hold_is_told_for_maps_that_have_it_until_it_can() {
        let (mut effects, mut jobs) = (Effects::default(), Jobs::default());
        let mut ctx = Context { now: Time(1), effects: &mut effects, jobs: &mut jobs };
        let (_, map) = map();
        let mut catalogue = Catalogue::new([]);
        catalogue.create_missing(&map, &mut ctx);
        let (create, _) = ctx.effects.engine.pop().expect("a call");
        let reason = "one vector for each point".to_owned();
        let refused = EngineReply::CannotHold { reason: reason.clone() };
        catalogue.on_engine(create, &refused, Time(2));
        assert_eq!(catalogue.cannot_hold(&map), Some(&reason));
        assert_eq!(catalogue.cannot_hold(&Map::empty(ClusterId::from("c"))), None);
        ctx.now = Time(2 + RETRY_MS);
        catalogue.create_missing(&map, &mut ctx);
        let (create, _) = ctx.effects.engine.pop().expect("it is tried again");
        catalogue.on_engine(create, &EngineReply::Done, ctx.now);
        assert_eq!(catalogue.cannot_hold(&map), None);
    }
}
