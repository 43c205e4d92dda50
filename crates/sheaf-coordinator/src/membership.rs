//! Who may become a shard, and how one is taken out of the map without a transition.
//!
//! Decides on proof of identity; never moves a point. Ids are given out once and durably (I12).

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::{Map, ShardEntry};
use sheaf_protocol::GateReport;
use sheaf_types::limits::SHARDS_MAX;
use sheaf_types::{ShardId, Time, mark};

use crate::asks::Decided;
use crate::contacts::Contacts;
use crate::effect::Reply;
use crate::event::{Identity, NewShard};
use crate::record::{CoordinatorRecord, HistoryKind, Phase, Retiring};
use crate::refusal::AskRefusal;
use crate::{catalogue, url};

/// Who answered at the URLs of an ask.
pub(crate) type Identities = BTreeMap<String, Identity>;

/// Admits these nodes as shards, each with a new id.
pub(crate) fn admit(
    record: &mut CoordinatorRecord,
    nodes: &[NewShard],
    identities: &Identities,
) -> Result<Vec<ShardEntry>, AskRefusal> {
    if nodes.is_empty() {
        return Err(AskRefusal::NoShards);
    }
    if record.map.shards().len() + nodes.len() > SHARDS_MAX {
        return Err(AskRefusal::BadMap { why: format!("a map has at most {SHARDS_MAX} shards") });
    }
    let mut admitted: Vec<ShardEntry> = Vec::with_capacity(nodes.len());
    for node in nodes {
        check_urls(record, node)?;
        let report = identify(&node.primary_url, identities)?;
        check_identity(record, &node.primary_url, report)?;
        if let Some(twin) = admitted.iter().find(|entry| entry.store_id == report.store_id) {
            return Err(AskRefusal::NodeTaken { url: node.primary_url.clone(), shard: twin.id });
        }
        let id = record.next_shard;
        record.next_shard = id.next();
        admitted.push(ShardEntry {
            id,
            primary_url: node.primary_url.clone(),
            replica_urls: node.replica_urls.clone(),
            weight: node.weight,
            store_id: report.store_id.clone(),
        });
    }
    let urls = |entries: &[ShardEntry]| {
        entries.iter().flat_map(|entry| entry.urls()).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = urls(&admitted);
    all.sort_unstable();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        let by = "another shard of the same call".to_owned();
        return Err(AskRefusal::UrlTaken { url: twice[0].clone(), by });
    }
    Ok(admitted)
}

/// Refuses an address that is used already, with the words why.
pub(crate) fn check_urls(record: &CoordinatorRecord, node: &NewShard) -> Result<(), AskRefusal> {
    let wanted = || std::iter::once(&node.primary_url).chain(&node.replica_urls);
    let taken = |entry: &ShardEntry| {
        wanted().find(|url| entry.urls().any(|used| used == url.as_str())).cloned()
    };
    for retiring in &record.retiring {
        if let Some(url) = taken(&retiring.shard) {
            mark!("a node is wanted that is about to leave");
            return Err(AskRefusal::NodeRetiring { url, shard: retiring.shard.id });
        }
    }
    for entry in record.map.shards() {
        if let Some(url) = taken(entry) {
            mark!("a node is wanted that is a shard already");
            return Err(AskRefusal::UrlTaken { url, by: entry.id.to_string() });
        }
    }
    for (transition, request) in record.underway() {
        for entry in request.joining() {
            if let Some(url) = taken(entry) {
                mark!("a node is wanted that is about to join");
                let by = format!("{}, which joins by {transition}", entry.id);
                return Err(AskRefusal::UrlTaken { url, by });
            }
        }
    }
    Ok(())
}

pub(crate) fn identify<'a>(
    url: &str,
    identities: &'a Identities,
) -> Result<&'a GateReport, AskRefusal> {
    let url = url.to_owned();
    match identities.get(&url) {
        Some(Identity::Gate(report)) => Ok(report),
        Some(Identity::Unreachable { reason }) => {
            mark!("a node that is to join can't be reached");
            Err(AskRefusal::NodeUnreachable { url, reason: reason.clone() })
        }
        None => Err(AskRefusal::NodeUnreachable { url, reason: "it was not asked".to_owned() }),
    }
}

