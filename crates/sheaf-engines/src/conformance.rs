//! One suite for every engine: what the port promises, checked from outside.
//!
//! Each check is a public function, so that an adapter whose database can't do something may run the others. A check
//! panics with what it expected. It leaves no collection behind.

mod depth;
mod documents;
mod points;
mod queries;
mod reference;
mod sample;

use std::future::Future;
use std::sync::Arc;

use sheaf_types::{CollectionConfig, CollectionId, Metric};

use crate::{Engine, EngineError};

pub use depth::{
    extreme_floats_are_kept_and_others_refused, filters_agree_with_a_reference_evaluator,
    long_scans_take_full_pages, payloads_at_the_edges_are_kept, scans_are_whole_while_others_write,
    searches_go_on_until_enough_owned_points_were_found, whole_configurations_come_back,
};
pub use documents::{
    documents_are_kept_to_the_bit_and_ranked_exactly, documents_at_the_edges_are_kept,
    the_largest_document_is_kept,
};
pub use points::{
    batches_apply_in_order_and_tell_what_they_changed, configurations_are_kept_whole,
    encrypted_vectors_are_kept_and_ranked_as_far_as_they_can_be,
    floats_and_payloads_are_kept_to_the_bit, ids_may_be_any_text, wrong_writes_change_nothing,
};
pub use queries::{
    a_dropped_collection_is_gone_and_a_new_id_starts_empty, filters_agree_with_the_oracle,
    pages_respect_their_bounds, scans_go_in_the_order_of_ids_while_points_are_deleted,
    searches_agree_with_the_oracle, searches_see_every_write,
};

/// Runs every check but for those of sizes, each on an engine of its own making. The engines may share one database: collection ids
/// count up from `first`, 200 at most.
pub async fn run<E, F>(first: CollectionId, mut make: impl FnMut() -> F)
where
    E: Engine,
    F: Future<Output = E>,
{
    let mut next = first;
    let mut id = || {
        let id = next;
        next = CollectionId(next.0 + 10);
        id
    };
    configurations_are_kept_whole(&make().await, id()).await;
    batches_apply_in_order_and_tell_what_they_changed(&make().await, id()).await;
    floats_and_payloads_are_kept_to_the_bit(&make().await, id()).await;
    ids_may_be_any_text(&make().await, id()).await;
    encrypted_vectors_are_kept_and_ranked_as_far_as_they_can_be(&make().await, id()).await;
    wrong_writes_change_nothing(&make().await, id()).await;
    scans_go_in_the_order_of_ids_while_points_are_deleted(&make().await, id()).await;
    pages_respect_their_bounds(&make().await, id()).await;
    searches_agree_with_the_oracle(&make().await, id()).await;
    searches_see_every_write(&make().await, id()).await;
    filters_agree_with_the_oracle(&make().await, id()).await;
    a_dropped_collection_is_gone_and_a_new_id_starts_empty(&make().await, id()).await;
    documents_are_kept_to_the_bit_and_ranked_exactly(&make().await, id()).await;
    documents_at_the_edges_are_kept(&make().await, id()).await;
    whole_configurations_come_back(&make().await, id()).await;
    extreme_floats_are_kept_and_others_refused(&make().await, id()).await;
    payloads_at_the_edges_are_kept(&make().await, id()).await;
    scans_are_whole_while_others_write(&make().await, id()).await;
    searches_go_on_until_enough_owned_points_were_found(&make().await, id()).await;
    filters_agree_with_a_reference_evaluator(&make().await, id()).await;
}

/// A collection with nothing special.
fn plain(name: &str, dim: u32, metric: Metric) -> Arc<CollectionConfig> {
    Arc::new(CollectionConfig {
        name: name.to_owned(),
        dim,
        metric,
        index: sheaf_types::IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    })
}

/// Drops what a run that was cut off may have left, and creates the collection.
async fn fresh(engine: &impl Engine, id: CollectionId, config: Arc<CollectionConfig>) {
    engine.drop_collection(id).await.expect("dropping a collection that may not exist");
    engine.create_collection(id, config).await.expect("creating a collection");
}

fn is_refused<T: std::fmt::Debug>(answer: &Result<T, EngineError>) -> bool {
    matches!(answer, Err(EngineError::Invalid(_) | EngineError::Unsupported(_)))
}
