//! What the processes of the cluster have in common: what each is started with.

use std::sync::Arc;

use sheaf_runtime::Clock;
use sheaf_types::Time;

use crate::book::Book;
use crate::reigns::Reigns;
use crate::slow::Pace;

/// The one collection. It is never dropped.
pub const COLLECTION: &str = "things";
/// Numbers of a vector.
pub const DIM: u32 = 2;

/// Of an engine, and of a ledger's disk.
pub type Paces = [Arc<Pace>; 2];

/// What a process is started with, each time.
#[derive(Clone)]
pub struct Machine {
    pub book: Arc<Book>,
    pub number: u32,
    /// How far its wall clock is ahead, in milliseconds.
    pub skew_ms: u64,
    /// How slow its engine is, and its ledger's disk.
    pub paces: Paces,
    /// What was seen of the coordinators' record.
    pub reigns: Arc<Reigns>,
    pub coordinators: u32,
    /// The shards that a new cluster begins with.
    pub seeds: Vec<String>,
    pub lease_secs: u32,
    pub fence_budget_ms: Option<u64>,
}

impl Machine {
    /// Its clock, as it is right after a start.
    pub fn clock(&self) -> Clock {
        let now = Clock::system().now();
        Clock::starting_at(Time(now.0 + self.skew_ms))
    }
}
