//! The catalogue: creating and dropping collections, each a new version of the map.
//!
//! Decides whether a configuration makes sense in itself; an engine that can't have such a collection says so itself.

use std::sync::Arc;

use sheaf_map::Collection;
use sheaf_types::limits::{COLLECTION_NAME_BYTES_MAX, DIM_MAX, DROPPED_NAMES_MAX};
use sheaf_types::{CollectionConfig, Time, mark};

use crate::asks::Decided;
use crate::contacts::Contacts;
use crate::effect::Reply;
use crate::record::{CoordinatorRecord, Dropped, HistoryKind, Phase};
use crate::refusal::AskRefusal;

pub(crate) fn create(
    mut record: CoordinatorRecord,
    contacts: &Contacts,
    now: Time,
    config: CollectionConfig,
) -> Result<Decided, AskRefusal> {
    check(&config)?;
    if record.map.collection(&config.name).is_some() {
        return Err(AskRefusal::CollectionExists { name: config.name });
    }
    forget_confirmed(&mut record, contacts);
    let still_served = record.dropped.iter().any(|dropped| dropped.name == config.name);
    mark!(still_served, "a name is wanted again that a shard may still serve");
    if still_served || must_wait(&record) {
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
    contacts: &Contacts,
    now: Time,
    name: &str,
) -> Result<Decided, AskRefusal> {
    let Some(id) = record.map.collection(name).map(|collection| collection.id) else {
        let version = record.map.version();
        return Ok(Decided::Unchanged(Reply::Dropped { existed: false, version }));
    };
    forget_confirmed(&mut record, contacts);
    if must_wait(&record) || record.dropped.len() >= DROPPED_NAMES_MAX {
        return Ok(Decided::Wait);
    }
    record.map = Arc::new(record.map.without_collection(id)?);
    record.dropped.push(Dropped { name: name.to_owned(), version: record.map.version() });
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

/// Forgets the names that nobody serves any more: every shard has told that it durably has a map without them.
///
/// A shard that hasn't heard of a drop goes on serving what it has. If the name were given again meanwhile, it would acknowledge
/// writes to the new collection into the old one, and lose them when it hears. A donor that has left is fenced until it hears.
fn forget_confirmed(record: &mut CoordinatorRecord, contacts: &Contacts) {
    let heard = |shard| contacts.last(shard).and_then(|report| report.map_version);
    let shards = record.map.shards().iter();
    let oldest = shards.map(|entry| heard(entry.id)).min().unwrap_or(Some(record.map.version()));
    record.dropped.retain(|dropped| oldest < Some(dropped.version));
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

pub(crate) fn check(config: &CollectionConfig) -> Result<(), AskRefusal> {
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
