//! Measures the embedded engine; `cargo run --release -p sheaf-engines --example embedded_figures`.
//!
//! Prints what the constants in the engine and the figures in the documents were taken from.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_engines::embedded::{Command, Database, Disk, Done, FileDisk};
use sheaf_engines::{
    Accept, Bodies, Embedded, EmbeddedOptions, Engine, Filter, Scan, Search, Write,
};
use sheaf_types::{CollectionConfig, CollectionId, PlacementKey, PointBody, PointId, StoredPoint};

#[path = "../tests/wordnet/mod.rs"]
mod wordnet;

const C: CollectionId = CollectionId(1);

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed<T>(what: &str, count: usize, unit: &str, work: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    let (rate, micros) = (count as f64 / seconds, seconds * 1e6 / count as f64);
    println!("{what:58} {rate:12.0} {unit}/s {micros:10.2} us each");
    result
}

fn open(dir: &std::path::Path, index_floats_min: usize) -> Database {
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(dir));
    Database::open(EmbeddedOptions { index_floats_min, ..EmbeddedOptions::on(disk) }).expect("open")
}

fn create(database: &Database, metric: &str) {
    let json = serde_json::json!({"name": "figures", "dim": wordnet::DIM, "metric": metric});
    let config: CollectionConfig = serde_json::from_value(json).expect("a configuration");
    let command = Command::Create { collection: C, config: Arc::new(config) };
    assert_eq!(database.commit(&[command]), [Ok(Done::Created)]);
}

fn points(vectors: &[Vec<f32>], prefix: &str) -> Vec<StoredPoint> {
    let gloss = "x".repeat(160);
    let point = |(n, vector): (usize, &Vec<f32>)| {
        let payload = format!(r#"{{"gloss":"{gloss}","n":{},"topic":"t{}"}}"#, n % 1_000, n % 7);
        let body = PointBody::encode(vector, Some(&payload));
        // Spread over the order of ids, as real ids are.
        let id = format!("{prefix}{:08x}", (n as u32).wrapping_mul(0x9e37_79b1));
        StoredPoint::new(C, PointId::from(id), body)
    };
    vectors.iter().enumerate().map(point).collect()
}

fn apply(database: &Database, points: &[StoredPoint], batch: usize) {
    for batch in points.chunks(batch) {
        let writes = batch.iter().cloned().map(Write::Upsert).collect();
        let done = database.commit(&[Command::Apply { collection: C, writes }]);
        assert!(matches!(done[..], [Ok(Done::Applied(_))]), "{done:?}");
    }
}

fn question(vector: &[f32], ef: usize) -> Search {
    let (vector, k) = (vector.to_vec(), 10);
    Search {
        vector,
        k,
        ef,
        accept: Accept::All,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    }
}

fn ids(database: &Database, search: &Search) -> Vec<PointId> {
    let hits = database.search(C, search).expect("a search");
    hits.into_iter().map(|hit| hit.id).collect()
}

fn writes(vectors: &[Vec<f32>]) {
    for batch in [1, 100, 512, 1_000] {
        let dir = tempfile::tempdir().expect("a directory");
        let database = open(dir.path(), usize::MAX);
        create(&database, "cosine");
        let points = points(&vectors[..if batch == 1 { 2_000 } else { vectors.len() }], "p");
        let what = format!("insert, durable, batches of {batch}");
        timed(&what, points.len(), "points", || apply(&database, &points, batch));
        if batch == 1_000 {
            timed("overwrite all, durable, batches of 1000", points.len(), "points", || {
                apply(&database, &points, batch);
            });
        }
        let stats = database.stats();
        println!(
            "  {} points, {} MB of data, {} MB on disk",
            stats.points,
            stats.bytes >> 20,
            stats.disk_bytes >> 20
        );
    }
}

fn reads(database: &Database, points: &[StoredPoint]) {
    timed("get, one id a call", points.len(), "gets", || {
        for point in points {
            let found = database.get(C, std::slice::from_ref(&point.id)).expect("a get");
            assert!(found[0].is_some());
        }
    });
    for (what, bodies, points_max) in [
        ("scan of hashes, pages of 2048", false, 2_048),
        ("scan with bodies, pages of 512", true, 512),
    ] {
        timed(what, points.len(), "points", || {
            let mut scan = Scan {
                after: None,
                through: None,
                points_max,
                bytes_max: 1 << 20,
                bodies,
                accept: Accept::All,
                filter: None,
            };
            let mut seen = 0;
            loop {
                let page = database.scan(C, &scan).expect("a page");
                seen += page.points.len();
                let Some(through) = page.looked_through else { break };
                scan.after = Some(through);
            }
            assert_eq!(seen, points.len());
        });
    }
}

fn searches(
    name: &str,
    database: &Database,
    queries: &[Vec<f32>],
    truth: Option<&[Vec<PointId>]>,
    change: impl Fn(&mut Search),
) {
    for ef in if truth.is_some() { vec![32, 64, 128, 256] } else { vec![64] } {
        let searches: Vec<Search> = queries
            .iter()
            .map(|vector| {
                let mut search = question(vector, ef);
                change(&mut search);
                search
            })
            .collect();
        let found: Vec<Vec<PointId>> =
            timed(&format!("{name}, ef {ef}"), searches.len(), "searches", || {
                searches.iter().map(|search| ids(database, search)).collect()
            });
        let Some(truth) = truth else { continue };
        let hits: usize = found
            .iter()
            .zip(truth)
            .map(|(found, truth)| {
                let truth: BTreeSet<&PointId> = truth.iter().collect();
                found.iter().filter(|id| truth.contains(id)).count()
            })
            .sum();
        println!(
            "  recall@10 {:.4}",
            hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
        );
    }
}

/// Many callers that each wait for their own write: group commit.
fn concurrent_writes(vectors: &[Vec<f32>]) {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).expect("open"));
    create(engine.database(), "cosine");
    let points = points(&vectors[..10_000], "p");
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    timed("insert, durable, one a call, 64 callers", points.len(), "points", || {
        runtime.block_on(async {
            let mut callers = tokio::task::JoinSet::new();
            for part in points.chunks(points.len().div_ceil(64)) {
                let (engine, part) = (Arc::clone(&engine), part.to_vec());
                callers.spawn(async move {
                    for point in part {
                        engine.apply(C, vec![Write::Upsert(point)]).await.expect("a write");
                    }
                });
            }
            callers.join_all().await;
        });
    });
}

