//! Coverage marks: rare places in the code that a swarm of simulated runs must reach sometimes.
//!
//! A mark decides nothing. Without the feature `marks`, which only the simulator turns on, it is nothing at all.

#[cfg(feature = "marks")]
use std::{cell::RefCell, collections::BTreeMap};

/// Says that the run has come here; with a condition, if that holds. The name is a sentence that is true here.
#[macro_export]
macro_rules! mark {
    ($name:literal) => {
        $crate::marks::hit($name)
    };
    ($when:expr, $name:literal) => {
        if $when {
            $crate::marks::hit($name)
        }
    };
}

#[cfg(feature = "marks")]
thread_local! {
    static HIT: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a mark of this thread's run.
#[cfg(feature = "marks")]
pub fn hit(name: &'static str) {
    HIT.with_borrow_mut(|hit| *hit.entry(name).or_default() += 1);
}

#[cfg(not(feature = "marks"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// The marks that this thread has hit since they were last taken, and how often.
#[cfg(feature = "marks")]
pub fn take() -> BTreeMap<&'static str, u64> {
    HIT.take()
}
