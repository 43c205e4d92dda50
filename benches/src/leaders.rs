//! How soon another coordinator decides when the leader's lease has ended, and how large maps are: on a real etcd of three members.
//!
//! The shards are entries in the record whose nodes refuse every connection: more work for a new leader than nodes that answer.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use sheaf_stores::file;
use sheaf_tests::{Client, Etcd, Node, Role, binary, eventually};
use tokio::process::Command;

use crate::stopwatch::{Readings, Stopwatch};
use crate::table::{Goal, Row, Table};

/// Shards of each map, and the milliseconds from the lease's end until another one decides.
const SIZES: [(u64, Goal); 3] =
    [(100, Goal::None), (1_000, Goal::AtMost(1_000.0, "ms")), (10_000, Goal::None)];
/// Seconds in which nothing happens, and nobody else may come to lead.
const QUIET_SECS: u64 = 15;
/// Milliseconds between two looks at whether it does.
const LOOK_MS: u64 = 2;

pub async fn measure(quick: bool) -> Table {
    let changes = if quick { 2 } else { 6 };
    let mut table = Table {
        title: format!(
            "leaders: {changes} leaders stop, one after the other; etcd of three members"
        ),
        rows: Vec::new(),
        notes: vec![
            "a leader that stops gives up its lease: what is measured begins when it has ended"
                .to_owned(),
        ],
    };
    for (shards, goal) in SIZES {
        of_size(shards, goal, changes, &mut table).await;
    }
    table
}

async fn of_size(shards: u64, goal: Goal, changes: usize, table: &mut Table) {
    let mut etcd = Etcd::start(3).await;
    let folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let url = etcd.url("/bench");
    let bytes = store_a_record(shards, &url, folder.path()).await;
    let arguments = ["--store", url.as_str()];
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        nodes.push(Node::start(Role::Coordinator, name, folder.path(), &arguments).await);
    }
    let mut took = Readings::default();
    for number in 0..changes {
        let leads = eventually("one leads and the other follows", 60, || async {
            let mut leads = [false; 2];
            for (at, node) in nodes.iter().enumerate() {
                leads[at] = ready(&node.url).await.ok_or("one isn't ready")?;
            }
            leads.iter().position(|leads| *leads).ok_or("nobody leads")
        })
        .await;
        let other = nodes[1 - leads].url.clone();
        nodes[leads].terminate().await;
        let since = Stopwatch::start();
        while ready(&other).await != Some(true) {
            tokio::time::sleep(std::time::Duration::from_millis(LOOK_MS)).await;
        }
        took.add(since.elapsed_ms());
        if number + 1 < changes {
            nodes[leads].restart().await;
        }
    }
    let row = |what: String, figure: String, value: f64, goal: Goal| Row {
        what: format!("{shards} shards: {what}"),
        figure,
        value,
        rival: None,
        goal,
    };
    let worst = took.percentile(1.0);
    table.rows.push(row("the longest, ms".to_owned(), format!("{worst:.0}"), worst, goal));
    table.rows.push(row(
        "until another decides, ms".to_owned(),
        took.spread(0),
        took.median(),
        Goal::None,
    ));
    let kb = bytes as f64 / 1e3;
    table.rows.push(row("the record, kB".to_owned(), format!("{kb:.0}"), kb, Goal::None));
    sizes(&nodes, shards, table).await;
    let begun = term(&nodes).await;
    tokio::time::sleep(std::time::Duration::from_secs(QUIET_SECS)).await;
    let changes = (term(&nodes).await - begun) as f64;
    let what = format!("terms begun in {QUIET_SECS} s in which nothing happens");
    table.rows.push(row(what, format!("{changes:.0}"), changes, Goal::AtMost(0.0, "")));
    drop(nodes);
    etcd.kill(0).await;
}

