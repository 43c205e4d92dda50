//! Three coordinators on a real etcd of three members: whichever is killed, frozen or told to stop, in whatever phase of a
//! transition, another one goes on, no client notices, and nothing is lost. 20 rounds, all from seeds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sheaf_tests::{
    Cluster, Etcd, Load, Operator, Shape, eventually, load::Workload, pause_ms, under_load,
};

const PREFIX: &str = "/three/coordinators";
/// Points per second that a donor may copy: slow enough that most failures hit a running transition.
const COPY_POINTS_PER_S: u64 = 400;
/// Seconds until another one leads: a lease of 3 s, half a second in which etcd notices, and a busy machine.
const LEADS_SECS_MAX: u64 = 30;
/// Milliseconds for which a leader is frozen: longer than its lease, and than its successor needs to go on.
const FROZEN_MS: u64 = 6_000;

async fn start(etcd: &Etcd) -> Cluster {
    let coordinator = vec!["--store".to_owned(), etcd.url(PREFIX)];
    let shape = Shape { coordinators: 3, coordinator, ..Shape::of(2, 1) };
    Cluster::start(shape).await
}

/// The number of the coordinator that leads, by what `asked` says, once one does.
async fn leader(cluster: &mut Cluster, asked: usize) -> usize {
    let urls: Vec<String> = cluster.coordinators().iter().map(|node| node.url.clone()).collect();
    let client = cluster.client(&urls[asked]);
    let url = eventually("a coordinator leads", LEADS_SECS_MAX, || async {
        let status = client.get("/cluster/status").await.map_err(|gone| gone.to_string())?.body;
        let leader = status["leader"]["url"].as_str().map(str::to_owned);
        leader.ok_or_else(|| format!("nobody leads: {} {}", status["leader"], status["store"]))
    })
    .await;
    urls.iter().position(|known| *known == url).expect("the leader is one of the coordinators")
}

/// Waits until another coordinator than this one leads, by what a third one says.
async fn another(cluster: &mut Cluster, than: usize) {
    for _ in 0..LEADS_SECS_MAX * 5 {
        if leader(cluster, (than + 1) % 3).await != than {
            return;
        }
        pause_ms(200).await;
    }
    panic!("no other coordinator leads within {LEADS_SECS_MAX} s");
}

/// An operator at this coordinator.
fn operator(cluster: &mut Cluster, number: usize) -> Operator {
    let url = cluster.coordinators()[number].url.clone();
    Operator::new(cluster.client(&url))
}

/// Begins to grow into the third node, or to drain it when it is in. Returns the transition.
async fn change(cluster: &mut Cluster, asked: usize) -> u64 {
    let operator = operator(cluster, asked);
    let url = cluster.nodes[2].url.clone();
    let map = operator.map().await;
    let shards = map["shards"].as_array().cloned().unwrap_or_default();
    let present = shards.iter().find(|shard| shard["primary_url"] == url.as_str());
    let transition = match present.and_then(|shard| shard["id"].as_u64()) {
        Some(id) => operator.drain(id).await,
        None => operator.grow(&[url.as_str()]).await.0,
    };
    operator.throttle(transition, COPY_POINTS_PER_S).await;
    transition
}

/// Begins a change at a follower, does `harm` to the leader, and waits until a follower has seen the change's end.
async fn round(
    cluster: &mut Cluster,
    load: &Load,
    rng: &mut ChaCha8Rng,
    harm: impl AsyncFnOnce(&mut Cluster, usize),
) {
    let leads = leader(cluster, 0).await;
    let follows = (leads + rng.random_range(1..3)) % 3;
    let transition = change(cluster, follows).await;
    pause_ms(rng.random_range(0..900)).await;
    harm(cluster, leads).await;
    operator(cluster, follows).ended(transition, 60).await;
    load.until_acknowledged(20).await;
}

