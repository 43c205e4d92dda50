//! The engines of this crate keep what the port promises.

use std::sync::Arc;

use sheaf_engines::embedded::Work;
use sheaf_engines::{Embedded, EmbeddedOptions, Memory, conformance};
use sheaf_types::CollectionId;

#[tokio::test]
async fn the_memory_engine_conforms() {
    conformance::run(CollectionId(1), async || Memory::new()).await;
}

async fn embedded_conforms(change: impl Fn(&mut EmbeddedOptions)) {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let mut options = EmbeddedOptions::new(dir.path().join("data"));
        change(&mut options);
        Embedded::open(options).unwrap()
    };
    conformance::run(CollectionId(1), open).await;
}

#[tokio::test]
async fn the_embedded_engine_conforms() {
    embedded_conforms(|_| ()).await;
}

#[tokio::test]
async fn the_embedded_engine_conforms_without_threads() {
    embedded_conforms(|options| options.work = Work::Inline).await;
}

#[tokio::test]
async fn the_embedded_engine_conforms_with_an_index_on_everything() {
    embedded_conforms(|options| options.index_floats_min = 1).await;
}

#[tokio::test]
async fn an_engine_can_be_shared_as_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let engine: Arc<dyn sheaf_engines::Engine> =
        Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).unwrap());
    assert_eq!(engine.collections().await, Ok(Vec::new()));
}

/// Points of a long scan.
const LONG: usize = 100_000;

#[tokio::test]
async fn scans_of_100000_points_take_full_pages() {
    conformance::long_scans_take_full_pages(&Memory::new(), CollectionId(1), LONG).await;
    let dir = tempfile::tempdir().unwrap();
    let engine = Embedded::open(EmbeddedOptions::new(dir.path().join("data"))).unwrap();
    conformance::long_scans_take_full_pages(&engine, CollectionId(1), LONG).await;
}

#[tokio::test]
async fn the_largest_document_is_kept() {
    conformance::the_largest_document_is_kept(&Memory::new(), CollectionId(1)).await;
    let dir = tempfile::tempdir().unwrap();
    let engine = Embedded::open(EmbeddedOptions::new(dir.path().join("data"))).unwrap();
    conformance::the_largest_document_is_kept(&engine, CollectionId(1)).await;
}
