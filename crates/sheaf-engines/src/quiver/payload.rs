//! How large a payload the server takes, found out before one is sent.
//!
//! Quiver tells its limit only by refusing what is beyond it, and counts a refused write among those that failed, which would keep the
//! next start of the shard waiting (see `log.rs`). So a payload beyond Quiver's default is shown first to a call that comes to nothing, of a
//! route whose refusals don't count.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use sheaf_types::{CollectionConfig, PointId, StoredPoint};

use super::server::CallError;
use super::{Inner, catalogue, wire};
use crate::{EngineError, Write};

/// Bytes of a payload that a server takes by default. Source: Quiver's documentation.
const BYTES_DEFAULT: usize = 65_536;
/// Bytes that are enough for any point and any document of Sheaf's.
const BYTES_ENOUGH: usize = 2 * 1024 * 1024;
/// How many times as large as it is anything may become in a payload: a text beside its members, with each of its bytes escaped.
const GROWTH_MAX: usize = 3;
/// A collection that there never is: Sheaf's others have longer names.
const NOWHERE: &str = "sheaf-";

/// The largest payload that the server is known to take.
pub struct PayloadLimit(AtomicUsize);

impl Default for PayloadLimit {
    fn default() -> Self {
        Self(AtomicUsize::new(BYTES_DEFAULT))
    }
}

impl Inner {
    /// Checks that the server takes the payloads under which these points will be stored.
    ///
    /// # Errors
    /// `Invalid`: it doesn't. Nothing was written.
    pub async fn takes_payloads(
        &self,
        config: &CollectionConfig,
        writes: &[Write],
    ) -> Result<(), EngineError> {
        let is_large = |point: &&StoredPoint| {
            let payload = || point.body.payload().map_or(0, str::len);
            let is_document = config.holds_documents();
            let bytes = if is_document { point.body.as_bytes().len() } else { payload() };
            bytes * GROWTH_MAX > BYTES_DEFAULT
        };
        let upserts = writes.iter().filter_map(|write| match write {
            Write::Upsert(point) => Some(point),
            Write::Delete(_) => None,
        });
        let stored = upserts.filter(is_large).filter_map(|point| {
            let payload = wire::stored_payload(config, point)?;
            Some((payload.len(), &point.id))
        });
        match stored.max() {
            Some((bytes, id)) => self.takes_payload(bytes, id).await,
            None => Ok(()),
        }
    }

    async fn takes_payload(&self, bytes: usize, id: &PointId) -> Result<(), EngineError> {
        if bytes <= self.payloads.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let around = json!({"p": ""}).to_string().len();
        let payload = json!({"p": "x".repeat(bytes - around)});
        let body =
            json!({"documents": [{"id": "", "vectors": [], "payload": payload}]}).to_string();
        let path = format!("{}/documents", catalogue::path_of(NOWHERE));
        let deadline = self.options.read_deadline;
        match self.server.call(Method::POST, &path, Bytes::from(body), deadline).await {
            Err(error) if error.is(StatusCode::NOT_FOUND) => {
                self.payloads.0.fetch_max(bytes, Ordering::AcqRel);
                Ok(())
            }
            Err(CallError::Refused {
                status: StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE,
                detail,
            }) => {
                let id: String = id.as_str().chars().take(64).collect();
                Err(EngineError::Invalid(format!(
                    "the point {id:?} doesn't fit into the Quiver server at {}, which keeps a document's vectors but the first in its \
                     payload ({detail}): start that server with QUIVER_MAX_PAYLOAD_BYTES={BYTES_ENOUGH}",
                    self.server.url()
                )))
            }
            Err(error) => Err(error.into_engine_error()),
            Ok(_) => Err(EngineError::Unavailable(format!(
                "the Quiver server at {} has a collection {NOWHERE:?}; drop it, it isn't Sheaf's. Nothing was changed",
                self.server.url()
            ))),
        }
    }
}
