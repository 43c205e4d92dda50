//! Calls that every shard answers: query, fetch, count.
//!
//! Decides how the shards' answers become one; hits are handed on byte for byte. One shard's answer is the answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sheaf_map::Map;
use sheaf_router::merge::{self, Identified, MergeError, Ranked};
use sheaf_router::{Call, CallId, Op, Verdict};
use sheaf_types::limits::{FETCH_POINTS_MAX, K_MAX};
use sheaf_types::{MapVersion, Metric};

use super::outcome::{self, Purpose};
use super::points::{at, hand_on};
use super::shard::{Ask, Reply};
use super::target::Segment;
use super::{Api, Asked, intake, no_such_collection};
use crate::problem::Problem;
use crate::wire::collection::Counted;

/// `POST …/query`: all that a router looks at, and the names of all that there may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that only have to be known: the gate reads their values")]
struct Query<'a> {
    #[serde(borrow)]
    vector: &'a RawValue,
    k: Option<usize>,
    #[serde(borrow)]
    filter: Option<&'a RawValue>,
    #[serde(borrow)]
    ef_search: Option<&'a RawValue>,
    #[serde(borrow)]
    with_payload: Option<&'a RawValue>,
    #[serde(borrow)]
    with_vector: Option<&'a RawValue>,
}

/// Neighbours in an answer when the client doesn't say.
pub(super) const K_DEFAULT: usize = 10;

/// `POST …/fetch`, as it comes and as it is handed on.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fetch<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    filter: Option<&'a RawValue>,
    #[serde(default)]
    offset: usize,
    #[serde(default = "fetch_limit_default")]
    limit: usize,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    with_payload: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    with_vector: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    after: Option<&'a RawValue>,
}

fn fetch_limit_default() -> usize {
    10
}

/// `POST …/count`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the field only has to be known: the gate reads its value")]
struct Count<'a> {
    #[serde(borrow)]
    filter: Option<&'a RawValue>,
}

/// A hit or a point of a shard's answer: what it is ordered by, and its bytes.
struct Raw<'a> {
    id: Cow<'a, str>,
    score: f64,
    bytes: &'a str,
}

impl Ranked for Raw<'_> {
    fn id(&self) -> &str {
        &self.id
    }
    fn score(&self) -> f64 {
        self.score
    }
}

impl Identified for Raw<'_> {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    score: f64,
}

/// What all shards answered at one version.
pub(super) struct Gathered {
    pub version: MapVersion,
    pub map: Arc<Map>,
    pub replies: BTreeMap<CallId, Reply>,
}

impl Api {
    /// Asks every shard the same; `Err`: the answer to the client, who gets no part of it. Of a search one shard's answer is handed on
    /// while it arrives, and replicas may be asked.
    pub(super) async fn gather(
        &self,
        asked: &Asked<'_>,
        map: Arc<Map>,
        path: String,
        body: Bytes,
        is_search: bool,
    ) -> Result<Gathered, Response> {
        let whole = Ask { method: Method::POST, path: path.clone(), reads: true, stream: false };
        let single = Ask { method: Method::POST, path, reads: true, stream: true };
        let turn = self.shards.next_turn();
        let (whole, single, eventual) = (&whole, &single, is_search && asked.eventual);
        let send = |call: Call, map: Arc<Map>| {
            let body = body.clone();
            async move {
                if eventual {
                    return self.shards.ask_any(whole, body, call, map, turn).await;
                }
                let alone = is_search && map.shards().len() == 1;
                self.shards.ask(if alone { single } else { whole }, body, call, map).await
            }
        };
        let mut ended = self.host.run(map, Op::Gather, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { version, .. } => {
                Ok(Gathered { version, map: ended.map, replies: ended.replies })
            }
            Verdict::Incomplete(incomplete) => {
                Err(outcome::answer(Purpose::Read, &incomplete, &mut ended.replies))
            }
        }
    }

    pub(super) async fn query(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let Query { k, .. } =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        let metric = |map: &Map| map.collection(&name.text).map(|found| found.config.metric);
        self.nearest(asked, name, "query", k, body.clone(), metric).await
    }

    /// Asks every shard for its `k` best hits by this call of a collection; the best of all by the map's `metric` are the answer.
    pub(super) async fn nearest(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        call: &str,
        k: Option<usize>,
        body: Bytes,
        metric: impl FnOnce(&Map) -> Option<Metric>,
    ) -> Result<Response, Problem> {
        let k = k.unwrap_or(K_DEFAULT);
        if k > K_MAX {
            return Err(over_limit("k", k, K_MAX));
        }
        let map = self.map_for(asked, &name.text).await?;
        let path = format!("/v1/collections/{}/{call}", name.raw);
        let mut gathered = match self.gather(asked, map, path, body, true).await {
            Ok(gathered) => gathered,
            Err(answer) => return Ok(answer),
        };
        if let Some(answer) = gathered.only() {
            return Ok(answer);
        }
        let metric = metric(&gathered.map).ok_or_else(|| no_such_collection(&name.text))?;
        gathered.matches(k, metric)
    }

