//! What coordinators, gates and routers say to each other, as plain data.
//!
//! This crate knows no encoding, no transport and no core. See `docs/ARCHITECTURE.md` for the conversation.

pub mod directive;
pub mod refusal;
pub mod report;
pub mod stream;

pub use directive::{CopyOptions, Directive, DirectiveRefusal, Order, Stage};
pub use refusal::Refusal;
pub use report::{
    CopyState, DonorReport, GateReport, Load, Proof, RecipientReport, Sealed, StallReport,
};
pub use stream::{
    Content, Delta, Frame, FrameRefusal, Position, Range, StreamId, Through, Verdict,
};
