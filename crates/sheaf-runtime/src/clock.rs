//! The only clock. Cores are handed what it says; nothing in Sheaf is safe or unsafe because of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sheaf_types::Time;
use tokio::time::Instant;

/// A clock that never runs backwards within a process. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Time,
    started: Instant,
}

impl Clock {
    /// Starts at the wall clock's milliseconds since 1970, then goes on monotonically.
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock's origin: the one reading of the wall clock"
    )]
    pub fn system() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(Time(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX / 2)))
    }

    /// Starts at `origin`. Where the runtime's time is simulated or paused, so is this clock.
    #[expect(clippy::disallowed_methods, reason = "the clock's start")]
    pub fn starting_at(origin: Time) -> Self {
        Self { origin, started: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Time {
        self.origin.plus_ms(self.elapsed().as_millis() as u64)
    }

    /// Since the clock was started, finer than [`Clock::now`]: for measuring.
    #[expect(clippy::disallowed_methods, reason = "the clock's reading")]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long it is until `time`; nothing when it has passed.
    pub fn until(&self, time: Time) -> Duration {
        Duration::from_millis(time.ms_since(self.origin)).saturating_sub(self.elapsed())
    }

    /// Waits until [`Clock::now`] says at least `time`.
    pub async fn sleep_until(&self, time: Time) {
        tokio::time::sleep(self.until(time)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_until_a_time_wakes_at_it_or_later() {
        let clock = Clock::starting_at(Time(1_000));
        assert_eq!(clock.now(), Time(1_000));
        for ms in [1, 7, 1_000, 90_000] {
            let due = clock.now().plus_ms(ms);
            assert_eq!(clock.until(due).as_millis() as u64, ms);
            clock.sleep_until(due).await;
            assert!(clock.now() >= due);
        }
        assert_eq!(clock.until(Time(0)), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_system_clock_counts_from_1970() {
        let year_2020_ms = 1_577_836_800_000;
        assert!(Clock::system().now() > Time(year_2020_ms));
    }
}
