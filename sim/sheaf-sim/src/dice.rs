//! All chance of a run comes from here: each draw is a hash of the seed, of what it is for, of whom, and of how many were drawn.
//!
//! Streams that share nothing: a step less in a plan leaves the numbers of all other links, disks and processes as they were.

/// What a stream of numbers is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// What the plan's world is like.
    Knobs = 1,
    Network = 2,
    Disks = 3,
    Crashes = 4,
    Operator = 6,
    Processes = 7,
    /// The plan's calls, its faults by kind, its asks.
    Calls = 8,
    Faults = 9,
    Asks = 10,
}

/// Spreads the bits of a number over all of it (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A stream of seeded numbers.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub fn new(seed: u64, purpose: Purpose, subject: u64) -> Self {
        let key = mix(mix(seed) ^ (purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { state: mix(key ^ subject.wrapping_mul(0xd134_2543_de82_ef95)) }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Evenly in 0..1.
    fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A probability, evenly between these, in millionths.
    pub fn share(&mut self, low: f64, high: f64) -> f64 {
        ((low + (high - low) * self.unit()) * 1e6).round() / 1e6
    }

    /// An exponentially distributed number of this mean, at most fifty times it.
    pub fn around(&mut self, mean: u64) -> u64 {
        let drawn = -(1.0 - self.unit()).ln() * mean as f64;
        (drawn as u64).min(mean.saturating_mul(50))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}

/// Places of a table before it grows; a power of two.
const TABLE_MIN: usize = 64;

/// A stream for each subject: a link, a disk, a process.
///
/// A table with open addressing: it is looked into for each message, and never gone through.
#[derive(Debug)]
pub struct Streams {
    seed: u64,
    purpose: Purpose,
    table: Vec<Option<(u64, Dice)>>,
    known: usize,
}

impl Streams {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { seed, purpose, table: vec![None; TABLE_MIN], known: 0 }
    }

    pub fn of(&mut self, subject: u64) -> &mut Dice {
        let mut at = self.place(subject);
        if self.table[at].is_none() {
            self.known += 1;
            if self.known * 2 > self.table.len() {
                self.grow();
                at = self.place(subject);
            }
        }
        let (seed, purpose) = (self.seed, self.purpose);
        let fresh = || (subject, Dice::new(seed, purpose, subject));
        &mut self.table[at].get_or_insert_with(fresh).1
    }

    /// Where a subject is, or belongs.
    fn place(&self, subject: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut at = subject.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 40 & mask;
        while self.table[at].as_ref().is_some_and(|(known, _)| *known != subject) {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![None; self.table.len() * 2];
        for (subject, dice) in std::mem::replace(&mut self.table, larger).into_iter().flatten() {
            let at = self.place(subject);
            self.table[at] = Some((subject, dice));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_subject_draws_changes_nothing_for_another() {
        let drawn = |others: u64| {
            let mut streams = Streams::new(7, Purpose::Network);
            for other in 0..others {
                streams.of(other).number();
            }
            (0..5).map(|_| streams.of(99).number()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(0), drawn(50));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut dice = Dice::new(1, Purpose::Disks, 2);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[dice.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let mean = (0..100_000).map(|_| dice.around(1_000)).sum::<u64>() / 100_000;
        assert!((970..1_030).contains(&mean), "{mean}");
    }
}
