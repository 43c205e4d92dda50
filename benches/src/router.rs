//! What the router costs: throughput and latency through it, straight to the shard, and through nginx and haproxy.
//!
//! The proxies and the router have one core in turns; the shard and the client have the other, or all share one. So a
//! proxy's own processor time a request is shown too: throughput alone is bounded by the slower core.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use sheaf_tests::cluster::Cluster;

use crate::client::{closed_loop, request};
use crate::proxies::{self, Proxy};
use crate::stopwatch::Readings;
use crate::table::{Goal, Row, Table};
use crate::{pin, stage, synthetic};

/// Points in the shard.
const POINTS: usize = 5_000;
/// Connections that measure throughput.
const CONNECTIONS: usize = 16;
/// Different requests of each kind.
const REQUESTS: usize = 200;
/// Microseconds that the router may add to a get, at the median.
const ADDED_US_MAX: f64 = 100.0;

/// A way to the shard.
struct Way {
    name: &'static str,
    address: String,
    /// The process in between.
    process: Option<i32>,
}

/// What was read of one way.
#[derive(Default)]
struct Read {
    per_s: Readings,
    p50_us: Readings,
    cpu_us: Readings,
    failed: u64,
}

pub async fn measure(quick: bool) -> Table {
    let cores = pin::cores();
    let (first, last) = match (cores.first(), cores.last()) {
        (Some(&first), Some(&last)) => (first, last),
        _ => (0, 0),
    };
    let mut table = Table {
        title: format!(
            "router: one router, one shard of {POINTS} x {}, {CONNECTIONS} connections; latencies with one",
            synthetic::DIM
        ),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    let all = ["get", "upsert of 1", "upsert of 100", "query, k 10"];
    layout("", first, last, &all, quick, &mut table).await;
    // Where nothing waits for another core to wake up, only work counts.
    layout(", all on one core", first, first, &all[..1], quick, &mut table).await;
    table.notes.push(
        "The router and its rivals are pinned to the same core; client and shard have the other, or share it where the \
         row says so. Processor time is the proxy's own, a request."
            .to_owned(),
    );
    pin::run_on(&cores);
    table
}

/// Measures with the client and the shard on core `rest`, and each proxy on core `proxy`.
async fn layout(
    name: &str,
    rest: usize,
    proxy: usize,
    wanted: &[&str],
    quick: bool,
    table: &mut Table,
) {
    pin::run_on(&[rest]);
    let mut cluster = stage::cluster(1, 0, 0).await;
    stage::load(&cluster.client(&cluster.nodes[0].url), POINTS).await;
    pin::run_on(&[proxy]);
    let coordinator = cluster.coordinator.url.clone();
    let router = cluster.add_router(&coordinator).await;
    let (proxies, notes) = proxies::start(cluster.folder(), cluster.nodes[0].address()).await;
    pin::run_on(&[rest]);
    cluster.daemon_is_ready(&cluster.routers[router]).await;
    table.notes.extend(notes);
    let ways = ways(&cluster, &proxies);
    let (passes, time) = if quick { (3, 400) } else { (7, 1_000) };
    for (kind, requests) in kinds().into_iter().filter(|(kind, _)| wanted.contains(kind)) {
        let mut reads: Vec<Read> = ways.iter().map(|_| Read::default()).collect();
        for pass in 0..=passes {
            for (way, read) in ways.iter().zip(&mut reads) {
                let this = one_pass(way, &requests, Duration::from_millis(time)).await;
                // The first warms up.
                if pass > 0 {
                    read.add(this);
                }
            }
        }
        rows(kind, name, &ways, &reads, table);
    }
}

fn ways(cluster: &Cluster, proxies: &[Proxy]) -> Vec<Way> {
    let shard =
        Way { name: "shard", address: cluster.nodes[0].address().to_owned(), process: None };
    let router = &cluster.routers[0];
    let process = Some(router.process());
    let router = Way { name: "router", address: router.address().to_owned(), process };
    let proxies = proxies.iter().map(|proxy| {
        let process = Some(proxy.process());
        Way { name: proxy.name, address: proxy.address.clone(), process }
    });
    [shard, router].into_iter().chain(proxies).collect()
}

/// What is asked: each kind with many requests, so that no answer is always the same.
fn kinds() -> Vec<(&'static str, Rc<[Bytes]>)> {
    let base = format!("/v1/collections/{}", stage::COLLECTION);
    let many = |make: &dyn Fn(usize) -> Bytes| (0..REQUESTS).map(make).collect::<Rc<[Bytes]>>();
    let upsert = |points: Vec<usize>| {
        request("POST", &format!("{base}/points"), &synthetic::upsert(&points))
    };
    vec![
        (
            "get",
            many(&|n| {
                request("GET", &format!("{base}/points/{}", synthetic::id(n * 17 % POINTS)), b"")
            }),
        ),
        ("upsert of 1", many(&|n| upsert(vec![n * 17 % POINTS]))),
        ("upsert of 100", many(&|n| upsert((0..100).map(|at| (n * 101 + at) % POINTS).collect()))),
        (
            "query, k 10",
            many(&|n| {
                let body =
                    format!("{{\"vector\":{},\"k\":10}}", synthetic::vector_json(POINTS + n));
                request("POST", &format!("{base}/query"), body.as_bytes())
            }),
        ),
    ]
}

async fn one_pass(way: &Way, requests: &Rc<[Bytes]>, time: Duration) -> Read {
    let mut read = Read::default();
    let alone = closed_loop(&way.address, requests, 1, time / 2).await;
    let before = way.process.map(pin::cpu_ms);
    let many = closed_loop(&way.address, requests, CONNECTIONS, time).await;
    let spent = way.process.map(pin::cpu_ms).zip(before).map(|(after, before)| after - before);
    read.p50_us.add(alone.latencies_us.median());
    read.per_s.add(many.answers as f64 / many.seconds);
    if let Some(spent_ms) = spent.filter(|_| many.answers > 0) {
        read.cpu_us.add(spent_ms * 1e3 / many.answers as f64);
    }
    read.failed = alone.failed + many.failed;
    read
}

impl Read {
    fn add(&mut self, other: Self) {
        self.per_s.extend(&other.per_s);
        self.p50_us.extend(&other.p50_us);
        self.cpu_us.extend(&other.cpu_us);
        self.failed += other.failed;
    }
}

/// The router against each other way.
fn rows(kind: &str, layout: &str, ways: &[Way], reads: &[Read], table: &mut Table) {
    let [shard, router, ..] = reads else { return };
    for (way, read) in ways.iter().zip(reads).filter(|(way, _)| way.name != "router") {
        let goal = match (kind, way.name) {
            ("get", "haproxy") => Goal::RatioAtLeast(0.9),
            _ => Goal::None,
        };
        table.rows.push(Row {
            what: format!("{kind}{layout}: requests/s through the router"),
            figure: router.per_s.spread(0),
            value: router.per_s.median(),
            rival: Some((format!("{}: {}", way.name, read.per_s.spread(0)), read.per_s.median())),
            goal,
        });
    }
    for (way, read) in ways.iter().zip(reads).filter(|(way, _)| way.name != "shard") {
        let added = read.p50_us.median() - shard.p50_us.median();
        let own = way.name == "router";
        let goal =
            if own && kind == "get" { Goal::AtMost(ADDED_US_MAX, "µs") } else { Goal::None };
        table.rows.push(Row {
            what: format!("{kind}{layout}: {} adds to the p50, µs; its processor time", way.name),
            figure: format!("{added:.0}; {:.0}", read.cpu_us.median()),
            value: added,
            rival: Some((format!("shard: {}", shard.p50_us.spread(0)), 0.0)),
            goal,
        });
    }
    for (way, read) in ways.iter().zip(reads).filter(|(_, read)| read.failed > 0) {
        table.notes.push(format!("{kind}, {}: {} requests failed", way.name, read.failed));
    }
}
