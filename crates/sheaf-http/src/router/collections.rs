//! The catalogue as clients see it: create, list, show, drop. Coordinators decide, this hands on.
//!
//! Decides when a client is told that a collection is gone: when every shard knows it.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sheaf_map::Map;
use sheaf_protocol::Refusal;
use sheaf_router::{Call, Op, Outcome, Verdict};
use sheaf_types::{CollectionConfig, MapVersion};

use super::points::at;
use super::shard::Ask;
use super::target::Segment;
use super::{Api, Asked, intake};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::collection::{CollectionView, Existed};

/// Collections that are counted at the same time for one list.
const COUNTED_AT_ONCE_MAX: usize = 8;
/// All but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The version of the map that a coordinator's answer names.
#[derive(Deserialize)]
struct Changed {
    version: Option<MapVersion>,
    #[serde(default)]
    existed: bool,
}

impl Api {
    pub(super) async fn list_collections(&self, asked: &Asked<'_>) -> Result<Response, Problem> {
        // Another router may have created one a moment ago.
        let patience = super::LOOK_PATIENCE.min(self.clock().until(asked.deadline) / 2);
        let map = match self.host.look_for_newer_map(patience).await {
            Some(map) => map,
            None => self.known_map()?,
        };
        let seen = map.collections().iter().filter(|c| asked.caller.may(Role::Read, c.name()));
        let seen: Vec<Arc<CollectionConfig>> = seen.map(|c| c.config.clone()).collect();
        let counted = futures_util::stream::iter(seen)
            .map(|config| self.counted(asked, map.clone(), config))
            .buffered(COUNTED_AT_ONCE_MAX)
            .try_collect::<Vec<_>>();
        match counted.await {
            Ok(counted) => {
                let counted = counted.iter().flatten();
                let views: Vec<_> = counted.map(|(config, count)| view(config, *count)).collect();
                Ok((at(map.version()), Json(views)).into_response())
            }
            Err(answer) => Ok(answer),
        }
    }

    /// A collection with its points; `None`: it was dropped meanwhile.
    async fn counted(
        &self,
        asked: &Asked<'_>,
        map: Arc<Map>,
        config: Arc<CollectionConfig>,
    ) -> Result<Option<(Arc<CollectionConfig>, u64)>, Response> {
        match self.gather_count(asked, map, &encoded(&config.name), Bytes::new()).await {
            Ok((_, count)) => Ok(Some((config, count))),
            Err(answer) if answer.status() == StatusCode::NOT_FOUND => Ok(None),
            Err(answer) => Err(answer),
        }
    }

    pub(super) async fn show_collection(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
    ) -> Result<Response, Problem> {
        let map = self.map_for(asked, &name.text).await?;
        let config = map.collection(&name.text).map(|collection| collection.config.clone());
        let config = config.ok_or_else(|| not_known(&name.text))?;
        match self.gather_count(asked, map, name.raw, Bytes::new()).await {
            Ok((version, count)) => Ok((at(version), Json(view(&config, count))).into_response()),
            Err(answer) => Ok(answer),
        }
    }

    pub(super) async fn create_collection(
        &self,
        asked: &Asked<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let config: CollectionConfig = intake::json(&body)?;
        asked.caller.need(Role::Admin, &config.name)?;
        sheaf_engines::validate::makes_sense(&config)
            .map_err(|why| Problem::bad_request(format!("{why}; nothing was created")))?;
        let key = idempotency_key(asked.headers);
        let path = "/cluster/collections";
        let answer =
            self.coordinators.change(self.clock(), asked.deadline, Method::POST, path, body, key);
        let answer = answer.await?;
        if answer.status() == StatusCode::CONFLICT && asked.broadcasts {
            let patience = super::LOOK_PATIENCE.min(self.clock().until(asked.deadline) / 2);
            let map = self.host.look_for_newer_map(patience).await;
            let known = map.as_ref().and_then(|map| map.collection(&config.name));
            if known.is_some_and(|known| *known.config == config) {
                return Ok(Json(view(&config, 0)).into_response());
            }
        }
        if !answer.status().is_success() {
            return Ok(coordinators_words(answer));
        }
        // So that who reads here finds it here.
        self.adopt_change(asked, answer.body()).await;
        Ok(Json(view(&config, 0)).into_response())
    }

