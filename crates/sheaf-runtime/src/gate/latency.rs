//! How long requests take, as a percentile of the last second. Measures; decides nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Two for each doubling, from 1 ms up to two minutes.
const BUCKETS: usize = 36;

/// Counts durations; many threads may note at once.
#[derive(Debug)]
pub struct Latency([AtomicU32; BUCKETS]);

impl Default for Latency {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Latency {
    /// Counts one request.
    pub fn note(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS - 1).find(|bucket| ms <= upper_ms(*bucket)).unwrap_or(BUCKETS - 1);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// The 99th percentile in milliseconds, rounded up, of what was counted since the last call; 0 for nothing.
    pub fn take_p99_ms(&self) -> u64 {
        let counts = self.0.each_ref().map(|count| u64::from(count.swap(0, Ordering::Relaxed)));
        let total: u64 = counts.iter().sum();
        let mut slower = 0;
        for (bucket, count) in counts.iter().enumerate().rev() {
            slower += count;
            if slower > total / 100 {
                return upper_ms(bucket);
            }
        }
        0
    }
}

/// The longest duration of a bucket: 1, 1, 2, 3, 4, 6, 8, 12, 16 …
fn upper_ms(bucket: usize) -> u64 {
    let doubled = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { doubled } else { doubled + doubled / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_a_hundred_may_be_slower_than_the_p99() {
        let latency = Latency::default();
        assert_eq!(latency.take_p99_ms(), 0);
        for _ in 0..99 {
            latency.note(Duration::from_millis(5));
        }
        latency.note(Duration::from_secs(1_000));
        assert_eq!(latency.take_p99_ms(), 6);
        assert_eq!(latency.take_p99_ms(), 0, "each second counts for itself");
        for _ in 0..2 {
            latency.note(Duration::from_secs(1));
        }
        assert_eq!(latency.take_p99_ms(), 1_024);
    }
}
