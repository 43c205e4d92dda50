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
    /// What the search has to meet, or it proves little.
    pub meets: &'static [Mark],
}

/// Times that all may be quiet and wait for a timer, before the transition must have ended.
pub const QUIET_MAX: u8 = 60;

const NONE: Budget =
    Budget { crashes: 0, losses: 0, repeats: 0, unknowns: 0, early: 0, cancels: 0 };

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

/// Every search that has a name.
pub const ALL: &[Scope] = &[
    Scope {
        name: "tiny",
        about: "two donors, one recipient, one write, no fault",
        change: Change::Grow,
        ids: &[Id::A],
        clients: &[&[Op::Put(Id::A)]],
        budget: NONE,
        instant: SLOW,
        split_reads: false,
        meets: &[],
    },
    Scope {
        name: "grow-crash",
        about: "two donors, one recipient; one write and one crash of any process at any moment",
        change: Change::Grow,
        ids: &[Id::A, Id::B],
        clients: &[&[Op::Put(Id::A)]],
        budget: Budget { crashes: 1, ..NONE },
        instant: SLOW,
        split_reads: false,
        meets: &[],
    },
];
