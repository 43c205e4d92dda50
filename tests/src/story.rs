//! The frame of a story: clients at work, something done to the cluster, then rest and judgement.
//!
//! Decides nothing about what is done; the record judges.

use crate::cluster::Cluster;
use crate::load::{Load, Workload};
use crate::router::Router;

/// The collection of the clients.
pub const COLLECTION: &str = "points";
/// Acknowledged writes before and after whatever is done, so that it is done under load.
const WRITES_AROUND: u64 = 60;

/// Has clients work on all routers while `deed` happens, then checks every promise.
///
/// # Panics
/// A promise was broken.
pub async fn under_load(
    cluster: &mut Cluster,
    workload: Workload,
    deed: impl AsyncFnOnce(&mut Cluster, &Load),
) -> Load {
    let routers = cluster.all_routers();
    story(&routers, &[], cluster, workload, deed).await
}

/// The same with clients on these routers, which may be none of the cluster's own.
///
/// # Panics
/// A promise was broken.
pub async fn under_load_on(
    routers: &[Router],
    cluster: &mut Cluster,
    workload: Workload,
    deed: impl AsyncFnOnce(&mut Cluster, &Load),
) -> Load {
    let own = cluster.all_routers();
    story(routers, &own, cluster, workload, deed).await
}

/// `further` routers only have to agree in the end.
async fn story(
    routers: &[Router],
    further: &[Router],
    cluster: &mut Cluster,
    workload: Workload,
    deed: impl AsyncFnOnce(&mut Cluster, &Load),
) -> Load {
    cluster.create_collection(COLLECTION).await;
    let mut load = Load::seeded(&cluster.router(0), COLLECTION, workload).await;
    load.go(routers);
    load.until_acknowledged(WRITES_AROUND).await;
    deed(cluster, &load).await;
    load.until_acknowledged(WRITES_AROUND).await;
    load.stop().await;
    load.check_at_rest(routers).await;
    load.check_at_rest(further).await;
    load.expect_nothing_broken();
    cluster.operator().idle().await;
    let points = cluster.operator().verify().await;
    let (surely, maybe) = load.expected_points();
    assert!(
        (surely..=maybe).contains(&points),
        "the audit counts {points} points, {surely} to {maybe} exist"
    );
    load
}
