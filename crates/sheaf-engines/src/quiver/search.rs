//! Searches: Quiver's index proposes, what it may lack yet is merged in.
//!
//! Asks for more until k hits are accepted. Where the index doesn't give them, and in small collections, every point is looked at.
//! Scores come from here, but for those that Quiver calculated from the very vectors: a vector costs it most of a search.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use sheaf_types::limits::{EF_SEARCH_MAX, K_MAX};
use sheaf_types::{IndexKind, PointBody, PointId};

use super::pages::Wanted;
use super::pushdown::pushed_down;
use super::wire::{self, Row};
use super::{Held, Inner};
use crate::score::{Query, norm};
use crate::{Bodies, EngineError, Hit, Search, validate};

/// An accepted point.
struct Found {
    rank: f32,
    score: f32,
    row: Row,
}

/// What was written lately, so that the index may not have it.
struct Recently {
    ids: BTreeSet<PointId>,
    /// The best of those points.
    best: Vec<Found>,
}

/// A search under way.
struct Asked {
    search: Search,
    query: Query,
    /// The filter as far as Quiver can judge it.
    pushed: Option<Value>,
    /// Whether Quiver is to show vectors.
    asks_vectors: bool,
}

impl Asked {
    /// The hits among these points, in no order. A point without a vector is gone: only the index still has it.
    fn accepted(&self, rows: Vec<Row>) -> impl Iterator<Item = Found> {
        rows.into_iter().filter_map(|row| {
            let score = self.score(&row)?;
            Some(Found { rank: self.query.rank(score), score, row })
        })
    }

    /// The score of an accepted point.
    fn score(&self, row: &Row) -> Option<f32> {
        let score = match &row.vector {
            Some(vector) => self.query.score(vector, norm(vector)),
            None if self.asks_vectors => return None,
            // JSON has no number for one that is infinite or undefined.
            None => row.score.unwrap_or_else(|| self.query.worst()) + 0.0,
        };
        let filter = self.search.filter.as_ref();
        let is_accepted = self.search.accept.takes(row.id.placement_key())
            && filter.is_none_or(|filter| filter.holds_for_text(row.payload.as_deref()));
        is_accepted.then_some(score)
    }

    fn recently(&self, held: &Held) -> Recently {
        let recent = held.index.recent();
        let mut scored: Vec<(f32, f32, &Row)> = Vec::new();
        for row in recent.rows() {
            if let Some(score) = self.score(row) {
                scored.push((self.query.rank(score), score, row));
            }
        }
        scored.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.id.cmp(&b.2.id)));
        let best = scored.into_iter().take(self.search.k);
        let best = best.map(|(rank, score, row)| Found { rank, score, row: row.clone() }).collect();
        Recently { ids: recent.ids().cloned().collect(), best }
    }

    fn needs_payloads(&self) -> bool {
        self.search.bodies.any() || self.search.filter.is_some()
    }

    fn hits(self, mut found: Vec<Found>) -> Vec<Hit> {
        best(&mut found, self.search.k);
        let hit = |Found { score, row, .. }: Found| {
            let Row { id, vector, payload, .. } = row;
            let body = self.search.bodies.any();
            let body =
                body.then(|| PointBody::encode(&vector.unwrap_or_default(), payload.as_deref()));
            Hit { id, score, body }
        };
        found.into_iter().map(hit).collect()
    }
}

impl Held {
    /// Whether Quiver's scores are those of the points as they are, apart from what is kept here: this index compares the vectors
    /// themselves, and has all else. Where something was forgotten, only the vector shows that a point is still there.
    fn shows_true_scores(&self) -> bool {
        self.config().index == IndexKind::Hnsw && self.index.recent().is_whole()
    }
}

/// Keeps the best `k`, the best first; equal ones in the order of ids.
fn best(found: &mut Vec<Found>, k: usize) {
    found.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.row.id.cmp(&b.row.id)));
    found.truncate(k);
}

impl Inner {
    pub async fn search(
        self: &Arc<Self>,
        held: &Arc<Held>,
        search: Search,
    ) -> Result<Vec<Hit>, EngineError> {
        validate::search(held.config(), &search)?;
        if search.k == 0 {
            return Ok(Vec::new());
        }
        let query = Query::new(held.config().metric, search.vector.clone());
        let pushed = search.filter.as_ref().and_then(pushed_down);
        let may_ask_index = self.may_ask_index(held).await?;
        let asks_vectors = search.bodies == Bodies::Whole || !held.shows_true_scores();
        let asked = Asked { search, query, pushed, asks_vectors };
        let found = if may_ask_index { self.by_index(held, &asked).await? } else { None };
        let found = match found {
            Some(found) => found,
            None => self.by_looking_at_all(held, &asked).await?,
        };
        Ok(asked.hits(found))
    }

    /// `None`: the index doesn't show enough accepted points.
    async fn by_index(
        &self,
        held: &Held,
        asked: &Asked,
    ) -> Result<Option<Vec<Found>>, EngineError> {
        let k = asked.search.k;
        // Before the index is asked: what it has by then isn't kept for long.
        let Recently { ids, best: mut recently } = asked.recently(held);
        // A few more, so that of equal scores the right ones are among them.
        let mut wanted = (k + k / 4 + 4).min(K_MAX);
        loop {
            let rows = self.proposed(held, asked, wanted).await?;
            let shown = rows.len();
            let mut found: Vec<Found> = asked.accepted(rows).collect();
            if !asked.asks_vectors {
                // What the index says of these may be of before.
                found.retain(|found| !ids.contains(&found.row.id));
            }
            // Where the index has them is not where they are: others may be nearer.
            let sure = found.iter().filter(|found| !ids.contains(&found.row.id)).count();
            if sure >= k {
                let shown: BTreeSet<PointId> =
                    found.iter().map(|found| found.row.id.clone()).collect();
                recently.retain(|found| !shown.contains(&found.row.id));
                found.append(&mut recently);
                return Ok(Some(found));
            }
            if shown < wanted || wanted == K_MAX {
                return Ok(None);
            }
            wanted = (wanted * 4).min(K_MAX);
        }
    }

    async fn proposed(
        &self,
        held: &Held,
        asked: &Asked,
        wanted: usize,
    ) -> Result<Vec<Row>, EngineError> {
        let mut body = String::from("{\"vector\":");
        wire::push_vector(&mut body, &asked.search.vector);
        let ef = asked.search.ef.max(wanted).clamp(1, EF_SEARCH_MAX);
        let (filter, payloads) = (asked.pushed.as_ref(), asked.needs_payloads());
        let filter = filter.map_or_else(|| "null".to_owned(), Value::to_string);
        let vectors = asked.asks_vectors;
        body.push_str(&format!(
            r#","k":{wanted},"ef_search":{ef},"filter":{filter},"with_payload":{payloads},"with_vector":{vectors}}}"#
        ));
        let path = format!("{}/query", super::catalogue::path_of(held.name()));
        let deadline = self.options.read_deadline;
        let answer = self.server.call(Method::POST, &path, Bytes::from(body), deadline).await;
        wire::read_rows(&answer.map_err(|error| self.missing(held, error))?)
    }

    async fn by_looking_at_all(
        &self,
        held: &Held,
        asked: &Asked,
    ) -> Result<Vec<Found>, EngineError> {
        let wanted = Wanted {
            filter: asked.pushed.as_ref(),
            payloads: asked.needs_payloads(),
            vectors: true,
        };
        let mut found = Vec::new();
        self.walk(held, wanted, |rows| {
            found.extend(asked.accepted(rows));
            best(&mut found, asked.search.k);
        })
        .await?;
        Ok(found)
    }
}
