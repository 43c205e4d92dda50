//! The engine port: what a gate may ask of the database behind it.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use sheaf_types::{
    CollectionConfig, CollectionId, PlacementKey, PointBody, PointHash, PointId, StoredPoint,
};

use crate::Filter;

/// The answer of an engine, when it comes.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// A database that holds the points of one shard.
///
/// Collections are known by id; names belong to the catalogue. What `apply` has answered is durable and is
/// seen by every later `get`, `scan`, `count` and `search`.
pub trait Engine: Send + Sync + 'static {
    /// Checks that this engine can hold such a collection. Asks no server: the same configuration always gets the same answer.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported`, with the reason.
    fn holds(&self, config: &CollectionConfig) -> Result<(), EngineError>;

    /// Creates the collection; does nothing when it exists.
    ///
    /// # Errors
    /// `Unsupported` when the engine can't hold such a collection.
    fn create_collection(&self, id: CollectionId, config: Arc<CollectionConfig>) -> Reply<'_, ()>;

    /// Drops the collection with all its points; does nothing when there is none.
    fn drop_collection(&self, id: CollectionId) -> Reply<'_, ()>;

    /// The collections that exist here, with the configuration that they were created with.
    fn collections(&self) -> Reply<'_, Vec<(CollectionId, Arc<CollectionConfig>)>>;

    /// Applies the writes in order, all or nothing where the engine can, and answers what each changed.
    /// A batch that names an id twice leaves it as the last write says.
    fn apply(&self, collection: CollectionId, writes: Vec<Write>) -> Reply<'_, Vec<Change>>;

    /// These points will probably be upserted soon, by one write in this order, and when they are the last ones, the collection will be
    /// scanned from its start: an engine may prepare that. Nothing depends on it.
    fn foresee(&self, _collection: CollectionId, _points: &[StoredPoint], _are_last: bool) {}

    /// The points with these ids, in the same order; `None` where there is none.
    fn get(
        &self,
        collection: CollectionId,
        ids: Vec<PointId>,
    ) -> Reply<'_, Vec<Option<StoredPoint>>>;

    /// The point with this id, for a client to see; `None`: there is none.
    fn show(&self, collection: CollectionId, id: PointId) -> Reply<'_, Option<ShownPoint>> {
        Box::pin(async move {
            let point = self.get(collection, vec![id]).await?.into_iter().flatten().next();
            Ok(point.map(|point| ShownPoint::Body(point.body)))
        })
    }

    /// One page of points in the order of their ids' bytes, from one consistent state.
    fn scan(&self, collection: CollectionId, scan: Scan) -> Reply<'_, ScanPage>;

    /// The `k` nearest points, best first; equal scores in the order of ids.
    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>>;

    /// Points that are accepted and that the filter holds for.
    fn count(
        &self,
        collection: CollectionId,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Reply<'_, u64>;

    fn stats(&self) -> Reply<'_, EngineStats>;

    /// Where the database is, as its users address it; `None`: nobody else could.
    fn place(&self) -> Option<String> {
        None
    }

    /// Collections that were there before Sheaf and can be taken over: the next creation of one with the same name and
    /// configuration finds its points in it. Their points count in `stats`.
    fn adoptable(&self) -> Reply<'_, Vec<Adoptable>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Writes a copy of all that the engine holds, as of one moment, into the folder `into`, which will be renamed to `final_folder`.
    /// An engine whose server writes on its own machine does so beside `final_folder`, and answers where.
    fn snapshot(&self, into: PathBuf, final_folder: PathBuf) -> Reply<'_, Option<PathBuf>>;
}

/// A collection that can be taken over with its points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoptable {
    pub config: Arc<CollectionConfig>,
    pub points: u64,
    /// Why it can't be, after all.
    pub obstacle: Option<String>,
}

/// A change to one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Upsert(StoredPoint),
    Delete(PointId),
}

/// What a write did: the hash before and after; `None` where there is no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub old: Option<PointHash>,
    pub new: Option<PointHash>,
}

/// Which points a call may see, judged by placement.
#[derive(Clone)]
pub enum Accept {
    All,
    Only(Arc<dyn Fn(PlacementKey) -> bool + Send + Sync>),
}

impl Accept {
    pub fn takes(&self, key: PlacementKey) -> bool {
        match self {
            Self::All => true,
            Self::Only(predicate) => predicate(key),
        }
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "Accept::All",
            Self::Only(_) => "Accept::Only(..)",
        })
    }
}

/// What a client is shown of a point.
#[derive(Clone, Debug)]
pub enum ShownPoint {
    Body(PointBody),
    /// As a database has it that speaks JSON: the array of the vector's numbers, each read as the float that it is, and the canonical payload.
    Json {
        vector: Box<RawValue>,
        payload: Option<String>,
    },
}

/// A request for one page of points.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Start behind this id; `None` is the very start.
    pub after: Option<PointId>,
    /// Stop at this id, which is included; `None` is the very end.
    pub through: Option<PointId>,
    /// Points in the page at most.
    pub points_max: usize,
    /// Bytes of bodies in the page at most; one point always fits. Without bodies it doesn't count.
    pub bytes_max: usize,
    /// Whether to read the bodies; hashes come in any case.
    pub bodies: bool,
    pub accept: Accept,
    pub filter: Option<Filter>,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    pub points: Vec<ScannedPoint>,
    /// Everything up to and including this id has been looked at; `None`: everything that was asked for.
    /// A page may end early, even empty, so that one call never runs long.
    pub looked_through: Option<PointId>,
}

/// A point in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedPoint {
    pub id: PointId,
    pub hash: PointHash,
    pub body: Option<PointBody>,
}

/// A search for the nearest points.
#[derive(Clone, Debug)]
pub struct Search {
    pub vector: Vec<f32>,
    /// The same as an array in JSON, if there is one: an engine that is asked in JSON needn't write the numbers again.
    pub vector_json: Option<Bytes>,
    pub k: usize,
    /// Candidates kept while searching an index; more is slower and finds more.
    pub ef: usize,
    pub accept: Accept,
    pub filter: Option<Filter>,
    pub bodies: Bodies,
}

/// What hits carry of their bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    None,
    /// The payload. The vector of the body may be left empty: some engines send it much more slowly.
    Payloads,
    Whole,
}

impl Bodies {
    pub fn any(self) -> bool {
        self != Self::None
    }
}

/// A point that a search found. `score` is the squared distance for `l2`, the similarity otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    pub id: PointId,
    pub score: f32,
    pub body: Option<PointBody>,
}

/// How full an engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    pub points: u64,
    /// Bytes of bodies and ids.
    pub bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Points that the approximate index doesn't hold yet; they are searched exactly.
    pub unindexed_points: u64,
}

/// Why an engine didn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The request can't be right. Nothing was applied.
    #[error("{0}")]
    Invalid(String),
    /// The engine has no such feature. Nothing was applied.
    #[error("{0}")]
    Unsupported(String),
    /// The engine has no such collection. Nothing was applied.
    #[error("the engine has no collection {0}")]
    NoCollection(CollectionId),
    /// The engine can't do it now (disk full, restarting). Nothing was applied; asking again later may work.
    #[error("{0}")]
    Unavailable(String),
    /// The writes may or may not have been applied. An adapter says so only once that is settled: no read that succeeds after this
    /// answer sees them applied later (ADR 0003). Until then it doesn't answer.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The stored data is damaged: names the file and what to do.
    #[error("{0}")]
    Damaged(String),
}
