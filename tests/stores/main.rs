//! The store on a real etcd of three members, killed, cut off, delayed and damaged. Needs `etcd` and `etcdctl`.

mod access;
mod conformance;
mod damage;
mod doubt;
mod election;
mod late;
mod members;
mod tls;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sheaf_etcd::{EtcdAccess, EtcdAddress, EtcdOptions, EtcdStore};
use sheaf_runtime::Clock;
use sheaf_stores::{Etag, Loaded, Store, StoreOutcome};
use sheaf_types::Time;

/// Milliseconds that a call may take where nothing is broken, on a busy machine.
const CALM_MS: u64 = 10_000;

/// The time, as a coordinator's clock tells it.
fn now() -> Time {
    static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);
    CLOCK.now()
}

/// A number that nothing else of this test has.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A prefix that no other record of the test has.
fn fresh_prefix() -> String {
    format!("/test/{}", unique())
}

/// A store as a process of its own has it, at this `etcd://…`.
fn store(url: &str, deadline_ms: u64) -> EtcdStore {
    EtcdStore::new(options(url, deadline_ms))
}

fn options(url: &str, deadline_ms: u64) -> EtcdOptions {
    EtcdOptions {
        address: EtcdAddress::parse(url).unwrap_or_else(|why| panic!("{why}")),
        access: EtcdAccess::default(),
        writer: format!("w{}", unique()),
        deadline: Duration::from_millis(deadline_ms),
    }
}

async fn loaded(store: &dyn Store) -> Option<Loaded> {
    store.load().await.unwrap_or_else(|error| panic!("the record can be loaded: {error}"))
}

async fn stored(store: &dyn Store, expected: Option<Etag>, bytes: Bytes) -> Etag {
    match store.compare_and_set(expected, bytes).await {
        StoreOutcome::Done(etag) => etag,
        other => panic!("the expected state is replaced, but: {other:?}"),
    }
}

/// Bytes that differ from page to page.
fn pattern(length: usize) -> Bytes {
    Bytes::from((0..length).map(|n| (n / 1_000) as u8).collect::<Vec<_>>())
}
