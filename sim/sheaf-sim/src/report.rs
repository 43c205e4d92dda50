//! A failure is a letter to the next developer: what broke, when, and the line that shows it again.

use std::cell::{Cell, RefCell};

use sheaf_checkers::Violation;

use crate::stats::Stats;
use crate::stories;
use crate::trace::clock_text;

/// The label of a run that broke nothing, but didn't show what its scenario is for.
pub const SHOWS_TOO_LITTLE: &str = "shows too little";

thread_local! {
    static PROGRESS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers how far the run of this thread is, for a panic of a core.
pub fn note_progress(now_us: u64, event: u64) {
    PROGRESS.with(|progress| progress.set((now_us, event)));
}

/// How far the run of this thread is: microseconds and events.
pub fn progress() -> (u64, u64) {
    PROGRESS.with(Cell::get)
}

/// Has panics kept for the letter instead of printed.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with(|kept| *kept.borrow_mut() = Some(info.to_string()));
    }));
}

/// The panic that was kept last on this thread.
pub fn take_panic() -> String {
    PANIC.with(|kept| kept.borrow_mut().take()).unwrap_or_else(|| "a core panicked".to_owned())
}

/// The end of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `swarm`, the name of a story, or the file of a plan.
    pub name: String,
    pub seed: u64,
    pub hash: u64,
    pub stats: Stats,
    pub failure: Option<Failure>,
}

/// What broke, and when.
#[derive(Clone, Debug)]
pub struct Failure {
    pub violation: Violation,
    pub at_us: u64,
    pub event: u64,
}

impl Failure {
    /// Broke nothing, but didn't show what its scenario is for.
    pub fn shows_too_little(&self) -> bool {
        self.violation.label == SHOWS_TOO_LITTLE
    }

    /// The number of what broke, such as `I7` or `P1`: a core's own assertion has it in its text.
    pub fn number(&self) -> &str {
        let is_number = |word: &&str| {
            word.strip_prefix(['I', 'P']).is_some_and(|digits| digits.parse::<u32>().is_ok())
        };
        let Violation { label, text } = &self.violation;
        let words = label.split(' ').chain(text.split_whitespace());
        words.into_iter().find(is_number).unwrap_or(label)
    }
}

impl Outcome {
    /// The letter; `None` when nothing broke.
    pub fn letter(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let Failure { violation, at_us, event } = failure;
        let replay = self.replay();
        // Every smaller plan shows less.
        let smaller = match failure.shows_too_little() {
            true => String::new(),
            false => format!("\nsmaller {replay} --shrink"),
        };
        Some(format!(
            "FAILED  {}   {}, event {event}: {}\nrun     {}   seed {}   trace {:016x}\nreplay  {replay} --log{smaller}",
            violation.label,
            clock_text(*at_us),
            violation.text,
            self.name,
            self.seed,
            self.hash,
        ))
    }

    /// The line that runs this run again.
    pub fn replay(&self) -> String {
        let command = match self.name.as_str() {
            "swarm" => "sim swarm".to_owned(),
            story if stories::named(story).is_some() => format!("sim story {story}"),
            file => format!("scenario run {file}"),
        };
        format!("cargo xtask {command} --seed {}", self.seed)
    }
}
