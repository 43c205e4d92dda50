//! What a gate keeps durable: its ledger.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_map::Map;
use sheaf_protocol::Order;
use sheaf_types::{ClusterId, Incarnation, Revision, ShardId, StoreId, Term};

/// The ledger of a gate, stored whole at each change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// Version of this record's form.
    pub format: u32,
    pub store_id: StoreId,
    /// Raised and stored at each start, before anything else.
    pub incarnation: Incarnation,
    /// `None`: never joined.
    pub cluster_id: Option<ClusterId>,
    /// `None`: a standby.
    pub shard: Option<ShardId>,
    /// The newest directive that was followed.
    pub term: Term,
    pub revision: Revision,
    pub map: Option<Arc<Map>>,
    pub order: Option<OrderRecord>,
    /// The engine holds no point that `shard` doesn't own in `map`.
    pub clean: bool,
    /// The engine may hold the only copy of a point that another shard owns: none is deleted (ADR 0006).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
}

/// The gate's part in a transition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRecord {
    pub order: Order,
    /// Was clean when it began to receive: what it holds beyond its own came by this transition's streams.
    pub prepared: bool,
}

/// The form that this version writes and reads.
pub const RECORD_FORMAT: u32 = 1;

impl GateRecord {
    /// The ledger of a new, empty node.
    pub fn new(store_id: StoreId) -> Self {
        Self {
            format: RECORD_FORMAT,
            store_id,
            incarnation: Incarnation(0),
            cluster_id: None,
            shard: None,
            term: Term(0),
            revision: Revision(0),
            map: None,
            order: None,
            clean: true,
            unproven: false,
        }
    }

    /// The record to store before a core is built on it: the next incarnation.
    #[must_use]
    pub fn restarted(mut self) -> Self {
        self.incarnation = self.incarnation.next();
        self
    }
}
