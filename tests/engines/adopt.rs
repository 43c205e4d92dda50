//! A running Quiver cluster moves in: its points stay where they are, and what its defects left on the wrong shard comes home.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_tests::ask::segment;
use sheaf_tests::cli::sheaf;
use sheaf_tests::points::point;
use sheaf_tests::{Client, Cluster, QuiverServer, Shape, eventually};

/// Points of the old cluster.
const POINTS: u64 = 400;

/// A cluster as Quiver's users have it: servers, a coordinator with a state file, a router.
struct Old {
    servers: Vec<QuiverServer>,
    coordinator: QuiverServer,
    router: QuiverServer,
    /// What was acknowledged, by id.
    known: BTreeMap<String, Value>,
}

fn collection() -> Value {
    json!({"name": "points", "dim": 8, "metric": "l2"})
}

impl Old {
    /// Three shards with points, and a fourth server beside them.
    async fn start() -> Self {
        let mut servers = Vec::new();
        for _ in 0..4 {
            servers.push(QuiverServer::start().await);
        }
        let urls: Vec<String> = servers.iter().take(3).map(QuiverServer::url).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let coordinator = QuiverServer::start_coordinator(&urls).await;
        let router = QuiverServer::start_router(&urls, Some(&coordinator.url())).await;
        let mut old = Self { servers, coordinator, router, known: BTreeMap::new() };
        old.client().post("/v1/collections", &collection()).await.unwrap().expect_ok("create");
        let ids: Vec<String> = (0..POINTS).map(|n| format!("point-{n}")).collect();
        old.write(&ids).await;
        old
    }

    fn client(&self) -> Client {
        Client::new(&self.router.url())
    }

    async fn write(&mut self, ids: &[String]) {
        let stamp = self.known.len() as u64;
        let points: Vec<Value> = (stamp..).zip(ids).map(|(stamp, id)| point(id, stamp)).collect();
        let body = json!({ "points": points });
        let answer = self.client().post("/v1/collections/points/points", &body).await;
        answer.unwrap().expect_ok("upsert");
        self.known.extend(ids.iter().cloned().zip(points));
    }

    /// Puts a point on this server past the router.
    async fn put(&self, server: usize, point: &Value) {
        let server = Client::new(&self.servers[server].url());
        let body = json!({ "points": [point] });
        let answer = server.post("/v1/collections/points/points", &body).await;
        answer.unwrap().expect_ok("upsert");
    }

    /// The number of the shard that has the point.
    async fn shard_of(&self, id: &str) -> usize {
        for (number, server) in self.servers.iter().enumerate() {
            let path = format!("/v1/collections/points/points/{}", segment(id));
            let answer = Client::new(&server.url()).get(&path).await.unwrap();
            if answer.status.is_success() {
                return number;
            }
        }
        panic!("no server has {id}");
    }

    /// Has the old coordinator begin something, and ends it in the middle: its router knows by then, and writes to both sides.
    async fn cut_off(&mut self, path: &str, body: &Value) {
        let coordinator = Client::new(&self.coordinator.url());
        coordinator.post(path, body).await.unwrap().expect_ok(path);
        let router = self.client();
        eventually("Quiver's router has the new map", 10, || async {
            let map = router.get("/cluster/map").await.map_err(|gone| gone.to_string())?;
            if map.body["version"] == 1 { Ok(()) } else { Err(map.to_string()) }
        })
        .await;
        self.coordinator.kill().await;
        let ids: Vec<String> = (0..50).map(|n| format!("late-{n}")).collect();
        self.write(&ids).await;
        let again: Vec<String> = (0..50).map(|n| format!("point-{n}")).collect();
        self.write(&again).await;
    }

    /// Stops what Sheaf replaces.
    async fn stop(&mut self) {
        self.router.kill().await;
    }

    fn state(&self) -> String {
        self.coordinator.coordinator_state().display().to_string()
    }
}

