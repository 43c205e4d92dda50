//! Documents: each goes whole to its owner; a query's hits of all shards are merged.
//!
//! Decides what each shard is sent: its documents' bytes as they came.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sheaf_map::Map;
use sheaf_router::{Call, Op, Verdict};
use sheaf_types::limits::BATCH_POINTS_MAX;
use sheaf_types::{Metric, PlacementKey};

use super::outcome::{self, Purpose};
use super::points::at;
use super::shard::Ask;
use super::target::Segment;
use super::{Api, Asked, intake};
use crate::problem::Problem;
use crate::wire::collection::Upserted;
use crate::wire::point::{check_id, too_many};

/// `POST …/documents`, as it comes and as it is handed on.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Documents<'a> {
    #[serde(borrow)]
    documents: Vec<&'a RawValue>,
}

/// What a router looks at.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    vectors: Vec<Vec<f32>>,
}

/// `POST …/documents/query`: the gates read the rest.
#[derive(Deserialize)]
struct Query {
    k: Option<usize>,
}

impl Api {
    pub(super) async fn upsert_documents(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let Documents { documents } =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        if documents.len() > BATCH_POINTS_MAX {
            return Err(too_many(documents.len(), BATCH_POINTS_MAX));
        }
        let texts = documents.iter().map(|raw| raw.get());
        let heads = texts.map(serde_json::from_str).collect::<Result<Vec<Head>, _>>();
        let heads = heads.map_err(|error| intake::malformed(&error))?;
        heads.iter().try_for_each(|head| check_id(&head.id))?;
        let map = self.map_for(asked, &name.text).await?;
        if let Some(what) = misfit(&map, &name.text, &heads) {
            return Err(Problem::bad_request(format!("{what}; nothing was applied")));
        }
        let path = format!("/v1/collections/{}/documents", name.raw);
        let ask = Ask { method: Method::POST, path, reads: false, stream: false };
        let op = Op::Write { keys: heads.iter().map(|head| PlacementKey::of(&head.id)).collect() };
        let send = |call: Call, map| {
            let share = if call.items.len() == documents.len() {
                body.clone()
            } else {
                let items = call.items.iter().map(|&item| documents[item as usize]);
                let share = Documents { documents: items.collect() };
                // What was JSON before always serialises.
                Bytes::from(serde_json::to_vec(&share).unwrap_or_default())
            };
            self.shards.ask(&ask, share, call, map)
        };
        let mut ended = self.host.run(map, op, asked.deadline, send).await;
        match ended.verdict {
            Verdict::Complete { version, .. } => {
                let upserted = documents.len() as u64;
                Ok((at(version), Json(Upserted { upserted })).into_response())
            }
            Verdict::Incomplete(incomplete) => {
                let purpose = Purpose::Write { points: documents.len() };
                Ok(outcome::answer(purpose, &incomplete, &mut ended.replies))
            }
        }
    }

    pub(super) async fn query_documents(
        &self,
        asked: &Asked<'_>,
        name: &Segment<'_>,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let Query { k } =
            serde_json::from_slice(&body).map_err(|error| intake::malformed(&error))?;
        // A sum of similarities, whatever the metric is.
        self.nearest(asked, name, "documents/query", k, body, |_| Some(Metric::Dot)).await
    }
}

/// What surely no shard takes. One shard takes all of its share or nothing; of several, each would decide alone.
fn misfit(map: &Map, name: &str, heads: &[Head<'_>]) -> Option<String> {
    let config = &map.collection(name)?.config;
    let wants = config.dim as usize;
    heads.iter().find_map(|head| {
        let id = &head.id;
        if head.vectors.is_empty() {
            return Some(format!("the document {id:?} has no vector; it needs at least one"));
        }
        let wrong = head.vectors.iter().find(|vector| vector.len() != wants)?;
        let has = wrong.len();
        Some(format!(
            "the document {id:?} has a vector of {has} numbers, the collection takes {wants}"
        ))
    })
}
