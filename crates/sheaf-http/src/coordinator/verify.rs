//! The audit of a cluster: every gate counts what it holds, and the counts are compared with the map.
//!
//! Decides what counts as a problem; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use sheaf_coordinator::{Coordinator, Health};
use sheaf_map::{Map, ShardEntry};
use sheaf_transport::Limits;
use sheaf_types::{Digest, MapVersion, PointId, ShardId};

use super::gates::{call, read, unexpected};
use super::{Api, not_reigning};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::peer::AuditReply;

/// A gate reads everything that it holds: a minute for a hundred million points.
pub(super) const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);
const AUDIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Foreign ids that a problem names.
const IDS_SHOWN_MAX: usize = 5;

/// `GET /cluster/verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verified {
    ok: bool,
    version: MapVersion,
    shards: Vec<VerifiedShard>,
    problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct VerifiedShard {
    id: ShardId,
    points: u64,
    /// Of all collections together.
    digest: String,
    foreign_points: u64,
}

/// `GET /cluster/verify`
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Verified>, Problem> {
    api.allow(&headers, Role::Read)?;
    let map = api.host.maps().borrow().clone().ok_or_else(not_reigning)?;
    let audits = map.shards().iter().map(|entry| audit(&api, entry));
    let audits = join_all(audits).await;
    let running = api.host.look(|core| core.record().transition.is_some());
    Ok(Json(judge(&map, audits, &not_following(&api), running)))
}

/// Shards that don't do what this coordinator says, with the reason: its record may be older than what they know, and
/// then its map proves nothing, even where the versions' numbers are equal.
fn not_following(api: &Api) -> BTreeMap<ShardId, String> {
    let shards = api.host.look(Coordinator::status).shards.into_iter();
    let down = shards.filter(|shard| shard.health == Health::Down);
    down.map(|shard| (shard.id, shard.reason.unwrap_or_default())).collect()
}

async fn audit(api: &Api, entry: &ShardEntry) -> Result<AuditReply, String> {
    let url = format!("{}/internal/audit", entry.primary_url);
    let limits = Limits { timeout: AUDIT_TIMEOUT, answer_bytes_max: AUDIT_BYTES_MAX };
    let authorization = api.authorization.as_ref();
    let answer =
        call(&*api.transport, Method::GET, &url, authorization, Vec::new(), limits).await?;
    if answer.status() == StatusCode::OK { read(&answer) } else { Err(unexpected(&answer)) }
}

/// While a transition runs, foreign points are what it moves and no problem.
fn judge(
    map: &Map,
    audits: Vec<Result<AuditReply, String>>,
    not_following: &BTreeMap<ShardId, String>,
    running: bool,
) -> Verified {
    let mut verified =
        Verified { ok: true, version: map.version(), shards: Vec::new(), problems: Vec::new() };
    let names: BTreeSet<&str> = map.collections().iter().map(|c| c.name()).collect();
    for (entry, audit) in map.shards().iter().zip(audits) {
        let id = entry.id;
        let audit = match audit {
            Ok(audit) => audit,
            Err(reason) => {
                verified.problems.push(format!("{id} was not audited: {reason}"));
                continue;
            }
        };
        if let Some(reason) = not_following.get(&id) {
            verified.problems.push(format!("{id} doesn't follow this coordinator: {reason}"));
        }
        if audit.version != map.version() {
            let (theirs, ours) = (audit.version, map.version());
            verified
                .problems
                .push(format!("{id} counted by map {theirs}, not {ours}; verify again"));
        }
        if audit.foreign_points > 0 && !running {
            let shown: Vec<&str> =
                audit.foreign_ids.iter().take(IDS_SHOWN_MAX).map(PointId::as_str).collect();
            let (count, shown) = (audit.foreign_points, shown.join(", "));
            verified
                .problems
                .push(format!("{id} holds {count} points that it doesn't own: {shown}"));
        }
        for name in audit.owned.keys().filter(|name| !names.contains(name.as_str())) {
            verified
                .problems
                .push(format!("{id} holds a collection {name:?} that is not in the map"));
        }
        let digest = audit.owned.values().fold(Digest::default(), |all, one| all.plus(*one));
        verified.shards.push(VerifiedShard {
            id,
            points: digest.points,
            digest: format!("{:032x}", digest.sum),
            foreign_points: audit.foreign_points,
        });
    }
    verified.ok = verified.problems.is_empty();
    verified
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_map::Weight;
    use sheaf_types::{ClusterId, StoreId, TransitionId};

    #[test]
    fn an_audit_of_shards_that_follow_another_record_is_not_ok_though_all_numbers_agree() {
        let entry = ShardEntry {
            id: ShardId(1),
            primary_url: "http://node-1:7000".to_owned(),
            replica_urls: Vec::new(),
            weight: Weight::default(),
            store_id: StoreId::from("store"),
        };
        let (cluster, none) = (ClusterId::from("c"), TransitionId(0));
        let map = Map::new(cluster, MapVersion(9), none, vec![entry], Vec::new()).unwrap();
        let audit = || AuditReply {
            version: MapVersion(9),
            owned: BTreeMap::new(),
            foreign_points: 0,
            foreign_ids: Vec::new(),
        };
        assert!(judge(&map, vec![Ok(audit())], &BTreeMap::new(), false).ok);
        let stale = BTreeMap::from([(ShardId(1), "the directive is older".to_owned())]);
        let verified = judge(&map, vec![Ok(audit())], &stale, false);
        assert!(!verified.ok);
        assert!(verified.problems[0].contains("s1 doesn't follow this coordinator"));
    }
}
