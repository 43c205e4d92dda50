//! Follows a transition until it has ended, and shows how far it is. A coordinator that restarts meanwhile is waited for.

use std::time::Duration;

use serde_json::Value;
use sheaf_runtime::clock::Clock;
use sheaf_types::Time;

use crate::client::{Client, Failure};
use crate::output;
use crate::progress::{Progress, Show};
use crate::transition::{Transition, Transitions};
use crate::units;

/// Milliseconds between two looks.
const LOOK_EVERY_MS: u64 = 200;
/// Milliseconds over which a rate is measured.
const RATE_OVER_MS: u64 = 500;
/// Seconds for which a coordinator that doesn't answer is waited for.
const SILENCE_SECS_MAX: u64 = 60;

/// The transition that runs now.
pub async fn running(client: &Client) -> Result<Option<u64>, Failure> {
    let all: Transitions = client.get("/cluster/transitions").await?;
    Ok(all.running.map(|running| Transition::of(&running).id).filter(|id| *id > 0))
}

/// Follows it until it has ended, and says how it ended.
///
/// # Errors
/// It was not committed, or nobody answered for too long.
pub async fn to_the_end(client: &Client, id: u64, json: bool) -> Result<(), Failure> {
    let clock = Clock::system();
    let mut follower = Follower::new(Show::suited(json), &format!("transition {id}"));
    let mut silent_since = None;
    loop {
        let now = clock.now();
        match client.get::<Value>(&format!("/cluster/transitions/{id}")).await {
            Ok(value) => {
                silent_since = None;
                let transition = Transition::of(&value);
                if transition.ended {
                    drop(follower);
                    return ended(&transition, &value, json);
                }
                follower.look(now, &transition);
            }
            Err(failure @ Failure::Unreachable(_)) => {
                let since = *silent_since.get_or_insert(now);
                if now.ms_since(since) > SILENCE_SECS_MAX * 1_000 {
                    return Err(failure);
                }
                follower.wait(now);
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// What follows a running transition on the screen.
pub struct Follower {
    progress: Progress,
    /// When how many bytes had been sent, at the last look.
    last: Option<(Time, u64)>,
    /// `None`: not measured yet.
    bytes_per_s: Option<u64>,
}

impl Follower {
    pub fn new(show: Show, name: &str) -> Self {
        Self { progress: Progress::new(show, name), last: None, bytes_per_s: None }
    }

    /// The coordinator doesn't answer.
    pub fn wait(&mut self, now: Time) {
        self.progress.update(now.0, "waiting for the coordinator", 0, 0, "");
    }

    /// One look at it.
    pub fn look(&mut self, now: Time, transition: &Transition) {
        if transition.ended {
            return; // It has a sentence of its own.
        }
        let (then, bytes) = *self.last.get_or_insert((now, transition.bytes_sent));
        let passed_ms = now.ms_since(then);
        if passed_ms >= RATE_OVER_MS {
            self.bytes_per_s =
                Some(transition.bytes_sent.saturating_sub(bytes) * 1_000 / passed_ms);
            self.last = Some((now, transition.bytes_sent));
        }
        let copies = matches!(transition.phase.as_str(), "copy" | "fence");
        let mut more = Vec::new();
        if let Some(rate) = self.bytes_per_s.filter(|_| copies) {
            more.push(format!("{}/s", units::bytes(rate)));
        }
        if let Some(eta) = transition.eta_seconds.filter(|eta| copies && *eta > 0) {
            more.push(format!("{eta} s left"));
        }
        if transition.attempts > 0 {
            more.push(format!("fence attempt {}", transition.attempts));
        }
        if transition.stall_ms_max > 0 {
            more.push(format!("longest stall {}", units::millis(transition.stall_ms_max)));
        }
        if let Some(reason) = transition.waiting_for.first() {
            more.push(format!("waiting: {reason}"));
        }
        let phase = if transition.paused { "paused" } else { transition.phase.as_str() };
        self.progress.update(
            now.0,
            phase,
            transition.points_sent,
            transition.points,
            &more.join(", "),
        );
    }

    /// Leaves a line in place of the progress.
    pub fn finish(mut self, line: &str) {
        self.progress.finish(line);
    }
}

fn ended(transition: &Transition, value: &Value, json: bool) -> Result<(), Failure> {
    output::answer(json, value, |_| sentence(transition))?;
    if transition.committed {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "transition {} was not committed, every point is where it was: {}",
        transition.id, transition.reason
    )))
}

/// How it ended, in a line.
pub fn sentence(transition: &Transition) -> String {
    let Transition { id, kind, phase, .. } = transition;
    let took = units::millis(transition.took_ms());
    // A donor that restarts counts anew what it sends.
    let anew = if transition.points_sent < transition.points { " since a restart" } else { "" };
    let sent = format!(
        "{} sent{anew}, {}",
        units::count(transition.points_sent),
        units::bytes(transition.bytes_sent)
    );
    if !transition.committed {
        return format!("transition {id} ({kind}) {phase} after {took}: {sent}");
    }
    let rate = transition.bytes_sent * 1_000 / transition.until_commit_ms().max(1);
    let attempts = match transition.attempts {
        1 => "1 fence attempt".to_owned(),
        more => format!("{more} fence attempts"),
    };
    format!(
        "transition {id} ({kind}) {phase} in {took}: {} points moved ({sent}, {}/s until the commit), \
         {attempts}, longest stall {}",
        units::count(transition.points),
        units::bytes(rate),
        units::millis(transition.stall_ms_max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_tells_what_moved_from_what_was_sent_and_how_fast() {
        let moved = Transition {
            id: 3,
            kind: "grow".to_owned(),
            phase: "committed".to_owned(),
            ended: true,
            committed: true,
            points: 1_600,
            points_sent: 1_818,
            bytes_sent: 3_000_000,
            attempts: 1,
            stall_ms_max: 9,
            started_ms: Some(1_000),
            committed_ms: Some(1_500),
            ended_ms: Some(1_600),
            ..Transition::default()
        };
        assert_eq!(
            sentence(&moved),
            "transition 3 (grow) committed in 600 ms: 1,600 points moved (1,818 sent, 3.0 MB, 6.0 MB/s until the \
             commit), 1 fence attempt, longest stall 9 ms"
        );
        let restarted = Transition { points_sent: 670, ..moved.clone() };
        assert!(sentence(&restarted).contains("1,600 points moved (670 sent since a restart, "));
        let given_up =
            Transition { phase: "aborted".to_owned(), committed: false, points: 0, ..moved };
        assert_eq!(
            sentence(&given_up),
            "transition 3 (grow) aborted after 600 ms: 1,818 sent, 3.0 MB"
        );
    }
}
