//! `GET /metrics` of a gate: its map, its fence, its part in a transition, its engine. Changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use sheaf_protocol::GateReport;
use sheaf_runtime::gate::GateMetrics;

use super::Api;
use crate::metrics;
use crate::metrics::gauges::Gauges;

/// `GET /metrics`: what the core and the engine say of themselves, as it is when it is asked for.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut gauges = Gauges::default();
    gate(&mut gauges, &api.host.metrics());
    // A gate that stops says no more; its counters still count.
    if let Ok(report) = api.host.report().await {
        reported(&mut gauges, &report);
    }
    metrics::answer(gauges)
}

fn gate(gauges: &mut Gauges, gate: &GateMetrics) {
    let mut one = |name, help, value| gauges.one(name, help, value);
    let help = "The version of the map by which the gate serves; 0: a standby.";
    one("sheaf_gate_map_version", help, gate.map_version.0);
    one("sheaf_gate_clean", "1: holds no point that it doesn't own.", u64::from(gate.clean));
    one("sheaf_gate_fenced", "1: requests on outgoing ids are held.", u64::from(gate.fenced));
    one("sheaf_gate_held_requests", "Requests that are held now.", gate.held_requests);
    let help = "Writes of outgoing ids that the running transition captured here.";
    one("sheaf_gate_captured_points", help, gate.captured_points);
    let help = "Captured ids that the recipients have not been told of: the copy's lag.";
    one("sheaf_gate_dirty_points", help, gate.dirty_points);
    let help = "Points sent for the running transition, those that changed meanwhile again.";
    one("sheaf_gate_sent_points", help, gate.sent_points);
}

fn reported(gauges: &mut Gauges, report: &GateReport) {
    let shard = report.shard.map_or(0, |shard| shard.0);
    gauges.one("sheaf_gate_shard", "The shard's id; 0: it has none.", shard);
    let help = "The number of this start; it grows by one with each.";
    gauges.one("sheaf_gate_incarnation", help, report.incarnation.0);
    let help = "The 99th percentile of requests in the last second.";
    gauges.millis("sheaf_gate_request_p99_seconds", help, report.load.request_p99_ms);
    let (stall, load) = (report.stall, report.load);
    let help = "Requests that the running or last transition's fences held.";
    gauges.one("sheaf_gate_stalled_requests", help, stall.held_requests);
    let help = "The longest time for which they were held.";
    gauges.millis("sheaf_gate_stall_max_seconds", help, stall.stall_ms_max);
    let help = "The 99th percentile of these times.";
    gauges.millis("sheaf_gate_stall_p99_seconds", help, stall.stall_ms_p99);
    let mut one = |name, help, value| gauges.one(name, help, value);
    one("sheaf_engine_points", "Points in the engine, sampled.", load.points);
    one("sheaf_engine_bytes", "Bytes of ids, vectors and payloads, sampled.", load.bytes);
    one("sheaf_engine_disk_bytes", "Bytes of its files, sampled.", load.disk_bytes);
    let help = "Points that a search scans, since the index doesn't have them yet; sampled.";
    one("sheaf_engine_unindexed_points", help, load.unindexed_points);
}
