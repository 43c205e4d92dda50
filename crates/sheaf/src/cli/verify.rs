//! `sheaf verify`: an audit of the live cluster. Fails when anything is not where it belongs.

use serde_json::Value;

use super::Target;
use super::map::text;
use crate::client::Failure;
use crate::output;
use crate::table::Table;
use crate::units;

pub async fn run(target: &Target) -> Result<(), Failure> {
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
