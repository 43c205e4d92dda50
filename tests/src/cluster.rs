//! A whole cluster of real processes in a temporary folder. When a test fails, the ends of all logs are printed.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::ask::Client;
use crate::node::{FILE_BYTES_ANY, Node, Role};
use crate::operate::Operator;
use crate::patience::eventually;
use crate::router::Router;

/// Seconds that a new cluster may take until it serves.
const READY_SECS_MAX: u64 = 30;

/// What a cluster shall consist of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Shards of the first map; their ids are 1, 2, …
    pub shards: usize,
    /// Nodes that run and are in no map.
    pub standbys: usize,
    pub routers: usize,
    /// Coordinators; several need a store that they share.
    pub coordinators: usize,
    /// Further arguments of the coordinators.
    pub coordinator: Vec<String>,
    /// Further arguments of every daemon.
    pub all: Vec<String>,
    /// The key that the harness itself shows.
    pub key: Option<String>,
    /// Whether the coordinator's and the nodes' disks can be filled (`Node::limit_files`).
    pub fillable_disks: bool,
}

impl Shape {
    /// A cluster of this many shards and standbys, with two routers.
    pub fn of(shards: usize, standbys: usize) -> Self {
        let (coordinator, all) = (Vec::new(), Vec::new());
        let (key, fillable_disks) = (None, false);
        let (routers, coordinators) = (2, 1);
        Self { shards, standbys, routers, coordinators, coordinator, all, key, fillable_disks }
    }
}

/// The processes of a cluster.
pub struct Cluster {
    pub coordinator: Node,
    /// The other coordinators.
    pub others: Vec<Node>,
    pub routers: Vec<Node>,
    /// Shards, then standbys, in the order in which they were started.
    pub nodes: Vec<Node>,
    pub replicas: Vec<Node>,
    all: Vec<String>,
    key: Option<String>,
    file_bytes_max: Option<u64>,
    // Last: the folder goes after the processes have ended.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts everything and waits until it serves.
    ///
    /// # Panics
    /// Something doesn't start.
    pub async fn start(shape: Shape) -> Self {
        let mut cluster = Self::start_coordinator(&shape).await;
        for _ in 0..shape.shards + shape.standbys {
            cluster.add_node().await;
        }
        let operator = cluster.operator();
        for number in 0..shape.shards {
            operator.add_first_shard(&cluster.nodes[number].url).await;
        }
        for _ in 0..shape.routers {
            let coordinators = cluster.coordinator_urls();
            cluster.add_router(&coordinators).await;
        }
        for daemon in cluster.routers.iter().chain(&cluster.others) {
            cluster.daemon_is_ready(daemon).await;
        }
        cluster
    }

    async fn start_coordinator(shape: &Shape) -> Self {
        let folder = tempfile::tempdir().expect("the system has room for temporary folders");
        let arguments = shape.coordinator.iter().chain(&shape.all).map(String::as_str);
        let arguments: Vec<&str> = arguments.collect();
        let file_bytes_max = shape.fillable_disks.then_some(FILE_BYTES_ANY);
        let mut coordinators = Vec::new();
        for number in 1..=shape.coordinators {
            let name = if number == 1 {
                "coordinator".to_owned()
            } else {
                format!("coordinator-{number}")
            };
            let (role, path) = (Role::Coordinator, folder.path());
            let started = Node::try_start(role, &name, path, &arguments, file_bytes_max).await;
            coordinators.push(started.unwrap_or_else(|why| panic!("{why}")));
        }
        let coordinator = coordinators.remove(0);
        let (all, key) = (shape.all.clone(), shape.key.clone());
        let (routers, nodes, replicas, others) = (Vec::new(), Vec::new(), Vec::new(), coordinators);
        Self { coordinator, others, routers, nodes, replicas, all, key, file_bytes_max, folder }
    }

