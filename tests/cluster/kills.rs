//! `kill -9` of each role at random moments while the cluster grows and shrinks under load: 20 rounds, all from seeds.
//!
//! A request that was under way at a killed process may have any outcome; everything acknowledged must be there.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sheaf_tests::{Cluster, Load, Node, Shape, load::Workload, pause_ms, under_load};

const ROUNDS: u64 = 5;
/// Points per second that a donor may copy: slow enough that most kills hit a running transition.
const COPY_POINTS_PER_S: u64 = 700;

/// Whom a round kills.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Coordinator,
    /// The first of two shards that give points to a node that joins, or take them from one that leaves.
    Stayer,
    /// The node that joins and leaves.
    Comer,
    Router,
}

fn victim_of(cluster: &mut Cluster, victim: Victim) -> &mut Node {
    match victim {
        Victim::Coordinator => &mut cluster.coordinator,
        Victim::Stayer => &mut cluster.nodes[0],
        Victim::Comer => &mut cluster.nodes[2],
        Victim::Router => &mut cluster.routers[1],
    }
}

/// Begins to grow into the third node, or to drain it when it is in. Returns the transition.
async fn change(cluster: &Cluster) -> u64 {
    let operator = cluster.operator();
    let url = cluster.nodes[2].url.as_str();
    let map = operator.map().await;
    let shards = map["shards"].as_array().cloned().unwrap_or_default();
    let present = shards.iter().find(|shard| shard["primary_url"] == url);
    match present.and_then(|shard| shard["id"].as_u64()) {
        Some(id) => operator.drain(id).await,
        None => operator.grow(&[url]).await.0,
    }
}

async fn round(cluster: &mut Cluster, load: &Load, victim: Victim, rng: &mut ChaCha8Rng) {
    let transition = change(cluster).await;
    cluster.operator().throttle(transition, COPY_POINTS_PER_S).await;
    pause_ms(rng.random_range(0..700)).await;
    let node = victim_of(cluster, victim);
    node.kill().await;
    pause_ms(rng.random_range(0..400)).await;
    node.restart().await;
    // Committed or aborted, by itself, once everything runs again.
    cluster.operator().ended(transition, 60).await;
    load.until_acknowledged(20).await;
}

async fn rounds(seed: u64, victim: Victim) -> (Cluster, Load) {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let workload = Workload { keys: 400, ..Workload::seeded(seed) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        for number in 1..=ROUNDS {
            eprintln!("round {number} of seed {seed}: {victim:?}");
            round(cluster, load, victim, &mut rng).await;
        }
    })
    .await;
    cluster.expect_all_alive();
    (cluster, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_coordinator_resumes_every_transition_and_no_client_notices() {
    let (_cluster, load) = rounds(11, Victim::Coordinator).await;
    load.expect_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shard_loses_nothing_acknowledged_in_any_phase_of_a_transition() {
    rounds(12, Victim::Stayer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_that_joins_or_leaves_loses_nothing_acknowledged() {
    rounds(13, Victim::Comer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_router_fails_only_the_requests_that_it_had_itself() {
    let (cluster, load) = rounds(14, Victim::Router).await;
    let killed = cluster.routers[1].address();
    for reason in load.tally().reasons.keys() {
        assert!(reason.contains(killed), "through another router: {reason}");
    }
}
