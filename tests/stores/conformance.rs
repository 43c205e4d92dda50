//! The suite that every store passes.

use sheaf_stores::conformance;
use sheaf_tests::Etcd;

use crate::{CALM_MS, fresh_prefix, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_on_etcd_conforms() {
    let etcd = Etcd::start(3).await;
    conformance::run(|| store(&etcd.url(&fresh_prefix()), CALM_MS)).await;
    let url = etcd.url(&fresh_prefix());
    let (one, other) = (store(&url, CALM_MS), store(&url, CALM_MS));
    conformance::two_handles_never_both_win(&one, &other).await;
}
