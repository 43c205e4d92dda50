//! What is on its way between the processes, and how a call is named.
//!
//! A call's name says what it is for, not when it was made: two orders of the same calls lead to the same state.

use std::sync::Arc;

use sheaf_checkers::Stamp;
use sheaf_gate::Seen;
use sheaf_protocol::{
    Directive, DirectiveRefusal, Frame, FrameRefusal, GateReport, Refusal, StreamId, Verdict,
};
use sheaf_types::{MapVersion, PointId, Serial, ShardId, TransitionId};

/// A process. Clients live in the router: the way between them is not modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proc {
    Coordinator,
    Gate(u8),
    Router,
}

impl Proc {
    /// Its place in lists of all processes.
    pub fn at(self) -> usize {
        match self {
            Self::Coordinator => 0,
            Self::Router => 1,
            Self::Gate(gate) => 2 + usize::from(gate),
        }
    }
}

/// A call that someone makes of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    pub from: Proc,
    /// Of the caller: nobody hears the answer to a call of an earlier life.
    pub life: u8,
    pub to: u8,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Of the poll's number only the order counts: `State` hashes its rank.
    Directive { shard: ShardId, poll: Serial },
    /// `tries`: how often this frame was sent before.
    Frame { to: ShardId, transition: TransitionId, stream: StreamId, seq: u64, tries: u8 },
    /// `part`: the number of the operation's call.
    Data { operation: u8, part: u64 },
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Message {
    Directive { directive: Arc<Directive>, wait_ms: u64, seen: Seen },
    Frame(Arc<Frame>),
    Data(Arc<DataRequest>),
    Answer(Reply),
}

/// A router's request to a gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataRequest {
    pub version: MapVersion,
    pub shard: ShardId,
    pub work: Work,
    pub timeout_ms: u64,
}

/// What a client, or a router for it, wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Put(Vec<(PointId, Stamp)>),
    Delete(Vec<PointId>),
    Get(PointId),
    Gather,
}

/// What a read found.
pub type Found = Vec<(PointId, Stamp)>;

#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Reply {
    Directed(Result<Box<GateReport>, DirectiveRefusal>),
    Frame(Result<Verdict, FrameRefusal>),
    Done {
        version: MapVersion,
        found: Found,
    },
    Refused(Refusal),
    /// The gate itself says that it doesn't know.
    Unknown,
    /// No answer came.
    Lost,
}

/// Which way a message of a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    There,
    Back,
}
