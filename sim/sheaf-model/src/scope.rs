//! What a search covers: the change of the map, what clients do meanwhile, and which faults may happen how often.

use crate::marks::Mark;

/// The change that the cluster goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Shards 1 and 2 are the donors, shard 3 joins.
    Grow,
    /// Shard 3 leaves, shards 1 and 2 receive.
    Drain,
}

/// A point by its part in the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// Moves between shards 1 and 3.
    A,
    /// Moves between shards 2 and 3.
    B,
    /// Stays at shard 1.
    C,
}

/// One call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Id),
    /// Two points in one request.
    PutBoth(Id, Id),
    Delete(Id),
    Get(Id),
    /// Every point: a search without bounds.
    Gather,
}

/// How often each fault may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process loses its memory, and starts again at once.
    pub crashes: u8,
    /// A request or an answer never arrives.
    pub losses: u8,
    /// A directive or a frame arrives twice; or a caller gives up while its request still travels.
    pub repeats: u8,
    /// The engine or the store doesn't say whether it wrote.
    pub unknowns: u8,
    /// A timer fires while messages are on their way.
    pub early: u8,
    /// The operator cancels the transition.
    pub cancels: u8,
}

/// What takes no time: it happens within the step that brings it about, so nothing comes between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instant {
    /// A directive's way to its gate.
    pub directives: bool,
    /// A report's way to the coordinator.
    pub reports: bool,
    /// Frames and their answers.
    pub frames: bool,
    /// The ledgers of gates.
    pub disks: bool,
    /// What cores ask of their engines.
    pub engines: bool,
    /// The coordinator's store.
    pub store: bool,
    /// The way from a gate back to the router.
    pub answers: bool,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Scope {
    pub name: &'static str,
    pub about: &'static str,
    pub change: Change,
    /// The points that exist before.
    pub ids: &'static [Id],
    /// What each client does, one call after the other.
    pub clients: &'static [&'static [Op]],
    pub budget: Budget,
    pub instant: Instant,
    /// The engine's reads take effect in one step and are answered in another.
    pub split_reads: bool,
    /// Small enough for every change; the others are for the night.
    pub ci: bool,
    /// What the search has to meet, or it proves little.
    pub meets: &'static [Mark],
}

/// Times that all may be quiet and wait for a timer, before the transition must have ended.
pub const QUIET_MAX: u8 = 60;

const NONE: Budget =
    Budget { crashes: 0, losses: 0, repeats: 0, unknowns: 0, early: 0, cancels: 0 };

/// Directives and reports take no time, nor do disks and the store: a scope of the data path.
const DATA: Instant = Instant {
    directives: true,
    reports: true,
    frames: false,
    disks: true,
    engines: true,
    store: true,
    answers: true,
};

/// Only directives take time: a scope of what the coordinator decides.
const CONTROL: Instant = Instant { directives: false, frames: true, ..DATA };

/// Everything takes its time.
const SLOW: Instant = Instant {
    directives: false,
    reports: false,
    frames: false,
    disks: false,
    engines: false,
    store: false,
    answers: false,
};

/// What most scopes have in common: two donors, one recipient, a point that moves and is written meanwhile.
const GROW: Scope = Scope {
    name: "",
    about: "",
    change: Change::Grow,
    ids: &[Id::A],
    clients: &[&[Op::Put(Id::A)]],
    budget: NONE,
    instant: DATA,
    split_reads: false,
    ci: true,
    meets: &[Mark::Committed, Mark::Finished, Mark::Swept],
};
const DRAIN: Scope = Scope { change: Change::Drain, ..GROW };

