//! What people see: the status, transitions, health, autoscale. The JSON of `/cluster/…`.
//!
//! Views only: nothing is decided here. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::Serialize;
use sheaf_map::{ShardEntry, Weight};
use sheaf_protocol::{CopyState, StallReport};
use sheaf_types::{
    Attempt, ClusterId, Incarnation, MapVersion, Revision, ShardId, Term, Time, TransitionId,
};

use crate::autoscale::AutoscaleConfig;
use crate::contacts::Observed;
use crate::coordinator::Coordinator;
use crate::moves;
use crate::plan::{self, COPY_RATE_DEFAULT, Planner};
use crate::record::{
    AutoscaleMemory, FenceTry, HistoryEntry, Options, Origin, Phase, Queued, Request, Retiring,
    Transition, TransitionReport,
};

/// Milliseconds of silence after which a shard counts as down.
const SUSPECT_MS_MAX: u64 = 3_000;
/// Pairs in a view; the report of the transition has all of them.
const PAIRS_MAX: usize = 500;
/// Lines of history in a status.
const STATUS_HISTORY_MAX: usize = 10;

/// All that an operator wants on one screen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusView {
    pub cluster_id: ClusterId,
    pub version: MapVersion,
    pub term: Term,
    pub revision: Revision,
    /// Whether this coordinator decides: its term is durable, and nobody took over.
    pub reigns: bool,
    /// Whether the outcome of a store write is unknown: decisions wait until it is known.
    pub store_in_doubt: bool,
    pub now: Time,
    /// The cluster was adopted, and not every shard has said that it holds nothing foreign: no transition is accepted.
    pub unproven: bool,
    /// Points of the shards that have reported.
    pub points: u64,
    pub bytes: u64,
    pub collections: usize,
    pub shards: Vec<ShardView>,
    /// Nodes that have left the map, or never came into it, and don't know yet.
    pub retiring: Vec<RetiringView>,
    pub transition: Option<TransitionView>,
    pub queue: Vec<Queued>,
    pub autoscale: AutoscaleView,
    /// The last lines.
    pub history: Vec<HistoryEntry>,
}

/// One shard of the map, or one that joins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardView {
    pub id: ShardId,
    pub primary_url: String,
    pub weight: Weight,
    pub role: Role,
    pub health: Health,
    pub since: Time,
    /// Why it isn't up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// As it last reported; absent when it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<LoadView>,
}

/// What a shard last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LoadView {
    pub incarnation: Incarnation,
    pub map_version: Option<MapVersion>,
    pub clean: bool,
    /// Points that it doesn't own, as an unproven gate counted them; absent before it has looked, and at others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strays: Option<u64>,
    pub points: u64,
    pub bytes: u64,
    pub disk_bytes: u64,
    pub unindexed_points: u64,
    pub request_p99_ms: u64,
}

/// What a shard is to the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Serving,
    Joining,
    Leaving,
}

/// How a gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Up,
    /// It has not answered for less than three seconds.
    Suspect,
    Down,
    /// It was not heard of since this coordinator started.
    Unknown,
}

/// A node that is to learn that it has left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetiringView {
    pub shard: ShardId,
    pub primary_url: String,
    pub since: Time,
    /// `false`: its node keeps its points until it is forgotten.
    pub sweep: bool,
    pub health: Health,
}

/// The running transition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransitionView {
    pub id: TransitionId,
    pub request: Request,
    pub origin: Origin,
    pub options: Options,
    #[serde(flatten)]
    pub phase: Phase,
    pub phase_since: Time,
    pub attempt: Attempt,
    pub from_version: MapVersion,
    pub to_version: MapVersion,
    pub requested: Time,
    pub started: Time,
    pub committed: Option<Time>,
    pub points_expected: u64,
    pub bytes_expected: u64,
    pub points_sent: u64,
    pub bytes_sent: u64,
    /// From 0 to 100; 100 is not the end, equality of both sides is.
    pub percent: u64,
    pub eta_seconds: Option<u64>,
    /// What it waits for, in words; the first ones.
    pub waiting_for: Vec<String>,
    pub pairs: Vec<PairView>,
    pub fences: Vec<FenceTry>,
    pub stall: StallReport,
}