async fn rounds(
    seed: u64,
    count: u32,
    mut harm: impl AsyncFnMut(&mut Cluster, &mut Etcd, usize),
) -> (Cluster, Etcd) {
    let mut etcd = Etcd::start(3).await;
    let mut cluster = start(&etcd).await;
    let workload = Workload { keys: 400, ..Workload::seeded(seed) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        for number in 1..=count {
            eprintln!("round {number} of seed {seed}");
            let harm = async |cluster: &mut Cluster, leads: usize| {
                harm(cluster, &mut etcd, leads).await;
            };
            round(cluster, load, &mut rng, harm).await;
        }
    })
    .await;
    load.expect_no_failure();
    cluster.expect_all_alive();
    (cluster, etcd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_that_goes_on_with_the_transition() {
    let (mut cluster, _etcd) = rounds(61, 8, async |cluster, _, leads| {
        cluster.coordinators()[leads].kill().await;
        another(cluster, leads).await;
        cluster.coordinators()[leads].restart().await;
    })
    .await;
    let operator = operator(&mut cluster, 1);
    let terms = operator.history("leadership").await.len();
    assert!(terms > 8, "each leader has begun a term of its own: {terms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_wakes_up_in_the_middle_of_its_successors_migration_does_no_harm() {
    rounds(62, 5, async |cluster, _, leads| {
        cluster.coordinators()[leads].freeze();
        pause_ms(FROZEN_MS).await;
        another(cluster, leads).await;
        cluster.coordinators()[leads].thaw();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_etcd_that_dies_costs_neither_a_leader_nor_a_transition() {
    let mut victim = 0;
    rounds(63, 7, async move |_, etcd, _| {
        etcd.kill(victim % 3).await;
        pause_ms(500).await;
        etcd.restart(victim % 3);
        etcd.is_ready(victim % 3).await;
        victim += 1;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let mut lease_of_a_minute = vec!["--lease-secs".to_owned(), "60".to_owned()];
    let etcd = Etcd::start(3).await;
    lease_of_a_minute.extend(["--store".to_owned(), etcd.url(PREFIX)]);
    let shape = Shape { coordinators: 3, coordinator: lease_of_a_minute, ..Shape::of(1, 0) };
    let mut cluster = Cluster::start(shape).await;
    for _ in 0..2 {
        let leads = leader(&mut cluster, 0).await;
        let stopped = cluster.coordinators()[leads].terminate().await;
        assert!(stopped.success(), "{stopped}");
        // Its lease would have ended long after this.
        another(&mut cluster, leads).await;
        cluster.coordinators()[leads].restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_coordinator_answers_reads_and_hands_changes_to_the_leader() {
    let etcd = Etcd::start(3).await;
    let mut cluster = start(&etcd).await;
    let leads = leader(&mut cluster, 0).await;
    for number in 0..3 {
        let operator = operator(&mut cluster, number);
        let status = eventually("all three are known", LEADS_SECS_MAX, || async {
            let status: Value = operator.read("/cluster/status").await;
            let followers = status["followers"].as_array().map(Vec::len);
            if followers == Some(2) { Ok(status) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!(status["store"]["kind"], "etcd");
        assert_eq!(status["store"]["trouble"], Value::Null, "{status}");
        assert_eq!(status["reigns"], true, "the leader's own status: {status}");
        let before = operator.version().await;
        let weight = serde_json::json!({ "weight": 2.0 + number as f64 });
        let changed = operator.change(http::Method::PUT, "/cluster/shards/1/weight", &weight).await;
        let transition = changed["transition"].as_u64().expect("a transition");
        let _ = operator.ended(transition, 60).await.expect_committed();
        eventually("a follower shows the new map", LEADS_SECS_MAX, || async {
            if operator.version().await > before { Ok(()) } else { Err("it shows the old one") }
        })
        .await;
    }
    // A follower whose leader doesn't answer says what it knows itself.
    cluster.coordinators()[leads].freeze();
    let other = operator(&mut cluster, (leads + 1) % 3);
    let (own, status) = (other.version().await, other.read("/cluster/status").await);
    assert_eq!(status["version"], own, "{status}");
    cluster.coordinators()[leads].thaw();
}