/// Refuses a node that is part of this cluster already, or holds something that joining would destroy.
fn check_identity(
    record: &CoordinatorRecord,
    url: &str,
    report: &GateReport,
) -> Result<(), AskRefusal> {
    check_stranger(record, url, report)?;
    if report.load.points > 0 {
        return Err(AskRefusal::NodeNotEmpty { url: url.to_owned(), points: report.load.points });
    }
    Ok(())
}

/// Refuses a node that is or was a shard, of this cluster or of another.
pub(crate) fn check_stranger(
    record: &CoordinatorRecord,
    url: &str,
    report: &GateReport,
) -> Result<(), AskRefusal> {
    let url = url.to_owned();
    let same = |entry: &&ShardEntry| entry.store_id == report.store_id;
    let joining = record.underway().flat_map(|(_, request)| request.joining());
    if let Some(twin) = record.map.shards().iter().chain(joining).find(same) {
        return Err(AskRefusal::NodeTaken { url, shard: twin.id });
    }
    let mut retiring = record.retiring.iter().map(|retiring| &retiring.shard);
    if let Some(twin) = retiring.find(same) {
        return Err(AskRefusal::NodeRetiring { url, shard: twin.id });
    }
    match &report.cluster_id {
        Some(cluster) if cluster != record.map.cluster_id() => {
            return Err(AskRefusal::OtherCluster { url, cluster: cluster.clone() });
        }
        Some(_) | None => {}
    }
    // It would refuse a new id: the operator forgot it, or its ledger was copied.
    if let Some(shard) = report.shard {
        return Err(match record.map.shard(shard) {
            Some(_) => AskRefusal::NodeTaken { url, shard },
            None => AskRefusal::NodeRetiring { url, shard },
        });
    }
    Ok(())
}

/// Refuses when a shard is known to hold points. Nothing is lost when that is not known: the nodes then
/// join by a transition too, which moves what there is.
pub(crate) fn check_empty(
    record: &CoordinatorRecord,
    contacts: &Contacts,
) -> Result<(), AskRefusal> {
    let reports = record.map.shards().iter().filter_map(|entry| contacts.last(entry.id));
    let points: u64 = reports.map(|report| report.load.points).sum();
    if points > 0 {
        return Err(AskRefusal::ClusterNotEmpty { points });
    }
    Ok(())
}

/// Makes the first shards of a cluster its map, at once: nobody has owned a point before.
pub(crate) fn found(
    mut record: CoordinatorRecord,
    now: Time,
    entries: Vec<ShardEntry>,
) -> Result<Decided, AskRefusal> {
    let shards: Vec<ShardId> = entries.iter().map(|entry| entry.id).collect();
    let used: Vec<String> = entries.iter().map(|entry| entry.primary_url.clone()).collect();
    record.autoscale.standbys.retain(|standby| !used.contains(standby));
    let text = format!("the first shards are there: {}", used.join(", "));
    record.map = Arc::new(record.map.with_shards(record.map.committed(), entries)?);
    record.note(now, HistoryKind::Membership, text, None);
    let version = record.map.version();
    Ok(Decided::Change(Box::new(record), Reply::Added { shards, version }))
}

