//! What time it is, for people who wait and for a night's choice of seeds. Nothing that is checked depends on it.

#![expect(clippy::disallowed_methods, reason = "the one clock of these commands")]

use std::time::{Duration, Instant, SystemTime};

pub fn now() -> Instant {
    Instant::now()
}

/// Days since 1970.
pub fn days() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs() / 86_400
}
