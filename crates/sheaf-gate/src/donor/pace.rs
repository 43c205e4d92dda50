//! Pace: how fast a donor copies, and how much it slows down writers who outrun it.

use sheaf_protocol::CopyOptions;
use sheaf_types::{Time, mark};

use crate::context::Context;
use crate::effect::WakeReason;

/// Dirty ids that a fence can hand over well within its budget.
pub(super) const CONVERGED_DIRTY_MAX: u64 = 1_024;
/// Milliseconds by which the acknowledgement of a write to an outgoing id is delayed at most.
const DELAY_MS_MAX: u64 = 25;
/// Milliseconds between two looks at whether the dirty set shrinks.
const LOOK_MS: u64 = 100;

/// Keeps a donor's passes below the operator's limits: after sending, it waits for as long as that much should have taken.
/// What clients write meanwhile is sent besides.
///
/// What was sent is remembered, not until when to wait: a limit that is lifted counts at once.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Pace {
    since: Time,
    /// Sent since then, and not made up for by waiting when it was last sent.
    points: u64,
    bytes: u64,
}

impl Pace {
    pub fn sent(&mut self, points: u64, bytes: u64, copy: &CopyOptions, now: Time) {
        if self.next_at(copy) <= now {
            *self = Self { since: now, points: 0, bytes: 0 };
        }
        self.points = self.points.saturating_add(points);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn next_at(&self, copy: &CopyOptions) -> Time {
        let ms = |amount: u64, per_s: Option<u64>| {
            per_s.map_or(0, |per_s| amount.saturating_mul(1_000).div_ceil(per_s.max(1)))
        };
        let points_ms = ms(self.points, copy.points_per_s_max);
        self.since.plus_ms(points_ms.max(ms(self.bytes, copy.bytes_per_s_max)))
    }

    /// Whether a new range may be read now; wants to be woken when not.
    pub fn allows(&self, copy: &CopyOptions, request_p99_ms: u64, ctx: &mut Context<'_>) -> bool {
        if copy.paused {
            mark!("a paused donor has something to copy");
            return false;
        }
        if copy.request_p99_ms_max.is_some_and(|max| request_p99_ms > max) {
            ctx.wake(ctx.now.plus_ms(LOOK_MS), WakeReason::Stream);
            return false;
        }
        let next_at = self.next_at(copy);
        if next_at > ctx.now {
            mark!("a throttled donor waits");
            ctx.wake(next_at, WakeReason::Stream);
            return false;
        }
        true
    }
}

/// Delays acknowledgements little by little while writers dirty ids faster than they are sent.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Backpressure {
    delay_ms: u64,
    last_dirty: u64,
    next_look: Time,
}

impl Backpressure {
    pub fn delay_ms(&self) -> u64 {
        self.delay_ms
    }

    pub fn look(&mut self, ctx: &mut Context<'_>, caught_up: bool, dirty: u64) {
        if self.next_look > ctx.now {
            return;
        }
        self.next_look = ctx.now.plus_ms(LOOK_MS);
        let losing = caught_up && dirty > CONVERGED_DIRTY_MAX && dirty >= self.last_dirty;
        self.delay_ms =
            if losing { (self.delay_ms + 1).min(DELAY_MS_MAX) } else { self.delay_ms / 2 };
        self.last_dirty = dirty;
        if self.delay_ms > 0 {
            ctx.wake(self.next_look, WakeReason::Stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::default().plus_ms(ms)
    }

    fn points_per_s(max: u64) -> CopyOptions {
        CopyOptions { points_per_s_max: Some(max), ..CopyOptions::default() }
    }

    #[test]
    fn what_was_sent_is_waited_for_at_the_limit_in_force_not_at_an_earlier_one() {
        let mut pace = Pace::default();
        pace.sent(500, 0, &points_per_s(1), at(0));
        assert_eq!(pace.next_at(&points_per_s(1)), at(500_000));
        assert_eq!(pace.next_at(&points_per_s(1_000)), at(500));
        assert_eq!(pace.next_at(&CopyOptions::default()), at(0));
    }

    #[test]
    fn what_is_sent_before_the_last_was_waited_for_adds_up() {
        let (mut pace, copy) = (Pace::default(), points_per_s(100));
        pace.sent(10, 0, &copy, at(1_000));
        pace.sent(10, 0, &copy, at(1_050));
        assert_eq!(pace.next_at(&copy), at(1_200));
        pace.sent(10, 0, &copy, at(5_000));
        assert_eq!(pace.next_at(&copy), at(5_100));
    }
}
