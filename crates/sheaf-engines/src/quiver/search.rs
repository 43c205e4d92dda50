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

use super::pushdown::pushed_down;
use super::windows::Watch;
use super::wire::{self, Row};
use super::{Held, Inner};
use crate::score::{Query, norm};
use crate::{Bodies, EngineError, Hit, Search, validate};

/// An accepted point.
#[derive(Clone)]
pub struct Found {
    pub rank: f32,
    score: f32,
    row: Row,
}

/// What was written lately, so that the index may not have it.
struct Recently {
    ids: BTreeSet<PointId>,
    /// The best of those points.
    best: Vec<Found>,
    /// There is nothing else that it may not have.
    is_whole: bool,
}

/// A search under way.
pub struct Asked {
    search: Search,
    query: Query,
    /// The filter as far as Quiver can judge it.
    pushed: Option<Value>,
}

impl Asked {
    /// The point as a hit, if it is accepted and no worse than this rank.
    pub fn accepted(&self, row: &Row, rank_max: f32) -> Option<Found> {
        let score = self.score(row)?;
        let rank = self.query.rank(score);
        (rank <= rank_max).then(|| Found { rank, score, row: row.clone() })
    }

    /// The point as a hit, if it is accepted.
    fn take_accepted(&self, row: Row) -> Option<Found> {
        let score = self.score(&row)?;
        Some(Found { rank: self.query.rank(score), score, row })
    }

    /// The score of an accepted point: of its vector where that is there, Quiver's otherwise.
    fn score(&self, row: &Row) -> Option<f32> {
        let filter = self.search.filter.as_ref();
        let is_accepted = self.search.accept.takes(row.id.placement_key())
            && filter.is_none_or(|filter| filter.holds_for_text(row.payload.as_deref()));
        is_accepted.then(|| match &row.vector {
            Some(vector) => self.query.score(vector, norm(vector)),
            // JSON has no number for one that is infinite or undefined.
            None => row.score.unwrap_or_else(|| self.query.worst()) + 0.0,
        })
    }

    pub fn k(&self) -> usize {
        self.search.k
    }

    pub fn pushed(&self) -> Option<&Value> {
        self.pushed.as_ref()
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
        Recently { ids: recent.ids().cloned().collect(), best, is_whole: recent.is_whole() }
    }

    pub fn needs_payloads(&self) -> bool {
        self.search.bodies.any() || self.search.filter.is_some()
    }

    fn hits(&self, mut found: Vec<Found>) -> Vec<Hit> {
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

/// Keeps the best `k`, the best first; equal ones in the order of ids.
pub fn best(found: &mut Vec<Found>, k: usize) {
    found.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.row.id.cmp(&b.row.id)));
    found.truncate(k);
}

