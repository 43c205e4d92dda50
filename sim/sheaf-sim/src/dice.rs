//! All chance of a run comes from here: one seed, one stream of numbers for each purpose.

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of numbers is for: changing one part of the world leaves the others' numbers as they were.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Knobs = 1,
    Network = 2,
    Disks = 3,
    Faults = 4,
    Clients = 5,
    Operator = 6,
    Processes = 7,
}

/// A stream of seeded numbers.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
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

    /// A probability, evenly between these.
    pub fn share(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// An exponentially distributed number of this mean, at most fifty times it.
    pub fn around(&mut self, mean: u64) -> u64 {
        let unit: f64 = self.0.random();
        let drawn = -(1.0 - unit).ln() * mean as f64;
        (drawn as u64).min(mean.saturating_mul(50))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.choose(&mut self.0)
    }
}
