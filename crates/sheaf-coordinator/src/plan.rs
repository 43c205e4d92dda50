//! What a transition would move: a calculation on the map and on what gates reported of their load.
//!
//! Changes nothing and promises nothing: a share of points is an average over all ids, loads are sampled by the gates.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::{Map, Move, Moves, ShardEntry, Weight};
use sheaf_protocol::Load;
use sheaf_types::{MapVersion, ShardId, StoreId, TransitionId};

use crate::event::NewShard;
use crate::moves::PAIRS_MAX;
use crate::record::{CopyRate, Request};
use crate::refusal::AskRefusal;
use crate::url;

/// How fast copying is expected to be as long as nothing was measured: the bar of the design for one pair.
pub const COPY_RATE_DEFAULT: CopyRate =
    CopyRate { points_per_s: 20_000, bytes_per_s: 60 * 1024 * 1024 };

/// What an operator thinks of doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanRequest {
    Grow { shards: Vec<NewShard> },
    Drain { shard: ShardId },
    Reweight { shard: ShardId, weight: Weight },
    Replace { shard: ShardId, primary_url: String },
}

/// What it would move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The map that this was calculated from.
    pub version: MapVersion,
    pub points: u64,
    pub bytes: u64,
    pub pairs: Vec<PairPlan>,
    pub eta_seconds: u64,
    /// Whether `eta_seconds` rests on the last transition's measured rate.
    pub rate_measured: bool,
    /// Shards that have not reported their load: what they hold is not counted.
    pub unknown: Vec<ShardId>,
}

/// What one pair would move. `bytes` is also the disk that the recipient needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PairPlan {
    pub donor: ShardId,
    pub recipient: ShardId,
    pub points: u64,
    pub bytes: u64,
}

/// All that a plan is calculated from; taken out of the coordinator so that it can be calculated elsewhere.
#[derive(Clone, Debug)]
pub struct Planner {
    pub(crate) map: Arc<Map>,
    pub(crate) next_shard: ShardId,
    pub(crate) loads: BTreeMap<ShardId, Load>,
    pub(crate) rate: Option<CopyRate>,
}

impl Planner {
    /// What this would move.
    ///
    /// # Errors
    /// A shard is unknown, an address is not one, or there would be too many pairs.
    pub fn plan(&self, request: &PlanRequest) -> Result<Plan, AskRefusal> {
        let shards = self.request(request)?.applied_to(&self.map);
        let shards = shards.map_err(|why| AskRefusal::BadMap { why })?;
        let next = self.map.with_shards(TransitionId(u64::MAX), shards)?;
        let (from, to) = (self.map.placement(), next.placement());
        let pairs = Moves::count_between(from, to);
        if pairs > PAIRS_MAX {
            return Err(AskRefusal::TooManyMoves { pairs, limit: PAIRS_MAX });
        }
        let moves = Moves::between(from, to);
        let load = |shard| self.loads.get(&shard).copied().unwrap_or_default();
        let pairs = estimate(&moves, load);
        let points = pairs.iter().map(|pair| pair.points).sum();
        let bytes = pairs.iter().map(|pair| pair.bytes).sum();
        let rate = self.rate.unwrap_or(COPY_RATE_DEFAULT);
        let unknown = moves.donors().iter().copied().filter(|id| !self.loads.contains_key(id));
        Ok(Plan {
            version: self.map.version(),
            points,
            bytes,
            pairs,
            eta_seconds: eta_seconds(rate, points, bytes),
            rate_measured: self.rate.is_some(),
            unknown: unknown.collect(),
        })
    }

    fn request(&self, request: &PlanRequest) -> Result<Request, AskRefusal> {
        let known = |shard: ShardId| match self.map.shard(shard) {
            Some(entry) => Ok(entry),
            None => Err(AskRefusal::UnknownShard { shard }),
        };
        Ok(match request {
            PlanRequest::Grow { shards } if shards.is_empty() => return Err(AskRefusal::NoShards),
            PlanRequest::Grow { shards } => {
                let entries = shards.iter().zip(self.next_shard.0..);
                let entries =
                    entries.map(|(new, id)| imagined(ShardId(id), &new.primary_url, new.weight));
                Request::Grow { shards: entries.collect::<Result<_, _>>()? }
            }
            PlanRequest::Drain { shard } if self.map.shards().len() == 1 => {
                known(*shard)?;
                return Err(AskRefusal::LastShard { shard: *shard });
            }
            PlanRequest::Drain { shard } => Request::Drain { shard: known(*shard)?.id },
            PlanRequest::Reweight { shard, weight } => {
                Request::Reweight { shard: known(*shard)?.id, weight: *weight }
            }
            PlanRequest::Replace { shard, primary_url } => {
                let weight = known(*shard)?.weight;
                let with = imagined(self.next_shard, primary_url, weight)?;
                Request::Replace { shard: *shard, with }
            }
        })
    }
}

/// A shard that doesn't exist yet.
fn imagined(id: ShardId, url: &str, weight: Weight) -> Result<ShardEntry, AskRefusal> {
    Ok(ShardEntry {
        id,
        primary_url: url::normalise(url)?,
        replica_urls: Vec::new(),
        weight,
        store_id: StoreId::from(format!("planned {id}")),
    })
}

/// Seconds that this much takes to copy, rounded up.
pub(crate) fn eta_seconds(rate: CopyRate, points: u64, bytes: u64) -> u64 {
    let by_points = points.div_ceil(rate.points_per_s.max(1));
    by_points.max(bytes.div_ceil(rate.bytes_per_s.max(1)))
}

/// What each pair would move, by the donors' loads.
pub(crate) fn estimate(moves: &Moves, load: impl Fn(ShardId) -> Load) -> Vec<PairPlan> {
    let plan = |(pair, share): (&Move, f64)| {
        let load = load(pair.donor);
        let part = |whole: u64| (whole as f64 * share).round() as u64;
        PairPlan {
            donor: pair.donor,
            recipient: pair.recipient,
            points: part(load.points),
            bytes: part(load.bytes),
        }
    };
    moves.pairs().iter().zip(moves.shares()).map(plan).collect()
}