/// Forgets a shard that has left, or takes one out of the map with all that it owns.
pub(crate) fn remove(
    mut record: CoordinatorRecord,
    now: Time,
    shard: ShardId,
    accept_data_loss: bool,
) -> Result<Decided, AskRefusal> {
    if let Some(at) = record.retiring.iter().position(|retiring| retiring.shard.id == shard) {
        if let Some(transition) = record.transition.as_ref().map(|running| running.id) {
            return Err(AskRefusal::InTransition { shard, transition });
        }
        let gone = record.retiring.remove(at);
        let text = format!("{shard} ({}) is forgotten", gone.shard.primary_url);
        record.note(now, HistoryKind::Membership, text, None);
        return Ok(Decided::Change(Box::new(record), Reply::Forgotten { shard }));
    }
    let entry = record.map.shard(shard).cloned().ok_or(AskRefusal::UnknownShard { shard })?;
    if record.unproven {
        return Err(AskRefusal::Unproven);
    }
    if !accept_data_loss {
        mark!("an operator would remove a shard that owns points");
        return Err(AskRefusal::StillOwns { shard });
    }
    if let Some(transition) = record.underway().next().map(|(transition, _)| transition) {
        return Err(AskRefusal::Busy { transition });
    }
    if let Some(running) = record.transition.as_mut() {
        // A recipient that is lost after the commit would never confirm; what it received is lost with it.
        match running.phase {
            Phase::Sweep { .. } => running.recipients.retain(|recipient| *recipient != shard),
            Phase::Prepare | Phase::Copy | Phase::Fence | Phase::Abort { .. } => {
                return Err(AskRefusal::Busy { transition: running.id });
            }
        }
    }
    let url = entry.primary_url.clone();
    let left = record.map.shards().iter().filter(|kept| kept.id != shard).cloned().collect();
    record.map = Arc::new(record.map.with_shards(record.map.committed(), left)?);
    let (transition, sweep, standby) = (None, false, false);
    record.retiring.push(Retiring { shard: entry, transition, sweep, standby, since: now });
    let text = format!(
        "{shard} ({url}) was taken out of the map with all that it owned: an operator accepted the loss. Its node keeps what is on its disk"
    );
    record.note(now, HistoryKind::Membership, text, None);
    let version = record.map.version();
    Ok(Decided::Change(Box::new(record), Reply::Removed { shard, version }))
}

/// Writes other addresses of a shard into the map.
pub(crate) fn set_replicas(
    mut record: CoordinatorRecord,
    now: Time,
    shard: ShardId,
    replica_urls: &[String],
) -> Result<Decided, AskRefusal> {
    let entry = record.map.shard(shard).ok_or(AskRefusal::UnknownShard { shard })?;
    let urls = replica_urls.iter().map(|url| url::normalise(url));
    let replica_urls = urls.collect::<Result<Vec<_>, _>>()?;
    if entry.replica_urls == replica_urls {
        let version = record.map.version();
        return Ok(Decided::Unchanged(Reply::Replicated { shard, version }));
    }
    if catalogue::must_wait(&record) {
        return Ok(Decided::Wait);
    }
    let replaced = |map: &Map| {
        let mut shards = map.shards().to_vec();
        for entry in shards.iter_mut().filter(|entry| entry.id == shard) {
            entry.replica_urls.clone_from(&replica_urls);
        }
        shards
    };
    let shards = replaced(&record.map);
    record.map = Arc::new(record.map.with_shards(record.map.committed(), shards)?);
    if let Some(running) = record.transition.as_mut().filter(|running| running.is_undecided()) {
        let shards = replaced(&running.next);
        running.next = Arc::new(record.map.with_shards(running.id, shards)?);
    }
    let text = format!("the replicas of {shard} are [{}]", replica_urls.join(", "));
    record.note(now, HistoryKind::Membership, text, None);
    let version = record.map.version();
    Ok(Decided::Change(Box::new(record), Reply::Replicated { shard, version }))
}

/// Lets go of the nodes that confirmed that they have left; `None` when there is none.
pub(crate) fn let_go(
    record: &CoordinatorRecord,
    contacts: &Contacts,
    now: Time,
) -> Option<CoordinatorRecord> {
    let has_left = |retiring: &Retiring| {
        contacts.fresh(retiring.shard.id).is_some_and(|report| report.shard.is_none())
    };
    if !record.retiring.iter().any(has_left) {
        return None;
    }
    let mut next = record.draft();
    let (left, waiting): (Vec<_>, Vec<_>) = next.retiring.into_iter().partition(has_left);
    next.retiring = waiting;
    for gone in left {
        let (shard, url) = (gone.shard.id, gone.shard.primary_url);
        let text = if gone.standby {
            format!("{shard} has left; its node {url} is a standby again")
        } else {
            format!("{shard} has left; its node {url} is free")
        };
        next.note(now, HistoryKind::Membership, text, gone.transition);
        if gone.standby && !next.autoscale.standbys.contains(&url) {
            next.autoscale.standbys.push(url);
        }
    }
    Some(next)
}
