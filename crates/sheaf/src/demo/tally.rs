//! What the clients of the demo met: latencies, failures, broken promises. Counts; never asks.

use std::collections::BTreeMap;

use sheaf_types::Time;

use super::check::Broken;

/// Examples that are kept of each kind of trouble.
const EXAMPLES_MAX: usize = 20;
/// Milliseconds after a killed shard is back in which requests may still fail because of it.
const OUTAGE_SLACK_MS: u64 = 1_000;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Write,
    Get,
    Search,
    /// A get after the load has ended, when nothing excuses anything.
    Audit,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    kind: Kind,
    began: Time,
    ended: Time,
}

#[derive(Clone, Debug)]
struct Failed {
    began: Time,
    ended: Time,
    why: String,
}

/// A time in which the only holder of some points was dead.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: Time,
    to: Time,
}

/// Broken promises, by the words of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub lost: u64,
    pub resurrected: u64,
    pub stale_reads: u64,
    pub duplicate_hits: u64,
    pub missing_hits: u64,
    pub failed_requests: u64,
    /// Failed while the only holder of the points was killed: nobody could have answered.
    pub excused_requests: u64,
}

/// How long requests took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    pub requests: usize,
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub max_ms: u64,
}

/// All that happened.
#[derive(Debug, Default)]
pub struct Tally {
    answered: Vec<Answered>,
    failed: Vec<Failed>,
    outages: Vec<Outage>,
    broken: BTreeMap<&'static str, u64>,
    examples: Vec<String>,
    /// The last step of the story that began.
    step: String,
}

impl Tally {
    pub fn answered(&mut self, kind: Kind, began: Time, ended: Time, failure: Option<&str>) {
        match failure {
            None => self.answered.push(Answered { kind, began, ended }),
            Some(why) => {
                let why = self.placed(why);
                self.failed.push(Failed { began, ended, why });
            }
        }
    }

    pub fn broke(&mut self, kind: Kind, broken: Broken, example: String) {
        let name = match (broken, kind) {
            (Broken::Missing, Kind::Search) => "missing_hits",
            (Broken::Missing, Kind::Write | Kind::Get | Kind::Audit)
            | (Broken::Stale, Kind::Audit) => "lost",
            (Broken::Stale, Kind::Write | Kind::Get | Kind::Search) => "stale_reads",
            (Broken::Resurrected, _) => "resurrected",
            (Broken::Doubled, _) => "duplicate_hits",
        };
        *self.broken.entry(name).or_default() += 1;
        self.example(&format!("{name}: {example}"));
    }

    /// Another promise was broken, for which the report has no count of its own.
    pub fn note(&mut self, what: String) {
        *self.broken.entry("other").or_default() += 1;
        self.example(&what);
    }

    /// What breaks from now on is said to have come after the beginning of this step.
    pub fn step_begins(&mut self, step: &str) {
        step.clone_into(&mut self.step);
    }

    fn placed(&self, text: &str) -> String {
        if self.step.is_empty() {
            return text.to_owned();
        }
        format!("{text} (after {:?} began)", self.step)
    }

