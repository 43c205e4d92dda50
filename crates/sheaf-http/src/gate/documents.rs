//! Documents: upsert and query. Decides which calls a collection takes: those of points, or those of documents.

use axum::response::Response;
use bytes::Bytes;
use sheaf_engines::documents::{self, DocumentSearch};
use sheaf_engines::{EngineError, Hit, Write};
use sheaf_runtime::gate::{Change, Go, Operation};
use sheaf_types::StoredPoint;

use super::{Api, Asked, answer, answer_json, refusal};
use crate::problem::Problem;
use crate::wire::ANSWER_BYTES_MAX;
use crate::wire::collection::Upserted;
use crate::wire::document::{DocumentQuery, read_upsert, write_document};
use crate::wire::point::{Shown, write_separator};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Points,
    Documents,
}

impl Kind {
    /// # Errors
    /// `Invalid`: the collection holds the other kind.
    pub fn check(self, go: &Go) -> Result<(), EngineError> {
        let what = match (self, go.config.holds_documents()) {
            (Self::Points, true) => {
                "the collection holds documents, which have several vectors; use …/documents"
            }
            (Self::Documents, false) => {
                "the collection holds points of one vector; use …/points, or create one with `multivector`"
            }
            (Self::Points, false) | (Self::Documents, true) => return Ok(()),
        };
        Err(EngineError::Invalid(what.to_owned()))
    }
}

impl Api {
    pub(super) async fn upsert_documents(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let documents = read_upsert(&body)?;
        drop(body);
        let ids = documents.iter().map(|document| document.id.clone()).collect();
        let upserted = documents.len() as u64;
        let work = move |go: Go| async move {
            Kind::Documents.check(&go)?;
            let mut writes = Vec::with_capacity(documents.len());
            for document in documents {
                let payload = document.payload.as_deref();
                let body = documents::body(&go.config, &document.vectors, payload)?;
                writes.push(Write::Upsert(StoredPoint::new(go.collection, document.id, body)));
            }
            go.engine.apply(go.collection, writes).await
        };
        let request = asked.request(collection, Operation::Write { ids, change: Change::Upsert });
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        answer_json(served.version, &Upserted { upserted })
    }

    pub(super) async fn query_documents(
        &self,
        asked: &Asked,
        collection: &str,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let query = DocumentQuery::read(&body)?;
        let (filter, shown) = (query.filter()?, query.shown());
        let work = move |go: Go| async move {
            Kind::Documents.check(&go)?;
            let search = DocumentSearch {
                query: query.query,
                k: query.k,
                accept: go.accept.clone(),
                filter,
                bodies: shown.any(),
            };
            let hits = documents::search(&*go.engine, go.collection, &go.config, search).await?;
            matches(&go, &hits, shown)
        };
        let request = asked.request(collection, Operation::Gather);
        let served = self.host.serve(request, work).await.map_err(refusal::problem)?;
        Ok(answer(served.version, served.value))
    }
}

fn matches(go: &Go, hits: &[Hit], shown: Shown) -> Result<Vec<u8>, EngineError> {
    let mut json = b"{\"matches\":[".to_vec();
    for hit in hits {
        write_separator(&mut json);
        let vectors = |body: &_| documents::vectors(&go.config, body);
        let written =
            write_document(&mut json, &hit.id, hit.score, hit.body.as_ref(), shown, vectors);
        written.map_err(|error| {
            let id = &hit.id;
            EngineError::Damaged(format!("the document {id} can't be written as JSON: {error}"))
        })?;
        if json.len() >= ANSWER_BYTES_MAX {
            return Err(EngineError::Invalid(format!(
                "the answer is larger than {ANSWER_BYTES_MAX} bytes; ask for fewer documents, or leave out their vectors"
            )));
        }
    }
    json.extend_from_slice(b"]}");
    Ok(json)
}
