//! Taking over an engine that has points, and repairing where they are: what the coordinator asks of a gate (ADR 0006).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use serde::Deserialize;
use sheaf_engines::Write;
use sheaf_runtime::gate::{Change, Go, Inserted, NotAudited, Operation, Request as GateRequest};
use sheaf_types::limits::REQUEST_MS_DEFAULT;
use sheaf_types::{PointBody, PointId};

use super::{Api, refusal};
use crate::problem::Problem;
use crate::router::intake;
use crate::wire::peer::{
    AdoptableReply, DiscardBody, EngineReply, InsertBody, InsertReply, InsertedPoint, StrayPoint,
    StraysReply,
};

/// Strays in one page.
const STRAYS_MAX: usize = 1_000;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/internal/engine", get(engine))
        .route("/internal/strays", get(strays))
        .route("/internal/insert", post(insert))
        .route("/internal/discard", post(discard))
}

/// What is behind this gate, and could be taken over.
async fn engine(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<EngineReply>, Problem> {
    api.need_peer(&headers)?;
    let engine = api.host.engine();
    let adoptable =
        engine.adoptable().await.map_err(|error| Problem::internal(error.to_string()))?;
    let collections = adoptable.into_iter().map(|found| AdoptableReply {
        config: (*found.config).clone(),
        points: found.points,
        obstacle: found.obstacle,
    });
    Ok(Json(EngineReply { place: engine.place(), collections: collections.collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StraysQuery {
    collection: String,
    after: Option<PointId>,
}

async fn strays(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Query<StraysQuery>, QueryRejection>,
) -> Result<Json<StraysReply>, Problem> {
    api.need_peer(&headers)?;
    let Query(StraysQuery { collection, after }) =
        query.map_err(|error| Problem::bad_request(error.to_string()))?;
    let page = api.host.strays(&collection, after, STRAYS_MAX).await.map_err(|why| match why {
        NotAudited::NotServing | NotAudited::MapChanged => Problem::conflict(why.to_string()),
        NotAudited::Engine(_) => Problem::internal(why.to_string()),
    })?;
    let point = |stray: sheaf_runtime::gate::Stray| StrayPoint {
        id: stray.id,
        vector: stray.body.vector(),
        payload: stray.body.payload().map(str::to_owned),
    };
    let points = page.points.into_iter().map(point).collect();
    Ok(Json(StraysReply { points, looked_through: page.looked_through }))
}

impl Api {
    fn repair(&self, collection: String, ids: Vec<PointId>, change: Change) -> GateRequest {
        GateRequest {
            version: None,
            shard: None,
            collection,
            operation: Operation::Write { ids, change },
            deadline: self.host.clock().now().plus_ms(REQUEST_MS_DEFAULT),
        }
    }

    async fn repair_body<T: serde::de::DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, Problem> {
        let (parts, body) = request.into_parts();
        self.need_peer(&parts.headers)?;
        serde_json::from_slice(&self.whole(body).await?).map_err(|error| intake::malformed(&error))
    }
}

async fn insert(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<InsertReply>, Problem> {
    let InsertBody { collection, points } = api.repair_body(request).await?;
    let body = |point: &StrayPoint| PointBody::encode(&point.vector, point.payload.as_deref());
    let points: BTreeMap<PointId, PointBody> =
        points.into_iter().map(|point| (point.id.clone(), body(&point))).collect();
    let ids = points.keys().cloned().collect();
    let request = api.repair(collection, ids, Change::Insert);
    let served = api.host.insert(request, points).await.map_err(refusal::problem)?;
    let shown = |(id, inserted)| match inserted {
        Inserted::New => InsertedPoint::New(id),
        Inserted::Equal => InsertedPoint::Equal(id),
        Inserted::Differs => InsertedPoint::Differs(id),
    };
    Ok(Json(InsertReply { points: served.value.into_iter().map(shown).collect() }))
}

async fn discard(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<serde_json::Value>, Problem> {
    let DiscardBody { collection, ids } = api.repair_body(request).await?;
    let writes: Vec<Write> = ids.iter().cloned().map(Write::Delete).collect();
    let work = move |go: Go| async move { go.engine.apply(go.collection, writes).await };
    let request = api.repair(collection, ids, Change::Discard);
    let served = api.host.serve(request, work).await.map_err(refusal::problem)?;
    let discarded = served.value.iter().filter(|change| change.old.is_some()).count();
    Ok(Json(serde_json::json!({ "discarded": discarded })))
}
