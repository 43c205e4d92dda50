//! How fast a grow moves points, against a bulk load of the same points into an empty shard; and the donor's memory.
//!
//! A grow counts from the request to the commit, so its fixed costs are part of the figure.

use std::rc::Rc;
use std::time::Duration;

use crate::stopwatch::Readings;
use crate::table::{Goal, Row, Table};
use crate::{stage, synthetic};

/// Points in a bulk request: the rival may choose the best.
const BATCHES: [usize; 4] = [250, 1_000, 2_500, 5_000];
/// Milliseconds between two looks at the donor's memory.
const MEMORY_LOOK_MS: u64 = 5;
const MIB: f64 = 1_048_576.0;

/// One grow.
struct Grown {
    points: usize,
    points_per_s: f64,
    donor_growth_mib: f64,
}

pub async fn measure(quick: bool) -> Table {
    let mut table = Table {
        title: "copy: a grow from 1 shard to 2 without load, against a bulk load of the points that move"
            .to_owned(),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    size(20_000, if quick { 1 } else { 3 }, &BATCHES, &mut table).await;
    if !quick {
        size(200_000, 1, &[1_000], &mut table).await;
    }
    table
}

/// Measures one size, the two rivals in turns.
async fn size(points: usize, passes: usize, batches: &[usize], table: &mut Table) {
    let (mut grows, mut growths) = (Readings::default(), Readings::default());
    let mut loads: Vec<Readings> = vec![Readings::default(); batches.len()];
    let moved: Vec<usize> =
        (0..points).filter(|&number| synthetic::owner(number, 2) == 2).collect();
    for _ in 0..passes {
        let grown = grow(points).await;
        if grown.points != moved.len() {
            table.notes.push(format!("{} points moved, not {}", grown.points, moved.len()));
        }
        grows.add(grown.points_per_s);
        growths.add(grown.donor_growth_mib);
        for (batch, loads) in batches.iter().zip(&mut loads) {
            loads.add(bulk_points_per_s(&moved, *batch).await);
        }
    }
    let best = batches.iter().zip(&loads).max_by(|a, b| a.1.median().total_cmp(&b.1.median()));
    let (batch, load) =
        best.map_or((0, Readings::default()), |(batch, load)| (*batch, load.clone()));
    let n = moved.len();
    table.rows.push(Row {
        what: format!("{points} x {}: {n} move, points/s", synthetic::DIM),
        figure: grows.spread(0),
        value: grows.median(),
        rival: Some((format!("bulk of {batch}: {}", load.spread(0)), load.median())),
        goal: Goal::RatioAtLeast(0.8),
    });
    table.rows.push(Row {
        what: format!("{points} x {}: the donor's memory grows by, MiB", synthetic::DIM),
        figure: growths.spread(1),
        value: growths.max(),
        rival: None,
        goal: Goal::AtMost(64.0, "MiB"),
    });
}

async fn grow(points: usize) -> Grown {
    let cluster = stage::cluster(1, 1, 0).await;
    let donor = cluster.client(&cluster.nodes[0].url);
    stage::load(&donor, points).await;
    stage::at_rest(std::slice::from_ref(&donor)).await;
    let process = cluster.nodes[0].process();
    let before = resident_bytes(process);
    let most = Rc::new(std::cell::Cell::new(before));
    let seen = Rc::clone(&most);
    let watching = tokio::task::spawn_local(async move {
        loop {
            seen.set(seen.get().max(resident_bytes(process)));
            tokio::time::sleep(Duration::from_millis(MEMORY_LOOK_MS)).await;
        }
    });
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[1].url]).await;
    let ended = operator.ended(transition, 600).await.expect_committed();
    watching.abort();
    let points = ended.report["points"].as_u64().unwrap_or_default() as usize;
    Grown {
        points,
        points_per_s: points as f64 / (stage::commit_ms(&ended.report) / 1e3),
        donor_growth_mib: (most.get() - before) / MIB,
    }
}

async fn bulk_points_per_s(points: &[usize], batch: usize) -> f64 {
    let cluster = stage::cluster(1, 0, 0).await;
    let bodies = stage::bulk_bodies(points, batch);
    let took = stage::bulk(&cluster.client(&cluster.nodes[0].url), &bodies).await;
    points.len() as f64 / took.as_secs_f64()
}

/// Memory that a process has in use, file pages that it maps included.
fn resident_bytes(process: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}
