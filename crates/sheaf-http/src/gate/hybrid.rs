//! What a router asks for a hybrid search: statistics of terms, ranked candidates, and points by their ids.
//!
//! Each answer is at one version of the map, of points that this shard owns at it. Decides how long a list is; never fuses any.

use axum::response::Response;
use bytes::Bytes;
use sheaf_engines::sparse::{SparseQuery, SparseVector, query_terms};
use sheaf_engines::{Bodies, EngineError, Filter, Hit, Search};
use sheaf_runtime::gate::{Go, Operation};
use sheaf_types::limits::K_MAX;

use super::documents::Kind;
use super::gather::append;
use super::{Api, Asked, answer, answer_json, refusal};
use crate::problem::Problem;
use crate::router::intake;
use crate::wire::hybrid::{Listed, Lists, ListsWanted, PointsWanted, StatisticsWanted};

impl Api {
    /// `POST …/query/hybrid:statistics`
    pub(super) async fn hybrid_statistics(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let wanted: StatisticsWanted = intake::json(&body)?;
        let work = move |go: Go| async move {
            Kind::Points.check(&go)?;
            let terms = query_terms(&wanted.query_text);
            go.sparse.statistics(go.collection, terms, go.accept).await
        };
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        answer_json(served.version, &served.value)
    }

    /// `POST …/query/hybrid:lists`
    pub(super) async fn hybrid_lists(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let wanted = ListsWanted::read(&body)?;
        let filter = wanted.filter()?;
        let work = move |go: Go| lists(go, wanted, filter);
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        answer_json(served.version, &served.value)
    }

    /// `POST …/points:get`
    pub(super) async fn get_points(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let wanted = PointsWanted::read(&body)?;
        let (filter, shown) = (wanted.filter()?, wanted.shown());
        let request = asked.request(collection, Operation::Read { ids: wanted.ids.clone() });
        let work = move |go: Go| async move {
            Kind::Points.check(&go)?;
            let points = go.engine.get(go.collection, wanted.ids).await?;
            let mut json = b"{\"points\":[".to_vec();
            for point in points.iter().flatten() {
                if filter.as_ref().is_none_or(|f| f.holds_for_text(point.body.payload())) {
                    append(&mut json, &point.id, None, Some(&point.body), shown)?;
                }
            }
            json.extend_from_slice(b"]}");
            Ok(json)
        };
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        Ok(answer(served.version, served.value))
    }
}

async fn lists(go: Go, wanted: ListsWanted, filter: Option<Filter>) -> Result<Lists, EngineError> {
    Kind::Points.check(&go)?;
    let ListsWanted { vector, sparse_indices, sparse_values, query_text, depth, .. } = wanted;
    let mut lists = Lists::default();
    if let Some(vector) = vector {
        let search = Search {
            vector,
            vector_json: None,
            k: depth.min(K_MAX),
            ef: wanted.ef_search.max(depth).min(sheaf_types::limits::EF_SEARCH_MAX),
            accept: go.accept.clone(),
            filter: None,
            bodies: if filter.is_some() { Bodies::Payloads } else { Bodies::None },
        };
        let hits = go.engine.search(go.collection, search).await?;
        lists.dense = Some(hits.into_iter().map(|hit| dense(hit, filter.as_ref())).collect());
    }
    if let Some(values) = sparse_values {
        let query = SparseQuery::Vector(SparseVector::of_query(&sparse_indices, &values));
        lists.sparse = Some(ranked(&go, query, depth, filter.clone()).await?);
    }
    if let Some(text) = query_text {
        let (terms, statistics) = (query_terms(&text), wanted.statistics);
        let query = SparseQuery::Text { terms, statistics };
        lists.text = Some(ranked(&go, query, depth, filter).await?);
    }
    Ok(lists)
}

/// The nearest count first and are filtered then: as the public API does it, whose users know how many candidates that leaves.
fn dense(hit: Hit, filter: Option<&Filter>) -> Listed {
    let payload = hit.body.as_ref().and_then(|body| body.payload());
    let filtered_out = filter.is_some_and(|filter| !filter.holds_for_text(payload));
    Listed { filtered_out, ..Listed::new(hit.id, hit.score) }
}

async fn ranked(
    go: &Go,
    query: SparseQuery,
    depth: usize,
    filter: Option<Filter>,
) -> Result<Vec<Listed>, EngineError> {
    let ranked = go.sparse.rank(go.collection, query, depth, go.accept.clone(), filter).await?;
    Ok(ranked.into_iter().map(|ranked| Listed::new(ranked.id, ranked.score)).collect())
}
