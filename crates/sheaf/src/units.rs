//! Numbers as a person reads and writes them: thousands, bytes, durations, rates. Never rounds what is stored.

use crate::client::Failure;

/// `12345` → `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal units: `1.5 MB`.
pub fn bytes(number: u64) -> String {
    let scaled = |unit: f64, name: &str| format!("{:.1} {name}", number as f64 / unit);
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => scaled(1e3, "kB"),
        1_000_000..1_000_000_000 => scaled(1e6, "MB"),
        1_000_000_000..=u64::MAX => scaled(1e9, "GB"),
    }
}

/// Milliseconds: `950 ms`, `12.3 s`, `4 min 5 s`, `3 h 2 min`.
pub fn millis(ms: u64) -> String {
    let seconds = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..=u64::MAX => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A limit for copying, as an operator types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Off,
    PointsPerSecond(u64),
    BytesPerSecond(u64),
    /// Milliseconds that the donor's own requests may take.
    RequestP99Ms(u64),
}

impl std::str::FromStr for Rate {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "{text:?} is no rate; give points a second (5000/s), bytes a second (20MB/s), a latency that the \
                 shards' requests keep (p99=20ms), or off"
            ))
        };
        let lower = text.trim().to_ascii_lowercase();
        if lower == "off" {
            return Ok(Self::Off);
        }
        if let Some(limit) = lower.strip_prefix("p99=").and_then(|rest| rest.strip_suffix("ms")) {
            return limit
                .parse()
                .ok()
                .filter(|ms| *ms > 0)
                .map(Self::RequestP99Ms)
                .ok_or_else(wrong);
        }
        let amount = lower.strip_suffix("/s").ok_or_else(wrong)?;
        let units = [("gb", 1_000_000_000), ("mb", 1_000_000), ("kb", 1_000), ("b", 1)];
        for (unit, factor) in units {
            if let Some(number) = amount.strip_suffix(unit) {
                let bytes = number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
                return bytes.filter(|n| *n > 0).map(Self::BytesPerSecond).ok_or_else(wrong);
            }
        }
        amount.parse().ok().filter(|n| *n > 0).map(Self::PointsPerSecond).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 1_500, 2_500_000].map(bytes), ["5 B", "1.5 kB", "2.5 MB"]);
        assert_eq!(
            [950, 12_300, 245_000, 10_920_000].map(millis),
            ["950 ms", "12.3 s", "4 min 5 s", "3 h 2 min"]
        );
    }

    #[test]
    fn a_rate_is_points_bytes_a_latency_or_off_and_never_zero() {
        let rate = |text: &str| text.parse::<Rate>().ok();
        assert_eq!(rate("5000/s"), Some(Rate::PointsPerSecond(5_000)));
        assert_eq!(rate("20MB/s"), Some(Rate::BytesPerSecond(20_000_000)));
        assert_eq!(rate("p99=20ms"), Some(Rate::RequestP99Ms(20)));
        assert_eq!(rate("off"), Some(Rate::Off));
        for wrong in
            ["", "0/s", "5000", "fast", "-1/s", "20MB", "p99=20", "99999999999999999999GB/s"]
        {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }
}
