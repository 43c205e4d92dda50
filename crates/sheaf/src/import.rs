//! Loads points from files: reads, batches, sends with bounded concurrency, remembers how far it is.
//!
//! A row is counted as done when the router acknowledged it and all rows before it. Sending a batch again is harmless: an
//! upsert says the whole point. Never deletes.

pub mod npy;
pub mod progress_file;
pub mod source;

use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, Failure, segment};
use source::{Source, SourceError};

/// Times that a batch is sent before its failure ends the import: with the pauses below, about half a minute.
const TRIES_MAX: u32 = 12;
/// Milliseconds before a second try; doubled for each further one.
const PAUSE_MS: u64 = 50;
const PAUSE_MS_MAX: u64 = 5_000;

/// A point as the router takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub id: String,
    pub vector: Vec<f32>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct Plan {
    pub collection: String,
    /// Points in one request.
    pub batch: usize,
    /// Requests under way.
    pub concurrency: usize,
    /// Leave out rows that can't be read, instead of stopping.
    pub skip_bad: bool,
    /// Rows at the start that are known to be loaded.
    pub skip_rows: u64,
}

/// How far a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Loaded {
    /// Rows from the start that are done: acknowledged, left out, or skipped as done before.
    pub rows: u64,
    pub points: u64,
    pub bad_rows: u64,
}

/// Points that are sent together.
struct Batch {
    points: Vec<Point>,
    first_row: u64,
    /// The row behind its last one.
    end_row: u64,
    bad_rows: u64,
}

/// Loads all of `source`, and says after each batch how far it is.
///
/// # Errors
/// A row is bad, a batch was refused, or the router can't be reached; what was reported before is loaded.
pub async fn load(
    client: &Client,
    source: Source,
    plan: &Plan,
    mut on_progress: impl FnMut(Loaded) -> Result<(), Failure>,
) -> Result<Loaded, Failure> {
    let path = format!("/v1/collections/{}/points:bulk", segment(&plan.collection));
    let batches = futures_util::stream::iter(Batches { source, plan, done: false });
    let sent = batches.map(|batch| async {
        let batch = batch?;
        send(client, &path, &batch).await?;
        Ok::<Batch, Failure>(batch)
    });
    // In order, so that what is done is always all rows up to some row.
    let mut sent = std::pin::pin!(sent.buffered(plan.concurrency));
    let mut loaded = Loaded { rows: plan.skip_rows, ..Loaded::default() };
    while let Some(batch) = sent.next().await {
        let batch = batch?;
        loaded.rows = batch.end_row;
        loaded.points += batch.points.len() as u64;
        loaded.bad_rows += batch.bad_rows;
        on_progress(loaded)?;
    }
    Ok(loaded)
}

struct Batches<'a> {
    source: Source,
    plan: &'a Plan,
    done: bool,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let first_row = self.source.rows_read();
        let mut batch = Batch { points: Vec::new(), first_row, end_row: first_row, bad_rows: 0 };
        while batch.points.len() < self.plan.batch {
            match self.source.next_point() {
                Ok(Some(point)) => {
                    batch.end_row = self.source.rows_read();
                    if batch.end_row > self.plan.skip_rows {
                        batch.points.push(point);
                    }
                }
                Ok(None) => {
                    self.done = true;
                    break;
                }
                Err(SourceError::BadRow { .. }) if self.plan.skip_bad => {
                    batch.end_row = self.source.rows_read();
                    batch.bad_rows += 1;
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(Failure::Failed(error.to_string())));
                }
            }
        }
        if batch.end_row == first_row { None } else { Some(Ok(batch)) }
    }
}

async fn send(client: &Client, path: &str, batch: &Batch) -> Result<(), Failure> {
    if batch.points.is_empty() {
        return Ok(());
    }
    let body = json!({ "points": batch.points });
    let mut pause = PAUSE_MS;
    for left in (0..TRIES_MAX).rev() {
        let failure = match client.question::<Value>(path, &body).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let again = match &failure {
            Failure::Unreachable(_) | Failure::Unknown(_) => true,
            Failure::Refused { status, .. } => matches!(status, 429 | 502 | 503),
            Failure::Usage(_) | Failure::Failed(_) => false,
        };
        if !again || left == 0 {
            let (first, last) = (batch.first_row + 1, batch.end_row);
            return Err(Failure::Failed(format!(
                "rows {first} to {last} were not loaded: {failure}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        pause = (pause * 2).min(PAUSE_MS_MAX);
    }
    Ok(())
}
