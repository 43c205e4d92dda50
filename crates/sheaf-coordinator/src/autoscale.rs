//! Autoscale: when the cluster grows into a standby or gives a shard back, and why not.
//!
//! Opt-in. Decides from what shards reported lately; an unreachable shard is unknown, never empty. It asks for
//! transitions as an operator would, and never touches one that runs.

use serde::{Deserialize, Serialize};
use sheaf_map::ShardEntry;
use sheaf_types::{ShardId, Time};

use crate::contacts::{Contacts, Observed};
use crate::record::{AutoscaleMemory, CoordinatorRecord};
use crate::url;

/// The settings of autoscale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoscaleConfig {
    pub enabled: bool,
    /// Grow when a shard of weight 1 holds more points than this; 0: never.
    pub high_water_points: u64,
    /// Drain the least loaded shard when the others would still hold fewer than this; 0: never.
    /// Counts only when it is at most half of `high_water_points`, or the cluster would swing.
    pub low_water_points: u64,
    /// Nodes to grow into. Each is taken into the durable pool once.
    pub standby_urls: Vec<String>,
    /// Seconds between two looks.
    pub interval_secs: u64,
    /// Seconds between two actions.
    pub cooldown_secs: u64,
    /// Shards at most; 0: no limit.
    pub max_shards: u64,
    /// Shards at least.
    pub min_shards: u64,
}

impl Default for AutoscaleConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            high_water_points: 0,
            low_water_points: 0,
            standby_urls: Vec::new(),
            interval_secs: 30,
            cooldown_secs: 300,
            max_shards: 0,
            min_shards: 1,
        }
    }
}

/// What autoscale would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Grow {
        url: String,
        why: String,
    },
    Drain {
        shard: ShardId,
        why: String,
    },
    /// Nothing, for this reason. Without figures: a reason that only changes its figures is not news.
    Nothing {
        why: String,
    },
}

/// Looks at the shards.
pub(crate) fn judge(
    config: &AutoscaleConfig,
    record: &CoordinatorRecord,
    contacts: &Contacts,
    now: Time,
) -> Verdict {
    let nothing = |why: &str| Verdict::Nothing { why: why.to_owned() };
    if record.transition.is_some() || !record.queue.is_empty() {
        return nothing("a transition is running or queued");
    }
    let mut loads = Vec::with_capacity(record.map.shards().len());
    for entry in record.map.shards() {
        match contacts.observed(entry.id) {
            Some(Observed::Up { report, .. }) => loads.push((entry, report.load.points)),
            Some(_) | None => {
                return nothing(&format!("{} doesn't answer, so its load is unknown", entry.id));
            }
        }
    }
    let Some((fullest, points)) = loads.iter().max_by_key(|(entry, n)| per_weight(entry, *n))
    else {
        return nothing("the cluster has no shards");
    };
    let cooling = record.autoscale.last_action.is_some_and(|at| {
        // A clock that was set back must not stretch the pause.
        now >= at && now.ms_since(at) < config.cooldown_secs.saturating_mul(1_000)
    });
    let high = config.high_water_points;
    if high > 0 && per_weight(fullest, *points) > high {
        if cooling {
            return nothing("a shard is above the high-water mark, but the cooldown is not over");
        }
        if config.max_shards > 0 && loads.len() as u64 >= config.max_shards {
            return nothing("a shard is above the high-water mark, but max_shards is reached");
        }
        let Some(url) = record.autoscale.standbys.first().cloned() else {
            return nothing("a shard is above the high-water mark, but there is no standby");
        };
        let why = format!("{} holds {points} points, above the high-water mark {high}", fullest.id);
        return Verdict::Grow { url, why };
    }
    judge_drain(config, &loads, cooling)
}

fn judge_drain(config: &AutoscaleConfig, loads: &[(&ShardEntry, u64)], cooling: bool) -> Verdict {
    let nothing = |why: &str| Verdict::Nothing { why: why.to_owned() };
    let low = config.low_water_points;
    if low == 0 || low > config.high_water_points / 2 {
        return nothing("no shard is above the high-water mark");
    }
    if loads.len() as u64 <= config.min_shards.max(1) {
        return nothing("no shard is above the high-water mark, and no shard can be spared");
    }
    let Some((least, points)) = loads.iter().min_by_key(|(_, points)| *points) else {
        return nothing("the cluster has no shards");
    };
    let all: u64 = loads.iter().map(|(_, points)| points).sum();
    let weight: u64 = loads
        .iter()
        .filter(|(entry, _)| entry.id != least.id)
        .map(|(entry, _)| u64::from(entry.weight.thousandths()))
        .sum();
    let after = scaled(all, 1_000, weight);
    if after >= low {
        return nothing("all shards are between the low-water and the high-water mark");
    }
    if cooling {
        return nothing("a shard could be spared, but the cooldown is not over");
    }
    let why = format!(
        "{} holds {points} points, and the others would hold {after} each, below the low-water mark {low}",
        least.id
    );
    Verdict::Drain { shard: least.id, why }
}

/// Points of a shard, as if its weight were 1.
fn per_weight(entry: &ShardEntry, points: u64) -> u64 {
    scaled(points, 1_000, u64::from(entry.weight.thousandths()))
}

fn scaled(n: u64, times: u64, by: u64) -> u64 {
    u64::try_from(u128::from(n) * u128::from(times) / u128::from(by.max(1))).unwrap_or(u64::MAX)
}

/// Takes the standbys of the settings into the pool that were never in it. Addresses that are none are left out.
pub(crate) fn take_in(config: &AutoscaleConfig, memory: &mut AutoscaleMemory) {
    if !config.enabled {
        return;
    }
    for url in config.standby_urls.iter().filter_map(|url| url::normalise(url).ok()) {
        if !memory.known.contains(&url) {
            memory.known.push(url.clone());
            memory.standbys.push(url);
        }
    }
}
