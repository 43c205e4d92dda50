//! `sheaf health`: which shards answer. Fails when one doesn't.

use std::collections::BTreeMap;

use super::Target;
use crate::client::Failure;
use crate::output;
use crate::table::Table;

pub async fn run(target: &Target) -> Result<(), Failure> {
    let health: BTreeMap<String, bool> = target.coordinator()?.get("/cluster/health").await?;
    output::answer(target.json, &health, |health| {
        let mut table = Table::new(&["SHARD", "ANSWERS"]);
        let mut rows: Vec<(&String, &bool)> = health.iter().collect();
        rows.sort_by_key(|(id, _)| id.parse::<u64>().unwrap_or(u64::MAX));
        rows.into_iter()
            .for_each(|(id, up)| table.row([id.as_str(), if *up { "yes" } else { "no" }]));
        table.to_string()
    })?;
    let down = health.values().filter(|up| !**up).count();
    if down > 0 {
        return Err(Failure::Failed(format!("{down} of {} shards don't answer", health.len())));
    }
    Ok(())
}
