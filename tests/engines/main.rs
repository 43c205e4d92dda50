//! Engines on real servers: the conformance suite, and what they promise when the server fails. Needs PostgreSQL with pgvector.

mod conformance;

use sheaf_pgvector::{PgOptions, PgVector};

fn options(url: &str) -> PgOptions {
    PgOptions::parse(url, None).unwrap_or_else(|why| panic!("{url}: {why}"))
}

async fn open(options: PgOptions) -> PgVector {
    PgVector::open(options).await.unwrap_or_else(|why| panic!("{why}"))
}
