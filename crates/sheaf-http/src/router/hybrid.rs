//! Hybrid search: lists of all shards are merged, each kind by itself, and only then fused, as one big node would.
//!
//! Up to three rounds: what BM25 has to know of all documents, every shard's candidates at one version of the map, and the hits'
//! payloads and vectors from their owners. A hit that was deleted meanwhile, or that its filter no longer holds for, is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sheaf_engines::sparse::Statistics;
use sheaf_map::Map;
use sheaf_router::merge::{self, Ranked};
use sheaf_router::{Op, Verdict, fuse};
use sheaf_types::limits::K_MAX;
use sheaf_types::{MapVersion, Metric, PlacementKey};

use super::gather::{Gathered, listed, not_merged, not_understood};
use super::outcome::{self, Purpose};
use super::shard::{Ask, Reply};
use super::target::Segment;
use super::{Api, Asked, no_such_collection};
use crate::problem::Problem;
use crate::wire::hybrid::{Hybrid, StatisticsWanted};

/// `POST …/query/hybrid:lists`, as it is sent.
#[derive(Serialize)]
struct ListsWanted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse_indices: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse_values: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_text: Option<&'a str>,
    statistics: Statistics,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a RawValue>,
    ef_search: usize,
    depth: usize,
}

/// `POST …/points:get`, as it is sent.
#[derive(Serialize)]
struct PointsWanted<'a> {
    ids: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a RawValue>,
    with_payload: bool,
    with_vector: bool,
}

/// A shard's candidates.
#[derive(Deserialize)]
struct Lists<'a> {
    #[serde(borrow, default)]
    dense: Vec<Listed<'a>>,
    #[serde(borrow, default)]
    sparse: Vec<Listed<'a>>,
    #[serde(borrow, default)]
    text: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    score: f64,
    #[serde(default)]
    filtered_out: bool,
}

impl Ranked for Listed<'_> {
    fn id(&self) -> &str {
        &self.id
    }
    fn score(&self) -> f64 {
        self.score
    }
}

/// What was found, best first.
pub(super) struct Found {
    pub hits: Vec<Hit>,
    version: MapVersion,
}

pub(super) struct Hit {
    id: String,
    pub score: f32,
    /// What its owner sent of it.
    pub members: BTreeMap<String, Box<RawValue>>,
}

impl Found {
    pub fn answer(&self) -> Response {
        let hits: Vec<String> = self.hits.iter().map(Hit::json).collect();
        listed("matches", hits.iter().map(String::as_str), self.version)
    }
}

impl Hit {
    fn bare(id: &str, score: f32) -> Self {
        Self { id: id.to_owned(), score, members: BTreeMap::new() }
    }

    fn json(&self) -> String {
        let id = serde_json::Value::from(&*self.id);
        let mut json = format!("{{\"id\":{id},\"score\":{:?}", self.score);
        for (name, value) in &self.members {
            json.extend([",\"", name, "\":", value.get()]);
        }
        json.push('}');
        json
    }
}

impl Api {
    pub(super) async fn hybrid(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let found = self.hybrid_search(asked, name, &body).await?;
        Ok(found.map_or_else(|answer| answer, |found| found.answer()))
    }

    /// What is found; the inner `Err`: the answer to the client instead.
    pub(super) async fn hybrid_search(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: &[u8],
    ) -> Result<Result<Found, Response>, Problem> {
        let query = Hybrid::read(body)?;
        let mut map = self.map_for(asked, &name.text).await?;
        let mut statistics = Statistics::default();
        if let Some(text) = &query.query_text {
            match self.text_statistics(asked, name, map, text).await? {
                Ok((sum, newer)) => (statistics, map) = (sum, newer),
                Err(answer) => return Ok(Err(answer)),
            }
        }
        let depth = fuse::depth(query.k);
        let wanted = ListsWanted {
            vector: query.vector,
            sparse_indices: query.sparse_indices.as_deref(),
            sparse_values: query.sparse_values.as_deref(),
            query_text: query.query_text.as_deref(),
            statistics,
            filter: query.filter,
            ef_search: query.ef_search,
            depth,
        };
        let gathered = match self.hybrid_gather(asked, name, map, "lists", &wanted).await? {
            Ok(gathered) => gathered,
            Err(answer) => return Ok(Err(answer)),
        };
        let collection = gathered.map.collection(&name.text);
        let metric =
            collection.map(|c| c.config.metric).ok_or_else(|| no_such_collection(&name.text))?;
        let lists = merged(&gathered, depth, metric)?;
        let ids: Vec<Vec<&str>> = lists.iter().map(|list| shown_ids(list)).collect();
        let fused = fuse::fuse(&ids, query.rrf_k0, query.k);
        if !query.with_payload && !query.with_vector {
            let hits = fused.iter().map(|&(id, score)| Hit::bare(id, score)).collect();
            return Ok(Ok(Found { hits, version: gathered.version }));
        }
        self.with_bodies(asked, name, &query, &fused, gathered.map.clone()).await
    }