    pub(super) async fn fetch(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let fetch: Fetch =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        let Fetch { offset, limit, .. } = fetch;
        let reach = offset.saturating_add(limit);
        if reach > FETCH_POINTS_MAX {
            return Err(over_limit("offset + limit", reach, FETCH_POINTS_MAX));
        }
        let map = self.map_for(asked, &name.text).await?;
        let path = format!("/v1/collections/{}/fetch", name.raw);
        // Which of a shard's points are behind the offset depends on those of the others.
        let all = Fetch { offset: 0, limit: reach, ..fetch };
        let all = serde_json::to_vec(&all).map_err(|error| intake::malformed(&error))?;
        let gathered = match self.gather(asked, map, path, Bytes::from(all), false).await {
            Ok(gathered) => gathered,
            Err(answer) => return Ok(answer),
        };
        gathered.points(offset, limit)
    }

    pub(super) async fn count(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        if !body.is_empty() {
            let _: Count =
                serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        }
        let map = self.map_for(asked, &name.text).await?;
        match self.gather_count(asked, map, name.raw, body).await {
            Ok((version, count)) => Ok((at(version), Json(Counted { count })).into_response()),
            Err(answer) => Ok(answer),
        }
    }

    /// How many points the whole cluster has in a collection; `raw_name` percent-encoded.
    pub(super) async fn gather_count(
        &self,
        asked: &Asked<'_>,
        map: Arc<Map>,
        raw_name: &str,
        body: Bytes,
    ) -> Result<(MapVersion, u64), Response> {
        let path = format!("/v1/collections/{raw_name}/count");
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        let gathered = self.gather(asked, map, path, body, false).await?;
        gathered.sum().map_err(IntoResponse::into_response)
    }
}

impl Gathered {
    /// The answer, when one shard made it.
    fn only(&mut self) -> Option<Response> {
        if self.replies.len() != 1 {
            return None;
        }
        let (_, reply) = self.replies.pop_first()?;
        Some(hand_on(Some(reply), self.version))
    }

    pub(super) fn bodies(&self) -> impl Iterator<Item = &Bytes> {
        self.replies.values().filter_map(Reply::whole)
    }

    fn matches(&self, k: usize, metric: Metric) -> Result<Response, Problem> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            matches: Vec<&'a RawValue>,
        }
        let mut lists = Vec::with_capacity(self.replies.len());
        for body in self.bodies() {
            let Answer { matches } =
                serde_json::from_slice(body).map_err(|e| not_understood(&e))?;
            lists.push(raws(&matches)?);
        }
        let best = merge::best(lists, k, metric.lower_is_better()).map_err(|e| not_merged(&e))?;
        Ok(listed("matches", best.iter().map(|hit| hit.bytes), self.version))
    }

    fn points(&self, offset: usize, limit: usize) -> Result<Response, Problem> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            points: Vec<&'a RawValue>,
        }
        let mut lists = Vec::with_capacity(self.replies.len());
        for body in self.bodies() {
            let Answer { points } = serde_json::from_slice(body).map_err(|e| not_understood(&e))?;
            lists.push(raws(&points)?);
        }
        let page = merge::page(lists, offset, limit).map_err(|e| not_merged(&e))?;
        Ok(listed("points", page.iter().map(|point| point.bytes), self.version))
    }

    fn sum(&self) -> Result<(MapVersion, u64), Problem> {
        let mut sum = 0;
        for body in self.bodies() {
            let Counted { count } = serde_json::from_slice(body).map_err(|e| not_understood(&e))?;
            sum += count;
        }
        Ok((self.version, sum))
    }
}

fn raws<'a>(items: &[&'a RawValue]) -> Result<Vec<Raw<'a>>, Problem> {
    let raw = |item: &&'a RawValue| {
        let bytes = item.get();
        let Head { id, score } = serde_json::from_str(bytes).map_err(|e| not_understood(&e))?;
        Ok(Raw { id, score, bytes })
    };
    items.iter().map(raw).collect()
}

/// `{"NAME":[…]}` with the items' own bytes.
pub(super) fn listed<'a>(
    name: &str,
    items: impl Iterator<Item = &'a str> + Clone,
    version: MapVersion,
) -> Response {
    let length: usize = items.clone().map(|item| item.len() + 1).sum();
    let mut body = BytesMut::with_capacity(name.len() + length + 8);
    body.put_slice(b"{\"");
    body.put_slice(name.as_bytes());
    body.put_slice(b"\":[");
    for (n, item) in items.enumerate() {
        if n > 0 {
            body.put_u8(b',');
        }
        body.put_slice(item.as_bytes());
    }
    body.put_slice(b"]}");
    let mut response = (StatusCode::OK, Body::from(body.freeze())).into_response();
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().extend(at(version));
    response
}

fn over_limit(what: &str, value: usize, limit: usize) -> Problem {
    Problem::bad_request(format!(
        "{what} is {value}, the limit is {limit}; ask for less, or narrow the request by a filter"
    ))
}

pub(super) fn not_understood(error: &serde_json::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        format!(
            "a shard's answer can't be understood: {error}. The data is as it was; look at the shards' versions"
        ),
    )
}

pub(super) fn not_merged(error: &MergeError) -> Problem {
    Problem::internal(format!(
        "{error}. The data is as it was; tell the operator, who can look with GET /cluster/verify"
    ))
}
