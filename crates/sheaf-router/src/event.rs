//! All that can happen to an operation.

use std::sync::Arc;

use sheaf_map::Map;
use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, PlacementKey};

use crate::effect::CallId;

/// What a client asks for, as far as routing has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads these points, one key for each item. May be asked again whatever became of it.
    Read { keys: Vec<PlacementKey> },
    /// Upserts or deletes these points, one key for each item, in the client's order.
    Write { keys: Vec<PlacementKey> },
    /// Reads what all shards hold, at one version of the map: search, fetch, count.
    Gather,
}

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The request begins. Said once, first.
    Start,
    /// A call ended. A reply to a call that is no longer wanted changes nothing.
    Replied { call: CallId, outcome: Outcome },
    /// The router has a map; an older one than the operation knows changes nothing.
    MapAdopted { map: Arc<Map> },
    /// Time has passed; every deadline is looked at.
    Tick,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The shard did all of it, under this version of the map.
    Done { version: MapVersion },
    /// The shard refused: nothing of this call was applied.
    Refused(Refusal),
    /// The call surely never reached the shard: nothing of it was applied.
    NotSent,
    /// The shard answered that this can't be done, however often it is asked (400, 404, 409, 501, …): nothing of
    /// this call was applied.
    Failed,
    /// No answer came, or one that says nothing: it may have been applied, or be applied later.
    Lost,
}
