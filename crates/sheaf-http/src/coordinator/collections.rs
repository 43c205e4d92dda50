//! The catalogue: creating and dropping collections. Routers call this for their clients.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use sheaf_coordinator::Ask;
use sheaf_types::CollectionConfig;

use super::Api;
use super::intake::{Body, ask, json, reply};
use crate::auth::Role;
use crate::problem::Problem;

/// `POST /cluster/collections`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.keys.caller(&headers)?;
    let config: CollectionConfig = json(body)?;
    caller.need(Role::Admin, &config.name)?;
    api.all_hold(&config).await?;
    ask(&api, &headers, Ask::CreateCollection { config }).await.map(reply)
}

/// `DELETE /cluster/collections/{name}`
pub(super) async fn drop_collection(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.keys.caller(&headers)?.need(Role::Admin, &name)?;
    ask(&api, &headers, Ask::DropCollection { name }).await.map(reply)
}
