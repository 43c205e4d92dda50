//! `sheaf plan`: what a change would move. Changes nothing.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sheaf_map::Weight;

use super::Target;
use crate::client::Failure;
use crate::output;
use crate::table::Table;
use crate::units;

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    #[command(subcommand)]
    change: Planned,
    #[command(flatten)]
    pub target: Target,
}

/// A change that is only thought of.
#[derive(Clone, Debug, Subcommand)]
enum Planned {
    /// Nodes join
    Grow {
        #[arg(required = true, value_name = "URL")]
        urls: Vec<String>,
    },
    /// A shard leaves
    Drain {
        #[arg(value_name = "ID")]
        shard: u64,
    },
    /// A shard takes more or less
    Reweight {
        #[arg(value_name = "ID")]
        shard: u64,
        #[arg(value_name = "WEIGHT")]
        weight: Weight,
    },
    /// A node takes a shard's place
    Replace {
        #[arg(value_name = "ID")]
        shard: u64,
        #[arg(value_name = "URL")]
        url: String,
    },
}

pub async fn run(args: &PlanArgs) -> Result<(), Failure> {
    let body = match &args.change {
        Planned::Grow { urls } => {
            json!({ "kind": "grow", "shards": super::grow::shards(urls, None)? })
        }
        Planned::Drain { shard } => json!({ "kind": "drain", "shard": shard }),
        Planned::Reweight { shard, weight } => {
            json!({ "kind": "reweight", "shard": shard, "weight": weight })
        }
        Planned::Replace { shard, url } => {
            json!({ "kind": "replace", "shard": shard, "primary_url": super::grow::url(url)? })
        }
    };
    let plan: Value = args.target.coordinator()?.question("/cluster/plan", &body).await?;
    output::answer(args.target.json, &plan, human)
}

fn human(plan: &Value) -> String {
    let number =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut table = Table::new(&["FROM", "TO", ">POINTS", ">BYTES"]);
    for pair in plan.get("pairs").and_then(Value::as_array).into_iter().flatten() {
        table.row([
            number(pair, "donor").to_string(),
            number(pair, "recipient").to_string(),
            units::count(number(pair, "points")),
            units::bytes(number(pair, "bytes")),
        ]);
    }
    let measured = plan.get("rate_measured").and_then(Value::as_bool).unwrap_or(true);
    let unknown = plan.get("unknown").and_then(Value::as_array).filter(|shards| !shards.is_empty());
    let unknown = unknown.map_or(String::new(), |shards| {
        let ids: Vec<String> = shards.iter().map(Value::to_string).collect();
        format!(
            "\nnot counted, since they haven't reported what they hold: shards {}",
            ids.join(", ")
        )
    });
    format!(
        "about {} points, {}, in about {}{}; nothing was changed (map {})\n\n{table}{unknown}",
        units::count(number(plan, "points")),
        units::bytes(number(plan, "bytes")),
        units::millis(number(plan, "eta_seconds") * 1_000),
        if measured { "" } else { " (a guess: nothing was copied yet)" },
        number(plan, "version"),
    )
}