/// Resident memory of this process, where the system tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() {
    let vectors = wordnet::matrix("wordnet-20k.f16.npy");
    // Between two rows, nearer to one: as near to the data as questions are, and never a row itself.
    let queries: Vec<Vec<f32>> = (0..500)
        .map(|n| {
            vectors[n * 37]
                .iter()
                .zip(&vectors[n * 31 + 5])
                .map(|(a, b)| a * 0.8 + b * 0.2)
                .collect()
        })
        .collect();
    writes(&vectors);
    concurrent_writes(&vectors);

    let dir = tempfile::tempdir().expect("a directory");
    for rows in [2_500, 5_000, 10_000, 20_000] {
        let exact_dir = tempfile::tempdir().expect("a directory");
        let exact = open(exact_dir.path(), usize::MAX);
        create(&exact, "cosine");
        apply(&exact, &points(&vectors[..rows], "p"), 1_000);
        searches(&format!("exact search of {rows}"), &exact, &queries, None, |_| ());
        let indexed_dir = tempfile::tempdir().expect("a directory");
        let indexed = open(indexed_dir.path(), 1);
        create(&indexed, "cosine");
        apply(&indexed, &points(&vectors[..rows], "p"), 1_000);
        timed(&format!("index of {rows}"), rows, "points", || while indexed.index_step() {});
        let truth: Vec<Vec<PointId>> =
            queries.iter().map(|q| ids(&exact, &question(q, 64))).collect();
        searches(&format!("indexed search of {rows}"), &indexed, &queries, Some(&truth), |_| ());
    }

    let all = points(&vectors, "p");
    {
        let database = open(dir.path(), 1);
        create(&database, "cosine");
        apply(&database, &all, 1_000);
        while database.index_step() {}
        reads(&database, &all);
        for (name, modulus) in [("half", 2), ("a tenth", 10), ("a hundredth", 100)] {
            let accept =
                Accept::Only(Arc::new(move |key: PlacementKey| key.0.is_multiple_of(modulus)));
            searches(
                &format!("search of 20000, accepting {name}"),
                &database,
                &queries[..100],
                None,
                |search| search.accept = accept.clone(),
            );
        }
        for (name, below) in [("half", 500), ("a tenth", 100), ("a hundredth", 10)] {
            let filter = Filter::Lt { field: "n".into(), value: below.into() };
            searches(
                &format!("search of 20000, filter holds for {name}"),
                &database,
                &queries[..100],
                None,
                |search| search.filter = Some(filter.clone()),
            );
        }
    }
    let database = timed("open 20000 points, check and load them", all.len(), "points", || {
        open(dir.path(), 1)
    });
    let before = resident_mib();
    while database.index_step() {}
    println!("  {} MiB resident more with the index", resident_mib() - before);
}