/// Gates in front of these servers, and a coordinator and routers that know nothing yet.
async fn gates(old: &Old, servers: &[usize]) -> Cluster {
    let mut cluster = Cluster::start(Shape { routers: 0, ..Shape::of(0, 0) }).await;
    for server in servers {
        let url = old.servers[*server].url();
        let further = ["--engine", "quiver", "--engine-url", &url, "--adopt"];
        cluster.add_node_with(&further).await;
    }
    let coordinators = cluster.coordinator_urls();
    cluster.add_router(&coordinators).await;
    cluster
}

fn gate_words(cluster: &Cluster, gates: usize) -> Vec<String> {
    let urls = cluster.nodes.iter().take(gates).map(|node| node.url.clone());
    urls.flat_map(|url| ["--gate".to_owned(), url]).collect()
}

async fn adopt(cluster: &Cluster, old: &Old, gates: usize) -> sheaf_tests::cli::Said {
    let state = old.state();
    let gates = gate_words(cluster, gates);
    let mut words = vec!["adopt", "--quiver-state", &state];
    words.extend(gates.iter().map(String::as_str));
    sheaf(cluster, &words).await
}

/// Every point is there as it was acknowledged, and nothing besides.
async fn check(cluster: &Cluster, known: &BTreeMap<String, Value>) {
    let router = Client::new(&cluster.routers[0].url);
    let body = json!({"limit": 10_000, "with_vector": true, "with_payload": true});
    let found = router.post("/v1/collections/points/fetch", &body).await;
    let found = found.unwrap().expect_ok("fetch");
    let shown = found["points"].as_array().unwrap().iter();
    let shown: BTreeMap<String, Value> =
        shown.map(|point| (point["id"].as_str().unwrap().to_owned(), point.clone())).collect();
    assert_eq!(shown.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    for (id, point) in known {
        assert_eq!(shown[id], *point, "{id}");
    }
    assert_eq!(cluster.operator().verify().await, known.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_coordinator_kept_no_file_moves_in_by_the_order_of_its_servers() {
    let mut old = Old::start().await;
    old.coordinator.kill().await;
    old.stop().await;
    let mut cluster = gates(&old, &[0, 1, 2]).await;
    let urls: Vec<&str> = cluster.nodes.iter().map(|node| node.url.as_str()).collect();
    let said = sheaf(&cluster, &["adopt", "--shards", urls[0], urls[1], urls[2]]).await.expect_ok();
    assert!(said.contains("400 points in 1 collections") && said.contains("proven"), "{said}");
    assert_eq!(cluster.operator().shard_ids().await, [0, 1, 2]);
    check(&cluster, &old.known).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_that_are_named_in_the_wrong_order_lose_nothing() {
    let mut old = Old::start().await;
    old.coordinator.kill().await;
    old.stop().await;
    let mut cluster = gates(&old, &[1, 2, 0]).await;
    let urls: Vec<&str> = cluster.nodes.iter().map(|node| node.url.as_str()).collect();
    let said = sheaf(&cluster, &["adopt", "--shards", urls[0], urls[1], urls[2]]).await;
    said.expect_refused("verify --repair");
    let router = Client::new(&cluster.routers[0].url);
    let delete = json!({"ids": ["point-1"]});
    let refused = router.delete("/v1/collections/points/points", &delete).await.unwrap();
    refused.expect_problem(503, "a delete before the proof");
    // All of them are on the wrong shard, and all come home.
    let said = sheaf(&cluster, &["verify", "--repair"]).await.expect_ok();
    assert!(said.contains("400 points moved to their owners, 400 copies discarded"), "{said}");
    check(&cluster, &old.known).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_on_the_wrong_shard_are_listed_repaired_and_never_lost() {
    let mut old = Old::start().await;
    // What Quiver's defects leave: a last copy on the wrong shard, an equal copy, an older one.
    old.write(&["lost".to_owned()]).await;
    let home = old.shard_of("lost").await;
    let gone = json!({"ids": ["lost"]});
    old.client().delete("/v1/collections/points/points", &gone).await.unwrap().expect_ok("delete");
    old.put((home + 1) % 3, &old.known["lost"]).await;
    let home = old.shard_of("point-7").await;
    old.put((home + 1) % 3, &old.known["point-7"]).await;
    let home = old.shard_of("point-8").await;
    old.put((home + 1) % 3, &point("point-8", 9_000)).await;
    // One change, so that there is a file: a join that is undone again leaves the map as it was.
    let coordinator = Client::new(&old.coordinator.url());
    let body = json!({"primary_url": old.servers[3].url()});
    coordinator.post("/cluster/shards/joining", &body).await.unwrap().expect_ok("joining");
    coordinator.delete("/cluster/shards/3", &json!({})).await.unwrap().expect_ok("remove");
    old.coordinator.kill().await;
    old.stop().await;

    let mut cluster = gates(&old, &[0, 1, 2]).await;
    let said = adopt(&cluster, &old, 3).await.expect_refused("verify --repair");
    assert!(said.contains("are taken over"), "{said}");
    // A crash of everything changes nothing about it.
    cluster.coordinator.kill().await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    cluster.coordinator.restart().await;
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    let standby = cluster.add_node().await;
    let url = cluster.nodes[standby].url.clone();
    eventually("the coordinator serves", 20, || async {
        match sheaf(&cluster, &["grow", &url]).await {
            said if said.text.contains("isn't proven yet") => Ok(()),
            said => Err(said.text),
        }
    })
    .await;
    sheaf(&cluster, &["verify"]).await.expect_refused("point-8");
    let said = sheaf(&cluster, &["verify", "--repair"]).await.expect_refused("point-8");
    assert!(said.contains("1 left because their owner has another value"), "{said}");
    sheaf(&cluster, &["verify", "--repair", "--discard-differing"]).await.expect_ok();
    let said = adopt(&cluster, &old, 3).await.expect_ok();
    assert!(said.contains("taken over before") && said.contains("proven"), "{said}");
    check(&cluster, &old.known).await;
    // From here on it is a cluster as any other.
    let router = Client::new(&cluster.routers[0].url);
    let gone = router.delete("/v1/collections/points/points", &json!({"ids": ["lost"]})).await;
    assert_eq!(gone.unwrap().expect_ok("delete")["deleted"], 1);
    old.known.remove("lost");
    sheaf(&cluster, &["grow", &url, "--wait"]).await.expect_ok();
    check(&cluster, &old.known).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_quivers_coordinator_had_begun_is_finished_as_one_of_sheaf() {
    let mut old = Old::start().await;
    // It gets the collection three seconds after its join began; until then every write to it fails.
    let joiner = Client::new(&old.servers[3].url());
    joiner.post("/v1/collections", &collection()).await.unwrap().expect_ok("create");
    let body = json!({"primary_url": old.servers[3].url()});
    old.cut_off("/cluster/shards/grow", &body).await;
    old.stop().await;
    let mut cluster = gates(&old, &[0, 1, 2]).await;
    let url = old.servers[3].url();
    cluster.add_node_with(&["--engine", "quiver", "--engine-url", &url]).await;
    let said = adopt(&cluster, &old, 4).await.expect_ok();
    assert!(said.contains("its node joins now, as a new shard"), "{said}");
    assert_eq!(cluster.operator().shard_ids().await, [0, 1, 2, 4]);
    check(&cluster, &old.known).await;
    // Asked again, it finds everything done.
    adopt(&cluster, &old, 4).await.expect_ok();
    assert_eq!(cluster.operator().shard_ids().await, [0, 1, 2, 4]);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_quivers_coordinator_had_begun_is_repaired_and_finished() {
    let mut old = Old::start().await;
    old.cut_off("/cluster/shards/1/drain", &json!({})).await;
    old.stop().await;
    let mut cluster = gates(&old, &[0, 1, 2]).await;
    adopt(&cluster, &old, 3).await.expect_refused("verify --repair");
    // Every late write is at the shard that leaves and at the one that was to own it.
    let said = sheaf(&cluster, &["verify", "--repair"]).await.expect_ok();
    assert!(said.contains("0 points moved to their owners"), "{said}");
    adopt(&cluster, &old, 3).await.expect_ok();
    assert_eq!(cluster.operator().shard_ids().await, [0, 2]);
    check(&cluster, &old.known).await;
    cluster.expect_all_alive();
}
