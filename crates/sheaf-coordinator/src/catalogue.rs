//! The catalogue: creating and dropping collections, each a new version of the map.
//!
//! Decides whether a configuration makes sense in itself; an engine that can't have such a collection says so itself.

use std::sync::Arc;

use sheaf_map::Collection;
use sheaf_types::limits::{COLLECTION_NAME_BYTES_MAX, DIM_MAX};
use sheaf_types::{CollectionConfig, Time, mark};

use crate::asks::Decided;
use crate::effect::Reply;
use crate::record::{CoordinatorRecord, HistoryKind, Phase};
use crate::refusal::AskRefusal;

pub(crate) fn create(
    mut record: CoordinatorRecord,
    now: Time,
    config: CollectionConfig,
) -> Result<Decided, AskRefusal> {
    check(&config)?;
    if record.map.collection(&config.name).is_some() {
        return Err(AskRefusal::CollectionExists { name: config.name });
    }
    if must_wait(&record) {
        return Ok(Decided::Wait);
    }
    let collection = Collection { id: record.next_collection, config: Arc::new(config) };
    record.next_collection = record.next_collection.next();
    record.map = Arc::new(record.map.with_collection(collection.clone())?);
    rebase(&mut record)?;
    let text = format!("collection {:?} ({}) is created", collection.name(), collection.id);
    record.note(now, HistoryKind::Catalogue, text, None);
    let version = record.map.version();
    Ok(Decided::Change(Box::new(record), Reply::Created { collection, version }))
}

pub(crate) fn drop_collection(
    mut record: CoordinatorRecord,
    now: Time,
    name: &str,
) -> Result<Decided, AskRefusal> {
    let Some(id) = record.map.collection(name).map(|collection| collection.id) else {
        let version = record.map.version();
        return Ok(Decided::Unchanged(Reply::Dropped { existed: false, version }));
    };
    if must_wait(&record) {
        return Ok(Decided::Wait);
    }
    record.map = Arc::new(record.map.without_collection(id)?);
    rebase(&mut record)?;
    let text = format!("collection {name:?} ({id}) is dropped");
    record.note(now, HistoryKind::Catalogue, text, None);
    let version = record.map.version();
    Ok(Decided::Change(Box::new(record), Reply::Dropped { existed: true, version }))
}

/// During a fence the map stays as it is: both sides have counted by it.
pub(crate) fn must_wait(record: &CoordinatorRecord) -> bool {
    let fenced = record.transition.as_ref().is_some_and(|running| running.phase == Phase::Fence);
    mark!(fenced, "a change of the catalogue waits for the fence");
    fenced
}

/// Makes the next map of the running transition the successor of the changed map.
fn rebase(record: &mut CoordinatorRecord) -> Result<(), AskRefusal> {
    if let Some(running) = record.transition.as_mut().filter(|running| running.is_undecided()) {
        mark!("the catalogue changes while a transition runs");
        let shards = running.next.shards().to_vec();
        running.next = Arc::new(record.map.with_shards(running.id, shards)?);
    }
    Ok(())
}

fn check(config: &CollectionConfig) -> Result<(), AskRefusal> {
    let bad = |why: String| Err(AskRefusal::BadCollection { why });
    if config.name.is_empty() {
        return bad("its name is empty".to_owned());
    }
    if config.name.len() > COLLECTION_NAME_BYTES_MAX {
        return bad(format!("its name has more than {COLLECTION_NAME_BYTES_MAX} bytes"));
    }
    if config.name.chars().any(char::is_control) {
        return bad("its name has control characters".to_owned());
    }
    if !(1..=DIM_MAX).contains(&config.dim) {
        return bad(format!("its dimension is {}, not from 1 to {DIM_MAX}", config.dim));
    }
    Ok(())
}
