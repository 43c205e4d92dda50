//! One coordinator on a real etcd of three members: it has no disk of its own, and etcd may fail and come back.

use sheaf_tests::{
    Client, Cluster, Etcd, Node, Role, Shape, eventually, load::Workload, pause_ms, under_load,
};

/// Where the cluster's keys are.
const PREFIX: &str = "/one/cluster";
/// Seconds until a coordinator has found etcd again.
const BACK_SECS_MAX: u64 = 30;
/// Points per second that a donor may copy: slow enough that the failures hit a running transition.
const COPY_POINTS_PER_S: u64 = 20;
/// Milliseconds without a majority in etcd.
const WITHOUT_ETCD_MS: u64 = 8_000;

async fn start(etcd: &Etcd, standbys: usize) -> Cluster {
    let store = vec!["--store".to_owned(), etcd.url(PREFIX)];
    Cluster::start(Shape { coordinator: store, ..Shape::of(2, standbys) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_starts_with_nothing_but_etcd_knows_everything() {
    let etcd = Etcd::start(3).await;
    let mut cluster = start(&etcd, 1).await;
    let workload = Workload { keys: 400, ..Workload::seeded(31) };
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        load.until_acknowledged(200).await;
        let before = cluster.operator().map().await;
        cluster.coordinator.kill().await;
        assert!(!cluster.coordinator.data_dir().exists(), "it has no data directory");
        load.until_acknowledged(50).await;
        cluster.coordinator.restart().await;
        // Its new term has to be stored first.
        cluster.daemon_is_ready(&cluster.coordinator).await;
        let operator = cluster.operator();
        assert_eq!(operator.map().await, before, "the map is in etcd");
        let newcomer = cluster.nodes[2].url.clone();
        let transition = operator.grow_slowly(&newcomer, COPY_POINTS_PER_S).await;
        // In the middle of it, once more.
        cluster.coordinator.kill().await;
        cluster.coordinator.restart().await;
        cluster.operator().ended(transition, 60).await;
        load.until_acknowledged(50).await;
    })
    .await;
    load.expect_no_failure();
    cluster.expect_all_alive();
    let shards = cluster.operator().map().await["shards"].as_array().map(Vec::len);
    assert_eq!(shards, Some(3), "it has grown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_everything_is_served_and_a_change_waits_until_it_is_back() {
    let mut etcd = Etcd::start(3).await;
    let mut cluster = start(&etcd, 1).await;
    let workload = Workload { keys: 400, ..Workload::seeded(32) };
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        load.until_acknowledged(100).await;
        let newcomer = cluster.nodes[2].url.clone();
        let transition = cluster.operator().grow_slowly(&newcomer, COPY_POINTS_PER_S).await;
        etcd.kill(0).await;
        etcd.kill(1).await;
        pause_ms(WITHOUT_ETCD_MS).await;
        load.until_acknowledged(50).await;
        let report = format!("/cluster/transitions/{transition}/report");
        let report = cluster.operator().client.get(&report).await.expect("the coordinator runs");
        assert!(!report.body["outcome"].is_string(), "nothing is decided without etcd: {report}");
        etcd.restart(0);
        etcd.restart(1);
        cluster.operator().ended(transition, 90).await;
        load.until_acknowledged(50).await;
    })
    .await;
    load.expect_no_failure();
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_starts_while_etcd_is_away_waits_for_it() {
    let mut etcd = Etcd::start(1).await;
    etcd.kill(0).await;
    let folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let store = etcd.url(PREFIX);
    let arguments = ["--store", store.as_str()];
    let early = Node::start(Role::Coordinator, "early", folder.path(), &arguments);
    let comes_back = async {
        pause_ms(WITHOUT_ETCD_MS).await;
        etcd.restart(0);
    };
    let (early, ()) = tokio::join!(early, comes_back);
    eventually("it has a map", BACK_SECS_MAX, || async {
        let map = Client::new(&early.url).get("/cluster/map").await;
        let map = map.map_err(|gone| gone.to_string())?;
        if map.status.is_success() { Ok(()) } else { Err(map.to_string()) }
    })
    .await;
    assert!(early.log().contains("the store can't be used"), "{}", early.log());
}