/// One pair of the running transition, as its donor last reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairView {
    pub donor: ShardId,
    pub recipient: ShardId,
    pub state: Option<CopyState>,
    pub passes: u64,
    pub sent_points: u64,
    pub sent_bytes: u64,
    pub slice_points: u64,
    pub repaired_ranges: u64,
    pub dirty: u64,
}

/// The settings and the memory of autoscale.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoscaleView {
    pub config: AutoscaleConfig,
    #[serde(flatten)]
    pub memory: AutoscaleMemory,
}

/// Every transition that is remembered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransitionsView {
    pub running: Option<TransitionView>,
    pub queued: Vec<Queued>,
    /// The newest first.
    pub ended: Vec<TransitionReport>,
}

impl Coordinator {
    pub fn status(&self) -> StatusView {
        let record = self.record();
        let loads = self.loads();
        let lines = record.history.iter().rev().take(STATUS_HISTORY_MAX);
        StatusView {
            cluster_id: record.map.cluster_id().clone(),
            version: record.map.version(),
            term: record.term,
            revision: record.revision,
            reigns: self.ledger.reigns(),
            store_in_doubt: self.ledger.is_in_doubt(),
            now: self.now,
            unproven: record.unproven,
            points: loads.values().map(|load| load.points).sum(),
            bytes: loads.values().map(|load| load.bytes).sum(),
            collections: record.map.collections().len(),
            shards: self.shards(),
            retiring: record.retiring.iter().map(|retiring| self.retiring(retiring)).collect(),
            transition: self.running(),
            queue: record.queue.clone(),
            autoscale: self.autoscale(),
            history: lines.map(|line| HistoryEntry::clone(line)).collect(),
        }
    }

    /// Whether each shard of the map is up.
    pub fn health(&self) -> BTreeMap<ShardId, bool> {
        let shards = self.record().map.shards().iter();
        shards.map(|entry| (entry.id, self.health_of(entry.id).0 == Health::Up)).collect()
    }

    pub fn autoscale(&self) -> AutoscaleView {
        let memory = self.record().autoscale.clone();
        AutoscaleView { config: self.config.autoscale.clone(), memory }
    }

    /// The running transition, `None` when there is none.
    pub fn running(&self) -> Option<TransitionView> {
        self.record().transition.as_ref().map(|running| self.transition(running))
    }

    pub fn transitions(&self) -> TransitionsView {
        let record = self.record();
        TransitionsView {
            running: self.running(),
            queued: record.queue.clone(),
            ended: record
                .ended
                .iter()
                .rev()
                .map(|report| TransitionReport::clone(report))
                .collect(),
        }
    }

    /// The report of an ended transition.
    pub fn report(&self, transition: TransitionId) -> Option<&TransitionReport> {
        self.record().ended.iter().find(|report| report.id == transition).map(|report| &**report)
    }

