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
    thorough: bool,
    /// Where to, if not to the screen.
    kept: Option<Kept>,
}

impl Trace {
    pub fn new(log: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, log, thorough: false, kept: None }
    }

    /// Whether the fingerprint holds all that messages and facts say, too. Costs more than the run itself.
    pub fn thorough(self, thorough: bool) -> Self {
        Self { thorough, ..self }
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

    /// What something says, as a part of a thorough fingerprint.
    pub fn fold_words(&mut self, said: &impl std::fmt::Debug) {
        if self.thorough {
            let text = format!("{said:?}");
            for bytes in text.as_bytes().chunks(8) {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                self.fold(&[u64::from_le_bytes(word)]);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thorough_fingerprint_holds_what_is_said_and_a_usual_one_does_not() {
        let hash = |thorough, said: &str| {
            let mut trace = Trace::new(false).thorough(thorough);
            trace.fold_words(&said);
            trace.hash()
        };
        assert_ne!(hash(true, "version 7 of the map"), hash(true, "version 8 of the map"));
        assert_eq!(hash(false, "version 7 of the map"), hash(false, "version 8 of the map"));
    }
}
