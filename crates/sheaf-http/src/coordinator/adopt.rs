//! Taking over a Quiver cluster: which gate is in front of which of its servers, and what is asked of the core (ADR 0006).
//!
//! Decides what the old coordinator's state means. A shard that was joining never was an owner, so it is left out; one that
//! was leaving still is one, so it is taken over. Changes nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use sheaf_coordinator::{AdoptedShard, Ask, NewShard, Reply};
use sheaf_transport::Limits;
use sheaf_types::{CollectionConfig, MapVersion, ShardId};

use super::Api;
use super::gates::{call, read, unexpected};
use super::intake::{self, Body};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::peer::EngineReply;

/// How long a gate may take to say what is behind it.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);
const ENGINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// `POST /cluster/adopt`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptBody {
    /// What the old coordinator kept. Without it the gates are the shards 0, 1, … in their order.
    state: Option<OldState>,
    gates: Vec<GateOf>,
}

/// A gate, and the shard that it stands for; without an id, by the server behind it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateOf {
    id: Option<ShardId>,
    url: String,
}

/// The file of Quiver's coordinator. What else is in it is not needed.
#[derive(Clone, Debug, Deserialize)]
struct OldState {
    next_id: u64,
    map: OldMap,
}

#[derive(Clone, Debug, Deserialize)]
struct OldMap {
    version: u64,
    shards: Vec<OldShard>,
    #[serde(default)]
    joining: Vec<ShardId>,
    #[serde(default)]
    leaving: Vec<ShardId>,
}

#[derive(Clone, Debug, Deserialize)]
struct OldShard {
    id: ShardId,
    primary_url: String,
    #[serde(default)]
    replica_urls: Vec<String>,
}