/// How many hits to ask for when the last one of `k` is no better than the one behind it: a few more, so that the right ones are among
/// them. `None`: so many were asked for, or it is better.
fn for_equals(wanted: usize, k: usize, rows: &[Row]) -> Option<usize> {
    let with_equals = (k + k / 8 + 2).min(K_MAX);
    let are_equal = rows.len() > k && rows[k - 1].score == rows[k].score;
    (are_equal && wanted < with_equals).then_some(with_equals)
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
        let asked = Arc::new(Asked { search, query, pushed });
        let found =
            if self.may_ask_index(held).await? { self.by_index(held, &asked).await? } else { None };
        let found = match found {
            Some(found) => found,
            None => self.by_looking_at_all(held, Arc::clone(&asked)).await?,
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
        let watch = held.windows.watch();
        // Before the index is asked: what it has by then isn't kept for long.
        let Recently { mut ids, best: mut recently, is_whole } = asked.recently(held);
        // This index compares the vectors themselves, so its scores are true, apart from what is kept here. Where more may be missing,
        // only the vector shows that a point is still there.
        let true_scores = held.config().index == IndexKind::Hnsw && is_whole;
        let vectors = asked.search.bodies == Bodies::Whole || !true_scores;
        // One more shows whether hits behind the last one may be as good.
        let mut wanted = (k + 1).min(K_MAX);
        loop {
            let mut rows = self.proposed(held, asked, wanted, vectors).await?;
            let shown = rows.len();
            if let Some(more) = for_equals(wanted, k, &rows) {
                wanted = more;
                continue;
            }
            // A point without a vector is gone, only the index still has it; without any, what it says of these may be of before.
            rows.retain(|row| if vectors { row.vector.is_some() } else { !ids.contains(&row.id) });
            if !vectors {
                ids.append(&mut self.as_they_are(held, &watch, &mut rows).await?);
            }
            let found = rows.into_iter().filter_map(|row| asked.take_accepted(row));
            let mut found: Vec<Found> = found.collect();
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

    /// Has those of the hits that were written meanwhile as they are now: of such a one Quiver may have told the payload of after with the
    /// score of before, or that of a point that is gone. Answers their ids.
    async fn as_they_are(
        &self,
        held: &Held,
        watch: &Watch<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<BTreeSet<PointId>, EngineError> {
        let written = watch.written();
        let is_doubtful = |row: &mut Row| written.contains(&row.id);
        let doubtful: BTreeSet<PointId> =
            rows.extract_if(.., is_doubtful).map(|row| row.id).collect();
        let now = self.read(held, doubtful.iter().cloned()).await?;
        rows.extend(now.into_iter().flatten().map(|point| Row::of(point.id, &point.body)));
        Ok(doubtful)
    }

    async fn proposed(
        &self,
        held: &Held,
        asked: &Asked,
        wanted: usize,
        vectors: bool,
    ) -> Result<Vec<Row>, EngineError> {
        let mut body = String::from("{\"vector\":").into_bytes();
        let as_given = asked.search.vector_json.as_ref();
        match as_given.filter(|json| json.len() <= wire::REQUEST_BYTES_MAX) {
            Some(json) => body.extend_from_slice(json),
            None => {
                let mut json = String::new();
                wire::push_vector(&mut json, &asked.search.vector);
                body.extend_from_slice(json.as_bytes());
            }
        }
        let ef = asked.search.ef.max(wanted).clamp(1, EF_SEARCH_MAX);
        let (filter, payloads) = (asked.pushed.as_ref(), asked.needs_payloads());
        let filter = filter.map_or_else(|| "null".to_owned(), Value::to_string);
        let rest = format!(
            r#","k":{wanted},"ef_search":{ef},"filter":{filter},"with_payload":{payloads},"with_vector":{vectors}}}"#
        );
        body.extend_from_slice(rest.as_bytes());
        let path = format!("{}/query", super::catalogue::path_of(held.name()));
        let deadline = self.options.read_deadline;
        let answer = self.server.call(Method::POST, &path, Bytes::from(body), deadline).await;
        wire::read_hits(&answer.map_err(|error| self.missing(held, error))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_hits_are_asked_for_once_and_never_more_than_there_may_be() {
        let rows = |scores: &[f32]| {
            let row = |score: &f32| Row {
                id: PointId::from("a"),
                vector: None,
                payload: None,
                score: Some(*score),
            };
            scores.iter().map(row).collect::<Vec<Row>>()
        };
        assert_eq!(for_equals(3, 2, &rows(&[1.0, 2.0, 2.0])), Some(4));
        assert_eq!(for_equals(4, 2, &rows(&[1.0, 2.0, 2.0, 2.0])), None, "so many were asked for");
        assert_eq!(for_equals(3, 2, &rows(&[1.0, 1.0, 2.0])), None, "the last one is better");
        assert_eq!(for_equals(3, 2, &rows(&[1.0, 1.0])), None, "there are no others");
        let all = rows(&vec![1.0; K_MAX]);
        assert_eq!(for_equals(K_MAX, K_MAX - 1, &all), None, "it was asked for all it may be");
        assert_eq!(for_equals(K_MAX, K_MAX, &all), None);
    }
}
