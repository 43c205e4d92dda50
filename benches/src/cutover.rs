//! What clients feel while a cluster grows from 2 shards to 3: held requests, failed ones, and those that needn't care.
//!
//! The load is paced, and a latency counts from when its request was due: one that waits delays no other unseen.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::cluster::Cluster;

use crate::client::{Connection, request};
use crate::stopwatch::{Readings, Stopwatch};
use crate::table::{Goal, Row, Table};
use crate::{stage, synthetic};

/// Connections, each with its own pace.
const CONNECTIONS: u64 = 96;
/// Milliseconds from one request of a connection to the next: 960 requests/s in all.
const PERIOD_MS: u64 = 100;
/// Of so many requests of a connection the last is a search, which concerns all shards and may be held too.
const TURNS_PER_SEARCH: u64 = 16;
/// Seconds of load before anything changes.
const QUIET_SECS: u64 = 6;
/// Milliseconds before and after the commit that count as the cut-over.
const AROUND_MS: f64 = 500.0;

/// One request.
struct Asked {
    /// Milliseconds since 1970 when it was due.
    due: f64,
    took_ms: f64,
    of: Of,
    done: bool,
}

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Mover,
    Stayer,
    /// A search: all points.
    All,
}

/// What one grow under load showed.
struct Pass {
    asked: Vec<Asked>,
    report: Value,
    quiet_until: f64,
}

pub async fn measure(quick: bool) -> Table {
    let (points, passes) = if quick { (5_000, 2) } else { (20_000, 5) };
    let mut all = Vec::new();
    for _ in 0..passes {
        all.push(pass(points).await);
    }
    let title = format!(
        "cutover: a grow from 2 shards to 3, {points} x {}, under {} requests/s (a third upserts, a few searches, else gets), {passes} passes",
        synthetic::DIM,
        CONNECTIONS * 1_000 / PERIOD_MS
    );
    let mut table = Table { title, rows: Vec::new(), notes: Vec::new() };
    stalls(&all, &mut table);
    bystanders(&all, &mut table);
    table
}

fn stalls(all: &[Pass], table: &mut Table) {
    let stall = |name: &str| -> Readings {
        all.iter().filter_map(|pass| pass.report["stall"][name].as_f64()).collect()
    };
    let (p99, max) = (stall("stall_ms_p99"), stall("stall_ms_max"));
    table.rows.push(Row {
        what: "held requests: p99 of a pass, ms".to_owned(),
        figure: p99.spread(0),
        value: p99.max(),
        rival: None,
        goal: Goal::AtMost(50.0, "ms"),
    });
    let held = stall("held_requests");
    table.notes.push(format!(
        "Held requests a pass: {}; the longest, ms: {}; fence attempts: {}.",
        held.spread(0),
        max.spread(0),
        all.iter()
            .filter_map(|pass| pass.report["attempts"].as_f64())
            .collect::<Readings>()
            .spread(0)
    ));
    let asked = all.iter().map(|pass| pass.asked.len()).sum::<usize>();
    let failed = all.iter().flat_map(|pass| &pass.asked).filter(|asked| !asked.done).count();
    table.rows.push(Row {
        what: format!("failed requests of {asked}"),
        figure: failed.to_string(),
        value: failed as f64,
        rival: None,
        goal: Goal::AtMost(0.0, ""),
    });
}

fn bystanders(all: &[Pass], table: &mut Table) {
    let select = |wanted: &dyn Fn(&Pass, &Asked) -> bool| -> Readings {
        let each = all.iter().flat_map(|pass| pass.asked.iter().map(move |asked| (pass, asked)));
        each.filter(|(pass, asked)| wanted(pass, asked)).map(|(_, asked)| asked.took_ms).collect()
    };
    let at = |pass: &Pass, name: &str| pass.report[name].as_f64().unwrap_or_default();
    let around = |pass: &Pass, asked: &Asked| (asked.due - at(pass, "committed")).abs() < AROUND_MS;
    let during = |pass: &Pass, asked: &Asked| {
        asked.due >= at(pass, "requested") && asked.due <= at(pass, "ended")
    };
    let windows = [
        ("ids that stay, around the commit", Of::Stayer, true, true),
        ("ids that stay, from request to end", Of::Stayer, false, true),
        ("ids that move, around the commit", Of::Mover, true, false),
        ("searches, around the commit", Of::All, true, false),
    ];
    for (what, of, cutover, judged) in windows {
        let took = select(&|pass, asked| {
            asked.of == of && if cutover { around(pass, asked) } else { during(pass, asked) }
        });
        let quiet = select(&|pass, asked| asked.of == of && asked.due < pass.quiet_until);
        table.rows.push(Row {
            what: format!("{what}: p99 of {}, ms", took.len()),
            figure: format!("{:.2} (p50 {:.2})", took.percentile(0.99), took.median()),
            value: took.percentile(0.99),
            rival: Some((
                format!("quiet: {:.2} (p50 {:.2})", quiet.percentile(0.99), quiet.median()),
                quiet.percentile(0.99),
            )),
            goal: if judged { Goal::RatioAtMost(1.2) } else { Goal::None },
        });
    }
}

