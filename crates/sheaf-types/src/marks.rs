//! Coverage marks: rare places in the code that a swarm of simulated runs must reach sometimes.
//!
//! A mark decides nothing. Without the feature `marks`, which only the simulator turns on, it is nothing at all.

#[cfg(feature = "marks")]
use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Says that the run has come here; with a condition, if that holds. The name is a sentence that is true here.
#[macro_export]
macro_rules! mark {
    ($name:literal) => {{
        static SITE: $crate::marks::Site = $crate::marks::Site::new($name);
        SITE.hit();
    }};
    ($when:expr, $name:literal) => {
        if $when {
            $crate::mark!($name);
        }
    };
}

/// A place with a mark. It has a number, so that counting it needs no look at its name.
pub struct Site {
    #[cfg(feature = "marks")]
    name: &'static str,
    /// 0: it was never come to.
    #[cfg(feature = "marks")]
    number: AtomicUsize,
}

#[cfg(feature = "marks")]
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

#[cfg(feature = "marks")]
thread_local! {
    /// How often each was hit, by its number.
    static HITS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

#[cfg(feature = "marks")]
fn names() -> MutexGuard<'static, Vec<&'static str>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one more hit of what has this number.
#[cfg(feature = "marks")]
fn count(number: usize) {
    HITS.with_borrow_mut(|hits| {
        if hits.len() < number {
            hits.resize(number, 0);
        }
        hits[number - 1] += 1;
    });
}

/// The number of this name, a new one if it has none.
#[cfg(feature = "marks")]
fn number(name: &'static str) -> usize {
    let mut names = names();
    let known = names.iter().position(|known| *known == name);
    let at = known.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    at + 1
}

#[cfg(feature = "marks")]
impl Site {
    pub const fn new(name: &'static str) -> Self {
        Self { name, number: AtomicUsize::new(0) }
    }

    /// Counts a mark of this thread's run.
    pub fn hit(&self) {
        let known = self.number.load(Ordering::Relaxed);
        let number = if known == 0 { number(self.name) } else { known };
        self.number.store(number, Ordering::Relaxed);
        count(number);
    }
}

#[cfg(not(feature = "marks"))]
impl Site {
    pub const fn new(_name: &'static str) -> Self {
        Self {}
    }

    #[inline(always)]
    pub fn hit(&self) {}
}

/// Counts a mark whose name is not written at its place.
#[cfg(feature = "marks")]
pub fn hit(name: &'static str) {
    count(number(name));
}

#[cfg(not(feature = "marks"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// The marks that this thread has hit since they were last taken, and how often.
#[cfg(feature = "marks")]
pub fn take() -> BTreeMap<&'static str, u64> {
    let (names, hits) = (names(), HITS.take());
    let hit = names.iter().copied().zip(hits);
    hit.filter(|(_, hits)| *hits > 0).collect()
}