    /// The URLs of all coordinators, as a setting.
    pub fn coordinator_urls(&self) -> String {
        let all = std::iter::once(&self.coordinator).chain(&self.others);
        all.map(|node| node.url.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The coordinators, the first one first.
    pub fn coordinators(&mut self) -> Vec<&mut Node> {
        std::iter::once(&mut self.coordinator).chain(&mut self.others).collect()
    }

    /// Starts one more node of data, in no map.
    pub async fn add_node(&mut self) -> usize {
        self.add_node_with(&[]).await
    }

    /// The same with further arguments.
    pub async fn add_node_with(&mut self, further: &[&str]) -> usize {
        let name = format!("node-{}", self.nodes.len() + 1);
        let coordinators = self.coordinator_urls();
        let mut arguments: Vec<&str> =
            coordinators.split(' ').flat_map(|url| ["--coordinator", url]).collect();
        arguments.extend(self.all.iter().map(String::as_str));
        arguments.extend(further);
        let (folder, limit) = (self.folder.path(), self.file_bytes_max);
        let node = Node::try_start(Role::Shard, &name, folder, &arguments, limit).await;
        self.nodes.push(node.unwrap_or_else(|why| panic!("{why}")));
        self.nodes.len() - 1
    }

    /// Starts a replica of a shard; `engine` is what it is told of the shard's server and of the one that follows it. It is in no map yet.
    pub async fn add_replica(&mut self, of: u64, engine: &[&str]) -> usize {
        let name = format!("replica-{}", self.replicas.len() + 1);
        let (of, coordinators) = (of.to_string(), self.coordinator_urls());
        let mut arguments = vec!["--of-shard", &of];
        arguments.extend(engine);
        arguments.extend(coordinators.split(' ').flat_map(|url| ["--coordinator", url]));
        arguments.extend(self.all.iter().map(String::as_str));
        let replica = Node::start(Role::Replica, &name, self.folder.path(), &arguments).await;
        self.replicas.push(replica);
        self.replicas.len() - 1
    }

    /// The ids that a node of the first map shows when it is asked for those that it owns.
    pub async fn owned_by(&self, number: usize, collection: &str) -> Vec<String> {
        let node = self.client(&self.nodes[number].url);
        let path = format!("/v1/collections/{collection}/fetch");
        let (shard, body) =
            ((number + 1).to_string(), json!({ "limit": 10_000, "with_payload": false }));
        let answer = node.json(Method::POST, &path, &[("sheaf-shard", &shard)], &body).await;
        let body = answer.expect("it answers").expect_ok("fetch from a node");
        let points = body["points"].as_array().cloned().unwrap_or_default();
        points.iter().filter_map(|point| point["id"].as_str().map(str::to_owned)).collect()
    }

    /// What a refused request must leave as it was: the map, and what each collection counts.
    pub async fn state(&self) -> Value {
        let map = self.operator().map().await;
        let list = self.router(0).client.get("/v1/collections").await;
        let list = list.expect("the router answers").expect_ok("list");
        json!({ "map": map, "collections": list })
    }

    /// Starts one more router, that finds coordinators at these URLs, with spaces between them.
    pub async fn add_router(&mut self, coordinators: &str) -> usize {
        let name = format!("router-{}", self.routers.len() + 1);
        let mut arguments: Vec<&str> =
            coordinators.split(' ').flat_map(|url| ["--coordinator", url]).collect();
        arguments.extend(self.all.iter().map(String::as_str));
        let router = Node::start(Role::Router, &name, self.folder.path(), &arguments).await;
        self.routers.push(router);
        self.routers.len() - 1
    }

    /// Waits until this daemon says that it is ready: a router has a map, a coordinator decides.
    pub async fn daemon_is_ready(&self, daemon: &Node) {
        let client = self.client(&daemon.url);
        eventually("the daemon is ready", READY_SECS_MAX, || async {
            let answer = client.get("/readyz").await.map_err(|gone| gone.to_string())?;
            if answer.status.is_success() { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }

    /// A client of any daemon, with the harness's key.
    pub fn client(&self, url: &str) -> Client {
        let client = Client::new(url);
        match &self.key {
            Some(key) => client.with_key(key),
            None => client,
        }
    }

    pub fn operator(&self) -> Operator {
        Operator::new(self.client(&self.coordinator.url))
    }

    /// A client of this router.
    pub fn router(&self, number: usize) -> Router {
        Router::new(self.client(&self.routers[number].url))
    }

    /// Clients of all routers.
    pub fn all_routers(&self) -> Vec<Router> {
        (0..self.routers.len()).map(|number| self.router(number)).collect()
    }

    /// A folder for a test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates the collection that the load uses, and waits until all routers know it.
    pub async fn create_collection(&self, name: &str) {
        let body = json!({ "name": name, "dim": crate::points::DIM, "metric": "l2" });
        let router = self.router(0);
        router.client.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
        for router in self.all_routers() {
            self.collection_is_known(&router, name).await;
        }
    }

    pub async fn collection_is_known(&self, router: &Router, name: &str) -> Value {
        eventually("the collection is known", READY_SECS_MAX, || async {
            let answer = router.client.get(&format!("/v1/collections/{name}")).await;
            let answer = answer.map_err(|gone| gone.to_string())?;
            if answer.status.is_success() { Ok(answer.body) } else { Err(answer.to_string()) }
        })
        .await
    }

    /// Daemons that ended though nobody told them to, with the ends of their logs.
    pub fn ended_by_themselves(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for node in self.all_nodes() {
            if let Some(status) = node.ended() {
                ended.push(format!("{} ended by itself ({status}); {}", node.name, node.log_end()));
            }
        }
        ended
    }

    fn all_nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        let coordinators = std::iter::once(&mut self.coordinator).chain(&mut self.others);
        coordinators.chain(&mut self.routers).chain(&mut self.nodes).chain(&mut self.replicas)
    }

    /// Fails when a daemon ended by itself, or said that it panicked.
    ///
    /// # Panics
    /// One did.
    pub fn expect_all_alive(&mut self) {
        let ended = self.ended_by_themselves();
        assert!(ended.is_empty(), "{}", ended.join("\n"));
        for node in self.all_nodes() {
            let log = node.log();
            let panic = log.lines().find(|line| line.contains("panicked at"));
            assert!(panic.is_none(), "{}: {}", node.name, panic.unwrap_or_default());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.all_nodes() {
                eprintln!("--- {} {}: {}", node.name, node.url, node.log_end());
            }
        }
    }
}
