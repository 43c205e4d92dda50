//! Two clusters of the same kind of servers: Sheaf's gates in front of Quiver, and Quiver's own coordinator with its routers.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, QuiverServer, Shape, eventually};

use crate::stage::{COLLECTION, commit_ms};
use crate::stopwatch::Stopwatch;
use crate::synthetic;

/// Points in a request; more are refused by Quiver.
const BATCH_POINTS: usize = 1_000;
/// Milliseconds between two looks at the stock map.
const LOOK_MS: u64 = 5;
const GROW_SECS_MAX: u64 = 900;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sheaf,
    Stock,
}

/// A running cluster of one shard, a second server that is in no map yet, and two routers.
pub struct Contender {
    cluster: Option<Cluster>,
    coordinator: Client,
    stock_routers: Vec<QuiverServer>,
    /// Where the second shard is.
    joining: String,
    // Last: the gates end before their databases.
    _servers: Vec<QuiverServer>,
}

impl Contender {
    /// Starts it, with the points.
    pub async fn start(kind: Kind, points: usize) -> Self {
        let servers = vec![QuiverServer::start().await, QuiverServer::start().await];
        let contender = match kind {
            Kind::Sheaf => Self::sheaf(servers).await,
            Kind::Stock => Self::stock(servers).await,
        };
        let body = json!({ "name": COLLECTION, "dim": synthetic::DIM, "metric": "cosine" });
        let router = contender.router(0);
        router.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
        for number in 0..2 {
            let router = contender.router(number);
            eventually("the collection is known", 30, || async {
                let answer = router.get(&format!("/v1/collections/{COLLECTION}/points/none")).await;
                let answer = answer.map_err(|gone| gone.to_string())?;
                let is_known = !answer.body.to_string().contains("ollection");
                if is_known { Ok(()) } else { Err(answer.to_string()) }
            })
            .await;
        }
        let numbers: Vec<usize> = (0..points).collect();
        for batch in numbers.chunks(BATCH_POINTS) {
            put(&router, synthetic::upsert(batch)).await;
        }
        contender
    }

    async fn sheaf(servers: Vec<QuiverServer>) -> Self {
        let mut cluster = Cluster::start(Shape { routers: 0, ..Shape::of(0, 0) }).await;
        for server in &servers {
            cluster.add_node_with(&server.shard_arguments().each_ref().map(String::as_str)).await;
        }
        cluster.operator().add_first_shard(&cluster.nodes[0].url).await;
        for number in 0..2 {
            let coordinator = cluster.coordinator.url.clone();
            cluster.add_router(&coordinator).await;
            cluster.daemon_is_ready(&cluster.routers[number]).await;
        }
        let coordinator = cluster.client(&cluster.coordinator.url);
        let joining = cluster.nodes[1].url.clone();
        let (cluster, stock_routers) = (Some(cluster), Vec::new());
        Self { cluster, coordinator, stock_routers, joining, _servers: servers }
    }

    async fn stock(mut servers: Vec<QuiverServer>) -> Self {
        let shards = format!("[{}]", servers[0].url());
        let settings = [("QUIVER_COORDINATOR", "true"), ("QUIVER_CLUSTER_SHARDS", &shards)];
        let coordinator = QuiverServer::start_as(&settings).await;
        let url = coordinator.url();
        let mut stock_routers = Vec::new();
        for _ in 0..2 {
            let settings =
                [("QUIVER_COORDINATOR_URL", url.as_str()), ("QUIVER_CLUSTER_SHARDS", &shards)];
            stock_routers.push(QuiverServer::start_as(&settings).await);
        }
        let joining = servers[1].url();
        let client = Client::new(&url);
        servers.push(coordinator);
        Self { cluster: None, coordinator: client, stock_routers, joining, _servers: servers }
    }

    /// A client of this router.
    pub fn router(&self, number: usize) -> Client {
        match &self.cluster {
            Some(cluster) => cluster.client(&cluster.routers[number].url),
            None => Client::new(&self.stock_routers[number].url()),
        }
    }

    /// `HOST:PORT` of the first router.
    pub fn router_address(&self) -> String {
        self.router(0).url().trim_start_matches("http://").to_owned()
    }

    /// Stops the second router in the middle of whatever it does.
    pub fn freeze_router(&self) {
        match &self.cluster {
            Some(cluster) => cluster.routers[1].freeze(),
            None => self.stock_routers[1].freeze(),
        }
    }

    pub fn thaw_router(&self) {
        match &self.cluster {
            Some(cluster) => cluster.routers[1].thaw(),
            None => self.stock_routers[1].thaw(),
        }
    }

    /// Lets the second server join. Milliseconds from the request until it owns its points.
    pub async fn grow(&self) -> f64 {
        let Some(cluster) = &self.cluster else { return self.grow_stock().await };
        let operator = cluster.operator();
        let (transition, _) = operator.grow(&[&self.joining]).await;
        commit_ms(&operator.ended(transition, GROW_SECS_MAX).await.expect_committed().report)
    }

    async fn grow_stock(&self) -> f64 {
        let watch = Stopwatch::start();
        let body = json!({ "primary_url": self.joining });
        let asked = self.coordinator.post("/cluster/shards/grow", &body).await;
        asked.expect("it answers").expect_ok("grow");
        loop {
            let map = self.coordinator.get("/cluster/map").await.expect("it answers").body;
            let shards = map["shards"].as_array().map_or(0, Vec::len);
            if map["joining"].as_array().is_none_or(Vec::is_empty) {
                assert_eq!(shards, 2, "the stock coordinator gave the grow up: {map}");
                return watch.elapsed_ms();
            }
            assert!(watch.elapsed().as_secs() < GROW_SECS_MAX, "no end of the grow: {map}");
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// Waits until nothing more is done behind the flip.
    pub async fn at_rest(&self) {
        match &self.cluster {
            Some(cluster) => cluster.operator().idle().await,
            // It waits 3 s and then deletes what moved; nothing tells when that is over but the counts.
            None => {
                let client = Client::new(&self._servers[0].url());
                let path = format!("/v1/collections/{COLLECTION}");
                let mut last = Value::Null;
                let mut same = 0;
                while same < 10 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    let now = client.get(&path).await.expect("it answers").body["count"].clone();
                    same = if now == last { same + 1 } else { 0 };
                    last = now;
                }
            }
        }
    }
}

async fn put(router: &Client, body: Bytes) {
    let path = format!("/v1/collections/{COLLECTION}/points");
    let answer = router.send(Method::POST, &path, &[], body).await;
    answer.expect("it answers").expect_ok("upsert");
}
