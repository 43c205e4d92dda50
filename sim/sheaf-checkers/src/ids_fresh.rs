//! I12: ids of shards, collections and transitions are never reused; an attempt is never numbered twice.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_types::{Attempt, CollectionId, ShardId, StoreId, TransitionId};

use crate::fact::{Decided, Fact, Kind, Phase};
use crate::panel::{Checker, Moment, Violation};

const LABEL: &str = "I12 ids-fresh";

#[derive(Default)]
pub struct IdsFresh {
    /// What each id has ever stood for.
    shards: BTreeMap<ShardId, (String, StoreId)>,
    collections: BTreeMap<CollectionId, String>,
    /// Ids that are gone: they must not come back.
    former_collections: BTreeSet<CollectionId>,
    transition: TransitionId,
    ended: BTreeSet<TransitionId>,
    fenced: Option<(TransitionId, Attempt)>,
    before: Option<Decided>,
}

impl IdsFresh {
    fn collections(&mut self, decided: &Decided) -> Result<(), Violation> {
        for collection in decided.map.collections() {
            let name = collection.name().to_owned();
            let first = self.collections.entry(collection.id).or_insert_with(|| name.clone());
            if *first != name || self.former_collections.contains(&collection.id) {
                let text = format!("{} was {first:?} and is {name:?} now", collection.id);
                return Err(Violation::new(LABEL, text));
            }
        }
        if let Some(before) = &self.before {
            let gone = before.map.collections().iter().map(|collection| collection.id);
            let gone = gone.filter(|id| decided.map.collection_by_id(*id).is_none());
            self.former_collections.extend(gone);
        }
        Ok(())
    }

    fn transitions(&mut self, decided: &Decided) -> Result<(), Violation> {
        let before = self.before.as_ref().and_then(|before| before.running.as_ref());
        let Some(running) = &decided.running else {
            self.ended.extend(before.map(|before| before.id));
            return Ok(());
        };
        if running.id < self.transition || self.ended.contains(&running.id) {
            let text = format!("transition {} runs after {}", running.id, self.transition);
            return Err(Violation::new(LABEL, text));
        }
        self.ended.extend(before.map(|before| before.id).filter(|id| *id != running.id));
        self.transition = running.id;
        let entering =
            before.is_none_or(|before| (before.id, before.phase) != (running.id, Phase::Fence));
        if running.phase == Phase::Fence && entering {
            let now = (running.id, running.attempt);
            if self.fenced.is_some_and(|fenced| now <= fenced) {
                return Err(Violation::new(
                    LABEL,
                    format!("attempt {now:?} is fenced after {:?}", self.fenced),
                ));
            }
            self.fenced = Some(now);
        }
        Ok(())
    }
}

impl Checker for IdsFresh {
    fn hears(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Stored)
    }

    fn judge(&mut self, _: Moment, fact: &Fact) -> Result<(), Violation> {
        let Fact::Stored { decided } = fact else { return Ok(()) };
        let next = decided.running.iter().flat_map(|running| running.next.shards());
        for shard in decided.map.shards().iter().chain(next) {
            let now = (shard.primary_url.clone(), shard.store_id.clone());
            let first = self.shards.entry(shard.id).or_insert_with(|| now.clone());
            if *first != now {
                return Err(Violation::new(
                    LABEL,
                    format!("{} was {first:?} and is {now:?} now", shard.id),
                ));
            }
        }
        self.collections(decided)?;
        self.transitions(decided)?;
        self.before = Some((**decided).clone());
        Ok(())
    }
}
