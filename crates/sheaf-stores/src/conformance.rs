//! What every store must do: one suite, run against each of them.
//!
//! Each function takes an empty store and panics with a sentence when the store breaks its promise.

use bytes::Bytes;

use crate::port::{Etag, Loaded, Reply, Store, StoreOutcome};

/// States that two writers fight for.
const RACES: u32 = 200;

/// Runs the whole suite for one handle; `fresh` makes a store that has never stored anything.
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
    let pattern = |length: u32| Bytes::from((0..length).map(|n| n as u8).collect::<Vec<_>>());
    let (large, larger) = (pattern(300_000), pattern(3 * 1024 * 1024 + 1));
    for bytes in [Bytes::new(), Bytes::from(vec![0; 3]), large, larger, Bytes::from("é")] {
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

/// Two handles on one empty record, as two processes have them: of two writes on top of one state exactly one is stored.
pub async fn two_handles_never_both_win(one: &dyn Store, other: &dyn Store) {
    let mut expected = None;
    for round in 0..RACES {
        let [a, b] = ["one", "other"].map(|who| Bytes::from(format!("{round} by {who}")));
        let writes =
            (one.compare_and_set(expected, a.clone()), other.compare_and_set(expected, b.clone()));
        let (etag, bytes) = match tokio::join!(writes.0, writes.1) {
            (StoreOutcome::Done(etag), StoreOutcome::Refused) => (etag, a),
            (StoreOutcome::Refused, StoreOutcome::Done(etag)) => (etag, b),
            outcomes => panic!("round {round}: exactly one of two is stored: {outcomes:?}"),
        };
        assert_ne!(Some(etag), expected, "another state has another etag");
        let winner = Some(Loaded { etag, bytes });
        for handle in [one, other] {
            assert_eq!(loaded(handle).await, winner, "round {round}: all see the winner's");
        }
        expected = Some(etag);
    }
}

/// A store whose next write gets no answer, and may be applied at any time after that.
pub trait Doubtful: Store {
    /// The write, its fate unknown to the store.
    fn write_in_doubt(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome>;
    /// Lets whatever is still on its way arrive and be judged.
    fn deliver(&self) -> Reply<'_, ()>;
}

/// What a load answers is final, whether the write in doubt was applied or is yet to arrive; from an empty store and from a
/// stored record.
pub async fn a_load_decides_what_was_in_doubt(store: &dyn Doubtful) {
    let mut before: Option<Loaded> = None;
    for round in 0..4 {
        let expected = before.as_ref().map(|loaded| loaded.etag);
        let doubtful = Bytes::from(format!("in doubt {round}"));
        let outcome = store.write_in_doubt(expected, doubtful.clone()).await;
        assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "it has no answer: {outcome:?}");
        let decided = loaded(store).await;
        let is_stored = decided.as_ref().is_some_and(|loaded| loaded.bytes == doubtful);
        assert!(is_stored || decided == before, "one way or the other: {decided:?}");
        store.deliver().await;
        assert_eq!(loaded(store).await, decided, "what load has answered stays, round {round}");
        let bytes = Bytes::from(format!("after it {round}"));
        let expected = decided.map(|loaded| loaded.etag);
        let etag = stored(store, expected, &bytes).await;
        store.deliver().await;
        before = Some(Loaded { etag, bytes });
        assert_eq!(loaded(store).await, before, "and one can go on from it");
    }
}
