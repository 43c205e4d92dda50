//! A full disk gives clear refusals and loses nothing acknowledged; when there is space again, everything goes on.
//!
//! The disk is a limit on the size of a process's files, set while it runs: that needs no rights.

use std::collections::BTreeMap;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use sheaf_tests::ask::segment;
use sheaf_tests::{Answer, Cluster, Router, Shape, eventually};

const COLLECTION: &str = "full";
/// Bytes of a payload: a few dozen fill the disk.
const PAYLOAD_BYTES: usize = 40_000;
/// Bytes that the disk has left when it is made small.
const LEFT_BYTES: u64 = 1 << 20;

fn shape(shards: usize, standbys: usize) -> Shape {
    Shape { fillable_disks: true, ..Shape::of(shards, standbys) }
}

fn point(n: usize) -> Value {
    let text = char::from(b'a' + (n % 26) as u8).to_string().repeat(PAYLOAD_BYTES);
    let vector = sheaf_tests::points::vector(n as u64);
    json!({ "id": format!("f-{n}"), "vector": vector, "payload": { "n": n, "text": text } })
}

/// Writes one point, without long patience.
async fn put(router: &Router, n: usize) -> Answer {
    let path = format!("/v1/collections/{COLLECTION}/points");
    let (headers, body) = ([("sheaf-timeout-ms", "400")], json!({ "points": [point(n)] }));
    router.client.json(Method::POST, &path, &headers, &body).await.expect("it answers")
}

async fn get(router: &Router, n: usize) -> Answer {
    let id = segment(&format!("f-{n}"));
    let path = format!("/v1/collections/{COLLECTION}/points/{id}");
    router.client.get(&path).await.expect("it answers")
}

/// What is known of each point that was written.
#[derive(Default)]
struct Written(BTreeMap<usize, Fate>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Acknowledged,
    Refused,
    Unknown,
}

impl Written {
    fn count(&self, fate: Fate) -> usize {
        self.0.values().filter(|known| **known == fate).count()
    }

    async fn write(&mut self, router: &Router, n: usize) -> Fate {
        let answer = put(router, n).await;
        let fate = match answer.status.as_u16() {
            200 => Fate::Acknowledged,
            503 | 507 => Fate::Refused,
            504 => Fate::Unknown,
            _ => panic!("a full disk is no reason for this: {answer}"),
        };
        if fate == Fate::Refused {
            answer.expect_problem(answer.status.as_u16(), "a refused write");
            let says = answer.detail();
            assert!(says.contains("disk") || says.contains("space"), "it doesn't say why: {says}");
            assert!(says.contains("othing"), "it doesn't say that nothing was applied: {says}");
        }
        self.0.insert(n, fate);
        fate
    }

    /// Whatever was acknowledged is there and whole, whatever was refused is not.
    async fn expect_true(&self, router: &Router, when: &str) {
        for (&n, &fate) in &self.0 {
            let answer = get(router, n).await;
            match fate {
                Fate::Acknowledged => {
                    let shown = answer.expect_ok(&format!("{when}: f-{n} was acknowledged"));
                    assert_eq!(shown["payload"], point(n)["payload"], "{when}: f-{n} is torn");
                }
                Fate::Refused => answer.expect_problem(404, &format!("{when}: f-{n} was refused")),
                Fate::Unknown => {}
            }
        }
    }
}

