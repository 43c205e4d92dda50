//! The fingerprint of a run, and its log. Two runs of one seed have the same fingerprint, or a run can't be replayed.

use std::cell::RefCell;
use std::rc::Rc;

/// Lines that a run leaves behind for a file.
pub type Kept = Rc<RefCell<String>>;

/// A rolling hash over everything that happened, and lines for people when they are wanted.
pub struct Trace {
    hash: u64,
    /// Tell each event.
    pub log: bool,
    /// Where to, if not to the screen.
    kept: Option<Kept>,
}

impl Trace {
    pub fn new(log: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, log, kept: None }
    }

    /// Keeps each event.
    pub fn keeping(kept: Kept) -> Self {
        Self { kept: Some(kept), ..Self::new(true) }
    }

    /// A line of the log.
    pub fn line(&self, line: &str) {
        match &self.kept {
            Some(kept) => {
                let mut kept = kept.borrow_mut();
                kept.push_str(line);
                kept.push('\n');
            }
            None => println!("{line}"),
        }
    }

    pub fn fold(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash ^= self.hash >> 29;
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Microseconds as hours, minutes, seconds.
pub fn clock_text(us: u64) -> String {
    let ms = us / 1_000;
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
