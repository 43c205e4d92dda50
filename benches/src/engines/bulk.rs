//! A grow's copy into an engine, beside a bulk load of the same points straight into the same database, without Sheaf: by a loader
//! that has them in memory and makes one request after the other. What the database alone would take, were there nothing to make, is a limit.

use bytes::Bytes;
use futures_util::SinkExt;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use sheaf_tests::{Client, Postgres, QuiverServer};

use crate::stage::{self, COLLECTION, commit_ms};
use crate::stopwatch::{Readings, Stopwatch};
use crate::synthetic;
use crate::table::{Goal, Row, Table};

/// Points in a bulk request: Quiver's limit, and about the best of a few for PostgreSQL.
const BATCH_POINTS: usize = 1_000;
const GROW_SECS_MAX: u64 = 900;

/// From an embedded shard into each engine: half of the points move. One engine after the other, so that no figure has in it what
/// the other engine's passes left the disk to do.
pub async fn copies(points: usize, passes: usize, table: &mut Table) {
    let moved: Vec<usize> =
        (0..points).filter(|&number| synthetic::owner(number, 2) == 2).collect();
    let (mut quiver, mut pgvector): ([Readings; 3], [Readings; 3]) = Default::default();
    for _ in 0..passes {
        let server = QuiverServer::start().await;
        let arguments = server.shard_arguments();
        let arguments = arguments.each_ref().map(String::as_str);
        quiver[0].add(copied_per_s(points, &arguments).await);
        drop(server);
        quiver[1].add(quiver_bulk_per_s(&moved, Made::OnTheWay).await);
        quiver[2].add(quiver_bulk_per_s(&moved, Made::Before).await);
    }
    for _ in 0..passes {
        let server = Postgres::start().await;
        let url = server.database("shard").await;
        let arguments = ["--engine", "pgvector", "--engine-url", &url];
        pgvector[0].add(copied_per_s(points, &arguments).await);
        drop(server);
        pgvector[1].add(postgres_bulk_per_s(&moved, Made::OnTheWay).await);
        pgvector[2].add(postgres_bulk_per_s(&moved, Made::Before).await);
    }
    for (engine, words, [copy, bulk, limit]) in [
        ("Quiver", "points:bulk", &quiver),
        ("pgvector", "COPY into a table with the same columns and indexes", &pgvector),
    ] {
        let what = |goal| Row {
            what: format!("copy into {engine}: {} move, points/s until the commit", moved.len()),
            figure: copy.spread(0),
            value: copy.median(),
            rival: None,
            goal,
        };
        table.rows.push(Row {
            rival: Some((format!("{words}: {}", bulk.spread(0)), bulk.median())),
            ..what(Goal::RatioAtLeast(0.8))
        });
        table.rows.push(Row {
            rival: Some((
                format!("{words}, texts made before: {}", limit.spread(0)),
                limit.median(),
            )),
            ..what(Goal::None)
        });
    }
}

/// When a loader makes the texts of its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    OnTheWay,
    Before,
}

/// A point as a loader has it.
#[derive(Serialize)]
struct Point {
    id: String,
    vector: Vec<f32>,
    payload: Value,
}

/// The texts of the requests, as they are wanted.
fn texts<'a, T: 'a>(
    points: &'a [Point],
    made: Made,
    text: impl Fn(&'a [Point]) -> T + 'a,
) -> Box<dyn Iterator<Item = T> + 'a> {
    let texts = points.chunks(BATCH_POINTS).map(text);
    match made {
        Made::OnTheWay => Box::new(texts),
        Made::Before => Box::new(texts.collect::<Vec<T>>().into_iter()),
    }
}

fn in_memory(numbers: &[usize]) -> Vec<Point> {
    let point = |&number: &usize| Point {
        id: synthetic::id(number),
        vector: serde_json::from_str(&synthetic::vector_json(number)).expect("it is JSON"),
        payload: json!({ "n": number, "word": "made up" }),
    };
    numbers.iter().map(point).collect()
}

/// A grow from one embedded shard into a node with these arguments.
async fn copied_per_s(points: usize, arguments: &[&str]) -> f64 {
    let mut cluster = stage::cluster(1, 0, 0).await;
    let donor = cluster.client(&cluster.nodes[0].url);
    stage::load(&donor, points).await;
    stage::at_rest(std::slice::from_ref(&donor)).await;
    let joining = cluster.add_node_with(arguments).await;
    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[joining].url]).await;
    let report = operator.ended(transition, GROW_SECS_MAX).await.expect_committed().report;
    report["points"].as_f64().unwrap_or_default() / (commit_ms(&report) / 1e3)
}

async fn quiver_bulk_per_s(points: &[usize], made: Made) -> f64 {
    let server = QuiverServer::start().await;
    let client = Client::new(&server.url());
    let body = json!({ "name": COLLECTION, "dim": synthetic::DIM, "metric": "cosine" });
    client.post("/v1/collections", &body).await.expect("it answers").expect_ok("create");
    let points = in_memory(points);
    let body = |points| {
        #[derive(Serialize)]
        struct Body<'a> {
            points: &'a [Point],
        }
        Bytes::from(serde_json::to_vec(&Body { points }).expect("it is JSON"))
    };
    let bodies = texts(&points, made, body);
    let watch = Stopwatch::start();
    for body in bodies {
        let path = format!("/v1/collections/{COLLECTION}/points:bulk");
        let answer = client.send(Method::POST, &path, &[], body).await;
        answer.expect("it answers").expect_ok("bulk");
    }
    points.len() as f64 / watch.elapsed().as_secs_f64()
}

async fn postgres_bulk_per_s(points: &[usize], made: Made) -> f64 {
    let server = Postgres::start().await;
    server.database("bulk").await;
    let admin = server.admin("bulk").await;
    let table = format!(
        "CREATE EXTENSION vector; CREATE TABLE points (id bytea NOT NULL, id_digest bytea NOT NULL, id_rest bytea NOT NULL, \
         hash bytea NOT NULL, bytes int4 NOT NULL, vector vector({}) NOT NULL, payload json, PRIMARY KEY (id, id_digest)); \
         CREATE INDEX ON points USING hnsw (vector vector_cosine_ops)",
        synthetic::DIM
    );
    admin.batch_execute(&table).await.expect("a superuser may");
    let points = in_memory(points);
    let texts = texts(&points, made, rows);
    let watch = Stopwatch::start();
    for text in texts {
        let columns = "id, id_digest, id_rest, hash, bytes, vector, payload";
        let sink = admin.copy_in(&format!("COPY points ({columns}) FROM STDIN")).await;
        let mut sink = std::pin::pin!(sink.expect("it takes rows"));
        sink.send(Bytes::from(text)).await.expect("it takes rows");
        sink.finish().await.expect("it keeps them");
    }
    points.len() as f64 / watch.elapsed().as_secs_f64()
}

/// Rows in the text form of COPY.
fn rows(points: &[Point]) -> String {
    let row = |Point { id, vector, payload }: &Point| {
        let vector = serde_json::to_string(vector).expect("it is JSON");
        let hash = "\\\\x00112233445566778899aabbccddeeff";
        format!("{id}\t\t\t{hash}\t1600\t{vector}\t{payload}\n")
    };
    points.iter().map(row).collect()
}
