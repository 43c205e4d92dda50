//! One checker for each promise of Sheaf: judges facts from outside, and never sees a core's private state.
//!
//! A harness (the simulator, or real processes under faults) tells a [`Panel`] every [`Fact`] in the order in which
//! it happened, then that it is over. The first broken promise ends the run.

pub mod acked_survives;
pub mod capture_gapless;
pub mod commit_proven;
pub mod committed;
pub mod converges;
pub mod dropped_stays_dropped;
pub mod fact;
pub mod fence_holds;
pub mod floors;
pub mod gather_exact;
pub mod honest_answers;
pub mod ids_fresh;
pub mod intent_first;
pub mod invisible;
pub mod linearizable;
pub mod map_monotone;
pub mod nothing_destroyed;
pub mod one_writer;
pub mod panel;
pub mod short_stall;
pub mod sweep_foreign;
pub mod total_map;

pub use fact::{
    Answer, By, Call, ClientKey, Decided, EndState, Fact, Held, Kind, NodeId, OpId, Phase, PointAt,
    Running, Stamp,
};
pub use panel::{Checker, Moment, Panel, Violation};
