//! Points by id: upsert, delete, get.

use axum::response::Response;
use bytes::Bytes;
use sheaf_engines::Write;
use sheaf_runtime::gate::{Change, Go, Operation};
use sheaf_types::{PointId, StoredPoint};

use super::documents::Kind;
use super::{Api, Asked, absent, answer, answer_json, refusal, unwritable};
use crate::problem::Problem;
use crate::wire::collection::{Deleted, Upserted};
use crate::wire::point::{check_id, read_delete, read_upsert, shown_point};

impl Api {
    pub(super) async fn upsert(
        &self,
        asked: &Asked,
        collection: &str,
        points_max: usize,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let points = read_upsert(&body, points_max)?;
        drop(body); // What is stored doesn't refer to it.
        let ids = points.iter().map(|(id, _)| id.clone()).collect();
        let upserted = points.len() as u64;
        let work = move |go: Go| async move {
            Kind::Points.check(&go)?;
            let point = |(id, body)| Write::Upsert(StoredPoint::new(go.collection, id, body));
            go.engine.apply(go.collection, points.into_iter().map(point).collect()).await
        };
        let request = asked.request(collection, Operation::Write { ids, change: Change::Upsert });
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        answer_json(served.version, &Upserted { upserted })
    }

    /// Deletes points or documents.
    pub(super) async fn delete_of(
        &self,
        asked: &Asked,
        collection: &str,
        kind: Kind,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let ids = read_delete(&body)?;
        let writes: Vec<Write> = ids.iter().cloned().map(Write::Delete).collect();
        let work = move |go: Go| async move {
            kind.check(&go)?;
            go.engine.apply(go.collection, writes).await
        };
        let request = asked.request(collection, Operation::Write { ids, change: Change::Delete });
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        let deleted = served.value.iter().filter(|change| change.old.is_some()).count() as u64;
        answer_json(served.version, &Deleted { deleted })
    }

    pub(super) async fn get(
        &self,
        asked: &Asked,
        collection: &str,
        id: &str,
    ) -> Result<Response, Problem> {
        check_id(id)?;
        let id = PointId::from(id);
        let ids = vec![id.clone()];
        let work = move |go: Go| async move {
            Kind::Points.check(&go)?;
            let point = go.engine.show(go.collection, id.clone()).await?;
            Ok(point.map(|point| (id, point)))
        };
        let request = asked.request(collection, Operation::Read { ids });
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        let Some((id, point)) = served.value else {
            return Ok(absent(served.version, "there is no point with this id"));
        };
        Ok(answer(served.version, shown_point(&id, &point).map_err(unwritable)?))
    }
}