/// The size of the largest file below this folder.
fn largest_file(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder is the test's own");
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => largest_file(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or_default()
}

/// Leaves this node's disk little space.
async fn fill_disk(cluster: &mut Cluster, number: usize) {
    let node = &mut cluster.nodes[number];
    let bytes = largest_file(&node.data_dir()) + LEFT_BYTES;
    node.limit_files(Some(bytes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_with_a_full_disk_refuses_writes_clearly_serves_reads_and_goes_on_when_there_is_space()
 {
    let mut cluster = Cluster::start(shape(2, 0)).await;
    cluster.create_collection(COLLECTION).await;
    let router = cluster.router(0);
    let mut written = Written::default();
    for n in 0..10 {
        assert_eq!(written.write(&router, n).await, Fate::Acknowledged);
    }
    fill_disk(&mut cluster, 1).await;
    let mut n = 10;
    while written.count(Fate::Refused) < 4 {
        assert!(n < 400, "the disk never gets full");
        written.write(&router, n).await;
        n += 1;
    }
    // The other shard takes its writes all the same.
    let before = written.count(Fate::Acknowledged);
    for more in n..n + 8 {
        written.write(&router, more).await;
    }
    assert!(written.count(Fate::Acknowledged) > before, "a shard with space refuses as well");
    written.expect_true(&router, "while the disk is full").await;

    cluster.nodes[1].limit_files(None).await;
    let refused = written.0.iter().find(|(_, fate)| **fate == Fate::Refused);
    let (&again, _) = refused.expect("some were refused");
    eventually("there is space again", 20, || async {
        let answer = put(&router, again).await;
        if answer.status.is_success() { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    written.0.insert(again, Fate::Acknowledged);
    written.expect_true(&router, "when there is space again").await;
    let more = n + 100;
    for n in more..more + 8 {
        assert_eq!(written.write(&router, n).await, Fate::Acknowledged);
    }
    cluster.nodes[1].kill().await;
    cluster.nodes[1].restart().await;
    written.expect_true(&router, "after a restart").await;
    let points = cluster.operator().verify().await as usize;
    let surely = written.count(Fate::Acknowledged);
    assert!((surely..=surely + written.count(Fate::Unknown)).contains(&points), "{points} points");
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_gets_full_while_it_joins_is_waited_for_and_nothing_is_lost() {
    let mut cluster = Cluster::start(shape(1, 1)).await;
    cluster.create_collection(COLLECTION).await;
    let router = cluster.router(0);
    let mut written = Written::default();
    for n in 0..150 {
        assert_eq!(written.write(&router, n).await, Fate::Acknowledged);
    }
    fill_disk(&mut cluster, 1).await;
    let operator = cluster.operator();
    let version = operator.version().await;
    let (transition, _) = operator.grow(&[&cluster.nodes[1].url]).await;
    eventually("the joining node's disk is full", 30, || async {
        let log = cluster.nodes[1].log();
        if log.contains("commit failed") { Ok(()) } else { Err("it copies".to_owned()) }
    })
    .await;
    for n in 150..170 {
        assert_eq!(written.write(&router, n).await, Fate::Acknowledged);
    }
    written.expect_true(&router, "while the joining node's disk is full").await;
    assert_eq!(operator.version().await, version, "it committed though the copy isn't whole");
    cluster.nodes[1].limit_files(None).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    operator.idle().await;
    written.expect_true(&router, "after the join").await;
    assert_eq!(operator.verify().await, 170);
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_with_a_full_disk_decides_nothing_while_data_is_served_and_goes_on_later() {
    let mut cluster = Cluster::start(shape(2, 1)).await;
    cluster.create_collection(COLLECTION).await;
    let router = cluster.router(0);
    let mut written = Written::default();
    let operator = cluster.operator();
    let before = operator.map().await;
    cluster.coordinator.limit_files(Some(64)).await;
    let headers = [("sheaf-timeout-ms", "500")];
    let body = json!({ "primary_url": cluster.nodes[2].url });
    let path = "/cluster/shards/grow";
    let answer = operator.client.json(Method::POST, path, &headers, &body).await;
    let answer = answer.expect("it answers");
    let status = answer.status.as_u16();
    assert!(matches!(status, 503 | 504 | 507), "{answer}");
    answer.expect_problem(status, "a change that can't be stored");
    for n in 0..10 {
        assert_eq!(written.write(&router, n).await, Fate::Acknowledged);
    }
    written.expect_true(&router, "while the coordinator's disk is full").await;
    assert_eq!(operator.map().await, before, "something was decided that isn't durable");
    cluster.coordinator.limit_files(None).await;
    join(&cluster, 2).await;
    assert_eq!(operator.shard_ids().await, [1, 2, 3]);
    cluster.coordinator.kill().await;
    cluster.coordinator.restart().await;
    written.expect_true(&router, "after a restart of the coordinator").await;
    assert_eq!(operator.verify().await, 10);
    cluster.expect_all_alive();
}

/// Lets the node join; an earlier try of unknown outcome may have done so already.
async fn join(cluster: &Cluster, number: usize) {
    let operator = cluster.operator();
    let body = json!({ "primary_url": cluster.nodes[number].url });
    eventually("the node joins", 20, || async {
        let answer = operator.client.post("/cluster/shards/grow", &body).await;
        let answer = answer.map_err(|gone| gone.to_string())?;
        let taken = answer.body["refusal"]["kind"] == "url_taken";
        if answer.status.is_success() || taken { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    operator.idle().await;
}
