//! Sheaf in front of real databases: its grow beside the stock Quiver coordinator's, its copies beside bulk loads, its router beside
//! the stock router. All in one run, on servers of the same program.

mod bulk;
mod contender;
mod load;
mod throughput;

use contender::{Contender, Kind};
use load::Judged;

use crate::stopwatch::Readings;
use crate::synthetic;
use crate::table::{Goal, Row, Table};

/// Points that the clusters hold.
const POINTS: usize = 20_000;
const POINTS_QUICK: usize = 4_000;

pub async fn measure(quick: bool) -> Table {
    let (points, passes) = if quick { (POINTS_QUICK, 1) } else { (POINTS, 3) };
    let mut table = Table {
        title: format!("engines: {points} x {}, on real servers", synthetic::DIM),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    grows(points, passes, &mut table).await;
    bulk::copies(points, passes, &mut table).await;
    throughput::routers(quick, &mut table).await;
    table
}

/// Grows from 1 shard to 2, without load and with it, Sheaf and the stock coordinator in turns.
async fn grows(points: usize, passes: usize, table: &mut Table) {
    for is_loaded in [false, true] {
        let mut ms = [Readings::default(), Readings::default()];
        let mut judged = [Judged::default(), Judged::default()];
        for _ in 0..passes {
            for (at, kind) in [Kind::Sheaf, Kind::Stock].into_iter().enumerate() {
                let contender = Contender::start(kind, points).await;
                let took = if is_loaded {
                    let (took, found) = load::grow_under_load(&contender, points).await;
                    judged[at].add(&found);
                    took
                } else {
                    contender.grow().await
                };
                ms[at].add(took);
            }
        }
        let [sheaf, stock] = &ms;
        let words =
            if is_loaded { "under load, one router frozen for 4 s" } else { "without load" };
        table.rows.push(Row {
            what: format!("grow 1 to 2 {words}: points/s until the flip"),
            figure: rate(points, sheaf),
            value: 1.0 / sheaf.median(),
            rival: Some((format!("stock: {}", rate(points, stock)), 1.0 / stock.median())),
            goal: Goal::RatioAtLeast(10.0),
        });
        table.rows.push(Row {
            what: format!("grow 1 to 2 {words}: until the flip, ms"),
            figure: sheaf.spread(0),
            value: sheaf.median(),
            rival: Some((format!("stock: {}", stock.spread(0)), stock.median())),
            goal: Goal::None,
        });
        if is_loaded {
            let [sheaf, stock] = &judged;
            table.rows.push(Row {
                what: "acknowledged writes that are lost, deletes that came back".to_owned(),
                figure: sheaf.text(),
                value: sheaf.broken as f64,
                rival: Some((format!("stock: {}", stock.text()), 0.0)),
                goal: Goal::AtMost(0.0, ""),
            });
        }
    }
    table.notes.push(
        "The flip: Sheaf's commit; the stock map without a joining shard. The stock coordinator waits 3 s before it copies; that is in its \
         figure, as it is in its users' time. Lost: judged by the record of the end-to-end tests, over all passes."
            .to_owned(),
    );
}

fn rate(points: usize, ms: &Readings) -> String {
    let moved = (0..points).filter(|&number| synthetic::owner(number, 2) == 2).count();
    format!("{:.0}", moved as f64 / ms.median() * 1e3)
}
