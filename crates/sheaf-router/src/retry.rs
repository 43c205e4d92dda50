//! When something that was surely not applied is asked again.
//!
//! Decides the moment; never whether it may be asked again at all. Everything here is bounded.

use sheaf_map::Map;
use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, Time};

/// Milliseconds before the second try, drawn between half of it and all of it; doubled for each further try.
/// A fence lasts tens of milliseconds; a gate that restarts, seconds.
pub const BACKOFF_MS_FIRST: u64 = 4;
/// Milliseconds between two tries at most.
pub const BACKOFF_MS_MAX: u64 = 256;
/// Tries of one part at most: what `REQUEST_MS_MAX` has room for at the longest backoff, with some to spare
/// for newer maps.
pub const TRIES_MAX: u32 = 1_024;
/// Milliseconds before the operation's deadline at which a shard should have answered, at most; and a tenth of the time
/// that is left. So a shard that held a write says "refused" before the router has to say "unknown".
pub const ANSWER_MARGIN_MS_MAX: u64 = 100;

const _: () = assert!(BACKOFF_MS_FIRST <= BACKOFF_MS_MAX);
const _: () = assert!(
    sheaf_types::limits::REQUEST_MS_MAX / (BACKOFF_MS_MAX / 2) < TRIES_MAX as u64,
    "the deadline ends a request, not the number of tries"
);

/// When a shard should have answered what is sent now.
pub fn answer_by(now: Time, deadline: Time) -> Time {
    let left = deadline.ms_since(now);
    now.plus_ms(left - ANSWER_MARGIN_MS_MAX.min(left / 10))
}

/// Draws the jitter of one operation.
#[derive(Clone, Debug, Hash)]
pub struct Jitter(u64);

impl Jitter {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, or 0: splitmix64, good enough to spread retries.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).checked_rem(bound).unwrap_or(0)
    }

    /// Milliseconds to wait after `tries` tries.
    pub fn backoff_ms(&mut self, tries: u32) -> u64 {
        let doubled = BACKOFF_MS_FIRST << tries.saturating_sub(1).min(16);
        let most = doubled.min(BACKOFF_MS_MAX);
        most / 2 + self.below(most / 2 + 1)
    }
}

/// What has to come before something is asked again: a newer map, or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Again {
    not_before: Time,
    /// A map of this version can make a difference at once.
    map: MapVersion,
    /// The shard said that such a map exists.
    named: bool,
}

impl Again {
    /// After a try under version `asked` that ended with this refusal, or didn't reach the shard.
    pub fn after(
        now: Time,
        jitter: &mut Jitter,
        tries: u32,
        asked: MapVersion,
        refusal: Option<&Refusal>,
    ) -> Self {
        let named = refusal.and_then(newer_map).filter(|&named| named > asked);
        Self {
            not_before: now.plus_ms(jitter.backoff_ms(tries)),
            map: named.unwrap_or(asked.next()),
            named: named.is_some(),
        }
    }

    pub fn is_due(&self, now: Time, map: &Map) -> bool {
        now >= self.not_before || map.version() >= self.map
    }

    /// The moment from which it is due without a newer map.
    pub fn not_before(&self) -> Time {
        self.not_before
    }

    /// The map that a shard has and the router hasn't.
    pub fn needed_map(&self, map: &Map) -> Option<MapVersion> {
        (self.named && map.version() < self.map).then_some(self.map)
    }
}

/// The version that the shard has, where a newer map is the way on.
fn newer_map(refusal: &Refusal) -> Option<MapVersion> {
    match refusal {
        Refusal::Moved { version }
        | Refusal::OtherVersion { version }
        | Refusal::Fenced { version }
        | Refusal::NoCollection { version } => Some(*version),
        Refusal::Behind { .. }
        | Refusal::NotServing
        | Refusal::OtherShard { .. }
        | Refusal::TooManyHeld { .. }
        | Refusal::EngineUnavailable { .. }
        | Refusal::Unproven
        | Refusal::NothingToRepair { .. } => None,
    }
}

/// Whether asking again can't help: the shard knows the router's map or a newer one, and there is no such collection; or it is
/// unproven, which takes longer than a request may.
pub fn is_final(asked: MapVersion, refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NoCollection { version } => *version >= asked,
        Refusal::Unproven => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_grows_to_its_bound_and_is_never_nothing() {
        let mut jitter = Jitter::seeded(7);
        for tries in 1..=TRIES_MAX {
            let ms = jitter.backoff_ms(tries);
            let most = (BACKOFF_MS_FIRST << tries.min(20)).min(BACKOFF_MS_MAX);
            assert!((BACKOFF_MS_FIRST / 2..=most).contains(&ms), "{ms} ms after {tries} tries");
        }
        assert!(jitter.backoff_ms(TRIES_MAX) >= BACKOFF_MS_MAX / 2);
    }

    #[test]
    fn a_shard_answers_before_the_client_gives_up_but_has_most_of_the_time() {
        assert_eq!(answer_by(Time(0), Time(10_000)), Time(9_900));
        assert_eq!(answer_by(Time(50), Time(150)), Time(140));
        assert_eq!(answer_by(Time(50), Time(50)), Time(50));
    }

    #[test]
    fn only_a_shard_that_knows_the_routers_map_can_say_that_a_collection_is_not_there() {
        let refusal = Refusal::NoCollection { version: MapVersion(4) };
        assert!(is_final(MapVersion(4), &refusal) && is_final(MapVersion(3), &refusal));
        assert!(!is_final(MapVersion(5), &refusal));
        assert!(!is_final(MapVersion(1), &Refusal::NotServing));
    }
}
