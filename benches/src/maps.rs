//! How soon routers know a new map: from the commit until each of 50 real router processes has adopted it.
//!
//! The commit's time is in the transition's report, the adoption's in the router's log; both read this machine's clock.

use serde_json::Value;
use sheaf_tests::cluster::Shape;
use sheaf_tests::{Cluster, eventually};

use crate::stopwatch::Readings;
use crate::table::{Goal, Row, Table};

/// Routers, each a process with its own long poll.
const ROUTERS: usize = 50;

pub async fn measure(quick: bool) -> Table {
    let changes = if quick { 3 } else { 8 };
    let mut shape = Shape::of(1, changes);
    shape.routers = ROUTERS;
    shape.all = ["--log", "json"].map(str::to_owned).to_vec();
    let cluster = Cluster::start(shape).await;
    let (mut each, mut last) = (Readings::default(), Readings::default());
    let operator = cluster.operator();
    for node in &cluster.nodes[1..] {
        let (transition, _) = operator.grow(&[&node.url]).await;
        let report = operator.ended(transition, 60).await.expect_committed().report;
        let committed = report["committed"].as_f64().unwrap_or_default();
        let version = report["to_version"].as_u64().unwrap_or_default();
        let mut slowest: f64 = 0.0;
        for router in &cluster.routers {
            let adopted = eventually("the router has adopted the map", 20, || async {
                adopted_ms(&router.log(), version).ok_or("its log doesn't say so")
            })
            .await;
            each.add(adopted - committed);
            slowest = slowest.max(adopted - committed);
        }
        last.add(slowest);
    }
    let title = format!("maps: {changes} commits, {ROUTERS} routers, each a process of its own");
    let row = |what: &str, figure: String, value: f64, goal: Goal| Row {
        what: what.to_owned(),
        figure,
        value,
        rival: None,
        goal,
    };
    let p99 = each.percentile(0.99);
    let rows = vec![
        row("from commit to adopted: p99, ms", format!("{p99:.1}"), p99, Goal::AtMost(20.0, "ms")),
        row("from commit to adopted, ms", each.spread(1), each.median(), Goal::None),
        row("until the last of all has it, ms", last.spread(1), last.median(), Goal::None),
    ];
    Table { title, rows, notes: Vec::new() }
}

/// When this log says that the map of this version was adopted, milliseconds since 1970.
fn adopted_ms(log: &str, version: u64) -> Option<f64> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_it = line.pointer("/fields/message")? == "adopted a map"
            && line.pointer("/fields/version")? == version;
        is_it.then(|| wall_ms(line["timestamp"].as_str()?)).flatten()
    })
}

/// A time as logs show it (`2026-01-31T12:00:00.123456Z`), in milliseconds since 1970.
fn wall_ms(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let seconds = time.next()?? * 3_600.0 + time.next()?? * 60.0 + time.next()??;
    // Days since 1970, counting years from March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(((days - 719_469) * 86_400) as f64 * 1e3 + seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_log_is_read_to_the_microsecond() {
        assert_eq!(wall_ms("1970-01-01T00:00:00.000000Z"), Some(0.0));
        assert_eq!(wall_ms("2000-03-01T00:00:00.5Z"), Some(951_868_800_500.0));
        assert_eq!(wall_ms("2024-02-29T12:34:56Z"), Some(1_709_210_096_000.0));
    }

    #[test]
    fn the_log_line_of_this_version_counts() {
        let line = |version: u64| {
            format!(
                "{{\"timestamp\":\"1970-01-01T00:00:0{version}Z\",\"fields\":{{\"message\":\"adopted a map\",\"version\":{version}}}}}\n"
            )
        };
        let log = ["no json\n".to_owned(), line(3), line(4)].concat();
        assert_eq!(adopted_ms(&log, 4), Some(4_000.0));
        assert_eq!(adopted_ms(&log, 5), None);
    }
}
