//! Requests that name no version of the map: of clients and routers that were made for Quiver, and know no gates.
//!
//! Decides where they are answered: a point here while this gate owns it, everything else as by a router, at one version of the
//! map. What is handed on names its version, so nobody hands it on again. Whether it may be served is decided by cores alone.

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;

use super::{Api, Asked, refusal};
use crate::problem::Problem;
use crate::router::target::Target;
use crate::router::{InnerRouter, intake};

impl Api {
    pub(super) async fn answer_unversioned(
        &self,
        cluster: &InnerRouter,
        asked: &Asked,
        target: Target<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let body = intake::body(self.host.clock(), asked.deadline, body).await?;
        if names_points(&target) {
            let alone = self.answer_alone(asked, target.clone(), Body::from(body.clone())).await;
            match alone {
                // Nothing of it was applied here, so all of it may be asked for elsewhere.
                Err(problem) if refusal::names_another(&problem) => {}
                answer => return answer,
            }
        }
        cluster.answer(target, headers, &asked.caller, asked.deadline, body).await
    }
}

/// Whether the request is about points of which each has one owner.
fn names_points(target: &Target<'_>) -> bool {
    match target {
        Target::Get(..)
        | Target::Upsert(_)
        | Target::Bulk(_)
        | Target::Delete(_)
        | Target::UpsertDocuments(_)
        | Target::DeleteDocuments(_) => true,
        Target::ListCollections
        | Target::CreateCollection
        | Target::ShowCollection(_)
        | Target::DropCollection(_)
        | Target::Query(_)
        | Target::Fetch(_)
        | Target::Count(_)
        | Target::QueryDocuments(_)
        | Target::Snapshot
        | Target::Hybrid(_)
        | Target::HybridStatistics(_)
        | Target::HybridLists(_)
        | Target::GetPoints(_)
        | Target::UpsertText(_)
        | Target::QueryText(_) => false,
    }
}
