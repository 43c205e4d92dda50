//! The table of a topic: what was measured, the rival's figure, the ratio, the goal and whether it was met.
//!
//! Decides how figures are judged and shown, and nothing about how they are made.

use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Shown for comparison.
    None,
    AtMost(f64, &'static str),
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    /// As it is shown, with its unit.
    pub figure: String,
    pub value: f64,
    /// As it is shown, and its value.
    pub rival: Option<(String, f64)>,
    pub goal: Goal,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct Table {
    pub title: String,
    pub rows: Vec<Row>,
    /// Lines below the table.
    pub notes: Vec<String>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (_, rival) = self.rival.as_ref()?;
        (*rival > 0.0).then(|| self.value / rival)
    }

    /// Whether the goal was met; `None` when there is none, or nothing to compare with.
    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most, _) => Some(self.value <= most),
            Goal::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
        }
    }

    fn cells(&self) -> [String; 6] {
        let goal = match self.goal {
            Goal::None => String::new(),
            Goal::AtMost(most, unit) => format!("<= {most} {unit}"),
            Goal::RatioAtLeast(least) => format!("ratio >= {least}"),
            Goal::RatioAtMost(most) => format!("ratio <= {most}"),
        };
        let met = match self.met() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        let rival = self.rival.as_ref().map_or(String::new(), |(shown, _)| shown.clone());
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        [self.what.clone(), self.figure.clone(), rival, ratio, goal, met.to_owned()]
    }
}

impl fmt::Display for Table {
    /// As Markdown, so that a table can be kept as it was printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "figure", "rival", "ratio", "goal", "met"].map(str::to_owned);
        let rows: Vec<[String; 6]> =
            std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        writeln!(f, "### {}\n", self.title)?;
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                let rules = widths.map(|width| "-".repeat(width + 2));
                writeln!(f, "|{}|", rules.join("|"))?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, rival: f64, goal: Goal) -> Row {
        let rival = Some((rival.to_string(), rival));
        Row { what: "a".to_owned(), figure: value.to_string(), value, rival, goal }
    }

    #[test]
    fn a_goal_is_met_at_its_very_bound() {
        assert_eq!(row(8.0, 10.0, Goal::RatioAtLeast(0.8)).met(), Some(true));
        assert_eq!(row(7.9, 10.0, Goal::RatioAtLeast(0.8)).met(), Some(false));
        assert_eq!(row(12.0, 10.0, Goal::RatioAtMost(1.2)).met(), Some(true));
        assert_eq!(row(50.0, 0.0, Goal::AtMost(50.0, "ms")).met(), Some(true));
    }

    #[test]
    fn a_ratio_without_a_rival_is_neither_met_nor_missed() {
        assert_eq!(row(1.0, 0.0, Goal::RatioAtLeast(0.8)).met(), None);
    }
}
