//! The wall clock: how long the parent works. No run sees it.

use std::time::Instant;

/// Measures from its start on.
pub struct Stopwatch(Instant);

#[expect(clippy::disallowed_methods, reason = "the parent's own work, outside of any run")]
impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
