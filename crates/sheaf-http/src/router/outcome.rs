//! What a client is told when not all of its request was done.
//!
//! Decides status codes and words: 504 only where something may have been applied or a read got no answer, 503 where
//! surely nothing was. Never hides that a part was applied.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use sheaf_protocol::Refusal;
use sheaf_router::{CallId, Incomplete, Reason};
use sheaf_types::ShardId;

use super::shard::Reply;
use crate::problem::Problem;

/// What a request was to do, for words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    /// Of these many points.
    Write {
        points: usize,
    },
}

/// The answer to a request that didn't end well.
pub(super) fn answer(
    purpose: Purpose,
    incomplete: &Incomplete,
    replies: &mut BTreeMap<CallId, Reply>,
) -> Response {
    match purpose {
        Purpose::Read => read(&incomplete.reason, replies),
        Purpose::Write { points } => write(points, incomplete, replies),
    }
}

fn read(reason: &Reason, replies: &mut BTreeMap<CallId, Reply>) -> Response {
    let problem = match reason {
        Reason::Failed { call, shard } => return failed(replies.remove(call), *shard),
        Reason::Lost { shard } => Problem::outcome_unknown(format!(
            "{shard} did not answer before the request's deadline; the data is as it was. Ask again, with more time in sheaf-timeout-ms if it is a heavy request"
        ))
        .titled("Gateway Timeout"),
        Reason::Refused { shard, refusal } => refused(*shard, refusal),
        Reason::NotSent { shard } => not_sent(*shard),
        Reason::NoShards => no_shards(),
        Reason::Late => late(),
    };
    problem.into_response()
}

fn write(
    points: usize,
    incomplete: &Incomplete,
    replies: &mut BTreeMap<CallId, Reply>,
) -> Response {
    let applied = incomplete.applied.len();
    let unknown = incomplete.unknown.len();
    let problem = match &incomplete.reason {
        Reason::Lost { shard } => {
            let detail = format!(
                "{shard} did not say in time whether it applied {unknown} of the {points} points: they may be applied or not, now or a \
                 little later. Read them, or send the request again: upserts and deletions may be repeated"
            );
            return counted(Problem::outcome_unknown(detail), incomplete).into_response();
        }
        Reason::Failed { call, shard } if applied == 0 => {
            return failed(replies.remove(call), *shard);
        }
        Reason::Failed { call, shard } => problem_of(replies.remove(call), *shard),
        Reason::Refused { shard, refusal } => refused(*shard, refusal),
        Reason::NotSent { shard } => not_sent(*shard),
        Reason::NoShards => no_shards(),
        Reason::Late => late(),
    };
    if applied == 0 {
        return problem.into_response();
    }
    let mut problem = counted(problem, incomplete);
    problem.detail = format!(
        "{applied} of the {points} points were applied, the others surely not: {}",
        problem.detail
    );
    problem.into_response()
}

fn counted(problem: Problem, incomplete: &Incomplete) -> Problem {
    problem
        .with("applied", incomplete.applied.len())
        .with("not_applied", incomplete.not_applied.len())
        .with("unknown", incomplete.unknown.len())
}

/// A shard's own words, handed on.
fn failed(reply: Option<Reply>, shard: ShardId) -> Response {
    match reply {
        Some(Reply::Whole(answer)) => {
            let (parts, body) = answer.into_parts();
            let mut response = (parts.status, body).into_response();
            if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
                response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
            }
            response
        }
        Some(Reply::Stream(_)) | None => no_words(shard).into_response(),
    }
}

/// A shard's own words, to be added to.
fn problem_of(reply: Option<Reply>, shard: ShardId) -> Problem {
    let Some(Reply::Whole(answer)) = reply else { return no_words(shard) };
    let status = answer.status();
    let words: Bytes = answer.into_body();
    let words = serde_json::from_slice::<serde_json::Value>(&words).unwrap_or_default();
    let detail = words.get("detail").and_then(|detail| detail.as_str());
    Problem::new(status, detail.unwrap_or("the shard gave no reason"))
}

fn no_words(shard: ShardId) -> Problem {
    Problem::internal(format!("{shard} refused without saying why"))
}

fn refused(shard: ShardId, refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::NoCollection { .. } => Problem::not_found("there is no such collection"),
        Refusal::Unproven => Problem::unavailable(refusal.to_string()),
        Refusal::Moved { .. }
        | Refusal::OtherVersion { .. }
        | Refusal::Fenced { .. }
        | Refusal::Behind { .. }
        | Refusal::NotServing
        | Refusal::OtherShard { .. }
        | Refusal::TooManyHeld { .. }
        | Refusal::NothingToRepair { .. }
        | Refusal::EngineUnavailable { .. } => Problem::unavailable(format!(
            "{shard} refused until the request's deadline: {refusal}. Nothing of this was applied; ask again"
        )),
    }
}

fn not_sent(shard: ShardId) -> Problem {
    Problem::unavailable(format!(
        "{shard} could not be reached until the request's deadline, so nothing of this was applied; ask again, and look at \
         the shard if this goes on"
    ))
}

fn no_shards() -> Problem {
    Problem::unavailable(
        "the cluster has no shard yet, so nothing was applied; add one with POST /cluster/shards at the coordinator",
    )
}

fn late() -> Problem {
    Problem::unavailable(
        "the request's deadline was over before a shard could be asked, so nothing was applied; give it more time in sheaf-timeout-ms",
    )
}
