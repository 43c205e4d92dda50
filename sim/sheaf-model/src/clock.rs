//! How long a search takes, for people who wait. Nothing that is searched depends on it.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Instant;

pub fn now() -> Instant {
    Instant::now()
}
