//! How long a grow takes that has little or nothing to move: from the request to the commit, as the report says.

use crate::stage;
use crate::stopwatch::Readings;
use crate::table::{Goal, Row, Table};

/// Points of each cluster, and the milliseconds that its grow may take.
const SIZES: [(usize, f64); 2] = [(0, 100.0), (1_000, 300.0)];

pub async fn measure(quick: bool) -> Table {
    let passes = if quick { 3 } else { 7 };
    let mut table = Table {
        title: "small: a grow from 1 shard to 2, from the request to the commit".to_owned(),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    for (points, goal) in SIZES {
        let mut took = Readings::default();
        for _ in 0..passes {
            took.add(grow(points).await);
        }
        table.rows.push(Row {
            what: format!("{points} points, ms"),
            figure: took.spread(0),
            value: took.median(),
            rival: None,
            goal: Goal::AtMost(goal, "ms"),
        });
    }
    table
}

async fn grow(points: usize) -> f64 {
    let cluster = stage::cluster(1, 1, 0).await;
    stage::load(&cluster.client(&cluster.nodes[0].url), points).await;
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[1].url]).await;
    let ended = operator.ended(transition, 60).await.expect_committed();
    stage::commit_ms(&ended.report)
}