    fn example(&mut self, text: &str) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(self.placed(text));
        }
    }

    /// From now on, requests that fail are excused.
    pub fn outage_begins(&mut self, now: Time) {
        self.outages.push(Outage { from: now, to: Time::NEVER });
    }

    /// The killed shard answers again.
    pub fn outage_ends(&mut self, now: Time) {
        if let Some(outage) = self.outages.last_mut() {
            outage.to = now.plus_ms(OUTAGE_SLACK_MS);
        }
    }

    /// Answered requests, and their points in time, from `since` on.
    pub fn requests(&self) -> u64 {
        (self.answered.len() + self.failed.len()) as u64
    }

    pub fn counts(&self) -> Counts {
        let count = |name: &str| self.broken.get(name).copied().unwrap_or_default();
        let excused = self.failed.iter().filter(|failed| self.is_excused(failed)).count() as u64;
        Counts {
            lost: count("lost"),
            resurrected: count("resurrected"),
            stale_reads: count("stale_reads"),
            duplicate_hits: count("duplicate_hits"),
            missing_hits: count("missing_hits"),
            failed_requests: self.failed.len() as u64 - excused,
            excused_requests: excused,
        }
    }

    fn is_excused(&self, failed: &Failed) -> bool {
        self.outages.iter().any(|outage| failed.began <= outage.to && failed.ended >= outage.from)
    }

    /// Whether any promise broke.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty() || self.counts().failed_requests > 0
    }

    /// Examples of what broke, and reasons of requests that failed without excuse.
    pub fn examples(&self) -> Vec<String> {
        let failed = self.failed.iter().filter(|failed| !self.is_excused(failed));
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for failed in failed {
            *reasons.entry(&failed.why).or_default() += 1;
        }
        let reasons = reasons.into_iter().take(EXAMPLES_MAX);
        let reasons = reasons.map(|(why, times)| format!("failed, {times} times: {why}"));
        self.examples.iter().cloned().chain(reasons).collect()
    }

    /// How long requests of this kind took that ran at some time in one of these spans.
    pub fn latency(&self, kind: Kind, spans: &[(Time, Time)]) -> Latency {
        let inside =
            |a: &&Answered| spans.iter().any(|(from, to)| a.began <= *to && a.ended >= *from);
        let of_kind = self.answered.iter().filter(|a| a.kind == kind).filter(inside);
        let mut took: Vec<u64> = of_kind.map(|a| a.ended.ms_since(a.began)).collect();
        took.sort_unstable();
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).or(took.last());
        Latency {
            requests: took.len(),
            p50_ms: at(0.50).copied().unwrap_or_default(),
            p99_ms: at(0.99).copied().unwrap_or_default(),
            max_ms: took.last().copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_met_a_killed_shard_are_excused() {
        let mut tally = Tally::default();
        tally.outage_begins(Time(100));
        tally.answered(Kind::Write, Time(50), Time(120), Some("reset"));
        tally.answered(Kind::Get, Time(150), Time(160), Some("refused"));
        tally.outage_ends(Time(200));
        tally.answered(Kind::Get, Time(50), Time(60), Some("before"));
        tally.step_begins("a drain");
        tally.answered(Kind::Get, Time(201 + OUTAGE_SLACK_MS), Time(9_999), Some("after"));
        let counts = tally.counts();
        assert_eq!((counts.failed_requests, counts.excused_requests), (2, 2));
        assert!(tally.is_broken());
        let after = r#"failed, 1 times: after (after "a drain" began)"#;
        assert_eq!(tally.examples(), [after, "failed, 1 times: before"]);
    }

    #[test]
    fn a_value_that_is_missing_after_all_is_lost_and_in_a_search_a_missing_hit() {
        let mut tally = Tally::default();
        tally.broke(Kind::Search, Broken::Missing, String::new());
        tally.broke(Kind::Audit, Broken::Missing, String::new());
        tally.broke(Kind::Audit, Broken::Stale, String::new());
        tally.broke(Kind::Get, Broken::Stale, String::new());
        let counts = tally.counts();
        assert_eq!((counts.missing_hits, counts.lost, counts.stale_reads), (1, 2, 1));
    }

    #[test]
    fn latencies_are_of_requests_that_touch_the_span() {
        let mut tally = Tally::default();
        for ms in 0..100 {
            tally.answered(Kind::Get, Time(1_000), Time(1_000 + ms), None);
        }
        tally.answered(Kind::Get, Time(5_000), Time(9_000), None);
        let latency = tally.latency(Kind::Get, &[(Time(900), Time(1_000))]);
        assert_eq!(latency, Latency { requests: 100, p50_ms: 50, p99_ms: 99, max_ms: 99 });
    }
}
