//! All chance of a run comes from here: one seed, one stream of numbers for each purpose.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of seeded numbers. Streams of one seed don't depend on each other.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

/// What a stream of numbers is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Knobs,
    Faults,
    Network,
    Operator,
    #[allow(dead_code, reason = "madsim's harness shares this file and has no such choice")]
    Coordinators,
    Client(u64),
    Disk(u64),
    Engine(u64),
}

impl Dice {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let stream = match purpose {
            Purpose::Knobs => 1,
            Purpose::Faults => 2,
            Purpose::Network => 3,
            Purpose::Operator => 4,
            Purpose::Coordinators => 5,
            Purpose::Client(number) => 1_000 + number,
            Purpose::Disk(host) => 2_000 + host,
            Purpose::Engine(host) => 3_000 + host,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random::<f64>() < probability
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// An exponentially distributed number of this mean, at most twenty times it.
    pub fn around(&mut self, mean: u64) -> u64 {
        let unit: f64 = self.0.random();
        let drawn = -(1.0 - unit).ln() * mean as f64;
        (drawn as u64).min(mean.saturating_mul(20))
    }

    /// One of these, of which there is at least one.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}
