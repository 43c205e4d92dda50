//! `POST /v1/snapshot`: every shard copies itself, all at one version of the map.
//!
//! Decides when the copies make up a snapshot: all of them, of one version. What a part of the shards wrote stays and is named.

use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sheaf_router::{Call, CallId, Outcome};
use sheaf_types::{MapVersion, ShardId};

use super::points::at;
use super::shard::{Ask, Reply};
use super::{Api, intake};
use crate::problem::Problem;
use crate::wire::peer::CopiedReply;

/// Milliseconds that a shard may take for its copy.
const COPY_MS_MAX: u64 = 600_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    #[expect(dead_code, reason = "the gates read it")]
    destination: String,
}

/// What one shard wrote.
#[derive(Serialize)]
struct Copied {
    shard: ShardId,
    #[serde(flatten)]
    copied: CopiedReply,
}

#[derive(Serialize)]
struct Answer {
    version: MapVersion,
    shards: Vec<Copied>,
}

impl Api {
    pub(super) async fn snapshot(&self, body: Bytes) -> Result<Response, Problem> {
        let _: Snapshot = intake::json(&body)?;
        let map = self.known_map()?;
        let version = map.version();
        let ask =
            Ask { method: Method::POST, path: "/v1/snapshot".into(), reads: true, stream: false };
        let answer_by = self.clock().now().plus_ms(COPY_MS_MAX);
        let copies = map.shards().iter().zip(1..).map(|(entry, number)| {
            let (id, shard, items) = (CallId(number), entry.id, Vec::new());
            let call = Call { id, shard, version, items, answer_by };
            self.shards.ask(&ask, body.clone(), call, map.clone())
        });
        let answers = join_all(copies).await;
        let (mut copied, mut failed) = (Vec::new(), Vec::new());
        let mut status = StatusCode::SERVICE_UNAVAILABLE;
        for (entry, (outcome, reply)) in map.shards().iter().zip(answers) {
            match judge(version, outcome, reply) {
                Ok(one) => copied.push(Copied { shard: entry.id, copied: one }),
                Err((code, why)) => {
                    status = code;
                    failed.push(format!("{}: {why}", entry.id));
                }
            }
        }
        if failed.is_empty() && !copied.is_empty() {
            return Ok((at(version), Json(Answer { version, shards: copied })).into_response());
        }
        let detail = format!(
            "there is no snapshot: not every shard was copied at map {version}. {}. The data is as it was; remove what was written \
             before you try again",
            failed.join("; ")
        );
        let written = serde_json::to_value(copied).unwrap_or_default();
        Err(Problem::new(status, detail).with("written", written))
    }
}

/// What a shard wrote, or the status and the words for what it says.
fn judge(
    version: MapVersion,
    outcome: Outcome,
    reply: Option<Reply>,
) -> Result<CopiedReply, (StatusCode, String)> {
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    match (outcome, reply) {
        (Outcome::Done { version: theirs }, Some(Reply::Whole(answer))) if theirs == version => {
            serde_json::from_slice(answer.body()).map_err(|error| {
                (StatusCode::BAD_GATEWAY, format!("its answer can't be understood: {error}"))
            })
        }
        (Outcome::Done { version }, _) => {
            Err(unavailable(format!("it copied itself at map {version}")))
        }
        (Outcome::Refused(refusal), _) => Err(unavailable(refusal.to_string())),
        (Outcome::Failed, Some(Reply::Whole(answer))) => {
            #[derive(Deserialize)]
            struct Detail {
                detail: String,
            }
            let detail = serde_json::from_slice::<Detail>(answer.body());
            let detail = detail.map_or_else(|_| "it failed".to_owned(), |said| said.detail);
            Err((answer.status(), detail))
        }
        (Outcome::Failed | Outcome::Lost, _) => {
            Err(unavailable("it didn't answer; whether it copied itself isn't known".to_owned()))
        }
        (Outcome::NotSent, _) => Err(unavailable("it can't be reached".to_owned())),
    }
}