async fn pass(points: usize) -> Pass {
    let cluster = stage::cluster(2, 1, 2).await;
    stage::load(&cluster.client(&cluster.routers[0].url), points).await;
    stage::at_rest(&[0, 1].map(|node| cluster.client(&cluster.nodes[node].url))).await;
    let stop = Rc::new(std::cell::Cell::new(false));
    let watch = Stopwatch::start();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|worker| {
            let address = router_of(&cluster, worker);
            let paced = paced(address, worker, points as u64, watch, Rc::clone(&stop));
            tokio::task::spawn_local(paced)
        })
        .collect();
    watch.wait_until(Duration::from_secs(QUIET_SECS)).await;
    let quiet_until = watch.started_wall_ms + watch.elapsed_ms();
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[2].url]).await;
    let ended = operator.ended(transition, 120).await.expect_committed();
    watch.wait_until(watch.elapsed() + Duration::from_secs(1)).await;
    stop.set(true);
    let mut asked = Vec::new();
    for worker in workers {
        asked.extend(worker.await.unwrap_or_else(|why| panic!("a load's worker ended: {why}")));
    }
    Pass { asked, report: ended.report, quiet_until }
}

fn router_of(cluster: &Cluster, worker: u64) -> String {
    cluster.routers[worker as usize % cluster.routers.len()].address().to_owned()
}

/// One connection's requests, each when it is due.
async fn paced(
    address: String,
    worker: u64,
    points: u64,
    watch: Stopwatch,
    stop: Rc<std::cell::Cell<bool>>,
) -> Vec<Asked> {
    let mut all = Vec::new();
    let mut connection = Connection::open(&address).await.ok();
    for turn in 0.. {
        let due_ms = turn * PERIOD_MS + worker * PERIOD_MS / CONNECTIONS;
        watch.wait_until(Duration::from_millis(due_ms)).await;
        if stop.get() {
            break;
        }
        let number = ((turn * CONNECTIONS + worker) * 7919 % points) as usize;
        // Not all connections do the same at the same time.
        let kind = turn + worker;
        let status = match &mut connection {
            Some(connection) => connection.ask(&one_request(kind, number)).await.ok(),
            None => None,
        };
        if status.is_none() {
            connection = Connection::open(&address).await.ok();
        }
        all.push(Asked {
            due: watch.started_wall_ms + due_ms as f64,
            took_ms: watch.elapsed_ms() - due_ms as f64,
            of: about(kind, number),
            done: status.is_some_and(|status| (200..300).contains(&status)),
        });
    }
    all
}

fn about(turn: u64, number: usize) -> Of {
    if is_search(turn) {
        return Of::All;
    }
    let moves = synthetic::owner(number, 2) != synthetic::owner(number, 3);
    if moves { Of::Mover } else { Of::Stayer }
}

fn is_search(turn: u64) -> bool {
    turn % TURNS_PER_SEARCH == TURNS_PER_SEARCH - 1
}

fn one_request(turn: u64, number: usize) -> bytes::Bytes {
    let base = format!("/v1/collections/{}", stage::COLLECTION);
    if is_search(turn) {
        let body = format!("{{\"vector\":{}}}", synthetic::vector_json(number));
        request("POST", &format!("{base}/query"), body.as_bytes())
    } else if turn.is_multiple_of(3) {
        request("POST", &format!("{base}/points"), &synthetic::upsert(&[number]))
    } else {
        request("GET", &format!("{base}/points/{}", synthetic::id(number)), b"")
    }
}
