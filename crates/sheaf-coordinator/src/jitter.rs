//! Pseudo-random delays from a seed, so that many gates are not asked at the same moment and a run can be replayed.
//!
//! Decides nothing about safety.

/// A generator of delays (splitmix64).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number that is not zero.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).max(1)
    }

    /// Between half of `ms` and `ms`.
    pub(crate) fn around(&mut self, ms: u64) -> u64 {
        ms - self.draw() % (ms / 2 + 1)
    }
}
