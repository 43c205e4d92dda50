//! The bench's clock, and what is made of many readings: medians, ranges, percentiles.
//!
//! The only place of the bench that reads time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Counts from when it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
    /// The wall clock at that moment, milliseconds since 1970: what reports and logs of the processes count in.
    pub started_wall_ms: f64,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_wall_ms: wall.as_secs_f64() * 1e3 }
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn elapsed_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }

    /// Waits until so long after the start.
    pub async fn wait_until(&self, since_start: Duration) {
        tokio::time::sleep_until(self.started + since_start).await;
    }
}

/// Readings of one thing.
#[derive(Clone, Debug, Default)]
pub struct Readings(Vec<f64>);

impl Readings {
    pub fn add(&mut self, reading: f64) {
        self.0.push(reading);
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest reading that this share of all doesn't exceed; 0 when there is none.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    pub fn max(&self) -> f64 {
        self.percentile(1.0)
    }

    /// Median and range: `12 (10–15)`, with this many decimals.
    pub fn spread(&self, decimals: usize) -> String {
        let one = |reading: f64| format!("{reading:.decimals$}");
        if self.len() < 2 {
            return one(self.median());
        }
        format!("{} ({}–{})", one(self.median()), one(self.percentile(0.0)), one(self.max()))
    }
}

impl FromIterator<f64> for Readings {
    fn from_iter<I: IntoIterator<Item = f64>>(readings: I) -> Self {
        Self(readings.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_reading_that_was_made() {
        let readings: Readings = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert_eq!((readings.percentile(0.0), readings.median()), (1.0, 2.0));
        assert_eq!((readings.percentile(0.99), readings.max()), (4.0, 4.0));
        assert_eq!(readings.spread(1), "2.0 (1.0–4.0)");
        assert_eq!(Readings::default().median(), 0.0);
    }
}
