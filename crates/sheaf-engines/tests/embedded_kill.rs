//! A process that is killed at any moment loses no write that it had acknowledged.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sheaf_engines::{Embedded, EmbeddedOptions, Engine, Write};
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId, StoredPoint};

const C: CollectionId = CollectionId(1);
const DIR: &str = "SHEAF_TEST_KILLED_WRITER_DIR";
const WRITERS: usize = 6;
const POINTS: usize = 10;
const ROUNDS: usize = 20;

fn id(writer: usize, point: usize) -> PointId {
    PointId::from(format!("w{writer}/{point}"))
}

/// Every fifth step deletes the writer's points, the others write them whole.
fn step(writer: usize, step: u64) -> Vec<Write> {
    let body = PointBody::encode(&[step as f32; 32], Some(r#"{"some":"payload"}"#));
    let write = |point| match step % 5 {
        4 => Write::Delete(id(writer, point)),
        _ => Write::Upsert(StoredPoint::new(C, id(writer, point), body.clone())),
    };
    (0..POINTS).map(write).collect()
}

fn open(dir: &std::path::Path) -> Embedded {
    Embedded::open(EmbeddedOptions { index_floats_min: 32, ..EmbeddedOptions::new(dir) }).unwrap()
}

/// The steps that the stored points of a writer may come from: `None` when they are absent.
async fn stored_step(engine: &Embedded, writer: usize) -> Option<u64> {
    let ids = (0..POINTS).map(|point| id(writer, point)).collect();
    let found = engine.get(C, ids).await.unwrap();
    let step = |point: &Option<StoredPoint>| point.as_ref().map(|p| p.body.vector()[0] as u64);
    let first = step(&found[0]);
    assert!(found.iter().all(|point| step(point) == first), "a batch is there in part: {found:?}");
    first
}

/// The process that is killed: does nothing when the tests run by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_says_what_was_acknowledged() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let engine = Arc::new(open(dir.as_ref()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let engine = Arc::clone(&engine);
        // Where it stopped is not known after a delete; any number that goes on upwards will do.
        let from = stored_step(&engine, writer).await.map_or(5, |step| step + 1);
        writers.spawn(async move {
            for n in from.. {
                engine.apply(C, step(writer, n)).await.unwrap();
                // One system call for a line, so that lines of several writers don't mix.
                let line = format!("\nacked {writer} {n}\n");
                if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
    while writers.join_next().await.is_some() {}
}

/// Lets a writer run until it acknowledged so many batches, kills it, and returns the last step of each.
fn run_and_kill(dir: &std::path::Path, acks: usize) -> [Option<u64>; WRITERS] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_writer_says_what_was_acknowledged", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acked = [None; WRITERS];
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut take = |line: String| {
        let mut words = line.split(' ');
        let (Some("acked"), Some(writer), Some(step)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        acked[writer.parse::<usize>().unwrap()] = Some(step.parse().unwrap());
        true
    };
    let mut seen = 0;
    while seen < acks {
        let line = lines.next().expect("the writer ended by itself").unwrap();
        seen += usize::from(take(line));
    }
    child.kill().unwrap();
    // What it said between the last look and its end counts as well.
    for line in lines.map_while(Result::ok) {
        take(line);
    }
    child.wait().unwrap();
    acked
}

#[tokio::test]
async fn a_killed_process_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({"name": "killed", "dim": 32});
    let config: CollectionConfig = serde_json::from_value(config).unwrap();
    open(dir.path()).create_collection(C, Arc::new(config)).await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for round in 0..ROUNDS {
        let acked = run_and_kill(dir.path(), rng.random_range(1..60));
        let engine = open(dir.path());
        for (writer, acked) in acked.iter().enumerate() {
            let Some(acked) = acked else { continue };
            let stored = stored_step(&engine, writer).await;
            // The next batch was perhaps on its way.
            let may_be = [*acked, *acked + 1].map(|step| (step % 5 != 4).then_some(step));
            assert!(
                may_be.contains(&stored),
                "round {round}: {stored:?} is stored, {acked} was acknowledged"
            );
        }
    }
}