    /// What BM25 has to know of all documents of the cluster, and the map that says where they are.
    async fn text_statistics(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        map: Arc<Map>,
        text: &str,
    ) -> Result<Result<(Statistics, Arc<Map>), Response>, Problem> {
        let wanted = StatisticsWanted { query_text: text.to_owned() };
        let gathered = match self.hybrid_gather(asked, name, map, "statistics", &wanted).await? {
            Ok(gathered) => gathered,
            Err(answer) => return Ok(Err(answer)),
        };
        let mut sum = Statistics::default();
        for body in gathered.bodies() {
            sum.add(&serde_json::from_slice(body).map_err(|error| not_understood(&error))?);
        }
        Ok(Ok((sum, gathered.map)))
    }

    async fn hybrid_gather(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        map: Arc<Map>,
        what: &str,
        wanted: &impl Serialize,
    ) -> Result<Result<Gathered, Response>, Problem> {
        let path = format!("/v1/collections/{}/query/hybrid:{what}", name.raw);
        Ok(self.gather(asked, map, path, written(wanted)?, false).await)
    }

    /// The hits with what their owners have of them now.
    async fn with_bodies(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        query: &Hybrid<'_>,
        fused: &[(&str, f32)],
        map: Arc<Map>,
    ) -> Result<Result<Found, Response>, Problem> {
        let path = format!("/v1/collections/{}/points:get", name.raw);
        let ask = Ask { method: Method::POST, path, reads: true, stream: false };
        let keys = fused.iter().map(|(id, _)| PlacementKey::of(id)).collect();
        let send = |call: sheaf_router::Call, map| {
            let ids = call.items.iter().map(|&item| fused[item as usize].0).collect();
            let (with_payload, with_vector) = (query.with_payload, query.with_vector);
            let wanted = PointsWanted { ids, filter: query.filter, with_payload, with_vector };
            // Strings, flags and JSON that was read before always serialise.
            let body = Bytes::from(serde_json::to_vec(&wanted).unwrap_or_default());
            self.shards.ask(&ask, body, call, map)
        };
        let mut ended = self.host.run(map, Op::Read { keys }, asked.deadline, send).await;
        let version = match ended.verdict {
            Verdict::Complete { version, .. } => version,
            Verdict::Incomplete(incomplete) => {
                return Ok(Err(outcome::answer(Purpose::Read, &incomplete, &mut ended.replies)));
            }
        };
        let hits = joined(fused, ended.replies.values().filter_map(Reply::whole))?;
        Ok(Ok(Found { hits, version }))
    }
}

fn written(wanted: &impl Serialize) -> Result<Bytes, Problem> {
    let json = serde_json::to_vec(wanted);
    json.map(Bytes::from).map_err(|error| {
        Problem::internal(format!("the search can't be written down for the shards: {error}"))
    })
}

/// The lists of all shards as one of each kind, cut as those of one node would be.
fn merged(
    gathered: &Gathered,
    depth: usize,
    metric: Metric,
) -> Result<[Vec<Listed<'_>>; 3], Problem> {
    let (mut dense, mut sparse, mut text) = (Vec::new(), Vec::new(), Vec::new());
    for body in gathered.bodies() {
        let lists: Lists = serde_json::from_slice(body).map_err(|error| not_understood(&error))?;
        dense.push(lists.dense);
        sparse.push(lists.sparse);
        text.push(lists.text);
    }
    let best =
        |lists, depth, lower| merge::best(lists, depth, lower).map_err(|error| not_merged(&error));
    // A shard gives no more neighbours than that, so of more than that it isn't known which are the nearest.
    let dense = best(dense, depth.min(K_MAX), metric.lower_is_better())?;
    Ok([dense, best(sparse, depth, false)?, best(text, depth, false)?])
}

fn shown_ids<'a>(list: &'a [Listed<'_>]) -> Vec<&'a str> {
    list.iter().filter(|listed| !listed.filtered_out).map(|listed| &*listed.id).collect()
}

/// The hits in their order, each with its score and what its owner sent of it.
fn joined<'a>(
    fused: &[(&str, f32)],
    bodies: impl Iterator<Item = &'a Bytes>,
) -> Result<Vec<Hit>, Problem> {
    #[derive(Deserialize)]
    struct Answer {
        points: Vec<BTreeMap<String, Box<RawValue>>>,
    }
    let mut points = BTreeMap::new();
    for body in bodies {
        let Answer { points: some } =
            serde_json::from_slice(body).map_err(|error| not_understood(&error))?;
        for mut members in some {
            let id = members.remove("id");
            let id = id.as_ref().map_or("null", |id| id.get());
            let id: String = serde_json::from_str(id).map_err(|error| not_understood(&error))?;
            points.insert(id, members);
        }
    }
    let hit = |&(id, score): &(&str, f32)| {
        Some(Hit { members: points.remove(id)?, ..Hit::bare(id, score) })
    };
    Ok(fused.iter().filter_map(hit).collect())
}
