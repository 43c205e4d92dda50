//! `sheaf status`: all of the cluster on one screen.

use serde_json::Value;

use super::Target;
use super::map::text;
use crate::client::Failure;
use crate::output;
use crate::table::Table;
use crate::transition::Transition;
use crate::units;

pub async fn run(target: &Target) -> Result<(), Failure> {
    let status: Value = target.coordinator()?.get("/cluster/status").await?;
    output::answer(target.json, &status, human)
}

fn human(status: &Value) -> String {
    let list = |name: &str| status.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut shards = Table::new(&[
        "SHARD", "ROLE", "HEALTH", ">POINTS", ">BYTES", ">DISK", ">P99", ">WEIGHT", "URL", "WHY",
    ]);
    for shard in list("shards") {
        let number = |name: &str| shard.get("report")?.get(name)?.as_u64();
        let with =
            |name: &str, write: fn(u64) -> String| number(name).map_or("-".to_owned(), write);
        shards.row([
            text(&shard, "id"),
            text(&shard, "role"),
            text(&shard, "health"),
            with("points", units::count),
            with("bytes", units::bytes),
            with("disk_bytes", units::bytes),
            with("request_p99_ms", units::millis),
            text(&shard, "weight"),
            text(&shard, "primary_url"),
            shard.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned(),
        ]);
    }
    let unproven = if status.get("unproven").and_then(Value::as_bool) == Some(true) {
        "taken over and not proven yet: nothing is deleted or moved before every shard has looked; `sheaf verify` says what is missing\n"
    } else {
        ""
    };
    let transition = match status.get("transition").filter(|transition| !transition.is_null()) {
        None => "no transition is running".to_owned(),
        Some(value) => running(&Transition::of(value)),
    };
    let queued = match list("queue").len() {
        0 => String::new(),
        waiting => format!("; {waiting} more wait for their turn"),
    };
    let mut history = Table::new(&["WHEN (UTC)", "WHAT"]);
    for entry in list("history").iter().rev() {
        let at = entry.get("at").and_then(Value::as_u64).unwrap_or_default();
        history.row([super::history::utc(at), text(entry, "text")]);
    }
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "cluster {}, map {}, term {}: {} points, {} in {} collections\n{}\n{unproven}{transition}{queued}\n\n{shards}\n{history}",
        text(status, "cluster_id"),
        text(status, "version"),
        text(status, "term"),
        units::count(number("points")),
        units::bytes(number("bytes")),
        number("collections"),
        coordinators(status),
    )
}

/// Who leads, who would follow, and whether the store answers.
fn coordinators(status: &Value) -> String {
    let store = status.get("store").cloned().unwrap_or_default();
    let kind = text(&store, "kind");
    let store = match store.get("trouble").and_then(Value::as_str) {
        None => format!("store {kind}: ok"),
        Some(trouble) => format!("store {kind}: {trouble}"),
    };
    let leader = match status.get("leader").filter(|leader| !leader.is_null()) {
        Some(leader) => format!("leader {}", text(leader, "url")),
        None => "no leader: everything is served, nothing is resized".to_owned(),
    };
    let followers = status.get("followers").and_then(Value::as_array);
    let followers: Vec<String> =
        followers.into_iter().flatten().map(|follower| text(follower, "url")).collect();
    let followers = match followers.as_slice() {
        [] => String::new(),
        urls => format!(", followers {}", urls.join(" ")),
    };
    format!("{leader}{followers}; {store}")
}

fn running(transition: &Transition) -> String {
    let waiting = match transition.waiting_for.as_slice() {
        [] => String::new(),
        reasons => format!("; waiting: {}", reasons.join(", ")),
    };
    format!(
        "transition {} ({}) is in the phase {}{}: {} sent for about {} points, fence attempts: {}{waiting}",
        transition.id,
        transition.kind,
        transition.phase,
        if transition.paused { ", paused" } else { "" },
        units::count(transition.points_sent),
        units::count(transition.points),
        transition.attempts,
    )
}
