//! What a search must have met at least once: without these, "nothing is broken" would say little.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! marks {
    ($($mark:ident = $text:literal,)*) => {
        /// Something rare that a search is expected to meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $($mark,)* }

        impl Mark {
            pub const ALL: &[Self] = &[$(Self::$mark,)*];

            /// In words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$mark => $text,)* }
            }
        }
    };
}

marks! {
    Committed = "a transition commits",
    Aborted = "a transition is aborted and its recipients are swept",
    Finished = "a transition ends, and every gate is clean",
    BackedOut = "a fence is backed out",
    RefencedCommit = "a transition commits after a fence was backed out",
    HeldWrite = "a write is held by a fence",
    HeldWriteMoves = "a write that was held is refused because its point has moved",
    HeldWriteThaws = "a write that was held is admitted after the fence was backed out",
    Captured = "a write of an outgoing point is captured and sent again",
    CapturedDelete = "a delete of an outgoing point is captured and sent again",
    Repaired = "a pass finds a difference and repairs it",
    ServedByRecipient = "a recipient serves a point that has moved to it",
    FetchedMap = "a gate fetches a map because a router knows a newer one",
    Swept = "a sweep deletes a point",
    LostAnswer = "an answer is lost",
    LateRequest = "a request arrives after its caller gave up",
    RepeatedDirective = "a directive arrives twice",
    RepeatedFrame = "a frame arrives twice",
    LateFrame = "a frame arrives after its transition was decided",
    UnknownWrite = "a client's write ends with an unknown outcome",
    UnknownStore = "a store write ends with an unknown outcome",
    UnknownCommit = "the outcome of the commit is unknown",
    CrashInPrepare = "a process crashes in Prepare",
    CrashInCopy = "a process crashes in Copy",
    CrashInFence = "a process crashes in Fence",
    CrashInSweep = "a process crashes in Sweep",
    CrashInAbort = "a process crashes in Abort",
    DonorCrashesFenced = "a donor crashes while its fence is durable",
    RecipientCrashesSealed = "a recipient crashes after the seal",
    CoordinatorCrashesWriting = "the coordinator crashes while it writes",
    CrashLosesRecord = "a gate crashes before its record is durable",
    CrashBetweenApplyAndAnswer = "a gate crashes after its engine applied a write and before it answered",
}

/// How often each mark was met.
#[derive(Debug)]
pub struct Marks(Vec<AtomicU64>);

impl Default for Marks {
    fn default() -> Self {
        Self(Mark::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Marks {
    pub fn hit(&self, mark: Mark) {
        self.0[mark as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize].load(Ordering::Relaxed)
    }
}
