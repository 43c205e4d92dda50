//! `kill -9` of the server under writes: what was acknowledged is there, what was refused is not, and the engine goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sheaf_engines::EngineError;
use sheaf_pgvector::PgVector;
use sheaf_tests::{Postgres, eventually, pause_ms};

use crate::{read, with_collection, write};

const ROUNDS: u64 = 20;
const WRITERS: u64 = 4;
/// Seconds until an engine serves again.
const AGAIN_SECS_MAX: u64 = 60;

/// What one point may be.
struct Writer {
    id: String,
    acknowledged: u64,
    /// Its outcome is unknown.
    perhaps: Option<u64>,
    next: u64,
    unknown: u64,
}

impl Writer {
    async fn write_until(mut self, engine: Arc<PgVector>, is_over: Arc<AtomicBool>) -> Self {
        while !is_over.load(Ordering::SeqCst) {
            let value = self.next;
            self.next += 1;
            match write(&engine, &self.id, value).await {
                Ok(_) => (self.acknowledged, self.perhaps) = (value, None),
                Err(EngineError::Unknown(_)) => {
                    self.perhaps = Some(value);
                    self.unknown += 1;
                }
                Err(EngineError::Unavailable(_)) => pause_ms(5).await,
                Err(other) => panic!("{other:?}"),
            }
        }
        self
    }

    async fn check(&mut self, engine: &PgVector) {
        let found = eventually("it reads again", AGAIN_SECS_MAX, || read(engine, &self.id)).await;
        let is_right = found == Some(self.acknowledged) || found.is_some() && found == self.perhaps;
        let (acknowledged, perhaps) = (self.acknowledged, self.perhaps);
        assert!(is_right, "{}: {found:?}, not {acknowledged} nor {perhaps:?}", self.id);
        (self.acknowledged, self.perhaps) = (found.expect("it was just seen"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_acknowledged_and_the_engine_goes_on_by_itself() {
    let mut server = Postgres::start().await;
    let engine = Arc::new(with_collection(&server.database("killed").await, 2).await);
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let id = format!("w{number}");
        write(&engine, &id, 0).await.expect("nothing is wrong yet");
        writers.push(Writer { id, acknowledged: 0, perhaps: None, next: 1, unknown: 0 });
    }
    for round in 1..=ROUNDS {
        let is_over = Arc::new(AtomicBool::new(false));
        let run = |writer: Writer| {
            tokio::spawn(writer.write_until(Arc::clone(&engine), Arc::clone(&is_over)))
        };
        let running: Vec<_> = writers.drain(..).map(run).collect();
        pause_ms(20 + round * 7).await;
        server.kill().await;
        server.restart().await;
        is_over.store(true, Ordering::SeqCst);
        for writer in running {
            writers.push(writer.await.expect("no writer fails"));
        }
        for writer in &mut writers {
            writer.check(&engine).await;
        }
        eventually("it writes again", AGAIN_SECS_MAX, || write(&engine, "after", round)).await;
    }
    let written: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(written > ROUNDS, "hardly anything was written: {written}");
    eprintln!("{written} values, {} unknown", writers.iter().map(|w| w.unknown).sum::<u64>());
}