/// Every search that has a name, in the order in which they are run.
pub const ALL: &[Scope] = &[
    Scope {
        name: "tiny",
        about: "a join with one write, nothing goes wrong",
        meets: &[Mark::Committed, Mark::Finished, Mark::Captured, Mark::ServedByRecipient],
        ..GROW
    },
    Scope {
        name: "tiny-delete",
        about: "a join with one delete, nothing goes wrong",
        clients: &[&[Op::Delete(Id::A)]],
        meets: &[Mark::Committed, Mark::Finished, Mark::CapturedDelete],
        ..GROW
    },
    Scope {
        name: "grow-writes",
        about: "engines answer late: a write and a read of one point meet every step of the copy",
        clients: &[&[Op::Put(Id::A)], &[Op::Get(Id::A)]],
        instant: Instant { engines: false, answers: false, ..DATA },
        meets: &[Mark::Captured, Mark::HeldWrite, Mark::HeldWriteMoves],
        ..GROW
    },
    Scope {
        name: "grow-deletes",
        about: "reads of an engine take two steps: a write and a delete of one point meet the copy",
        clients: &[&[Op::Put(Id::A)], &[Op::Delete(Id::A)]],
        split_reads: true,
        instant: Instant { engines: false, ..DATA },
        ci: false,
        meets: &[Mark::Captured, Mark::CapturedDelete, Mark::HeldWrite],
        ..GROW
    },
    Scope {
        name: "grow-gather",
        about: "a search over all shards meets a write and the commit",
        ids: &[Id::A, Id::B],
        clients: &[&[Op::Put(Id::A)], &[Op::Gather]],
        ..GROW
    },
    Scope {
        name: "grow-batch",
        about: "one write of two points with different donors",
        ids: &[Id::A, Id::B, Id::C],
        clients: &[&[Op::PutBoth(Id::A, Id::B)]],
        meets: &[Mark::Captured, Mark::HeldWriteMoves],
        ..GROW
    },
    Scope {
        name: "grow-crash-copy",
        about: "any process crashes while frames travel",
        budget: Budget { crashes: 1, ..NONE },
        meets: &[
            Mark::CrashInCopy,
            Mark::CrashInFence,
            Mark::BackedOut,
            Mark::RefencedCommit,
            Mark::HeldWriteThaws,
            Mark::Repaired,
            Mark::DonorCrashesFenced,
            Mark::RecipientCrashesSealed,
            Mark::CrashBetweenApplyAndAnswer,
            Mark::UnknownWrite,
        ],
        ..GROW
    },
    Scope {
        name: "grow-crash-control",
        about: "any process crashes while directives travel",
        budget: Budget { crashes: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::CrashInPrepare, Mark::CrashInFence, Mark::CrashInSweep, Mark::FetchedMap],
        ..GROW
    },
    Scope {
        name: "grow-crash-disks",
        about: "any process crashes while ledgers are written",
        budget: Budget { crashes: 1, ..NONE },
        instant: Instant { disks: false, frames: true, ..DATA },
        meets: &[Mark::CrashLosesRecord, Mark::CrashInPrepare, Mark::CrashInSweep],
        ..GROW
    },
    Scope {
        name: "grow-crash-store",
        about: "any process crashes while the coordinator writes",
        budget: Budget { crashes: 1, ..NONE },
        instant: Instant { store: false, frames: true, ..DATA },
        meets: &[Mark::CoordinatorCrashesWriting, Mark::CrashInCopy, Mark::CrashInFence],
        ..GROW
    },
    Scope {
        name: "grow-frames-lost",
        about: "one message of the data path is lost, one arrives twice, late or too early",
        budget: Budget { losses: 1, repeats: 1, ..NONE },
        meets: &[Mark::LostAnswer, Mark::LateRequest, Mark::RepeatedFrame, Mark::LateFrame],
        ..GROW
    },
    Scope {
        name: "grow-directives-lost",
        about: "a directive or an answer is lost",
        budget: Budget { losses: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::BackedOut, Mark::RefencedCommit],
        ..GROW
    },
    Scope {
        name: "grow-directives-late",
        about: "a directive arrives twice, late or too early",
        budget: Budget { repeats: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::LateRequest, Mark::BackedOut],
        ..GROW
    },
    Scope {
        name: "grow-unknown-writes",
        about: "an engine or the store doesn't say whether it wrote",
        budget: Budget { unknowns: 1, ..NONE },
        instant: Instant { engines: false, store: false, ..DATA },
        meets: &[Mark::UnknownWrite, Mark::UnknownStore, Mark::UnknownCommit],
        ..GROW
    },
    Scope {
        name: "grow-cancel",
        about: "the operator cancels while frames travel",
        budget: Budget { cancels: 1, ..NONE },
        meets: &[Mark::Aborted, Mark::Finished, Mark::LateFrame],
        ..GROW
    },
    Scope {
        name: "grow-cancel-early",
        about: "the operator cancels, and a timer fires early, while directives travel",
        budget: Budget { cancels: 1, early: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::Aborted, Mark::BackedOut, Mark::RefencedCommit, Mark::HeldWriteThaws],
        ..GROW
    },
    Scope {
        name: "grow-cancel-crash",
        about: "the operator cancels and any process crashes, while directives travel",
        clients: &[],
        budget: Budget { cancels: 1, crashes: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::Aborted, Mark::CrashInAbort, Mark::CrashInPrepare],
        ..GROW
    },
    Scope {
        name: "drain-writes",
        about: "a shard leaves: engines answer late, a write and a delete of one point meet the copy",
        clients: &[&[Op::Put(Id::A)], &[Op::Delete(Id::A)]],
        instant: Instant { engines: false, ..DATA },
        meets: &[Mark::Captured, Mark::CapturedDelete, Mark::HeldWrite],
        ..DRAIN
    },
    Scope {
        name: "drain-crash-copy",
        about: "a shard leaves; any process crashes while frames travel",
        budget: Budget { crashes: 1, ..NONE },
        meets: &[Mark::CrashInCopy, Mark::CrashInFence, Mark::BackedOut, Mark::Repaired],
        ..DRAIN
    },
    Scope {
        name: "drain-frames-lost",
        about: "a shard leaves; one message of the data path is lost",
        budget: Budget { losses: 1, ..NONE },
        meets: &[Mark::LostAnswer],
        ..DRAIN
    },
    Scope {
        name: "drain-cancel",
        about: "a shard is to leave, and the operator cancels, while directives travel",
        budget: Budget { cancels: 1, ..NONE },
        instant: CONTROL,
        meets: &[Mark::Aborted, Mark::Committed],
        ..DRAIN
    },
    Scope {
        name: "drain-crash-control",
        about: "a shard leaves; any process crashes while directives travel",
        budget: Budget { crashes: 1, ..NONE },
        instant: CONTROL,
        ci: false,
        meets: &[Mark::CrashInPrepare, Mark::CrashInFence, Mark::CrashInSweep],
        ..DRAIN
    },
    Scope {
        name: "grow-messages",
        about: "nothing but engines and the store is fast: every order of messages and disks",
        instant: Instant { engines: true, store: true, answers: true, ..SLOW },
        ci: false,
        meets: &[Mark::HeldWriteMoves, Mark::FetchedMap, Mark::Captured],
        ..GROW
    },
    Scope {
        name: "grow-crash-lost",
        about: "any process crashes and one message of the data path is lost",
        budget: Budget { crashes: 1, losses: 1, ..NONE },
        ci: false,
        meets: &[Mark::CrashInCopy, Mark::CrashInFence, Mark::LostAnswer],
        ..GROW
    },
];

/// The scopes of a list (`ci`, `nightly`), or the one of this name.
pub fn named(name: &str) -> Vec<Scope> {
    let wanted = |scope: &&Scope| match name {
        "ci" => scope.ci,
        "nightly" => true,
        one => scope.name == one,
    };
    ALL.iter().filter(wanted).cloned().collect()
}
