//! The demo's report: for a person and, field by field, for a program. Decides whether the demo passed; never measures.

use serde::Serialize;

use super::tally::{Counts, Kind, Latency, Tally};
use crate::table::Table;
use crate::transition::Transition;
use crate::units;

/// What the demo found. The fields are fixed: programs read them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub points: u64,
    pub acked_writes: u64,
    pub lost: u64,
    pub resurrected: u64,
    pub stale_reads: u64,
    pub duplicate_hits: u64,
    pub missing_hits: u64,
    /// Requests that failed though somebody could have answered them.
    pub failed_requests: u64,
    pub transitions: Vec<TransitionLine>,
    pub seconds: f64,
}

/// One transition of the report.
#[derive(Clone, Debug, Serialize)]
pub struct TransitionLine {
    pub kind: String,
    pub moved_points: u64,
    pub moved_bytes: u64,
    pub seconds: f64,
    pub copy_points_per_s: f64,
    pub fence_attempts: u64,
    pub stall_ms_max: u64,
    pub stall_ms_p99: u64,
}

impl TransitionLine {
    pub fn of(transition: &Transition) -> Self {
        let copy_ms = transition.until_commit_ms().max(1);
        Self {
            kind: transition.kind.clone(),
            moved_points: transition.points,
            moved_bytes: transition.bytes_sent,
            seconds: transition.took_ms() as f64 / 1e3,
            copy_points_per_s: (transition.points_sent * 1_000) as f64 / copy_ms as f64,
            fence_attempts: transition.attempts,
            stall_ms_max: transition.stall_ms_max,
            stall_ms_p99: transition.stall_ms_p99,
        }
    }
}

/// All that the report is made of.
pub struct Findings {
    pub points: u64,
    pub acked_writes: u64,
    pub transitions: Vec<(String, Transition)>,
    /// Promises that broke beside those that the clients counted.
    pub problems: Vec<String>,
    pub seconds: f64,
}

impl Findings {
    pub fn report(&self, tally: &Tally) -> Report {
        let Counts {
            lost,
            resurrected,
            stale_reads,
            duplicate_hits,
            missing_hits,
            failed_requests,
            excused_requests: _,
        } = tally.counts();
        Report {
            points: self.points,
            acked_writes: self.acked_writes,
            lost,
            resurrected,
            stale_reads,
            duplicate_hits,
            missing_hits,
            failed_requests,
            transitions: self.transitions.iter().map(|(_, t)| TransitionLine::of(t)).collect(),
            seconds: self.seconds,
        }
    }

    /// Whether every promise was kept.
    pub fn passed(&self, tally: &Tally) -> bool {
        self.problems.is_empty() && !tally.is_broken()
    }

    /// The report for a person. `moving`: when transitions ran, in the clock of the requests.
    pub fn text(&self, tally: &Tally, moving: &[(sheaf_types::Time, sheaf_types::Time)]) -> String {
        let counts = tally.counts();
        let mut text = format!(
            "{}\n{}\n{}",
            self.transition_table(),
            promises(&counts, self, tally.requests()),
            latencies(tally, moving)
        );
        for problem in self.problems.iter().chain(&tally.examples()) {
            text.push_str(&format!("\n! {problem}"));
        }
        let verdict = if self.passed(tally) {
            "Every promise was kept: nothing lost, nothing resurrected, nothing stale, nothing doubled or missing."
        } else {
            "A PROMISE BROKE. The lines with ! say which."
        };
        text.push_str(&format!("\n{verdict} ({:.1} s)", self.seconds));
        text
    }

    fn transition_table(&self) -> Table {
        let mut table = Table::new(&[
            "STEP",
            "KIND",
            ">POINTS",
            ">SENT",
            ">BYTES",
            ">TIME",
            ">POINTS/S",
            ">FENCES",
            ">STALL MAX",
            ">STALL P99",
        ]);
        for (step, transition) in &self.transitions {
            let line = TransitionLine::of(transition);
            table.row([
                step.clone(),
                line.kind,
                units::count(line.moved_points),
                units::count(transition.points_sent),
                units::bytes(line.moved_bytes),
                units::millis(transition.took_ms()),
                units::count(line.copy_points_per_s as u64),
                line.fence_attempts.to_string(),
                units::millis(line.stall_ms_max),
                units::millis(line.stall_ms_p99),
            ]);
        }
        table
    }
}

fn promises(counts: &Counts, findings: &Findings, requests: u64) -> Table {
    let mut table = Table::new(&["CHECKED", ">COUNT", ""]);
    let mut row =
        |name: &str, count: u64, words: &str| table.row([name, &units::count(count), words]);
    row("points", findings.points, "in the cluster at the end");
    row("requests", requests, "each answer judged against the demo's own record");
    row(
        "acknowledged writes",
        findings.acked_writes,
        "upserts, overwrites and deletes, counted by point",
    );
    row("lost", counts.lost, "acknowledged, and not there");
    row("resurrected", counts.resurrected, "deleted and acknowledged, and there");
    row("stale reads", counts.stale_reads, "older than an acknowledged write");
    row("duplicate hits", counts.duplicate_hits, "twice in one search");
    row(
        "missing hits",
        counts.missing_hits,
        "there, and not found by a search for all of its kind",
    );
    row("failed requests", counts.failed_requests, "that somebody could have answered");
    row(
        "  while a shard was dead",
        counts.excused_requests,
        "kill -9 of the only holder of the points: nobody could",
    );
    table
}

fn latencies(tally: &Tally, moving: &[(sheaf_types::Time, sheaf_types::Time)]) -> Table {
    let always = [(sheaf_types::Time(0), sheaf_types::Time::NEVER)];
    let mut table = Table::new(&["CLIENTS SAW", "WHEN", ">REQUESTS", ">P50", ">P99", ">MAX"]);
    for (name, kind) in [("writes", Kind::Write), ("gets", Kind::Get), ("searches", Kind::Search)] {
        for (when, spans) in [("always", &always[..]), ("while points move", moving)] {
            let Latency { requests, p50_ms, p99_ms, max_ms } = tally.latency(kind, spans);
            let ms = [p50_ms, p99_ms, max_ms].map(units::millis);
            table.row([name, when, &units::count(requests as u64), &ms[0], &ms[1], &ms[2]]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_for_programs_has_exactly_the_promised_fields() {
        let findings = Findings {
            points: 5,
            acked_writes: 7,
            transitions: vec![("grow".to_owned(), Transition::default())],
            problems: Vec::new(),
            seconds: 1.5,
        };
        let report = serde_json::to_value(findings.report(&Tally::default())).unwrap();
        let names = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
        };
        let mut expected = vec![
            "points",
            "acked_writes",
            "lost",
            "resurrected",
            "stale_reads",
            "duplicate_hits",
            "missing_hits",
            "failed_requests",
            "transitions",
            "seconds",
        ];
        expected.sort_unstable();
        assert_eq!(names(&report), expected);
        let mut expected = vec![
            "kind",
            "moved_points",
            "moved_bytes",
            "seconds",
            "copy_points_per_s",
            "fence_attempts",
            "stall_ms_max",
            "stall_ms_p99",
        ];
        expected.sort_unstable();
        assert_eq!(names(&report["transitions"][0]), expected);
        assert!(findings.passed(&Tally::default()));
    }
}
