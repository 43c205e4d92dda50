//! The router's core: whom a client's request is sent to, what is asked again, and how answers become one.
//!
//! One [`Operation`] lives as long as one request; nothing is kept between requests. The core never reads a clock, performs
//! no I/O, sees no body, and never asks again for a write that may have been applied.

mod effect;
mod event;
pub mod fuse;
pub mod merge;
mod operation;
mod points;
mod retry;
mod route;
mod scatter;

pub use effect::{Call, CallId, Effects, Incomplete, Reason, Verdict, WakeReason};
pub use event::{Event, Op, Outcome};
pub use operation::Operation;
pub use route::split;