    pub(super) async fn drop_collection(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
    ) -> Result<Response, Problem> {
        let key = idempotency_key(asked.headers);
        let path = format!("/cluster/collections/{}", name.raw);
        let answer = self.coordinators.change(
            self.clock(),
            asked.deadline,
            Method::DELETE,
            &path,
            Bytes::new(),
            key,
        );
        let answer = answer.await?;
        if !answer.status().is_success() {
            return Ok(coordinators_words(answer));
        }
        let existed = serde_json::from_slice::<Changed>(answer.body()).is_ok_and(|c| c.existed);
        let map = self.adopt_change(asked, answer.body()).await;
        let Some(map) = map.filter(|map| map.collection(&name.text).is_none()) else {
            return Err(not_everywhere(&name.text, "this router has not heard of it yet"));
        };
        self.tell_all(asked, map, name).await?;
        Ok(Json(Existed { existed }).into_response())
    }

    /// The map that a coordinator's answer speaks of, or the newest there is; `None`: it didn't come in time.
    async fn adopt_change(&self, asked: &Asked<'_>, answer: &[u8]) -> Option<Arc<Map>> {
        let version = serde_json::from_slice::<Changed>(answer).ok().and_then(|c| c.version);
        match version {
            Some(version) => self.host.map_of_at_least(version, asked.deadline).await,
            None => self.host.look_for_newer_map(self.clock().until(asked.deadline)).await,
        }
    }

    /// Asks every shard for the dropped collection until each has said at this map or a newer one that it is gone: a router
    /// that hasn't heard of the drop can't read it from any of them then.
    async fn tell_all(
        &self,
        asked: &Asked<'_>,
        map: Arc<Map>,
        name: &Segment<'_>,
    ) -> Result<(), Problem> {
        if map.shards().is_empty() {
            return Ok(());
        }
        let path = format!("/v1/collections/{}/count", name.raw);
        let ask = Ask { method: Method::POST, path, reads: true, stream: false };
        let ask = &ask;
        let send = |call: Call, map| async move {
            let version = call.version;
            let answer = self.shards.ask(ask, Bytes::from_static(b"{}"), call, map).await;
            match answer {
                (Outcome::Refused(Refusal::NoCollection { version: theirs }), _)
                    if theirs >= version =>
                {
                    (Outcome::Done { version }, None)
                }
                other => other,
            }
        };
        let ended = self.host.run(map, Op::Gather, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { .. } => Ok(()),
            Verdict::Incomplete(incomplete) => {
                Err(not_everywhere(&name.text, &format!("{:?}", incomplete.reason)))
            }
        }
    }
}

/// The shards may have it, but what it is, only a map says.
fn not_known(name: &str) -> Problem {
    Problem::unavailable(format!(
        "this router's map has no collection {name:?}, and no coordinator answers whether there is one now; ask again"
    ))
}

/// Always ready: points that an index doesn't hold yet are searched one by one.
fn view(config: &CollectionConfig, count: u64) -> CollectionView<'_> {
    CollectionView { config, count, index_ready: true }
}

fn not_everywhere(name: &str, why: &str) -> Problem {
    Problem::outcome_unknown(format!(
        "the collection {name:?} is dropped for good, but not every shard has confirmed it ({why}); drop it again to wait for the rest"
    ))
}

fn idempotency_key(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get("idempotency-key").cloned()
}

fn encoded(name: &str) -> String {
    match name {
        "." | ".." => name.replace('.', "%2E"),
        name => utf8_percent_encode(name, SEGMENT).to_string(),
    }
}

/// A coordinator's refusal, as the client's.
fn coordinators_words(answer: http::Response<Bytes>) -> Response {
    let (parts, body) = answer.into_parts();
    if matches!(parts.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Problem::new(
            StatusCode::BAD_GATEWAY,
            "the coordinator doesn't accept this router's key, so nothing was changed; give both the same peer key",
        )
        .into_response();
    }
    let mut response = (parts.status, body).into_response();
    if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    response
}
