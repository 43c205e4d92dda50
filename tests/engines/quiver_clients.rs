//! Quiver's own clients at Sheaf's router: what they get is what a Quiver server gives them.

use serde_json::Value;
use sheaf_tests::python::quiver_client;
use sheaf_tests::{Cluster, QuiverServer, Shape};

/// The key of the clients.
const KEY: &str = "the-clients-key";
/// What every cluster tells, with the steps of a whole story; fewer means that the script lost some.
const STORIES: [(&str, usize); 4] =
    [("sync", 110), ("async", 110), ("langchain", 10), ("documents", 24)];

fn shape(shards: usize) -> Shape {
    let keys = ["--peer-key", "the-peer-key", "--api-key", KEY].map(str::to_owned).to_vec();
    Shape { all: keys, key: Some(KEY.to_owned()), routers: 1, ..Shape::of(shards, 0) }
}

/// Each story at this server is the one that a Quiver server tells.
async fn tells_as_quiver_does(cluster: &Cluster) {
    let quiver = QuiverServer::start_with_key(KEY).await;
    for (story, steps_min) in STORIES {
        let expected = quiver_client(&quiver.url(), KEY, story).await;
        assert!(expected.len() >= steps_min, "{story} has {} steps", expected.len());
        let told = quiver_client(&cluster.routers[0].url, KEY, story).await;
        expect_same(story, &expected, &told);
    }
}

fn expect_same(story: &str, expected: &[Value], told: &[Value]) {
    let differ: Vec<String> = expected
        .iter()
        .zip(told)
        .filter(|(expected, told)| expected != told)
        .map(|(expected, told)| format!("Quiver: {expected}\nSheaf:  {told}"))
        .collect();
    assert!(differ.is_empty(), "{story}: {} steps differ:\n{}", differ.len(), differ.join("\n"));
    assert_eq!(expected.len(), told.len(), "{story}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quivers_clients_get_from_embedded_shards_what_a_quiver_server_gives_them() {
    let mut cluster = Cluster::start(shape(3)).await;
    tells_as_quiver_does(&cluster).await;
    let folder = cluster.folder().join("snapshot").display().to_string();
    let told = quiver_client(&cluster.routers[0].url, KEY, &format!("snapshot={folder}")).await;
    assert_eq!(told[0]["said"]["shards"].as_array().map(Vec::len), Some(3), "{told:?}");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quivers_clients_get_from_shards_on_quiver_what_a_quiver_server_gives_them() {
    let servers = [QuiverServer::start().await, QuiverServer::start().await];
    let mut cluster = Cluster::start(shape(0)).await;
    for server in &servers {
        let arguments = ["--engine", "quiver", "--engine-url", &server.url()];
        let node = cluster.add_node_with(&arguments).await;
        cluster.operator().add_first_shard(&cluster.nodes[node].url).await;
    }
    tells_as_quiver_does(&cluster).await;
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_that_differs_in_one_answer_is_noticed() {
    let story = vec![serde_json::json!({"step": "get", "said": 1, "wire": []})];
    let mut other = story.clone();
    other[0]["said"] = 2.into();
    expect_same("itself", &story, &story);
    let noticed = std::panic::catch_unwind(|| expect_same("another", &story, &other));
    assert!(noticed.is_err());
}
