//! What clients of a whole cluster see while a foreign engine's server fails: the course that both kinds of server go through.

use sheaf_tests::load::Workload;
use sheaf_tests::{Cluster, Load, Shape, under_load};

/// Points per second that a donor may copy: slow enough that faults hit a running transition.
const COPY_POINTS_PER_S: u64 = 200;
const FAST: u64 = 100_000;

/// A cluster of an embedded shard that grows into one on the engine at this URL, and back, while `deed` does harm.
pub async fn in_and_out(
    seed: u64,
    (engine, url): (&str, &str),
    mut deed: impl AsyncFnMut(&Load),
) -> Load {
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let node = cluster.add_node_with(&["--engine", engine, "--engine-url", url]).await;
    let workload = Workload { keys: 150, ..Workload::seeded(seed) };
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        let operator = cluster.operator();
        let grow = operator.grow_slowly(&cluster.nodes[node].url, COPY_POINTS_PER_S).await;
        deed(load).await;
        operator.throttle(grow, FAST).await;
        let _ = operator.ended(grow, 40).await.expect_committed();
        // Now it is the only holder of half of the points.
        deed(load).await;
        let ids = operator.shard_ids().await;
        let drain = operator.drain(*ids.last().expect("two shards")).await;
        operator.throttle(drain, COPY_POINTS_PER_S).await;
        deed(load).await;
        operator.throttle(drain, FAST).await;
        let _ = operator.ended(drain, 40).await.expect_committed();
    })
    .await;
    cluster.expect_all_alive();
    load
}