/// What was taken over, and what is left to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Adopted {
    version: MapVersion,
    /// It was done before; nothing was changed.
    already: bool,
    shards: Vec<AdoptedView>,
    collections: Vec<CollectionView>,
    /// Shards whose join the old coordinator had begun: they own nothing. With the gates that were named for them.
    joining: Vec<JoiningView>,
    /// Shards whose drain the old coordinator had begun: they still own their points.
    leaving: Vec<ShardId>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct AdoptedView {
    id: ShardId,
    gate_url: String,
    engine: Option<String>,
    points: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct CollectionView {
    name: String,
    points: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct JoiningView {
    id: ShardId,
    engine: String,
    gate_url: Option<String>,
}

/// A gate, and what it said.
struct Found {
    gate: GateOf,
    engine: EngineReply,
}

pub(super) async fn adopt(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Adopted>, Problem> {
    api.allow(&headers, Role::Admin)?;
    let AdoptBody { state, gates } = intake::json(body)?;
    let found = join_all(gates.into_iter().map(|gate| look(&api, gate))).await;
    let found: Vec<Found> = found.into_iter().collect::<Result<_, _>>()?;
    let state = state.unwrap_or_else(|| in_order(&found));
    let mut plan = Plan::of(&state, found)?;
    if let Some(version) = is_adopted(&api, &plan) {
        return Ok(Json(plan.answer(version, true)));
    }
    let collections = plan.collections()?;
    let shard = |(id, found): (&ShardId, &Found)| AdoptedShard {
        id: *id,
        node: NewShard::at(&found.gate.url),
    };
    let wanted = Ask::Adopt {
        shards: plan.shards.iter().map(shard).collect(),
        next_shard: ShardId(state.next_id),
        version: MapVersion(state.map.version),
        collections,
    };
    match intake::ask(&api, &headers, wanted).await? {
        Reply::Adopted { version, .. } => Ok(Json(plan.answer(version, false))),
        _ => Err(Problem::internal("the coordinator answered something else than was asked")),
    }
}

/// The state of a coordinator that kept none: its shards are numbered as its settings list them.
fn in_order(found: &[Found]) -> OldState {
    let shard = |(id, found): (u64, &Found)| OldShard {
        id: ShardId(id),
        primary_url: found.engine.place.clone().unwrap_or_else(|| found.gate.url.clone()),
        replica_urls: Vec::new(),
    };
    let shards: Vec<OldShard> = (0..).zip(found).map(shard).collect();
    let map = OldMap { version: 0, joining: Vec::new(), leaving: Vec::new(), shards };
    OldState { next_id: map.shards.len() as u64, map }
}

async fn look(api: &Api, gate: GateOf) -> Result<Found, Problem> {
    let url = format!("{}/internal/engine", gate.url.trim_end_matches('/'));
    let limits = Limits { timeout: ENGINE_TIMEOUT, answer_bytes_max: ENGINE_BYTES_MAX };
    let authorization = api.authorization.as_ref();
    let answer = call(&*api.transport, Method::GET, &url, authorization, Vec::new(), limits).await;
    let engine = answer.and_then(|answer| match answer.status() {
        StatusCode::OK => read(&answer),
        _ => Err(unexpected(&answer)),
    });
    match engine {
        Ok(engine) => Ok(Found { gate, engine }),
        Err(reason) => Err(Problem::conflict(format!(
            "the gate {} couldn't be asked what is behind it: {reason}. Nothing was changed",
            gate.url
        ))),
    }
}

/// The version of the map, when it has just these shards already.
fn is_adopted(api: &Api, plan: &Plan) -> Option<MapVersion> {
    let map = api.host.maps().borrow().clone()?;
    // A drain that was begun may have been finished since.
    let stays = |id: &ShardId| !plan.leaving.contains(id);
    let same = |(id, found): (&ShardId, &Found)| match map.shard(*id) {
        Some(entry) => plain(&entry.primary_url) == plain(&found.gate.url),
        None => !stays(id),
    };
    (!map.shards().is_empty() && plan.shards.iter().all(same)).then(|| map.version())
}

fn plain(url: &str) -> String {
    url.trim().trim_end_matches('/').to_ascii_lowercase()
}

/// Which gate is which shard.
struct Plan {
    shards: BTreeMap<ShardId, Found>,
    joining: Vec<(OldShard, Option<Found>)>,
    leaving: Vec<ShardId>,
    notes: Vec<String>,
}

impl Plan {
    /// # Errors
    /// 400: gates and shards don't go together.
    fn of(state: &OldState, mut gates: Vec<Found>) -> Result<Self, Problem> {
        let (mut shards, mut joining, mut notes) = (BTreeMap::new(), Vec::new(), Vec::new());
        for old in &state.map.shards {
            let gate = take_gate(&mut gates, old)?;
            if !old.replica_urls.is_empty() {
                notes.push(format!(
                    "shard {} had the replicas {}: they are not in the new map",
                    old.id.0,
                    old.replica_urls.join(", ")
                ));
            }
            if state.map.joining.contains(&old.id) {
                if gate.as_ref().is_some_and(|gate| !gate.engine.collections.is_empty()) {
                    return Err(refused(format!(
                        "shard {} was joining when the old coordinator stopped, so its points are copies that nobody needs: start its gate without --adopt",
                        old.id.0
                    )));
                }
                joining.push((old.clone(), gate));
                continue;
            }
            let Some(gate) = gate else {
                return Err(refused(format!(
                    "no gate stands for shard {} ({}): start one with `sheaf shard --engine quiver --engine-url {} --adopt`, and name it, as {}=URL if the gate reaches its server by another address",
                    old.id.0, old.primary_url, old.primary_url, old.id.0
                )));
            };
            if shards.insert(old.id, gate).is_some() {
                return Err(refused(format!("shard {} is in the old map twice", old.id.0)));
            }
        }
        if let Some(extra) = gates.first() {
            let place = extra.engine.place.as_deref().unwrap_or("a database that only Sheaf uses");
            return Err(refused(format!(
                "the gate {} stands in front of {place}, which is no shard of the old map; name it as ID=URL if the old map has it by another address",
                extra.gate.url
            )));
        }
        let leaving = state.map.leaving.clone();
        Ok(Self { shards, joining, leaving, notes })
    }

    /// The collections of all shards.
    ///
    /// # Errors
    /// 409: one can't be held, or differs between shards.
    fn collections(&mut self) -> Result<Vec<CollectionConfig>, Problem> {
        let mut all: BTreeMap<&str, (&CollectionConfig, ShardId)> = BTreeMap::new();
        for (id, found) in &self.shards {
            for collection in &found.engine.collections {
                let name = collection.config.name.as_str();
                if let Some(obstacle) = &collection.obstacle {
                    return Err(Problem::conflict(format!(
                        "the collection {name:?} of shard {} can't be taken over: {obstacle}. Nothing was changed",
                        id.0
                    )));
                }
                let (known, first) = all.entry(name).or_insert((&collection.config, *id));
                if **known != collection.config {
                    return Err(Problem::conflict(format!(
                        "the collection {name:?} differs between the shards {} and {}: which one is meant? Nothing was changed",
                        first.0, id.0
                    )));
                }
            }
        }
        let mut notes = Vec::new();
        for name in all.keys() {
            let has =
                |found: &Found| found.engine.collections.iter().any(|c| c.config.name == *name);
            let without: BTreeSet<u64> =
                self.shards.iter().filter(|(_, found)| !has(found)).map(|(id, _)| id.0).collect();
            if !without.is_empty() {
                notes.push(format!(
                    "the collection {name:?} was missing on the shards {without:?}; it is made there, empty"
                ));
            }
        }
        let configs = all.values().map(|(config, _)| CollectionConfig::clone(config)).collect();
        self.notes.extend(notes);
        Ok(configs)
    }

    fn answer(self, version: MapVersion, already: bool) -> Adopted {
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for collection in self.shards.values().flat_map(|found| &found.engine.collections) {
            *by_name.entry(collection.config.name.clone()).or_default() += collection.points;
        }
        let view = |(id, found): (ShardId, Found)| AdoptedView {
            id,
            gate_url: found.gate.url,
            points: found.engine.collections.iter().map(|collection| collection.points).sum(),
            engine: found.engine.place,
        };
        let joining = |(old, gate): (OldShard, Option<Found>)| JoiningView {
            id: old.id,
            engine: old.primary_url,
            gate_url: gate.map(|found| found.gate.url),
        };
        let collections = by_name.into_iter().map(|(name, points)| CollectionView { name, points });
        Adopted {
            version,
            already,
            collections: collections.collect(),
            shards: self.shards.into_iter().map(view).collect(),
            joining: self.joining.into_iter().map(joining).collect(),
            leaving: self.leaving,
            notes: self.notes,
        }
    }
}

fn refused(why: String) -> Problem {
    Problem::bad_request(format!("{why}. Nothing was changed"))
}

/// The gate that was named for this shard, or that stands in front of its server; `None`: none does.
///
/// # Errors
/// 400: several do.
fn take_gate(gates: &mut Vec<Found>, old: &OldShard) -> Result<Option<Found>, Problem> {
    let is_it = |found: &Found| match found.gate.id {
        Some(id) => id == old.id,
        None => found
            .engine
            .place
            .as_deref()
            .is_some_and(|place| plain(place) == plain(&old.primary_url)),
    };
    let mut mine: Vec<Found> = gates.extract_if(.., |found| is_it(found)).collect();
    if mine.len() > 1 {
        let urls: Vec<&str> = mine.iter().map(|found| found.gate.url.as_str()).collect();
        return Err(refused(format!(
            "the gates {} stand for the same shard {}",
            urls.join(" and "),
            old.id.0
        )));
    }
    Ok(mine.pop())
}

#[cfg(test)]
mod tests {
    use sheaf_types::{IndexKind, Metric, VectorEncryption};

    use super::*;
    use crate::wire::peer::AdoptableReply;

    fn collection(name: &str, dim: u32, points: u64) -> AdoptableReply {
        let config = CollectionConfig {
            name: name.to_owned(),
            dim,
            metric: Metric::L2,
            index: IndexKind::Hnsw,
            pq_subspaces: None,
            binary: None,
            filterable: Vec::new(),
            multivector: None,
            vector_encryption: VectorEncryption::None,
        };
        AdoptableReply { config, points, obstacle: None }
    }

    fn gate(id: Option<u64>, n: u64, collections: Vec<AdoptableReply>) -> Found {
        let gate = GateOf { id: id.map(ShardId), url: format!("http://gate-{n}:7700") };
        Found {
            gate,
            engine: EngineReply { place: Some(format!("http://quiver-{n}:7000")), collections },
        }
    }

    fn state(joining: &[u64], leaving: &[u64]) -> OldState {
        let text = serde_json::json!({
            "next_id": 5,
            "map": {
                "version": 9, "joining": joining, "leaving": leaving,
                "shards": [
                    {"id": 0, "primary_url": "http://quiver-0:7000/"},
                    {"id": 3, "primary_url": "http://QUIVER-3:7000", "replica_urls": ["http://r:1"]},
                ],
            },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn gates_are_found_by_the_server_behind_them_or_by_the_id_that_was_named() {
        let plan =
            Plan::of(&state(&[], &[]), vec![gate(None, 3, vec![]), gate(None, 0, vec![])]).unwrap();
        assert_eq!(plan.shards[&ShardId(3)].gate.url, "http://gate-3:7700");
        assert!(plan.notes[0].contains("http://r:1"), "{:?}", plan.notes);
        let plan =
            Plan::of(&state(&[], &[]), vec![gate(Some(3), 8, vec![]), gate(None, 0, vec![])])
                .unwrap();
        assert_eq!(plan.shards[&ShardId(3)].gate.url, "http://gate-8:7700");
    }

    #[test]
    fn gates_that_do_not_go_with_the_old_map_are_refused() {
        let says = |gates: Vec<Found>| Plan::of(&state(&[], &[]), gates).err().unwrap().detail;
        assert!(says(vec![gate(None, 0, vec![])]).contains("no gate stands for shard 3"));
        let three = vec![gate(None, 0, vec![]), gate(None, 3, vec![]), gate(None, 7, vec![])];
        assert!(says(three).contains("http://gate-7:7700"));
        let twice = vec![gate(None, 0, vec![]), gate(None, 3, vec![]), gate(Some(3), 4, vec![])];
        assert!(says(twice).contains("the same shard 3"));
    }

    #[test]
    fn a_shard_that_was_joining_is_left_out_and_one_that_was_leaving_is_taken_over() {
        let plan = Plan::of(&state(&[3], &[]), vec![gate(None, 0, vec![])]).unwrap();
        assert_eq!((plan.shards.len(), plan.joining.len()), (1, 1));
        let both = vec![gate(None, 0, vec![]), gate(None, 3, vec![collection("docs", 3, 4)])];
        let refused = Plan::of(&state(&[3], &[]), both).err().unwrap().detail;
        assert!(refused.contains("without --adopt"), "{refused}");
        let plan = Plan::of(&state(&[], &[3]), vec![gate(None, 0, vec![]), gate(None, 3, vec![])])
            .unwrap();
        assert_eq!((plan.shards.len(), plan.leaving), (2, vec![ShardId(3)]));
    }

    #[test]
    fn collections_are_those_of_all_shards_and_must_not_differ() {
        let plan = |b: AdoptableReply| {
            let gates = vec![gate(None, 0, vec![collection("a", 3, 5)]), gate(None, 3, vec![b])];
            Plan::of(&state(&[], &[]), gates).unwrap()
        };
        let mut united = plan(collection("b", 4, 6));
        let names: Vec<String> =
            united.collections().unwrap().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(united.notes.iter().filter(|note| note.contains("was missing on")).count(), 2);
        assert!(
            plan(collection("a", 4, 6)).collections().err().unwrap().detail.contains("differs")
        );
        let impossible =
            AdoptableReply { obstacle: Some("too odd".to_owned()), ..collection("b", 3, 1) };
        assert!(plan(impossible).collections().err().unwrap().detail.contains("too odd"));
    }
}
