//! `sheaf history`: what was decided, and why.

use clap::Args;
use serde_json::Value;

use super::Target;
use super::map::text;
use crate::client::Failure;
use crate::output;
use crate::table::Table;

#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 40)]
    lines: usize,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let history: Value = args.target.coordinator()?.get("/cluster/history").await?;
    output::answer(args.target.json, &history, |history| {
        let entries =
            history.as_array().or_else(|| history.get("entries").and_then(Value::as_array));
        let entries = entries.map(Vec::as_slice).unwrap_or_default();
        let mut table = Table::new(&["WHEN (UTC)", "ABOUT", "TRANSITION", "WHAT"]);
        for entry in &entries[entries.len().saturating_sub(args.lines)..] {
            let at = entry.get("at").and_then(Value::as_u64).unwrap_or_default();
            let cells =
                [utc(at), text(entry, "kind"), text(entry, "transition"), text(entry, "text")];
            table.row(cells);
        }
        table.to_string()
    })
}

/// Milliseconds since 1970 as `2026-11-24 00:25:01`, in the calendar of today.
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that a leap day is a year's last day. Source: Hinnant, "chrono-
    // compatible low-level date algorithms".
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_the_calendar_of_today() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_798_761_599_999), "2026-12-31 23:59:59");
    }
}
