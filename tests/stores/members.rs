//! Members that die: one of three is not missed, two are, and nothing is torn by it.

use sheaf_stores::{Loaded, Store, StoreError, StoreOutcome};
use sheaf_tests::{Etcd, eventually};

use crate::{CALM_MS, fresh_prefix, loaded, pattern, store, stored};

/// Milliseconds of a call that fails because there is no majority.
const SHORT_MS: u64 = 1_500;
/// Seconds until three members that came back serve again.
const BACK_SECS_MAX: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_member_of_three_may_be_dead() {
    let mut etcd = Etcd::start(3).await;
    let url = etcd.url(&fresh_prefix());
    let store = store(&url, CALM_MS);
    let mut etag = stored(&store, None, pattern(10)).await;
    for victim in 0..3 {
        etcd.kill(victim).await;
        for length in [100, 1_500_000, 200] {
            // A member that dies with the leader's part may leave a write in doubt, which a load decides.
            let outcome = store.compare_and_set(Some(etag), pattern(length)).await;
            etag = match outcome {
                StoreOutcome::Done(etag) => etag,
                StoreOutcome::Unknown { .. } | StoreOutcome::NotStored { .. } => {
                    loaded(&store).await.expect("a record").etag
                }
                StoreOutcome::Refused => panic!("nobody else writes"),
            };
        }
        etag = stored(&store, Some(etag), pattern(300)).await;
        let other = crate::store(&url, CALM_MS);
        assert_eq!(loaded(&other).await, Some(Loaded { etag, bytes: pattern(300) }));
        etcd.restart(victim);
        etcd.is_ready(victim).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_calls_end_in_time_and_afterwards_all_goes_on() {
    let mut etcd = Etcd::start(3).await;
    let url = etcd.url(&fresh_prefix());
    let store = store(&url, SHORT_MS);
    let first = eventually("the first record is stored", BACK_SECS_MAX, || async {
        match store.compare_and_set(None, pattern(1_000)).await {
            StoreOutcome::Done(etag) => Ok(etag),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    etcd.kill(0).await;
    etcd.kill(2).await;
    for length in [2_000, 2_000_000] {
        // Twice its deadline, or the call has none.
        let limit = std::time::Duration::from_millis(2 * SHORT_MS);
        let write =
            tokio::time::timeout(limit, store.compare_and_set(Some(first), pattern(length)));
        let outcome = write.await.expect("a write ends within its deadline");
        let said = match outcome {
            StoreOutcome::Unknown { reason } | StoreOutcome::NotStored { reason } => reason,
            StoreOutcome::Done(_) | StoreOutcome::Refused => panic!("no majority: {outcome:?}"),
        };
        assert!(said.contains("etcd"), "{said}");
        let load = tokio::time::timeout(limit, store.load()).await;
        let load = load.expect("a load ends within its deadline");
        assert!(matches!(load, Err(StoreError::Unavailable(_))), "{load:?}");
    }
    etcd.restart(0);
    etcd.restart(2);
    let found = eventually("etcd is back", BACK_SECS_MAX, || store.load()).await.expect("a record");
    let is_whole = [1_000, 2_000].into_iter().any(|length| found.bytes == pattern(length));
    assert!(is_whole, "the record is the one before or the one in doubt");
    etcd.is_ready(0).await;
    etcd.is_ready(2).await;
    let calm = crate::store(&url, CALM_MS);
    assert_eq!(loaded(&calm).await, Some(found.clone()), "what was loaded is final");
    let next = stored(&calm, Some(found.etag), pattern(3_000_000)).await;
    let bytes = pattern(3_000_000);
    assert_eq!(loaded(&calm).await, Some(Loaded { etag: next, bytes }));
}
