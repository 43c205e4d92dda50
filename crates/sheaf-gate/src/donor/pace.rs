//! Pace: how fast a donor copies, and how much it slows down writers who outrun it.

use sheaf_protocol::CopyOptions;
use sheaf_types::Time;

use crate::context::Context;
use crate::effect::WakeReason;

/// Dirty ids that a fence can hand over well within its budget.
pub(super) const CONVERGED_DIRTY_MAX: u64 = 1_024;
/// Milliseconds by which the acknowledgement of a write to an outgoing id is delayed at most.
const DELAY_MS_MAX: u64 = 25;
/// Milliseconds between two looks at whether the dirty set shrinks.
const LOOK_MS: u64 = 100;

/// Points and bytes a second.
type Limits = (Option<u64>, Option<u64>);

/// Keeps a donor below the operator's limits: after sending, it waits for as long as that much should have taken.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next_at: Time,
    /// Those by which `next_at` was calculated: under others it means nothing.
    limits: Limits,
}

fn limits_of(copy: &CopyOptions) -> Limits {
    (copy.points_per_s_max, copy.bytes_per_s_max)
}

impl Pace {
    pub fn sent(&mut self, points: u64, bytes: u64, copy: &CopyOptions, now: Time) {
        let ms = |amount: u64, per_s: Option<u64>| {
            per_s.map_or(0, |per_s| (amount * 1_000).div_ceil(per_s.max(1)))
        };
        self.follow(copy, now);
        let wait_ms = ms(points, copy.points_per_s_max).max(ms(bytes, copy.bytes_per_s_max));
        self.next_at = self.next_at.max(now).plus_ms(wait_ms);
    }

    /// What is owed to a limit is forgiven when the operator sets another: a lifted throttle counts at once.
    fn follow(&mut self, copy: &CopyOptions, now: Time) {
        if self.limits != limits_of(copy) {
            self.limits = limits_of(copy);
            self.next_at = now;
        }
    }

    /// Whether a new range may be read now; wants to be woken when not.
    pub fn allows(
        &mut self,
        copy: &CopyOptions,
        request_p99_ms: u64,
        ctx: &mut Context<'_>,
    ) -> bool {
        if copy.paused {
            return false;
        }
        if copy.request_p99_ms_max.is_some_and(|max| request_p99_ms > max) {
            ctx.wake(ctx.now.plus_ms(LOOK_MS), WakeReason::Stream);
            return false;
        }
        self.follow(copy, ctx.now);
        if self.next_at > ctx.now {
            ctx.wake(self.next_at, WakeReason::Stream);
            return false;
        }
        true
    }
}

/// Delays acknowledgements little by little while writers dirty ids faster than they are sent.
#[derive(Debug, Default)]
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
    use crate::context::Jobs;
    use crate::effect::Effects;

    #[test]
    fn a_lifted_throttle_counts_at_once_and_a_kept_one_goes_on() {
        let slow = CopyOptions { points_per_s_max: Some(10), ..CopyOptions::default() };
        let mut pace = Pace::default();
        let allowed = |pace: &mut Pace, copy: &CopyOptions, now: u64| {
            let (mut effects, mut jobs) = (Effects::default(), Jobs::default());
            let mut ctx = Context { now: Time(now), effects: &mut effects, jobs: &mut jobs };
            pace.allows(copy, 0, &mut ctx)
        };
        assert!(allowed(&mut pace, &slow, 1_000));
        pace.sent(100, 0, &slow, Time(1_000));
        assert!(!allowed(&mut pace, &slow, 10_999), "100 points take 10 s at 10 a second");
        assert!(allowed(&mut pace, &slow, 11_000));
        pace.sent(100, 0, &slow, Time(11_000));
        assert!(allowed(&mut pace, &CopyOptions::default(), 11_001), "the throttle is off");
        pace.sent(100, 0, &CopyOptions::default(), Time(11_001));
        assert!(allowed(&mut pace, &slow, 11_002), "what was sent without a limit owes nothing");
    }
}
