//! Shows how far something is: bars that move on a terminal, plain lines in a pipe. Decides nothing; never asks a server.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// Milliseconds between two plain lines about the same thing.
const LINE_EVERY_MS: u64 = 1_000;

/// Where and how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Bars,
    Lines,
    /// The answer is for a program.
    Nothing,
}

impl Show {
    /// Bars when a person watches, lines when the output goes into a pipe, nothing beside JSON.
    pub fn suited(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }
}

/// The progress of one thing. Its bar disappears with it.
pub struct Progress {
    show: Show,
    name: String,
    bar: Option<ProgressBar>,
    last_line_ms: Option<u64>,
    last_state: String,
}

impl Progress {
    pub fn new(show: Show, name: &str) -> Self {
        let bar = (show == Show::Bars).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // The template is a constant that a test checks; without it the bar still shows.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let last_state = String::new();
        Self { show, name: name.to_owned(), bar, last_line_ms: None, last_state }
    }

    /// `state` in a word, `done` of `total`, and more in words; plain lines come when the state changes, else
    /// once a second.
    pub fn update(&mut self, now_ms: u64, state: &str, done: u64, total: u64, more: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done.min(total));
            bar.set_message(format!("{state}  {more}"));
        }
        let due = self.last_line_ms.is_none_or(|last| now_ms.saturating_sub(last) >= LINE_EVERY_MS);
        if self.show == Show::Lines && (due || self.last_state != state) {
            let parts = [state, &amount(done, total), more];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            eprintln!("{}: {}", self.name, parts.join(", "));
            self.last_line_ms = Some(now_ms);
        }
        state.clone_into(&mut self.last_state);
    }

    /// Takes the bar away and leaves a line.
    pub fn finish(&mut self, line: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.show != Show::Nothing {
            eprintln!("{}: {line}", self.name);
        }
    }
}

/// What changes while it is copied is sent again: more can be sent than there is to move.
fn amount(done: u64, total: u64) -> String {
    let (sent, all) = (units::count(done), units::count(total));
    match (done, total) {
        (0, 0) => String::new(),
        (done, total) if done <= total => format!("{sent} of {all} points"),
        _ => format!("{sent} sent for {all} points"),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str = "{prefix:<22} {bar:28} {human_pos:>7}/{human_len:<7} {wide_msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_all_is_said_as_what_it_is_and_nothing_of_nothing_is_not_said() {
        assert_eq!(amount(0, 0), "");
        assert_eq!(amount(1_500, 1_600), "1,500 of 1,600 points");
        assert_eq!(amount(1_818, 1_600), "1,818 sent for 1,600 points");
    }

    #[test]
    fn the_template_of_the_bar_is_well_formed() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
