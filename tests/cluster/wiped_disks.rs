//! A node that isn't the shard that it was, or is another cluster's, is refused in clear words and serves nothing.

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::ask::segment;
use sheaf_tests::{Answer, Cluster, Shape, eventually};

const COLLECTION: &str = "kept";
const KEYS: usize = 80;

async fn write_all(cluster: &Cluster) {
    let points: Vec<(String, u64)> = (0..KEYS).map(|n| (format!("kept-{n}"), n as u64)).collect();
    cluster.router(0).put(COLLECTION, &points).await.expect("every shard is up");
}

/// A request that need not be tried for long.
async fn briefly(cluster: &Cluster, method: Method, path: &str, body: &Value) -> Answer {
    let headers = [("sheaf-timeout-ms", "400")];
    let path = format!("/v1/collections/{COLLECTION}/{path}");
    cluster.router(0).client.json(method, &path, &headers, body).await.expect("it answers")
}

/// Ends this node, takes all that its disk had, and starts it again at the same address.
async fn wipe(cluster: &mut Cluster, number: usize) {
    let node = &mut cluster.nodes[number];
    node.kill().await;
    std::fs::remove_dir_all(node.data_dir()).expect("the folder is the test's own");
    node.restart().await;
}

async fn expect_refused_shard(cluster: &Cluster) {
    let operator = cluster.operator();
    let status = eventually("the coordinator sees who is there", 20, || async {
        let status = operator.read("/cluster/status").await;
        let reason = status["shards"][1]["reason"].as_str().unwrap_or_default().to_owned();
        if reason.contains("another disk") { Ok(status) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!(status["shards"][1]["health"], "down");
    assert_eq!(operator.read("/cluster/health").await, json!({ "1": true, "2": false }));
    let audit = operator.read("/cluster/verify").await;
    assert_eq!(audit["ok"], false, "an audit must not call a lost shard sound: {audit}");
}

/// The wiped node answers no request for data, neither with points nor with their absence.
async fn expect_serves_nothing(cluster: &Cluster, lost: &str) {
    let node = cluster.client(&cluster.nodes[1].url);
    let base = format!("/v1/collections/{COLLECTION}");
    let write = json!({ "points": [sheaf_tests::points::point(lost, 7)] });
    let vector = sheaf_tests::points::vector(1);
    let asked = [
        (Method::GET, format!("{base}/points/{}", segment(lost)), Value::Null),
        (Method::POST, format!("{base}/points"), write),
        (Method::DELETE, format!("{base}/points"), json!({ "ids": [lost] })),
        (Method::POST, format!("{base}/query"), json!({ "vector": vector })),
        (Method::POST, format!("{base}/fetch"), json!({})),
        (Method::POST, format!("{base}/count"), json!({})),
    ];
    for (method, path, body) in asked {
        let answer = node.json(method, &path, &[("sheaf-shard", "2")], &body).await;
        let answer = answer.expect("it answers");
        answer.expect_problem(503, &path);
        assert_eq!(answer.body["refusal"]["kind"], "not_serving", "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_disk_was_wiped_is_refused_and_serves_nothing_while_the_rest_goes_on() {
    let mut cluster = Cluster::start(Shape::of(2, 0)).await;
    cluster.create_collection(COLLECTION).await;
    write_all(&cluster).await;
    let kept = cluster.owned_by(0, COLLECTION).await;
    let lost = cluster.owned_by(1, COLLECTION).await;
    assert_eq!(kept.len() + lost.len(), KEYS);
    let before = cluster.operator().map().await;

    wipe(&mut cluster, 1).await;
    expect_refused_shard(&cluster).await;
    expect_serves_nothing(&cluster, &lost[0]).await;

    let path = format!("points/{}", lost[0]);
    let answer = briefly(&cluster, Method::GET, &path, &Value::Null).await;
    answer.expect_problem(503, "a lost point is not an absent one");
    let search = json!({ "vector": sheaf_tests::points::vector(1), "k": 10 });
    let answer = briefly(&cluster, Method::POST, "query", &search).await;
    answer.expect_problem(503, "a search without a shard would hide points");
    let router = cluster.router(0);
    for id in &kept {
        let shown = router.get(COLLECTION, id).await.expect("its shard is up");
        assert!(shown.is_some(), "{id:?} is on the shard that is well");
        router.put(COLLECTION, &[(id.clone(), 500)]).await.expect("its shard is up");
    }
    assert_eq!(cluster.operator().map().await, before, "nobody changed the map");

    // The way out, when there is no backup: accept the loss, then take the node in as a new shard.
    let operator = cluster.operator();
    operator.change(Method::DELETE, "/cluster/shards/2?accept_data_loss=true", &Value::Null).await;
    assert_eq!(operator.shard_ids().await, [1]);
    let shown = eventually("the loss is known", 20, || async {
        router.get(COLLECTION, &lost[0]).await.map_err(|miss| miss.why)
    });
    assert_eq!(shown.await, None, "a loss that was accepted is an absence");
    operator.change(Method::DELETE, "/cluster/shards/2", &Value::Null).await;
    let (transition, ids) = operator.grow(&[&cluster.nodes[1].url]).await;
    assert_eq!(ids, [3], "an id is never used again");
    let _ = operator.ended(transition, 30).await.expect_committed();
    assert_eq!(operator.verify().await, kept.len() as u64);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_this_or_another_cluster_is_not_added_under_any_name() {
    let mut cluster = Cluster::start(Shape::of(2, 0)).await;
    let mut other = Cluster::start(Shape::of(1, 1)).await;
    cluster.create_collection(COLLECTION).await;
    write_all(&cluster).await;
    other.create_collection(COLLECTION).await;
    write_all(&other).await;
    let before = (cluster.state().await, other.state().await);

    let own = cluster.nodes[0].url.clone();
    let alias = own.replace("127.0.0.1", "localhost");
    let foreign = other.nodes[0].url.clone();
    let refused = [
        (own.clone(), "url_taken"),
        (format!("{own}/"), "url_taken"),
        (alias, "node_taken"),
        (foreign, "other_cluster"),
    ];
    let operator = cluster.operator();
    for (url, kind) in &refused {
        for call in ["", "/grow", "/joining"] {
            let path = format!("/cluster/shards{call}");
            let body = json!({ "primary_url": url });
            let answer = operator.client.post(&path, &body).await.expect("it answers");
            answer.expect_problem(409, &format!("{path} {url}"));
            let kinds = [*kind, "cluster_not_empty"];
            let shown = answer.body["refusal"]["kind"].as_str().unwrap_or_default();
            assert!(kinds.contains(&shown), "{path} {url}: {answer}");
        }
    }
    assert_eq!((cluster.state().await, other.state().await), before, "a refusal changed something");
    cluster.expect_all_alive();
    other.expect_all_alive();
}
