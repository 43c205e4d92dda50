//! What is in etcd is believed only as it was written; and what died writers left there goes.

use sheaf_stores::{Store, StoreError, StoreOutcome};
use sheaf_tests::Etcd;

use crate::late::{Mischief, Wire};
use crate::{CALM_MS, fresh_prefix, loaded, pattern, store, stored};

/// Writes after which a store has looked for leftovers at least once.
const WRITES: usize = 70;

async fn keys(etcd: &Etcd, prefix: &str) -> Vec<String> {
    let listed = etcd.ctl(&["get", "--prefix", "--keys-only", prefix]).await;
    listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_never_overwritten() {
    let etcd = Etcd::start(3).await;
    for (length, part, change) in [
        (100, "/head", "{}"),
        (100, "/head", "head"),
        (100, "/record/", "other bytes"),
        (100, "/record/", ""),
        (2_000_000, "/3", "other bytes"),
    ] {
        let prefix = fresh_prefix();
        let writer = store(&etcd.url(&prefix), CALM_MS);
        let etag = stored(&writer, None, pattern(length)).await;
        let key = keys(&etcd, &prefix).await.into_iter().find(|key| key.contains(part));
        let key = key.unwrap_or_else(|| panic!("there is a key with {part}"));
        match change {
            "" => etcd.ctl(&["del", &key]).await,
            text => etcd.ctl(&["put", &key, text]).await,
        };
        let reader = store(&etcd.url(&prefix), CALM_MS);
        let Err(StoreError::Damaged(what)) = reader.load().await else {
            panic!("{key} was changed to {change:?}, and nobody noticed");
        };
        for word in [prefix.as_str(), "damaged", "Nothing was changed", "snapshot restore"] {
            assert!(what.contains(word), "it doesn't say {word:?}: {what}");
        }
        if part == "/head" {
            let outcome = reader.compare_and_set(Some(etag), pattern(1)).await;
            assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
            let outcome = reader.compare_and_set(None, pattern(1)).await;
            assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_with_their_record_and_leftovers_of_dead_writers_are_cleaned_up() {
    let etcd = Etcd::start(3).await;
    let prefix = fresh_prefix();
    let url = etcd.url(&prefix);
    let lasting = store(&url, CALM_MS);
    let mut etag = stored(&lasting, None, pattern(3_000_000)).await;
    assert_eq!(keys(&etcd, &prefix).await.len(), 1 + 6, "a head and six pages");
    // A writer that dies after its pages and before its head.
    let wire = Wire::to(&etcd.addresses()[0]).await;
    let dying = store(&format!("etcd://{}{prefix}", wire.address), 2_000);
    wire.set(Mischief::Late);
    let outcome = dying.compare_and_set(Some(etag), pattern(1_100_000)).await;
    assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "{outcome:?}");
    drop(dying);
    let all = keys(&etcd, &prefix).await;
    assert_eq!(all.len(), 1 + 6 + 2 + 1, "and two pages of three, and their mark: {all:?}");
    for length in 0..WRITES {
        etag = stored(&lasting, Some(etag), pattern(length)).await;
    }
    let left = keys(&etcd, &prefix).await;
    assert_eq!(left.len(), 2, "a head and a page: {left:?}");
    wire.deliver().await;
    assert_eq!(keys(&etcd, &prefix).await, left, "its head comes too late");
    assert_eq!(loaded(&lasting).await.map(|loaded| loaded.etag), Some(etag));
}
