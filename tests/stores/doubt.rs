//! Writes without an answer: delayed beyond their deadline, or applied in silence. A load decides them for good.

use bytes::Bytes;
use sheaf_etcd::EtcdStore;
use sheaf_stores::conformance::{Doubtful, a_load_decides_what_was_in_doubt};
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};
use sheaf_tests::Etcd;

use crate::late::{Mischief, Wire};
use crate::{CALM_MS, fresh_prefix, loaded, pattern, store, stored};

/// Milliseconds of a call that gets no answer.
const DOUBT_MS: u64 = 2_000;

/// A store behind a wire.
struct Behind {
    wire: Wire,
    mischief: Mischief,
    store: EtcdStore,
    /// Late writes that arrived after all.
    arrived: std::sync::atomic::AtomicUsize,
}

impl Behind {
    async fn a_wire(etcd: &Etcd, prefix: &str, mischief: Mischief) -> Self {
        let wire = Wire::to(&etcd.addresses()[0]).await;
        let store = store(&format!("etcd://{}{prefix}", wire.address), DOUBT_MS);
        Self { wire, mischief, store, arrived: Default::default() }
    }
}

impl Store for Behind {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        self.store.load()
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.store.compare_and_set(expected, bytes)
    }
}

impl Doubtful for Behind {
    fn write_in_doubt(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move {
            self.wire.set(self.mischief);
            let outcome = self.store.compare_and_set(expected, bytes).await;
            self.wire.set(Mischief::None);
            outcome
        })
    }

    fn deliver(&self) -> Reply<'_, ()> {
        Box::pin(async {
            let count = self.wire.deliver().await;
            self.arrived.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_decides_a_write_that_is_still_on_its_way() {
    let etcd = Etcd::start(3).await;
    let behind = Behind::a_wire(&etcd, &fresh_prefix(), Mischief::Late).await;
    a_load_decides_what_was_in_doubt(&behind).await;
    let arrived = behind.arrived.into_inner();
    assert!(arrived >= 4, "a late write arrived in each round, but only {arrived} did");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_finds_a_write_that_was_applied_in_silence() {
    let etcd = Etcd::start(3).await;
    let behind = Behind::a_wire(&etcd, &fresh_prefix(), Mischief::Mute).await;
    a_load_decides_what_was_in_doubt(&behind).await;
}

/// Without a load between them, a late write is applied: the test above would be worth nothing otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_write_is_applied_unless_a_load_came_first() {
    let etcd = Etcd::start(3).await;
    let behind = Behind::a_wire(&etcd, &fresh_prefix(), Mischief::Late).await;
    let first = stored(&behind, None, pattern(10)).await;
    let outcome = behind.write_in_doubt(Some(first), pattern(20)).await;
    assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "{outcome:?}");
    behind.deliver().await;
    let loaded = loaded(&behind).await.expect("a record");
    assert_eq!(loaded.bytes, pattern(20), "it arrived late, and was applied");
    assert_ne!(loaded.etag, first);
}

/// A head that was renewed names the same state: whoever has its etag goes on, and nothing is mixed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_head_stops_nobody_but_the_write_in_doubt() {
    let etcd = Etcd::start(3).await;
    let prefix = fresh_prefix();
    let behind = Behind::a_wire(&etcd, &prefix, Mischief::Late).await;
    let other = store(&etcd.url(&prefix), CALM_MS);
    // Of the longer one, what goes with the head is so short that a writer sends all of it without an answer.
    for length in [10, 1_100_000] {
        let before = loaded(&behind).await.map(|loaded| loaded.etag);
        let first = stored(&behind, before, pattern(length)).await;
        assert_eq!(loaded(&other).await.map(|loaded| loaded.etag), Some(first));
        let outcome = behind.write_in_doubt(Some(first), pattern(length + 1)).await;
        assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "{outcome:?}");
        let renewed = Loaded { etag: first, bytes: pattern(length) };
        assert_eq!(loaded(&behind).await, Some(renewed), "the same state has the same etag");
        let second = stored(&other, Some(first), pattern(length + 2)).await;
        behind.deliver().await;
        let found = Loaded { etag: second, bytes: pattern(length + 2) };
        assert_eq!(loaded(&behind).await, Some(found.clone()));
        assert_eq!(loaded(&other).await, Some(found));
        let refused = behind.compare_and_set(Some(first), pattern(1)).await;
        assert_eq!(refused, StoreOutcome::Refused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_takes_one_round_trip_and_a_load_two() {
    let etcd = Etcd::start(3).await;
    let behind = Behind::a_wire(&etcd, &fresh_prefix(), Mischief::None).await;
    let mut etag = stored(&behind, None, pattern(10)).await;
    let begun = behind.wire.requests();
    for length in [0, 1_000, 100_000, 1_000_000] {
        etag = stored(&behind, Some(etag), pattern(length)).await;
    }
    assert_eq!(behind.wire.requests() - begun, 4, "round trips of four commits");
    let begun = behind.wire.requests();
    loaded(&behind).await;
    assert_eq!(behind.wire.requests() - begun, 2, "round trips of a load");
    let begun = behind.wire.requests();
    etag = stored(&behind, Some(etag), pattern(2_000_000)).await;
    assert_eq!(behind.wire.requests() - begun, 2, "two pages, then two with the head");
    let begun = behind.wire.requests();
    stored(&behind, Some(etag), pattern(3_000_000)).await;
    assert_eq!(behind.wire.requests() - begun, 3, "six pages by twos, the last with the head");
    let begun = behind.wire.requests();
    loaded(&behind).await;
    assert_eq!(behind.wire.requests() - begun, 1 + 2, "the head, then six pages by fours");
}