/// The term that is stored, by whoever answers.
async fn term(nodes: &[Node]) -> u64 {
    eventually("a coordinator answers", 30, || async {
        for node in nodes {
            if ready(&node.url).await != Some(true) {
                continue;
            }
            let status = Client::new(&node.url).get("/cluster/status").await;
            let status = status.map_err(|_| "it is gone")?.expect_ok("the state");
            return status["term"].as_u64().ok_or("the state has no term");
        }
        Err("nobody leads")
    })
    .await
}

/// Bytes of the map and of the difference that a router is sent after a change.
async fn sizes(nodes: &[Node], shards: u64, table: &mut Table) {
    let mut urls = Vec::new();
    for node in nodes {
        if ready(&node.url).await == Some(true) {
            urls.push(node.url.clone());
        }
    }
    let leader = Client::new(&urls[0]);
    let whole = leader.get("/cluster/map").await.expect("it answers").expect_ok("the map");
    let version = whole["version"].as_u64().expect("a map has a version");
    let path = format!("/cluster/map?after={version}&wait=20");
    let delta = leader.json(http::Method::GET, &path, &[("sheaf-map-delta", "1")], &Value::Null);
    let collection = json!({ "name": "c", "dim": 3, "metric": "l2" });
    let change = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        leader.post("/cluster/collections", &collection).await.expect("it answers")
    };
    let (delta, changed) = tokio::join!(delta, change);
    assert!(changed.status.is_success(), "{changed}");
    let delta = delta.expect("it answers").expect_ok("a difference");
    assert_eq!(delta["since"], version, "a difference was sent: {delta}");
    let (whole, delta) = (whole.to_string().len() as f64, delta.to_string().len() as f64);
    for (what, bytes) in
        [("the map, kB", whole), ("what a router is sent of a new collection, kB", delta)]
    {
        table.rows.push(Row {
            what: format!("{shards} shards: {what}"),
            figure: format!("{:.1}", bytes / 1e3),
            value: bytes / 1e3,
            rival: None,
            goal: Goal::None,
        });
    }
}

/// Whether this coordinator leads; `None`: it isn't ready.
async fn ready(url: &str) -> Option<bool> {
    let answer = Client::new(url).get("/readyz").await.ok()?;
    answer.status.is_success().then(|| answer.body["leads"] == true)
}

/// Stores the record of a cluster of so many shards. Says how many bytes it has.
async fn store_a_record(shards: u64, url: &str, folder: &Path) -> usize {
    let first = ["--store", url];
    let mut only = Node::start(Role::Coordinator, "first", folder, &first).await;
    eventually("the first record is stored", 30, || async {
        ready(&only.url).await.filter(|leads| *leads).ok_or("nobody leads")
    })
    .await;
    only.terminate().await;
    let (empty, full) = (folder.join("empty"), folder.join("full"));
    let path = |path: &Path| path.to_str().expect("a path of this bench").to_owned();
    store(&["export", &path(&empty), "--store", url]).await;
    let bytes = std::fs::read(&empty).expect("it was exported");
    let loaded = file::decode(bytes.into()).expect("it is whole");
    let mut record: Value = serde_json::from_slice(&loaded.bytes).expect("it is a record");
    let entry = |id: u64| {
        let url = format!("http://127.1.{}.{}:9", id / 256, id % 256);
        json!({ "id": id, "primary_url": url, "weight": 1.0, "store_id": format!("{id:032x}") })
    };
    record["map"]["shards"] = (1..=shards).map(entry).collect();
    record["next_shard"] = Value::from(shards + 1);
    let bytes = serde_json::to_vec(&record).expect("JSON can be written down");
    std::fs::write(&full, file::encode(loaded.etag, &bytes)).expect("the folder can be written");
    store(&["import", &path(&full), "--store", url, "--replace"]).await;
    bytes.len()
}

async fn store(words: &[&str]) {
    let mut command = Command::new(binary::sheaf());
    command.env_clear().arg("store").args(words).stdin(Stdio::null());
    let ran = command.output().await.expect("the binary runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "sheaf store {words:?}: {said}");
}
