//! Engines on real servers: the conformance suite, and what they promise when the server fails. Needs PostgreSQL with pgvector, and
//! Quiver.

mod adopt;
mod conformance;
mod demo;
mod documents;
mod documents_moving;
mod doubt;
mod eventual;
mod forward;
mod grow;
mod hybrid;
mod kills;
mod kills_migrating;
mod outside;
mod owner;
mod pgvector_replicas;
mod pgvector_standby;
mod postgres_outside;
mod postgres_tls;
mod quiver;
mod quiver_ahead;
mod quiver_clients;
mod quiver_cluster;
mod quiver_documents;
mod quiver_failures;
mod quiver_index;
mod quiver_outside;
mod quiver_router;
mod replicas;
mod requests;
mod server;
mod text;
mod wire;

use std::sync::Arc;

use sheaf_engines::{Change, Engine, EngineError, Write};
use sheaf_pgvector::{PgOptions, PgVector};
use sheaf_types::{
    CollectionConfig, CollectionId, IndexKind, Metric, PointBody, PointId, StoredPoint,
};

/// The collection of tests that need one.
const ID: CollectionId = CollectionId(7);

fn options(url: &str) -> PgOptions {
    PgOptions::parse(url, None).unwrap_or_else(|why| panic!("{url}: {why}"))
}

async fn open(options: PgOptions) -> PgVector {
    PgVector::open(options).await.unwrap_or_else(|why| panic!("{why}"))
}

/// An engine with an empty collection `ID` of this dimension.
async fn with_collection(url: &str, dim: u32) -> PgVector {
    let engine = open(options(url)).await;
    engine.create_collection(ID, config(dim)).await.expect("creating it");
    engine
}

fn config(dim: u32) -> Arc<CollectionConfig> {
    Arc::new(CollectionConfig {
        name: "points".to_owned(),
        dim,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    })
}

/// A point of two numbers that says its value.
fn point(id: &str, value: u64) -> StoredPoint {
    let payload = format!("{{\"value\":{value}}}");
    let body = PointBody::encode(&[value as f32, 1.0], Some(&payload));
    StoredPoint::new(ID, PointId::from(id), body)
}

async fn write(engine: &PgVector, id: &str, value: u64) -> Result<Vec<Change>, EngineError> {
    engine.apply(ID, vec![Write::Upsert(point(id, value))]).await
}

/// The value of a point, if it is there.
async fn read(engine: &PgVector, id: &str) -> Result<Option<u64>, EngineError> {
    let found = engine.get(ID, vec![PointId::from(id)]).await?;
    Ok(found.into_iter().flatten().next().map(|found| found.body.vector()[0] as u64))
}
