//! Aligned columns for a person to read. Decides widths only; never what is in them.

use std::fmt;

/// A table whose columns are as wide as their longest text.
#[derive(Debug, Default)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns. A head that begins with `>` makes its column flush right, as numbers are.
    pub fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &str| text.chars().count();
        let heads = self.heads.iter().map(|head| width(head.trim_start_matches('>')));
        let mut widths: Vec<usize> = heads.collect();
        for row in &self.rows {
            for (at, cell) in widths.iter_mut().zip(row) {
                *at = (*at).max(width(cell));
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let heads = self.heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for ((head, width), cell) in self.heads.iter().zip(&widths).zip(row) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let right = head.starts_with('>');
                line.push_str(&if right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_text_and_numbers_are_flush_right() {
        let mut table = Table::new(&["shard", ">points", "state"]);
        table.row(["1", "12,345", "up"]);
        table.row(["20", "7", "down: größer"]);
        let expected = "shard  points  state\n1      12,345  up\n20          7  down: größer\n";
        assert_eq!(table.to_string(), expected);
    }
}
