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
    bytes_per_s: u64,
}

impl Follower {
    pub fn new(show: Show, name: &str) -> Self {
        Self { progress: Progress::new(show, name), last: None, bytes_per_s: 0 }
    }

    /// The coordinator doesn't answer.
    pub fn wait(&mut self, now: Time) {
        self.progress.update(now.0, "waiting for the coordinator", 0, 0, "");
    }

    /// One look at it.
    pub fn look(&mut self, now: Time, transition: &Transition) {
        let (then, bytes) = *self.last.get_or_insert((now, transition.bytes_sent));
        let passed_ms = now.ms_since(then);
        if passed_ms >= RATE_OVER_MS {
            self.bytes_per_s = transition.bytes_sent.saturating_sub(bytes) * 1_000 / passed_ms;
            self.last = Some((now, transition.bytes_sent));
        }
        let mut more = vec![format!("{}/s", units::bytes(self.bytes_per_s))];
        if let Some(eta) = transition.eta_seconds {
            more.push(format!("{} left", units::millis(eta * 1_000)));
        }
        if transition.attempts > 0 {
            more.push(format!("fence attempts {}", transition.attempts));
        }
        if transition.stall_ms_max > 0 {
            more.push(format!("longest stall {}", units::millis(transition.stall_ms_max)));
        }
        if let Some(reason) = transition.waiting_for.first() {
            more.push(format!("waits for {reason}"));
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
    format!(
        "transition {} ({}) {}: {} points, {} in {}, {} fence attempts, longest stall {}",
        transition.id,
        transition.kind,
        transition.phase,
        units::count(transition.points),
        units::bytes(transition.bytes_sent),
        units::millis(transition.took_ms()),
        transition.attempts,
        units::millis(transition.stall_ms_max),
    )
}
