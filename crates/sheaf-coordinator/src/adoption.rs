//! Taking over a cluster whose engines hold points already (ADR 0006).
//!
//! Decides what is taken over, and when it is proven that every point is where the map says. Moves nothing.

use std::sync::Arc;

use sheaf_map::{Collection, Map, ShardEntry};
use sheaf_protocol::GateReport;
use sheaf_types::{CollectionConfig, MapVersion, ShardId, Time, mark};

use crate::asks::Decided;
use crate::catalogue;
use crate::contacts::Contacts;
use crate::effect::Reply;
use crate::event::AdoptedShard;
use crate::membership::{self, Identities};
use crate::record::{CoordinatorRecord, HistoryKind};
use crate::refusal::AskRefusal;

/// What is to be taken over.
pub(crate) struct Adopted<'a> {
    pub shards: &'a [AdoptedShard],
    /// Ids below were given out by the old coordinator.
    pub next_shard: ShardId,
    /// Of the old map.
    pub version: MapVersion,
    pub collections: &'a [CollectionConfig],
}

/// Makes all of it current, at once.
pub(crate) fn adopt(
    mut record: CoordinatorRecord,
    now: Time,
    wanted: &Adopted<'_>,
    identities: &Identities,
) -> Result<Decided, AskRefusal> {
    if wanted.shards.is_empty() {
        return Err(AskRefusal::NoShards);
    }
    let is_new = record.map.shards().is_empty() && record.map.collections().is_empty();
    if !is_new || record.underway().next().is_some() {
        return Err(AskRefusal::NotNew);
    }
    let mut shards = Vec::with_capacity(wanted.shards.len());
    for AdoptedShard { id, node } in wanted.shards {
        let report = membership::identify(&node.primary_url, identities)?;
        membership::check_stranger(&record, &node.primary_url, report)?;
        shards.push(ShardEntry {
            id: *id,
            primary_url: node.primary_url.clone(),
            replica_urls: node.replica_urls.clone(),
            weight: node.weight,
            store_id: report.store_id.clone(),
        });
        record.next_shard = record.next_shard.max(next(*id)?);
    }
    record.next_shard = record.next_shard.max(wanted.next_shard);
    let mut collections = Vec::with_capacity(wanted.collections.len());
    for config in wanted.collections {
        catalogue::check(config)?;
        let id = record.next_collection;
        record.next_collection = id.next();
        collections.push(Collection { id, config: Arc::new(config.clone()) });
    }
    let version = MapVersion(record.map.version().0.max(wanted.version.0)).0.checked_add(1);
    let version = version.map(MapVersion).ok_or_else(|| AskRefusal::BadMap {
        why: format!("the old map has the version {}, and there is none after it", wanted.version),
    })?;
    let (cluster_id, committed) = (record.map.cluster_id().clone(), record.map.committed());
    record.map = Arc::new(Map::new(cluster_id, version, committed, shards, collections)?);
    record.unproven = true;
    let shards: Vec<ShardId> = record.map.shards().iter().map(|entry| entry.id).collect();
    let text = format!(
        "{} shards with {} collections are taken over; nothing is moved or deleted until each has said that it holds nothing foreign",
        shards.len(),
        wanted.collections.len()
    );
    record.note(now, HistoryKind::Membership, text, None);
    Ok(Decided::Change(Box::new(record), Reply::Adopted { shards, version }))
}

fn next(id: ShardId) -> Result<ShardId, AskRefusal> {
    let next = id.0.checked_add(1).map(ShardId);
    next.ok_or_else(|| AskRefusal::BadMap { why: format!("{id} is the last id there is") })
}

/// Ends the time in which nothing is deleted, once every shard holds only what it owns; `None`: not yet.
pub(crate) fn prove(
    record: &CoordinatorRecord,
    contacts: &Contacts,
    now: Time,
) -> Option<CoordinatorRecord> {
    if !record.unproven {
        return None;
    }
    let holds_only_its_own = |entry: &ShardEntry| {
        let report = contacts.fresh(entry.id);
        mark!(
            report.is_none()
                && contacts.last(entry.id).is_some_and(|last| last.clean && !last.unproven),
            "a gate that hasn't heard of its adoption says that it is clean"
        );
        report.is_some_and(|report| is_proof(report, entry, record.map.version()))
    };
    if !record.map.shards().iter().all(holds_only_its_own) {
        return None;
    }
    mark!("an adopted cluster is proven");
    let mut proven = record.draft();
    proven.unproven = false;
    let text =
        "every shard holds only points that it owns: the cluster that was taken over is proven";
    proven.note(now, HistoryKind::Membership, text.to_owned(), None);
    Some(proven)
}

/// The gate knew that it is unproven when it looked: one that didn't would say "clean" without a look.
fn is_proof(report: &GateReport, entry: &ShardEntry, version: MapVersion) -> bool {
    report.shard == Some(entry.id)
        && report.store_id == entry.store_id
        && report.map_version >= Some(version)
        && report.unproven
        && report.clean
}
