//! `sheaf adopt`: takes over a running Quiver cluster, waits until it is proven, and finishes what its coordinator had begun.
//!
//! Every step may be repeated: what is done is found done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_runtime::{Clock, entropy};

use super::{ChangeArgs, Target};
use crate::client::{self, Change, Client, Failure};
use crate::follow;
use crate::output;
use crate::progress::{Progress, Show};
use crate::units;

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Bytes of a state file: a map of 10,000 shards has two million.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, Args)]
#[group(id = "of", required = true, multiple = true)]
pub struct AdoptArgs {
    /// The file that Quiver's coordinator keeps (its QUIVER_COORDINATOR_STATE); stop that coordinator first
    #[arg(long, value_name = "FILE", requires = "gate", conflicts_with = "shards", group = "of")]
    quiver_state: Option<PathBuf>,
    /// A gate in front of one of its servers; repeat it for each. As ID=URL when the gate reaches its server by another address than
    /// the file has
    #[arg(long, value_name = "[ID=]URL", requires = "quiver_state")]
    gate: Vec<String>,
    /// Instead of a file: the gates, in the order in which Quiver's settings list their servers (ids 0, 1, …)
    #[arg(long, value_name = "URL", num_args = 1.., group = "of")]
    shards: Vec<String>,
    /// Only take over: neither wait for the proof nor finish a join or drain that was begun
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    pub target: Target,
}

/// What the coordinator answers.
#[derive(Debug, Deserialize)]
struct Adopted {
    version: u64,
    already: bool,
    shards: Vec<Shard>,
    collections: Vec<Collection>,
    joining: Vec<Joining>,
    leaving: Vec<u64>,
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    id: u64,
    gate_url: String,
    points: u64,
}

#[derive(Debug, Deserialize)]
struct Collection {
    name: String,
    points: u64,
}

#[derive(Debug, Deserialize)]
struct Joining {
    id: u64,
    engine: String,
    gate_url: Option<String>,
}

/// The part of the status that says how the proof stands.
#[derive(Debug, Deserialize)]
struct Status {
    unproven: bool,
    shards: Vec<ShardStatus>,
}

#[derive(Debug, Deserialize)]
struct ShardStatus {
    id: u64,
    primary_url: String,
    report: Option<Report>,
}

#[derive(Debug, Deserialize)]
struct Report {
    clean: bool,
    strays: Option<u64>,
}

pub async fn run(args: &AdoptArgs) -> Result<(), Failure> {
    let client = args.target.coordinator()?;
    let body = body(args)?;
    let change = args.change.change();
    let answer: Value = client.change(Method::POST, "/cluster/adopt", Some(&body), &change).await?;
    let adopted = Adopted::deserialize(&answer).map_err(|error| {
        Failure::Failed(format!("the answer is not what this version expects: {error}"))
    })?;
    output::answer(args.target.json, &answer, |_| said(&adopted))?;
    if args.no_wait {
        return Ok(());
    }
    proven(&client, args.target.json).await?;
    finish(&client, &adopted, args.target.json).await
}

fn body(args: &AdoptArgs) -> Result<Value, Failure> {
    let state = args.quiver_state.as_deref().map(read_state).transpose()?;
    let named = if state.is_some() { &args.gate } else { &args.shards };
    let gates = named.iter().map(|text| gate(text, state.is_some()));
    let gates = gates.collect::<Result<Vec<Value>, String>>().map_err(Failure::Usage)?;
    let mut body = json!({ "gates": gates });
    if let Some(state) = state {
        body["state"] = state;
    }
    Ok(body)
}

fn gate(text: &str, takes_id: bool) -> Result<Value, String> {
    let (id, url) = match text.split_once('=') {
        Some((id, url)) if takes_id => {
            let id: u64 = id.trim().parse().map_err(|_| {
                format!("{text:?} doesn't begin with a shard's number; give ID=http://HOST:PORT")
            })?;
            (Some(id), url)
        }
        _ => (None, text),
    };
    Ok(json!({ "id": id, "url": client::base_url(url)? }))
}

fn read_state(path: &Path) -> Result<Value, Failure> {
    let wrong = |why: String| {
        Failure::Usage(format!(
            "{} is not the state of a Quiver coordinator: {why}; nothing was changed",
            path.display()
        ))
    };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > STATE_BYTES_MAX {
        return Err(wrong(format!("it has {}", units::bytes(length))));
    }
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let state: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if state.get("next_id").is_none() || state.get("map").is_none() {
        return Err(wrong("it has no next_id and map".to_owned()));
    }
    Ok(state)
}

