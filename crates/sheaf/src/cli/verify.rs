//! `sheaf verify`: an audit of the live cluster. Fails when anything is not where it belongs.

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_runtime::entropy;

use super::Target;
use super::map::text;
use crate::client::{Change, Failure};
use crate::output;
use crate::table::Table;
use crate::units;

#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Of a cluster that was taken over: have points that are on the wrong shard moved to their owners
    #[arg(long)]
    repair: bool,
    /// Discard those whose owner has another value, too: the owner's is right
    #[arg(long, requires = "repair")]
    discard_differing: bool,
    #[command(flatten)]
    pub target: Target,
}

/// What a call of the repair has done.
#[derive(Debug, Deserialize)]
struct Repaired {
    moved: u64,
    discarded: u64,
    differing: u64,
    differ: Vec<Differing>,
    next: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Differing {
    collection: String,
    id: String,
    shard: u64,
    owner: u64,
    discarded: bool,
}

pub async fn run(args: &VerifyArgs) -> Result<(), Failure> {
    if args.repair {
        repair(args).await?;
    }
    audit(&args.target).await
}

/// Goes through all shards, call by call, and says what was done.
async fn repair(args: &VerifyArgs) -> Result<(), Failure> {
    let client = args.target.coordinator()?;
    let (mut moved, mut discarded, mut differing) = (0, 0, 0);
    let mut from = Value::Null;
    loop {
        let body = json!({ "discard_differing": args.discard_differing, "from": from });
        let change = Change::once(entropy::name(), None);
        let path = "/cluster/verify/repair";
        let done: Repaired = client.change(Method::POST, path, Some(&body), &change).await?;
        (moved, discarded) = (moved + done.moved, discarded + done.discarded);
        differing += done.differing;
        if !args.target.json {
            done.differ.iter().for_each(|differing| output::say(differs(differing)));
        }
        match done.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let left = if args.discard_differing { 0 } else { differing };
    if !args.target.json {
        output::say(format!(
            "repaired: {} points moved to their owners, {} copies discarded, {} left because their owner has another value",
            units::count(moved),
            units::count(discarded),
            units::count(left)
        ));
    }
    Ok(())
}

fn differs(differing: &Differing) -> String {
    let Differing { collection, id, shard, owner, discarded } = differing;
    let what =
        if *discarded { "discarded" } else { "kept; with --discard-differing the owner's counts" };
    format!("! {collection:?} {id:?} on shard {shard} differs from its owner {owner}: {what}")
}

async fn audit(target: &Target) -> Result<(), Failure> {
    let audit: Value = target.coordinator()?.get("/cluster/verify").await?;
    output::answer(target.json, &audit, human)?;
    if audit.get("ok").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let problems = audit.get("problems").and_then(Value::as_array).map_or(0, Vec::len);
    Err(Failure::Failed(format!("the audit is not ok; problems: {problems}")))
}

fn human(audit: &Value) -> String {
    let list = |name: &str| audit.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let number =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut table = Table::new(&["SHARD", ">POINTS", ">FOREIGN", "DIGEST"]);
    let mut points = 0;
    for shard in list("shards") {
        points += number(&shard, "points");
        table.row([
            text(&shard, "id"),
            units::count(number(&shard, "points")),
            units::count(number(&shard, "foreign_points")),
            text(&shard, "digest"),
        ]);
    }
    let problems: String = list("problems")
        .iter()
        .filter_map(Value::as_str)
        .map(|problem| format!("\n! {problem}"))
        .collect();
    let verdict = if audit.get("ok").and_then(Value::as_bool) == Some(true) {
        "every point is on exactly its owner, nothing is extra"
    } else {
        "NOT proven, the lines with ! say why"
    };
    format!(
        "map {}: {} points; {verdict}\n\n{table}{problems}",
        text(audit, "version"),
        units::count(points)
    )
}
