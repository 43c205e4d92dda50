//! Calls that see all points of this shard, at one version of the map: query, fetch, count.
//!
//! Decides how large an answer may get.

use axum::response::Response;
use bytes::Bytes;
use sheaf_engines::{EngineError, Filter, Hit, Scan, Search};
use sheaf_runtime::gate::{Go, Operation};
use sheaf_types::{PointBody, PointId};

use super::documents::Kind;
use super::{Api, Asked, answer, answer_json, refusal};
use crate::problem::Problem;
use crate::wire::ANSWER_BYTES_MAX;
use crate::wire::collection::Counted;
use crate::wire::point::{Shown, write_point, write_separator};
use crate::wire::query::{Count, Fetch, Query};

/// Points of one page of a fetch; whole ones, and ones that are only skipped.
const PAGE_POINTS_MAX: usize = 1_024;
const SKIP_POINTS_MAX: usize = 8_192;
/// Bytes of bodies in one page of a fetch.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Api {
    pub(super) async fn query(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let query = Query::read(&body)?;
        let filter = query.filter()?;
        let shown = query.shown();
        let work = move |go: Go| async move {
            Kind::Points.check(&go)?;
            let search = Search {
                vector: query.vector,
                vector_json: Some(query.vector_json),
                k: query.k,
                ef: query.ef_search,
                accept: go.accept,
                filter,
                bodies: shown.bodies(),
            };
            matches(&go.engine.search(go.collection, search).await?, shown)
        };
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        Ok(answer(served.version, served.value))
    }

    pub(super) async fn fetch(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let fetch = Fetch::read(&body)?;
        let filter = fetch.filter()?;
        let work = move |go: Go| points(go, fetch, filter);
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        Ok(answer(served.version, served.value))
    }

    pub(super) async fn count(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let filter = Count::read(&body)?.filter()?;
        let work =
            move |go: Go| async move { go.engine.count(go.collection, go.accept, filter).await };
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        answer_json(served.version, &Counted { count: served.value })
    }
}

/// The answer to a search.
pub(crate) fn matches(hits: &[Hit], shown: Shown) -> Result<Vec<u8>, EngineError> {
    let mut json = b"{\"matches\":[".to_vec();
    for hit in hits {
        append(&mut json, &hit.id, Some(hit.score), hit.body.as_ref(), shown)?;
    }
    json.extend_from_slice(b"]}");
    Ok(json)
}

async fn points(go: Go, fetch: Fetch, filter: Option<Filter>) -> Result<Vec<u8>, EngineError> {
    Kind::Points.check(&go)?;
    let shown = fetch.shown();
    let Fetch { offset: mut skip, limit: mut left, mut after, .. } = fetch;
    let mut json = b"{\"points\":[".to_vec();
    while left > 0 {
        let skipping = skip > 0;
        let points_max =
            if skipping { skip.min(SKIP_POINTS_MAX) } else { left.min(PAGE_POINTS_MAX) };
        let scan = Scan {
            after,
            through: None,
            points_max,
            bytes_max: PAGE_BYTES_MAX,
            bodies: shown.any() && !skipping,
            accept: go.accept.clone(),
            filter: filter.clone(),
        };
        let page = go.engine.scan(go.collection, scan).await?;
        if skipping {
            skip = skip.saturating_sub(page.points.len());
        } else {
            left = left.saturating_sub(page.points.len());
            for point in &page.points {
                append(&mut json, &point.id, None, point.body.as_ref(), shown)?;
            }
        }
        match page.looked_through {
            Some(id) => after = Some(id),
            None => break,
        }
    }
    json.extend_from_slice(b"]}");
    Ok(json)
}

pub(super) fn append(
    json: &mut Vec<u8>,
    id: &PointId,
    score: Option<f32>,
    body: Option<&PointBody>,
    shown: Shown,
) -> Result<(), EngineError> {
    write_separator(json);
    write_point(json, id, score, body, shown).map_err(|error| {
        EngineError::Damaged(format!("the point {id} can't be written as JSON: {error}"))
    })?;
    if json.len() < ANSWER_BYTES_MAX {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "the answer is larger than {ANSWER_BYTES_MAX} bytes; ask for fewer points, or leave out vectors and payloads"
    )))
}