    /// The decisions that are remembered, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &HistoryEntry> {
        self.record().history.iter().map(|entry| &**entry)
    }

    /// All that a plan is calculated from.
    pub fn planner(&self) -> Planner {
        let record = self.record();
        Planner {
            map: std::sync::Arc::clone(&record.map),
            next_shard: record.next_shard,
            loads: self.loads(),
            rate: record.copy_rate,
        }
    }

    /// The ids of shards that join and leave by the running transition.
    pub fn joining_and_leaving(&self) -> (Vec<ShardId>, Vec<ShardId>) {
        let record = self.record();
        let running = record.transition.as_ref().filter(|running| running.is_undecided());
        let Some(running) = running else {
            return (Vec::new(), Vec::new());
        };
        let joining = running.request.joining().iter().map(|entry| entry.id).collect();
        (joining, running.request.leaving().into_iter().collect())
    }

    fn loads(&self) -> BTreeMap<ShardId, sheaf_protocol::Load> {
        let shards = self.record().map.shards().iter().map(|entry| entry.id);
        shards.filter_map(|id| Some((id, self.contacts.last(id)?.load))).collect()
    }

    fn shards(&self) -> Vec<ShardView> {
        let record = self.record();
        let (joining, leaving) = self.joining_and_leaving();
        let role = |id: ShardId| {
            if joining.contains(&id) {
                Role::Joining
            } else if leaving.contains(&id) {
                Role::Leaving
            } else {
                Role::Serving
            }
        };
        let running = record.transition.as_ref().filter(|running| running.is_undecided());
        let next = running.iter().flat_map(|running| running.next.shards());
        let joiners = next.filter(|entry| record.map.shard(entry.id).is_none());
        let shards = record.map.shards().iter().chain(joiners);
        shards.map(|entry| self.shard(entry, role(entry.id))).collect()
    }

    fn shard(&self, entry: &ShardEntry, role: Role) -> ShardView {
        let (health, since, reason) = self.health_of(entry.id);
        let report = self.contacts.last(entry.id).map(|report| LoadView {
            incarnation: report.incarnation,
            map_version: report.map_version,
            clean: report.clean,
            strays: report.strays,
            points: report.load.points,
            bytes: report.load.bytes,
            disk_bytes: report.load.disk_bytes,
            unindexed_points: report.load.unindexed_points,
            request_p99_ms: report.load.request_p99_ms,
        });
        ShardView {
            id: entry.id,
            primary_url: entry.primary_url.clone(),
            weight: entry.weight,
            role,
            health,
            since,
            reason,
            report,
        }
    }

    fn retiring(&self, retiring: &Retiring) -> RetiringView {
        RetiringView {
            shard: retiring.shard.id,
            primary_url: retiring.shard.primary_url.clone(),
            since: retiring.since,
            sweep: retiring.sweep,
            health: self.health_of(retiring.shard.id).0,
        }
    }

    /// How this gate does, since when, and why.
    fn health_of(&self, shard: ShardId) -> (Health, Time, Option<String>) {
        match self.contacts.observed(shard) {
            None => (Health::Unknown, self.now, None),
            Some(Observed::Never { since }) => (Health::Unknown, *since, None),
            Some(Observed::Up { since, .. }) => (Health::Up, *since, None),
            Some(Observed::Unreachable { since, reason, .. }) => {
                let suspect = self.now.ms_since(*since) < SUSPECT_MS_MAX;
                let health = if suspect { Health::Suspect } else { Health::Down };
                (health, *since, Some(reason.clone()))
            }
            Some(Observed::Refusing { since, refusal, .. }) => {
                (Health::Down, *since, Some(refusal.to_string()))
            }
            Some(Observed::Imposter { since, store_id }) => {
                let reason = format!(
                    "the data directory there is {store_id}: another node, or another disk"
                );
                (Health::Down, *since, Some(reason))
            }
        }
    }

    fn transition(&self, running: &Transition) -> TransitionView {
        let pairs = self.pairs(running);
        let (points_sent, bytes_sent) = self.sent(running);
        let mut stall = StallReport::default();
        for report in running.donors.iter().filter_map(|donor| self.contacts.last(*donor)) {
            stall.held_requests += report.stall.held_requests;
            stall.stall_ms_max = stall.stall_ms_max.max(report.stall.stall_ms_max);
            stall.stall_ms_p99 = stall.stall_ms_p99.max(report.stall.stall_ms_p99);
        }
        let percent = match points_sent_percent(points_sent, running) {
            _ if running.committed.is_some() => 100,
            percent => percent,
        };
        TransitionView {
            id: running.id,
            request: running.request.clone(),
            origin: running.origin,
            options: running.options,
            phase: running.phase.clone(),
            phase_since: self.clock.since,
            attempt: running.attempt,
            from_version: running.from_version,
            to_version: running.next.version(),
            requested: running.requested,
            started: running.started,
            committed: running.committed,
            points_expected: running.points_expected,
            bytes_expected: running.bytes_expected,
            points_sent,
            bytes_sent,
            percent,
            eta_seconds: self.eta_seconds(running, points_sent, bytes_sent),
            waiting_for: moves::waiting(&self.facts()),
            pairs,
            fences: running.fences.iter().cloned().collect(),
            stall,
        }
    }

    /// Points and bytes that were sent so far.
    fn sent(&self, running: &Transition) -> (u64, u64) {
        if running.committed.is_some() {
            let points = running.moves.iter().map(|mv| mv.sent_points).sum();
            return (points, running.moves.iter().map(|mv| mv.sent_bytes).sum());
        }
        let reports = running.donors.iter().filter_map(|donor| self.contacts.last(*donor));
        let mine = reports.filter(|report| report.transition == Some(running.id));
        mine.flat_map(|report| &report.outgoing).fold((0, 0), |(points, bytes), side| {
            (points + side.sent_points, bytes + side.sent_bytes)
        })
    }

    fn pairs(&self, running: &Transition) -> Vec<PairView> {
        let proved = running.moves.iter().map(|mv| (mv.donor, mv.recipient));
        let known = self.moves.iter().flat_map(|(_, moves)| moves.pairs());
        let pairs: Vec<(ShardId, ShardId)> =
            known.map(|pair| (pair.donor, pair.recipient)).chain(proved).take(PAIRS_MAX).collect();
        let view = |(donor, recipient): (ShardId, ShardId)| {
            let report = self.contacts.last(donor).filter(|r| r.transition == Some(running.id));
            let side = report.and_then(|r| r.outgoing.iter().find(|side| side.to == recipient));
            let kept =
                running.moves.iter().find(|mv| (mv.donor, mv.recipient) == (donor, recipient));
            PairView {
                donor,
                recipient,
                state: side.map(|side| side.state),
                passes: side.map_or(kept.map_or(0, |mv| mv.passes), |side| side.passes),
                sent_points: side.map_or(kept.map_or(0, |mv| mv.sent_points), |s| s.sent_points),
                sent_bytes: side.map_or(kept.map_or(0, |mv| mv.sent_bytes), |s| s.sent_bytes),
                slice_points: side
                    .map_or(kept.map_or(0, |mv| mv.donor_digest.points), |s| s.slice_points),
                repaired_ranges: side.map_or(0, |side| side.repaired_ranges),
                dirty: side.map_or(0, |side| side.dirty),
            }
        };
        pairs.into_iter().map(view).collect()
    }

    /// From what was sent since copying began, or from an expected rate before anything was.
    fn eta_seconds(&self, running: &Transition, points: u64, bytes: u64) -> Option<u64> {
        if !running.is_undecided() || running.options.copy.paused {
            return None;
        }
        let points_left = running.points_expected.saturating_sub(points);
        let bytes_left = running.bytes_expected.saturating_sub(bytes);
        let copied_ms = running.copy_since.map_or(0, |since| self.now.ms_since(since));
        if points == 0 || copied_ms < 1_000 {
            let rate = self.record().copy_rate.unwrap_or(COPY_RATE_DEFAULT);
            return Some(plan::eta_seconds(rate, points_left, bytes_left));
        }
        let left = u128::from(points_left) * u128::from(copied_ms);
        u64::try_from(left / u128::from(points) / 1_000).ok()
    }
}

fn points_sent_percent(sent: u64, running: &Transition) -> u64 {
    match running.points_expected {
        0 => 0,
        expected => (sent.saturating_mul(100) / expected).min(99),
    }
}
