//! The gate's core: whether a request may be served, what has to follow an outgoing point to its new home,
//! when the gate holds its breath for the hand-over, and what it may delete.
//!
//! `Gate::handle(now, event) -> Effects` is the whole interface. The core never reads a clock, performs no I/O, sees no vector of
//! a client's request, and never decides alone that a transition has ended.

mod capture;
mod catalogue;
mod context;
mod control;
mod donor;
mod effect;
mod event;
mod gate;
mod ingest;
mod ledger;
mod limits;
mod record;
mod requests;
mod sweep;

pub use effect::{
    Answer, Effects, EngineCall, JobId, Outgoing, Persist, Scan, Scope, Select, WakeReason, Write,
};
pub use event::{
    Change, Changed, EngineReply, Event, FrameAnswer, Operation, Outcome, Page, Request, Scanned,
    Seen, Token,
};
pub use gate::{Gate, GateMetrics};
pub use limits::Limits;
pub use record::{GateRecord, OrderRecord, RECORD_FORMAT};
