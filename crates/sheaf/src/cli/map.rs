//! `sheaf map`: the shards and collections of the current map.

use serde_json::Value;

use super::Target;
use crate::client::Failure;
use crate::output;
use crate::table::Table;

pub async fn run(target: &Target) -> Result<(), Failure> {
    let map: Value = target.coordinator()?.get("/cluster/map").await?;
    output::answer(target.json, &map, human)
}

fn human(map: &Value) -> String {
    let list = |name: &str| map.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut shards = Table::new(&["SHARD", "STATE", "WEIGHT", "URL", "REPLICAS", "STORE"]);
    let (joining, draining) = (list("joining"), list("draining"));
    for shard in list("shards") {
        let id = shard.get("id").cloned().unwrap_or_default();
        let state = if draining.contains(&id) { "leaving" } else { "serving" };
        let replicas = shard.get("replica_urls").and_then(Value::as_array).map_or(0, Vec::len);
        shards.row([
            id.to_string(),
            state.to_owned(),
            text(&shard, "weight"),
            text(&shard, "primary_url"),
            replicas.to_string(),
            text(&shard, "store_id").chars().take(8).collect(),
        ]);
    }
    let mut collections = Table::new(&["COLLECTION", ">DIM", "METRIC", "INDEX"]);
    for collection in list("collections") {
        let config = collection.get("config").unwrap_or(&collection);
        collections.row(["name", "dim", "metric", "index"].map(|name| text(config, name)));
    }
    let joining = match joining.as_slice() {
        [] => String::new(),
        ids => format!(
            ", joining: {}",
            ids.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
        ),
    };
    let (version, cluster) = (text(map, "version"), text(map, "cluster_id"));
    format!("map {version} of cluster {cluster}{joining}\n\n{shards}\n{collections}")
}

/// A field as text, whatever its type; `-` when it is absent.
pub fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