fn said(adopted: &Adopted) -> String {
    let points: u64 = adopted.shards.iter().map(|shard| shard.points).sum();
    let mut text = if adopted.already {
        format!("map {}: these shards were taken over before", adopted.version)
    } else {
        format!(
            "map {}: {} shards with {} points in {} collections are taken over",
            adopted.version,
            adopted.shards.len(),
            units::count(points),
            adopted.collections.len()
        )
    };
    if !adopted.already {
        for shard in &adopted.shards {
            let points = units::count(shard.points);
            text.push_str(&format!(
                "\n  shard {} at {}: {points} points",
                shard.id, shard.gate_url
            ));
        }
        for collection in &adopted.collections {
            let points = units::count(collection.points);
            text.push_str(&format!("\n  collection {:?}: {points} points", collection.name));
        }
    }
    for note in &adopted.notes {
        text.push_str(&format!("\n! {note}"));
    }
    text
}

/// Comes back once every shard has looked and holds nothing foreign.
async fn proven(client: &Client, json: bool) -> Result<(), Failure> {
    let clock = Clock::system();
    let mut shown = Progress::new(Show::suited(json), "proof");
    loop {
        let status: Status = client.get("/cluster/status").await?;
        if !status.unproven {
            drop(shown);
            if !json {
                output::say("every point is where the map says: the cluster is proven");
            }
            return Ok(());
        }
        let strays: u64 =
            status.shards.iter().filter_map(|shard| shard.report.as_ref()?.strays).sum();
        let has_looked = |shard: &&ShardStatus| {
            shard.report.as_ref().is_some_and(|report| report.clean || report.strays.is_some())
        };
        let looked = status.shards.iter().filter(has_looked).count();
        let shards = status.shards.len();
        shown.update(clock.now().0, &format!("{looked} of {shards} shards have looked"), 0, 0, "");
        if looked == shards && strays > 0 {
            drop(shown);
            return Err(Failure::Failed(strayed(&status)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn strayed(status: &Status) -> String {
    let of = |shard: &ShardStatus| {
        let strays = shard.report.as_ref()?.strays.filter(|strays| *strays > 0)?;
        Some(format!("shard {} ({}): {}", shard.id, shard.primary_url, units::count(strays)))
    };
    let lines: Vec<String> = status.shards.iter().filter_map(of).collect();
    format!(
        "some shards hold points that another one owns: {}. Everything is served but deletes, and nothing is moved until that is mended: `sheaf verify` shows them, `sheaf verify --repair` mends it; then ask again",
        lines.join(", ")
    )
}

/// Drains what was leaving, and lets join what was joining.
async fn finish(client: &Client, adopted: &Adopted, json: bool) -> Result<(), Failure> {
    let status: Status = client.get("/cluster/status").await?;
    let known = |id: u64| status.shards.iter().any(|shard| shard.id == id);
    for shard in adopted.leaving.iter().copied().filter(|shard| known(*shard)) {
        say(json, &format!("the drain of shard {shard} had been begun: it is finished now"));
        let path = format!("/cluster/shards/{shard}/drain");
        transit(client, &path, &json!({}), json).await?;
    }
    for joining in &adopted.joining {
        let (id, engine) = (joining.id, &joining.engine);
        let Some(url) = &joining.gate_url else {
            say(
                json,
                &format!(
                    "! shard {id} ({engine}) was joining: it owned nothing, and its copies are not needed. To have it join, start a gate in front of it without --adopt, then `sheaf grow`"
                ),
            );
            continue;
        };
        if status.shards.iter().any(|shard| shard.primary_url.eq_ignore_ascii_case(url)) {
            continue;
        }
        say(
            json,
            &format!("the join of shard {id} had been begun: its node joins now, as a new shard"),
        );
        transit(client, "/cluster/shards/grow", &json!({ "primary_url": url }), json).await?;
    }
    Ok(())
}

async fn transit(client: &Client, path: &str, body: &Value, json: bool) -> Result<(), Failure> {
    let change = Change::once(entropy::name(), None);
    let answer: Value = client.change(Method::POST, path, Some(body), &change).await?;
    match answer.get("transition").and_then(Value::as_u64) {
        Some(transition) => follow::to_the_end(client, transition, json).await,
        None => Ok(()),
    }
}

fn say(json: bool, text: &str) {
    if !json {
        output::say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_a_url_or_an_id_and_a_url() {
        let plain = json!({ "id": null, "url": "http://g:1" });
        assert_eq!(gate("http://g:1/", true), Ok(plain.clone()));
        assert_eq!(gate("http://g:1", false), Ok(plain));
        assert_eq!(gate("3=http://g:1", true), Ok(json!({ "id": 3, "url": "http://g:1" })));
        assert!(gate("x=http://g:1", true).is_err());
        assert!(gate("3=http://g:1", false).is_err());
        assert!(gate("g:1", true).is_err());
    }

    #[test]
    fn a_file_that_is_no_state_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_state(&path).unwrap_err().to_string()
        };
        assert!(said("{").contains("state.json"));
        assert!(said("{}").contains("no next_id and map"));
        assert!(read_state(&folder.path().join("none")).is_err());
    }
}
