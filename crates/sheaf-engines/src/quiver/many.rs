//! Points by many ids at once: over the faster interface where there is one, one by one over REST otherwise.
//!
//! Decides how many ids are asked for in one request, and whether the other interface is of the same server.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use sheaf_types::{CollectionConfig, PointId, StoredPoint};

use super::catalogue::{CATALOGUE, OWNER};
use super::server::CallError;
use super::wire::{self, Read, Row};
use super::{Held, Inner, READS_AT_ONCE};
use crate::EngineError;

/// Requests of many points at the same time.
pub const MANY_AT_ONCE: usize = 2;
/// Fewer are asked for over REST, one by one: of single gets over gRPC 772 to 3,302 were answered in a second, over REST 8,419.
/// Source: `cargo xtask bench engines`.
const MANY_POINTS_MIN: usize = 64;
/// Points of one request, and bytes of their vectors, of documents of all, about.
const MANY_POINTS: usize = 1_024;
const MANY_BYTES: usize = 2 * 1024 * 1024;
/// Documents of one request, before it is known how large they are.
const FIRST_DOCUMENTS: usize = 16;

/// What was read, when it comes.
pub type ReadingMany<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<ReadPoint>, ReadError>> + Send + 'a>>;

/// Reads points of the Quiver server by their ids, many in one request.
pub trait ManyReads: fmt::Debug + Send + Sync + 'static {
    /// The points that there are, in any order.
    fn read(&self, collection: String, ids: Vec<String>) -> ReadingMany<'_>;
}

/// A point as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPoint {
    pub id: String,
    pub vector: Vec<f32>,
    /// JSON; empty: none.
    pub payload: Vec<u8>,
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    NoCollection,
    KeyRefused(String),
    NoAnswer(String),
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoCollection => {
                Self::Refused { status: StatusCode::NOT_FOUND, detail: "no such collection".into() }
            }
            ReadError::KeyRefused(detail) => {
                Self::Refused { status: StatusCode::UNAUTHORIZED, detail }
            }
            ReadError::NoAnswer(reason) => Self::Lost(reason),
        }
    }
}

impl Inner {
    /// The points with these ids, in their order.
    pub async fn read(
        &self,
        held: &Held,
        ids: impl IntoIterator<Item = PointId>,
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        let ids: Vec<PointId> = ids.into_iter().collect();
        if self.options.many_reads.is_none() || ids.len() < MANY_POINTS_MIN {
            let reads = ids.into_iter().map(async |id| self.read_one(held, &id).await);
            return stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await;
        }
        let blocks: Vec<Vec<PointId>> =
            ids.chunks(points_at_once(held)).map(<[PointId]>::to_vec).collect();
        let reads = blocks.into_iter().map(|ids| self.many_points(held, ids));
        let read: Vec<_> = stream::iter(reads).buffered(MANY_AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn many_points(
        &self,
        held: &Held,
        ids: Vec<PointId>,
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        let rows = self.many(held, &ids).await?;
        let points = rows.into_iter().filter_map(|row| row.into_point(held.id()));
        let found: BTreeMap<PointId, StoredPoint> =
            points.map(|point| (point.id.clone(), point)).collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    /// Those of the points that there are, in no order.
    pub async fn many(&self, held: &Held, ids: &[PointId]) -> Result<Vec<Row>, EngineError> {
        let read = self.many_rows(held.name(), ids).await;
        let read = read.map_err(|error| self.missing(held, error))?;
        let bytes: usize = read.iter().map(|row| row.vector.len() * 4 + row.payload.len()).sum();
        if let Some(bytes) = bytes.checked_div(read.len()) {
            held.document_bytes.store(bytes, Ordering::Relaxed);
        }
        read.into_iter().map(|point| row(held.config(), point)).collect()
    }

    async fn many_rows(&self, quiver: &str, ids: &[PointId]) -> Result<Vec<ReadPoint>, CallError> {
        let Some(reads) = &self.options.many_reads else { return Ok(Vec::new()) };
        let ids = ids.iter().map(|id| id.as_str().to_owned()).collect();
        Ok(reads.read(quiver.to_owned(), ids).await?)
    }

    /// Checks that what reads many points reads them here.
    ///
    /// # Errors
    /// It doesn't answer, or it is another server's.
    pub async fn check_many_reads(&self) -> Result<(), EngineError> {
        if self.options.many_reads.is_none() {
            return Ok(());
        }
        let found = self.many_rows(CATALOGUE, &[PointId::from(OWNER)]).await;
        let is_other = found.as_ref().is_err_and(|error| error.is(StatusCode::NOT_FOUND));
        let found =
            if is_other { Vec::new() } else { found.map_err(CallError::into_engine_error)? };
        let owner = found.first().and_then(|row| serde_json::from_slice(&row.payload).ok());
        if owner.is_some_and(|payload: serde_json::Value| payload["owner"] == self.options.owner) {
            return Ok(());
        }
        Err(EngineError::Invalid(format!(
            "what --engine-grpc-url names isn't the gRPC interface of the Quiver server at {}: its catalogue names another \
             owner, or none. Give that server's own (QUIVER_GRPC_ADDR), or leave it out; nothing was changed",
            self.server.url()
        )))
    }
}

fn row(config: &CollectionConfig, point: ReadPoint) -> Result<Row, EngineError> {
    let ReadPoint { id, vector, payload } = point;
    let payload = (!payload.is_empty() && payload != b"null").then_some(payload);
    let payload = payload.map(|json| serde_json::from_slice(&json)).transpose();
    let payload = payload.map_err(|error| wire::no_quiver(&error))?;
    let read = Read { id: PointId::from(id), vector: Some(vector), payload, score: None };
    wire::row_of(config, read)
}

/// Points of one request, so that an answer is a few megabytes.
pub fn points_at_once(held: &Held) -> usize {
    let vector = 4 * held.config().dim as usize;
    let bytes = match held.document_bytes.load(Ordering::Relaxed) {
        _ if !held.config().holds_documents() => vector,
        0 => MANY_BYTES / FIRST_DOCUMENTS,
        bytes => bytes,
    };
    (MANY_BYTES / (bytes + 64)).clamp(1, MANY_POINTS)
}
