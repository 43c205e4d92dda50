//! Searches: Quiver's index proposes, the scores come from here.
//!
//! Asks for more until k hits are accepted. Where the index doesn't give them, and in small collections, every point is looked at.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use sheaf_types::PointBody;
use sheaf_types::limits::{EF_SEARCH_MAX, K_MAX};

use super::pages::Wanted;
use super::pushdown::pushed_down;
use super::wire::{self, Row};
use super::{Held, Inner};
use crate::score::{Query, norm};
use crate::{EngineError, Hit, Search, validate};

/// An accepted point.
struct Found {
    rank: f32,
    score: f32,
    row: Row,
}

/// A search under way.
struct Asked {
    search: Search,
    query: Query,
    /// The filter as far as Quiver can judge it.
    pushed: Option<Value>,
}

impl Asked {
    /// The hits among these points, in no order. A point without a vector is gone: only the index still has it.
    fn accepted(&self, rows: Vec<Row>) -> impl Iterator<Item = Found> {
        rows.into_iter().filter_map(|row| {
            let holds = |row: &Row| match &self.search.filter {
                Some(filter) => filter.holds_for_text(row.payload.as_deref()),
                None => true,
            };
            let vector = row.vector.as_ref()?;
            let score = self.query.score(vector, norm(vector));
            let is_accepted = self.search.accept.takes(row.id.placement_key()) && holds(&row);
            is_accepted.then(|| Found { rank: self.query.rank(score), score, row })
        })
    }

    fn needs_payloads(&self) -> bool {
        self.search.bodies || self.search.filter.is_some()
    }

    fn hits(self, mut found: Vec<Found>) -> Vec<Hit> {
        best(&mut found, self.search.k);
        let hit = |Found { score, row, .. }: Found| {
            let Row { id, vector, payload } = row;
            let body = |vector: Vec<f32>| PointBody::encode(&vector, payload.as_deref());
            Hit { id, score, body: vector.filter(|_| self.search.bodies).map(body) }
        };
        found.into_iter().map(hit).collect()
    }
}

/// Keeps the best `k`, the best first; equal ones in the order of ids.
fn best(found: &mut Vec<Found>, k: usize) {
    found.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.row.id.cmp(&b.row.id)));
    found.truncate(k);
}

impl Inner {
    pub async fn search(&self, held: &Held, search: Search) -> Result<Vec<Hit>, EngineError> {
        validate::search(held.config(), &search)?;
        if search.k == 0 {
            return Ok(Vec::new());
        }
        let query = Query::new(held.config().metric, search.vector.clone());
        let pushed = search.filter.as_ref().and_then(pushed_down);
        let asked = Asked { search, query, pushed };
        let floats = held.points.load(Ordering::Relaxed) * u64::from(held.config().dim);
        let found = if floats <= self.options.exact_floats_max as u64 {
            None
        } else {
            self.by_index(held, &asked).await?
        };
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
        // A few more, so that of equal scores the right ones are among them.
        let mut wanted = (k + k / 2 + 16).min(K_MAX);
        loop {
            let rows = self.proposed(held, asked, wanted).await?;
            let shown = rows.len();
            let found: Vec<Found> = asked.accepted(rows).collect();
            if found.len() >= k {
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
        body.push_str(&format!(
            r#","k":{wanted},"ef_search":{ef},"filter":{filter},"with_payload":{payloads},"with_vector":true}}"#
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
