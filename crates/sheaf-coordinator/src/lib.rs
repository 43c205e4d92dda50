//! The coordinator's core: which map is current, who is a shard, what moves, when a transition is fenced, committed or
//! given up, what the catalogue is, and when the cluster scales by itself.
//!
//! `Coordinator::handle(now, event) -> Effects` is the whole interface. Every decision is one record, made durable by one
//! compare-and-set before anything follows from it. The core never touches a point, reads no clock and performs no I/O.

mod adoption;
mod asks;
mod autoscale;
mod catalogue;
mod config;
mod contacts;
mod coordinator;
mod directives;
mod effect;
mod event;
mod invariants;
mod jitter;
mod ledger;
mod membership;
mod moves;
mod plan;
mod record;
mod refusal;
mod url;
mod view;

pub use autoscale::AutoscaleConfig;
pub use config::Config;
pub use coordinator::Coordinator;
pub use effect::{Effects, Outgoing, Reply, StoreWrite, WakeReason};
pub use event::{
    AdoptedShard, Ask, Asked, AskedOptions, CopyLimits, Event, Identity, NewShard, PollAnswer,
    StoreOutcome, StoreRead, Token,
};
pub use plan::{COPY_RATE_DEFAULT, PairPlan, Plan, PlanRequest, Planner};
pub use record::{
    AutoscaleMemory, Confirmation, CoordinatorRecord, CopyRate, FenceTry, HistoryEntry,
    HistoryKind, MoveReport, Options, Origin, Outcome, Phase, Promotion, Queued, RECORD_FORMAT,
    RECORD_FORMAT_OLDEST, Request, Retiring, Stamp, Transition, TransitionReport, UsedKey,
};
pub use refusal::AskRefusal;
pub use url::normalise as normalise_url;
pub use view::{
    AutoscaleView, Health, LoadView, PairView, RetiringView, Role, ShardView, StatusView,
    TransitionView, TransitionsView,
};
