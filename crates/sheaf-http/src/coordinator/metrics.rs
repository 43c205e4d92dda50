//! `GET /metrics` of a coordinator: its reign, its shards, its transition. Changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use sheaf_coordinator::{Coordinator, Health, Phase, StatusView, TransitionView};

use super::Api;
use crate::metrics;
use crate::metrics::gauges::Gauges;

const PHASES: [&str; 5] = ["prepare", "copy", "fence", "sweep", "abort"];

/// `GET /metrics`
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let status = api.host.look(Coordinator::status);
    let mut gauges = Gauges::default();
    reign(&mut gauges, &status);
    shards(&mut gauges, &status);
    transition(&mut gauges, status.transition.as_ref(), status.now.0);
    metrics::answer(gauges)
}

fn reign(gauges: &mut Gauges, status: &StatusView) {
    let mut one = |name, help, value| gauges.one(name, help, value);
    one("sheaf_coordinator_reigns", "1: this coordinator decides.", u64::from(status.reigns));
    one("sheaf_coordinator_term", "The number of its reign.", status.term.0);
    one("sheaf_coordinator_map_version", "The version of the current map.", status.version.0);
    let help = "1: the outcome of a store write is unknown, decisions wait.";
    one("sheaf_coordinator_store_in_doubt", help, u64::from(status.store_in_doubt));
    let help = "Transitions that wait for their turn.";
    one("sheaf_coordinator_queued_transitions", help, status.queue.len() as u64);
    let help = "Nodes that have left and have not confirmed it.";
    one("sheaf_coordinator_retiring_nodes", help, status.retiring.len() as u64);
    one("sheaf_cluster_points", "Points, as the shards last reported.", status.points);
    one("sheaf_cluster_bytes", "Bytes of points, as the shards last reported.", status.bytes);
}

fn shards(gauges: &mut Gauges, status: &StatusView) {
    let label = |shard: &sheaf_coordinator::ShardView| format!("shard=\"{}\"", shard.id.0);
    let mut up = gauges.family("sheaf_shard_up", "1: the shard answers the coordinator.");
    for shard in &status.shards {
        up.value(&label(shard), f64::from(u8::from(shard.health == Health::Up)));
    }
    let help = "Versions by which the shard's map is behind the current one.";
    let mut behind = gauges.family("sheaf_shard_map_versions_behind", help);
    for shard in &status.shards {
        let version = shard.report.and_then(|report| report.map_version);
        let Some(version) = version else { continue };
        behind.value(&label(shard), status.version.0.saturating_sub(version.0) as f64);
    }
    let help = "Points of the shard, as it last reported.";
    let mut points = gauges.family("sheaf_shard_points", help);
    for shard in &status.shards {
        let Some(report) = shard.report else { continue };
        points.value(&label(shard), report.points as f64);
    }
}

/// While none runs, its figures are absent and every phase is 0.
fn transition(gauges: &mut Gauges, running: Option<&TransitionView>, now_ms: u64) {
    let phase = running.map(|running| phase_name(&running.phase));
    let help = "1 for the phase in which the running transition is.";
    let mut phases = gauges.family("sheaf_transition_phase", help);
    for name in PHASES {
        phases.value(&format!("phase=\"{name}\""), f64::from(u8::from(phase == Some(name))));
    }
    let Some(running) = running else { return };
    let in_phase_ms = now_ms.saturating_sub(running.phase_since.0);
    let help = "How long the running transition has been in its phase.";
    gauges.millis("sheaf_transition_phase_seconds", help, in_phase_ms);
    let paused = u64::from(running.options.copy.paused);
    let dirty = running.pairs.iter().map(|pair| pair.dirty).sum();
    let mut one = |name, help, value| gauges.one(name, help, value);
    one("sheaf_transition_id", "The running transition.", running.id.0);
    one("sheaf_transition_paused", "1: an operator has paused it.", paused);
    one("sheaf_transition_expected_points", "Points that are to move.", running.points_expected);
    let help = "Points sent, those that changed meanwhile again.";
    one("sheaf_transition_sent_points", help, running.points_sent);
    one("sheaf_transition_sent_bytes", "Bytes sent.", running.bytes_sent);
    let help = "Captured writes that the recipients have not been told of: the copy's lag.";
    one("sheaf_transition_dirty_points", help, dirty);
    one("sheaf_transition_fence_attempts", "Fences that were tried.", running.attempt.0);
    let help = "The longest time that a request was held by its fences.";
    gauges.millis("sheaf_transition_stall_max_seconds", help, running.stall.stall_ms_max);
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Copy => "copy",
        Phase::Fence => "fence",
        Phase::Sweep { .. } => "sweep",
        Phase::Abort { .. } => "abort",
    }
}
