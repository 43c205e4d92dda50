//! Requests a second through Sheaf's router and its gate, and through the stock router, to the same kind of server.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::contender::{Contender, Kind};
use crate::client::{closed_loop, request};
use crate::stage::COLLECTION;
use crate::stopwatch::Readings;
use crate::synthetic;
use crate::table::{Goal, Row, Table};

/// Points in the one shard.
const POINTS: usize = 5_000;
const CONNECTIONS: usize = 16;
/// Different requests of each kind.
const REQUESTS: usize = 4_000;

pub async fn routers(quick: bool, table: &mut Table) {
    let (passes, time) = if quick { (2, 400) } else { (5, 1_000) };
    let time = Duration::from_millis(time);
    let contenders =
        [Contender::start(Kind::Sheaf, POINTS).await, Contender::start(Kind::Stock, POINTS).await];
    for contender in &contenders {
        contender.is_indexed().await;
    }
    for kind in [Asked::Get, Asked::Query, Asked::Upsert] {
        let mut per_s = [Readings::default(), Readings::default()];
        let mut p50_us = [Readings::default(), Readings::default()];
        let mut failed = [0, 0];
        for pass in 0..=passes {
            let requests = kind.requests(pass);
            for (at, contender) in contenders.iter().enumerate() {
                let address = contender.router_address();
                let seen = closed_loop(&address, &requests, CONNECTIONS, time).await;
                // The first warms up.
                if pass > 0 {
                    per_s[at].add(seen.answers as f64 / seen.seconds);
                    p50_us[at].add(seen.latencies_us.median());
                    failed[at] += seen.failed;
                }
            }
        }
        let ([sheaf, stock], [ours, theirs]) = (&per_s, &p50_us);
        table.rows.push(Row {
            what: format!("{}: requests/s through the router", kind.name()),
            figure: sheaf.spread(0),
            value: sheaf.median(),
            rival: Some((format!("stock: {}", stock.spread(0)), stock.median())),
            goal: Goal::RatioAtLeast(1.0),
        });
        let name = kind.name();
        if failed != [0, 0] {
            let [ours, theirs] = failed;
            table
                .notes
                .push(format!("{name}: {ours} requests failed, of the stock router {theirs}"));
        }
        let (ours, theirs) = (ours.spread(0), theirs.spread(0));
        table.notes.push(format!(
            "{name}: p50 with {CONNECTIONS} connections {ours} µs, stock {theirs} µs"
        ));
    }
}

#[derive(Clone, Copy)]
enum Asked {
    Get,
    Query,
    /// Of one new point: what is written again as it is costs Sheaf no write.
    Upsert,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Query => "query, k 10",
            Self::Upsert => "upsert of a new point",
        }
    }

    /// So many that no pass comes to the end of them.
    fn requests(self, pass: usize) -> Rc<[Bytes]> {
        let base = format!("/v1/collections/{COLLECTION}");
        let make = |n: usize| match self {
            Self::Get => {
                let id = synthetic::id(n * 17 % POINTS);
                request("GET", &format!("{base}/points/{id}"), b"")
            }
            Self::Query => {
                let vector = synthetic::vector_json(POINTS + n);
                let body = format!("{{\"vector\":{vector},\"k\":10}}");
                request("POST", &format!("{base}/query"), body.as_bytes())
            }
            Self::Upsert => {
                let point = synthetic::upsert(&[POINTS + pass * REQUESTS + n]);
                request("POST", &format!("{base}/points"), &point)
            }
        };
        (0..REQUESTS).map(make).collect()
    }
}
