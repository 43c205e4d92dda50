//! The words of Sheaf: identifiers, time, points and their digests, collections, limits.
//!
//! Plain data only: this crate decides nothing and performs no I/O.

pub mod buggify;
pub mod collection;
pub mod digest;
pub mod ids;
pub mod limits;
pub mod marks;
pub mod point;
pub mod time;

pub use collection::{CollectionConfig, IndexKind, Metric, VectorEncryption};
pub use digest::{Digest, PointHash};
pub use ids::{
    Attempt, ClusterId, CollectionId, Incarnation, MapVersion, PlacementKey, PointId, Revision,
    Serial, ShardId, StoreId, Term, TransitionId,
};
pub use point::{BodyError, PointBody, StoredPoint};
pub use time::Time;
