//! What every store must do: one suite, run against each of them.
//!
//! Each function takes an empty store and panics with a sentence when the store breaks its promise.

use bytes::Bytes;

use crate::port::{Etag, Loaded, Store, StoreOutcome};

/// Runs the whole suite; `fresh` makes a store that has never stored anything.
pub async fn run<S: Store>(mut fresh: impl FnMut() -> S) {
    a_new_store_is_empty(&fresh()).await;
    a_stored_record_is_loaded_byte_for_byte(&fresh()).await;
    only_the_expected_state_is_replaced(&fresh()).await;
    of_two_writers_one_is_refused(&fresh()).await;
}

async fn loaded(store: &dyn Store) -> Option<Loaded> {
    store.load().await.unwrap_or_else(|error| panic!("the record can be loaded: {error}"))
}

async fn stored(store: &dyn Store, expected: Option<Etag>, bytes: &Bytes) -> Etag {
    match store.compare_and_set(expected, bytes.clone()).await {
        StoreOutcome::Done(etag) => etag,
        other => panic!("the expected state is replaced, but: {other:?}"),
    }
}

async fn a_new_store_is_empty(store: &dyn Store) {
    assert_eq!(loaded(store).await, None, "a new store has no record");
    let outcome = store.compare_and_set(Some(Etag(1)), Bytes::from_static(b"x")).await;
    assert_eq!(outcome, StoreOutcome::Refused, "there is nothing to replace");
    assert_eq!(loaded(store).await, None, "what was refused is not stored");
}

async fn a_stored_record_is_loaded_byte_for_byte(store: &dyn Store) {
    let mut expected = None;
    let large = (0..300_000_u32).map(|n| n as u8).collect::<Vec<_>>();
    for bytes in [Bytes::new(), Bytes::from(vec![0; 3]), Bytes::from(large), Bytes::from("é")] {
        let etag = stored(store, expected, &bytes).await;
        assert_ne!(Some(etag), expected, "another state has another etag");
        assert_eq!(loaded(store).await, Some(Loaded { etag, bytes }), "what was stored is loaded");
        expected = Some(etag);
    }
}

async fn only_the_expected_state_is_replaced(store: &dyn Store) {
    let [a, b, c] = ["a", "b", "c"].map(Bytes::from);
    let first = stored(store, None, &a).await;
    let second = stored(store, Some(first), &b).await;
    for expected in [None, Some(first)] {
        let outcome = store.compare_and_set(expected, c.clone()).await;
        assert_eq!(outcome, StoreOutcome::Refused, "{expected:?} isn't stored any more");
        let still = Some(Loaded { etag: second, bytes: b.clone() });
        assert_eq!(loaded(store).await, still, "a refused write changes nothing");
    }
}

async fn of_two_writers_one_is_refused(store: &dyn Store) {
    let [a, b] = ["a", "b"].map(Bytes::from);
    let start = Some(stored(store, None, &a).await);
    let first = store.compare_and_set(start, a).await;
    let second = store.compare_and_set(start, b).await;
    assert!(matches!(first, StoreOutcome::Done(_)), "the first writer is served: {first:?}");
    assert_eq!(second, StoreOutcome::Refused, "the second wrote on what is no longer there");
}
