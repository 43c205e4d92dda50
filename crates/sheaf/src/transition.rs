//! What the coordinator says of a transition, as this program's commands use it.
//!
//! Tolerates fields that it doesn't know. Never asks.

use serde::Deserialize;
use serde_json::Value;

/// A transition that waits, runs or has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transition {
    pub id: u64,
    /// grow, drain, replace, reweight
    pub kind: String,
    /// queued, prepare, copy, fence, sweep, abort; how it ended, when it has
    pub phase: String,
    pub ended: bool,
    pub committed: bool,
    pub paused: bool,
    /// Why it ended as it did, or is being given up.
    pub reason: String,
    pub waiting_for: Vec<String>,
    pub points_sent: u64,
    pub bytes_sent: u64,
    /// Points that were expected to move; of one that has ended, those that moved.
    pub points: u64,
    pub eta_seconds: Option<u64>,
    pub attempts: u64,
    pub stall_ms_max: u64,
    pub stall_ms_p99: u64,
    pub donors: Vec<u64>,
    pub started_ms: Option<u64>,
    pub committed_ms: Option<u64>,
    pub ended_ms: Option<u64>,
}

/// The list of all.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Transitions {
    pub running: Option<Value>,
    pub queued: Vec<Value>,
    pub ended: Vec<Value>,
}

impl Transition {
    /// Reads all forms: of one that waits, of one that runs, and the report of one that has ended.
    pub fn of(value: &Value) -> Self {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let number = |path: &str| value.pointer(path).and_then(Value::as_u64);
        let list = |path: &str| value.pointer(path).and_then(Value::as_array).into_iter().flatten();
        let outcome = text("/outcome");
        let mut donors: Vec<u64> =
            list("/pairs").filter_map(|pair| pair.get("donor")?.as_u64()).collect();
        donors.dedup();
        Self {
            id: number("/id").unwrap_or_default(),
            kind: text("/request/kind").unwrap_or_default(),
            phase: outcome.clone().or(text("/phase")).unwrap_or_else(|| "queued".to_owned()),
            ended: outcome.is_some(),
            committed: outcome.as_deref() == Some("committed"),
            paused: value.pointer("/options/copy/paused").and_then(Value::as_bool) == Some(true),
            reason: text("/reason").unwrap_or_default(),
            waiting_for: list("/waiting_for")
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            points_sent: number("/points_sent").or(number("/sent_points")).unwrap_or_default(),
            bytes_sent: number("/bytes_sent").or(number("/sent_bytes")).unwrap_or_default(),
            points: number("/points_expected").or(number("/points")).unwrap_or_default(),
            eta_seconds: number("/eta_seconds"),
            attempts: number("/attempts").or(number("/attempt")).unwrap_or_default(),
            stall_ms_max: number("/stall/stall_ms_max").unwrap_or_default(),
            stall_ms_p99: number("/stall/stall_ms_p99").unwrap_or_default(),
            donors,
            started_ms: number("/started"),
            committed_ms: number("/committed"),
            ended_ms: number("/ended"),
        }
    }

    /// Milliseconds from its start to its end.
    pub fn took_ms(&self) -> u64 {
        self.started_ms.zip(self.ended_ms).map_or(0, |(from, to)| to.saturating_sub(from))
    }

    /// Milliseconds from its start to its commit.
    pub fn until_commit_ms(&self) -> u64 {
        self.started_ms.zip(self.committed_ms).map_or(0, |(from, to)| to.saturating_sub(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_running_transition_and_its_report_are_read_alike() {
        let running = Transition::of(&json!({
            "id": 3, "request": {"kind": "grow", "shards": []}, "options": {"copy": {"paused": true}},
            "phase": "copy", "attempt": 1, "points_expected": 100, "points_sent": 40, "bytes_sent": 4_000,
            "pairs": [{"donor": 1, "recipient": 4}, {"donor": 1, "recipient": 5}, {"donor": 2, "recipient": 4}],
        }));
        assert_eq!(
            (running.id, running.kind.as_str(), running.phase.as_str()),
            (3, "grow", "copy")
        );
        assert!(running.paused && !running.ended);
        assert_eq!((running.points_sent, running.points, running.attempts), (40, 100, 1));
        assert_eq!(running.donors, [1, 2]);
        let ended = Transition::of(&json!({
            "id": 3, "request": {"kind": "grow", "shards": []}, "outcome": "committed", "points": 90, "attempts": 2,
            "sent_points": 120, "started": 1_000, "committed": 3_000, "ended": 4_500, "stall": {"stall_ms_max": 7},
        }));
        assert!(ended.ended && ended.committed);
        assert_eq!((ended.points, ended.points_sent, ended.attempts), (90, 120, 2));
        assert_eq!(
            (ended.took_ms(), ended.until_commit_ms(), ended.stall_ms_max),
            (3_500, 2_000, 7)
        );
    }
}
