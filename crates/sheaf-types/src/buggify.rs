//! Buggify: rare but legal turns that a core takes when a simulation wants it to. In production it is always off.
//!
//! Source: FoundationDB's simulation, where each site is enabled in a quarter of the runs; there it is then taken a quarter of the time,
//! here one time in sixteen, since a core has far more occasions.

use crate::Time;
use crate::marks;

/// Whether a core takes its rare turns. No state of its own: the same seed, site and time give the same answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Buggify {
    seed: Option<u64>,
}

impl Buggify {
    /// Some sites of this run's are taken, at some times.
    pub fn of(seed: u64) -> Self {
        Self { seed: Some(seed) }
    }

    /// Whether the rare turn is taken now. `site` is a sentence that is true when it is; it counts as a coverage mark.
    pub fn takes(self, site: &'static str, now: Time) -> bool {
        let Some(seed) = self.seed else { return false };
        let run = spread(site.bytes().fold(seed, |hash, byte| spread(hash ^ u64::from(byte))));
        let taken = run.is_multiple_of(4) && spread(run ^ now.0).is_multiple_of(16);
        if taken {
            marks::hit(site);
        }
        taken
    }
}

/// The finaliser of splitmix64.
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_enabled_in_a_quarter_of_the_runs_and_then_taken_one_time_in_sixteen() {
        let times =
            |seed| (0..1_600).filter(|ms| Buggify::of(seed).takes("a turn", Time(*ms))).count();
        let taken: Vec<usize> = (0..400).map(times).collect();
        let enabled: Vec<&usize> = taken.iter().filter(|times| **times > 0).collect();
        assert!((70..130).contains(&enabled.len()), "{}", enabled.len());
        assert!(enabled.iter().all(|times| (60..140).contains(*times)), "{enabled:?}");
    }

    #[test]
    fn nothing_rare_happens_in_production() {
        assert!((0..10_000).all(|ms| !Buggify::default().takes("a turn", Time(ms))));
    }
}
