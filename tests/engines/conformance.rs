//! The suite that every engine passes.

use sheaf_engines::conformance;
use sheaf_tests::Postgres;
use sheaf_types::CollectionId;

use crate::{open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_on_postgresql_conforms() {
    let server = Postgres::start().await;
    let url = server.database("exact").await;
    conformance::run(CollectionId(1), || open(options(&url))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_on_postgresql_conforms_with_every_search_through_the_index() {
    let server = Postgres::start().await;
    let url = server.database("indexed").await;
    let through_the_index = || {
        let mut options = options(&url);
        options.exact_floats_max = 0;
        open(options)
    };
    conformance::run(CollectionId(1), through_the_index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_of_100000_points_in_postgresql_take_full_pages() {
    let server = Postgres::start().await;
    let engine = open(options(&server.database("long").await)).await;
    conformance::long_scans_take_full_pages(&engine, CollectionId(1), 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_document_is_kept_in_postgresql() {
    let server = Postgres::start().await;
    let engine = open(options(&server.database("large").await)).await;
    conformance::the_largest_document_is_kept(&engine, CollectionId(1)).await;
}
