//! `kill -9` of the database and of the gate in front of it, at drawn moments, while points move in and out under load.
//!
//! A few rounds each; `SHEAF_KILL_ROUNDS=20` runs that many, from a seed that is drawn and printed. `SHEAF_KILL_SEED` gives it.

use http::Method;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sheaf_tests::{Cluster, Postgres, QuiverServer, Shape, load::Workload, pause_ms, under_load};

/// Points per second that a donor may copy: slow enough that kills hit a running transition.
const COPY_POINTS_PER_S: u64 = 60;
const FAST: u64 = 100_000;
const ROUNDS_SET: &str = "SHEAF_KILL_ROUNDS";
const SEED_SET: &str = "SHEAF_KILL_SEED";
/// Milliseconds after the begin of a transition within which something is killed, and for which it is dead at most.
const MOMENT_MS_MAX: u64 = 900;
const DEAD_MS_MAX: u64 = 300;
/// Seconds for a transition to end though things are killed.
const TRANSITION_SECS_MAX: u64 = 60;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Database,
    Gate,
}

enum Database {
    Quiver(QuiverServer),
    Postgres(Postgres),
}

impl Database {
    /// The arguments of a shard in front of it.
    async fn shard_arguments(&self) -> Vec<String> {
        match self {
            Self::Quiver(server) => server.shard_arguments().to_vec(),
            Self::Postgres(server) => {
                let url = server.database("shard").await;
                ["--engine", "pgvector", "--engine-url", &url].map(str::to_owned).to_vec()
            }
        }
    }

    async fn is_killed(&mut self, dead_ms: u64) {
        match self {
            Self::Quiver(server) => {
                server.kill().await;
                pause_ms(dead_ms).await;
                server.restart().await;
            }
            Self::Postgres(server) => {
                server.kill().await;
                pause_ms(dead_ms).await;
                server.restart().await;
            }
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

/// Begins to grow into the node on the database, or to drain it when it is in. Returns the transition.
async fn change(cluster: &Cluster) -> u64 {
    let operator = cluster.operator();
    let url = cluster.nodes[1].url.as_str();
    let map = operator.map().await;
    let shards = map["shards"].as_array().cloned().unwrap_or_default();
    let present = shards.iter().find(|shard| shard["primary_url"] == url);
    let limits = json!({ "points_per_s_max": COPY_POINTS_PER_S });
    let (path, body) = match present.and_then(|shard| shard["id"].as_u64()) {
        Some(id) => (format!("/cluster/shards/{id}/drain"), json!({ "limits": limits })),
        None => {
            let body = json!({ "primary_url": url, "limits": limits });
            ("/cluster/shards/grow".to_owned(), body)
        }
    };
    let accepted = operator.change(Method::POST, &path, &body).await;
    accepted["transition"].as_u64().unwrap_or_else(|| panic!("nothing was accepted: {accepted}"))
}

/// A cluster of one embedded shard, and of a node on the database that points move to and from.
async fn rounds(mut database: Database, victim: Victim, rounds: u64, seed: u64) {
    let (rounds, seed) = match number_of(ROUNDS_SET) {
        Some(rounds) => (rounds, number_of(SEED_SET).unwrap_or_else(sheaf_runtime::entropy::seed)),
        None => (rounds, seed),
    };
    eprintln!("{rounds} rounds, {victim:?}: {SEED_SET}={seed} {ROUNDS_SET}={rounds}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let arguments = database.shard_arguments().await;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    cluster.add_node_with(&arguments).await;
    let workload = Workload { keys: 150, ..Workload::seeded(seed) };
    let (mut committed, mut hit) = (0, 0);
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        for _ in 0..rounds {
            let transition = change(cluster).await;
            pause_ms(rng.random_range(0..MOMENT_MS_MAX)).await;
            let status = cluster.operator().read("/cluster/status").await;
            hit += u64::from(!status["transition"].is_null());
            let dead_ms = rng.random_range(0..DEAD_MS_MAX);
            match victim {
                Victim::Database => database.is_killed(dead_ms).await,
                Victim::Gate => {
                    cluster.nodes[1].kill().await;
                    pause_ms(dead_ms).await;
                    cluster.nodes[1].restart().await;
                }
            }
            cluster.operator().throttle(transition, FAST).await;
            let ended = cluster.operator().ended(transition, TRANSITION_SECS_MAX).await;
            committed += u64::from(ended.committed());
            load.until_acknowledged(20).await;
        }
    })
    .await;
    let tally = load.tally();
    eprintln!(
        "{victim:?}: of {rounds} transitions {committed} were committed, {hit} ran at the kill; {} writes were acknowledged; of {} \
         requests {} failed",
        load.acknowledged(),
        tally.requests,
        tally.failed
    );
    assert!(hit * 2 >= rounds, "of {rounds} kills only {hit} were in a transition");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgresql_loses_nothing_acknowledged_while_points_move_in_and_out() {
    rounds(Database::Postgres(Postgres::start().await), Victim::Database, 5, 62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gate_in_front_of_postgresql_loses_nothing_acknowledged() {
    rounds(Database::Postgres(Postgres::start().await), Victim::Gate, 5, 63).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_quiver_loses_nothing_acknowledged_while_points_move_in_and_out() {
    rounds(Database::Quiver(QuiverServer::start().await), Victim::Database, 5, 64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gate_in_front_of_quiver_loses_nothing_acknowledged() {
    rounds(Database::Quiver(QuiverServer::start().await), Victim::Gate, 5, 65).await;
}
