//! The repair of an adopted cluster: strays go to their owners, then away from where they are (ADR 0006).
//!
//! Decides the order: nothing is discarded before its owner has answered that it holds the point. What differs is kept, unless
//! the operator says that the owner's is right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sheaf_map::{Map, ShardEntry};
use sheaf_transport::Limits;
use sheaf_types::{PointId, ShardId};

use super::gates::{call, read, unexpected};
use super::intake::{self, Body};
use super::{Api, not_reigning};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::peer::{
    DiscardBody, InsertBody, InsertReply, InsertedPoint, StrayPoint, StraysReply,
};

/// How long a gate may take for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages that one call goes through: it answers in time, and the next goes on.
const PAGES_MAX: usize = 8;
/// Points that differ and are named in one answer.
const DIFFERING_MAX: usize = 1_000;

/// `POST /cluster/verify/repair`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RepairBody {
    /// Discard strays whose owner has another value, too.
    discard_differing: bool,
    /// Where the call before has ended.
    from: Option<Place>,
}

/// A place in the walk through all shards and collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    shard: ShardId,
    collection: String,
    after: Option<PointId>,
}

/// What one call has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Repaired {
    /// Points that their owner didn't have, and has now.
    moved: u64,
    /// Copies that are gone: their owner has the same.
    discarded: u64,
    /// Strays whose owner has another value.
    differing: u64,
    /// The first of them.
    differ: Vec<Differing>,
    /// Where to go on; `None`: everything was looked at.
    next: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Differing {
    collection: String,
    id: PointId,
    shard: ShardId,
    owner: ShardId,
    /// Whether the stray was discarded.
    discarded: bool,
}

pub(super) async fn repair(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Repaired>, Problem> {
    api.allow(&headers, Role::Admin)?;
    let RepairBody { discard_differing, from } = intake::json(body)?;
    let map = api.host.maps().borrow().clone().ok_or_else(not_reigning)?;
    if !api.host.look(|core| core.record().unproven) {
        return Ok(Json(Repaired::default())); // Nothing is to be repaired: gates sweep what they don't own.
    }
    let mut walk = Walk { api: &api, map: &map, discard_differing, done: Repaired::default() };
    let mut place = from.or_else(|| first(&map));
    for _ in 0..PAGES_MAX {
        let Some(here) = place else { break };
        let after = walk.page(&here).await?;
        place = match after {
            Some(after) => Some(Place { after: Some(after), ..here }),
            None => next(&map, &here),
        };
    }
    walk.done.next = place;
    Ok(Json(walk.done))
}

/// All shards, and of each all collections, in order.
fn places(map: &Map) -> impl Iterator<Item = Place> + '_ {
    map.shards().iter().flat_map(|entry| {
        let of = |name: &str| Place { shard: entry.id, collection: name.to_owned(), after: None };
        map.collections().iter().map(move |collection| of(collection.name()))
    })
}

fn first(map: &Map) -> Option<Place> {
    places(map).next()
}

fn next(map: &Map, here: &Place) -> Option<Place> {
    let key = |place: &Place| (place.shard, place.collection.clone());
    places(map).find(|place| key(place) > key(here))
}

struct Walk<'a> {
    api: &'a Api,
    map: &'a Map,
    discard_differing: bool,
    done: Repaired,
}

impl Walk<'_> {
    /// Repairs one page; returns where it ended, `None` at the end of the collection.
    async fn page(&mut self, place: &Place) -> Result<Option<PointId>, Problem> {
        let Some(shard) = self.map.shard(place.shard) else { return Ok(None) };
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut path = format!("/internal/strays?collection={}", encoded(&place.collection));
        if let Some(after) = &place.after {
            path.push_str(&format!("&after={}", encoded(after.as_str())));
        }
        let page: StraysReply = self.ask(shard, Method::GET, &path, Vec::new()).await?;
        let mut by_owner: BTreeMap<ShardId, Vec<StrayPoint>> = BTreeMap::new();
        for stray in page.points {
            let owner = self.map.owner(stray.id.placement_key());
            let Some(owner) = owner.filter(|owner| *owner != place.shard) else { continue };
            by_owner.entry(owner).or_default().push(stray);
        }
        for (owner, strays) in by_owner {
            self.hand_over(place, shard, owner, strays).await?;
        }
        Ok(page.looked_through)
    }

    /// Has the owner take what it hasn't; then, and only of that, are the strays discarded.
    async fn hand_over(
        &mut self,
        place: &Place,
        shard: &ShardEntry,
        owner: ShardId,
        points: Vec<StrayPoint>,
    ) -> Result<(), Problem> {
        let Some(entry) = self.map.shard(owner) else { return Ok(()) };
        let collection = place.collection.clone();
        let body = json(&InsertBody { collection: collection.clone(), points })?;
        let answer: InsertReply = self.ask(entry, Method::POST, "/internal/insert", body).await?;
        let mut held = Vec::new();
        for point in answer.points {
            match point {
                InsertedPoint::New(id) => {
                    self.done.moved += 1;
                    held.push(id);
                }
                InsertedPoint::Equal(id) => held.push(id),
                InsertedPoint::Differs(id) => {
                    self.done.differing += 1;
                    let discarded = self.discard_differing;
                    if self.done.differ.len() < DIFFERING_MAX {
                        let (collection, id, shard) = (collection.clone(), id.clone(), place.shard);
                        self.done.differ.push(Differing {
                            collection,
                            id,
                            shard,
                            owner,
                            discarded,
                        });
                    }
                    held.extend(discarded.then_some(id));
                }
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        let gone = held.len() as u64;
        let body = json(&DiscardBody { collection, ids: held })?;
        let _: serde_json::Value = self.ask(shard, Method::POST, "/internal/discard", body).await?;
        self.done.discarded += gone;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        shard: &ShardEntry,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Problem> {
        let url = format!("{}{path}", shard.primary_url);
        let limits = Limits { timeout: PAGE_TIMEOUT, answer_bytes_max: PAGE_BYTES_MAX };
        let authorization = self.api.authorization.as_ref();
        let answer = call(&*self.api.transport, method, &url, authorization, body, limits).await;
        let read = answer.and_then(|answer| match answer.status() {
            StatusCode::OK => read(&answer),
            _ => {
                Err(format!("{}: {}", unexpected(&answer), String::from_utf8_lossy(answer.body())))
            }
        });
        read.map_err(|reason| {
            Problem::unavailable(format!(
                "{} ({}) failed in the middle of the repair: {reason}. Every point is still where it was, or also at its owner; repair again",
                shard.id, shard.primary_url
            ))
        })
    }
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|error| Problem::internal(error.to_string()))
}
