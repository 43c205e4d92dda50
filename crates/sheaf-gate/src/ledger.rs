//! The ledger: what the gate has decided, and what of it is durable.
//!
//! At most one record is on its way to the disk; decisions made meanwhile are stored together, next. Nothing is served or reported
//! by a decision that isn't durable, but a decision that makes the gate stricter holds at once.

use std::sync::Arc;

use sheaf_map::Map;
use sheaf_protocol::Stage;
use sheaf_types::{MapVersion, Serial, ShardId};

use crate::effect::Persist;
use crate::record::{GateRecord, OrderRecord};

#[derive(Clone, Debug, Hash)]
pub(crate) struct Ledger {
    decided: Arc<GateRecord>,
    durable: Arc<GateRecord>,
    in_progress: Option<Persist>,
    next_seq: Serial,
}

impl Ledger {
    /// A ledger whose record is durable already.
    pub fn new(record: GateRecord) -> Self {
        let record = Arc::new(record);
        Self { decided: record.clone(), durable: record, in_progress: None, next_seq: Serial(1) }
    }

    pub fn decided(&self) -> &GateRecord {
        &self.decided
    }

    pub fn durable(&self) -> &GateRecord {
        &self.durable
    }

    pub fn durable_shared(&self) -> &Arc<GateRecord> {
        &self.durable
    }

    pub fn decide(&mut self, change: impl FnOnce(&mut GateRecord)) {
        let mut record = GateRecord::clone(&self.decided);
        change(&mut record);
        assert!(
            (record.term, record.revision) >= (self.decided.term, self.decided.revision),
            "I2 map-monotone: directive went back from {} {} to {} {}",
            self.decided.term,
            self.decided.revision,
            record.term,
            record.revision
        );
        assert!(
            record.shard.is_none() || version_of(&record) >= version_of(&self.decided),
            "I2 map-monotone: map went back from {:?} to {:?}",
            version_of(&self.decided),
            version_of(&record)
        );
        // A decision that changes nothing leaves the record shared, and so quick to compare.
        if record != *self.decided {
            self.decided = Arc::new(record);
        }
    }

    /// The record to store next, when there is one and none is on its way.
    pub fn flush(&mut self) -> Option<Persist> {
        if self.in_progress.is_some() || self.is_settled() {
            return None;
        }
        let persist = Persist { seq: self.next_seq.take(), record: self.decided.clone() };
        self.in_progress = Some(persist.clone());
        Some(persist)
    }

    /// Returns whether this was the record on its way.
    pub fn persisted(&mut self, seq: u64) -> bool {
        match self.in_progress.take_if(|persist| persist.seq == seq) {
            Some(persist) => {
                self.durable = persist.record;
                true
            }
            None => false,
        }
    }

    pub fn is_settled(&self) -> bool {
        self.decided == self.durable
    }

    /// The map by which requests are served.
    pub fn map(&self) -> Option<&Arc<Map>> {
        self.durable.map.as_ref()
    }

    pub fn shard(&self) -> Option<ShardId> {
        self.durable.shard
    }

    /// The order that is both decided and durable: what may be acted on.
    pub fn order(&self) -> Option<&OrderRecord> {
        let decided = self.decided.order.as_ref()?;
        let durable = self.durable.order.as_ref()?;
        (decided.order.transition == durable.order.transition).then_some(durable)
    }

    /// Whether requests on outgoing ids are held: at once when decided, until the end is durable. A fence that is on its way
    /// to the disk will be durable, whatever was decided since.
    pub fn is_fenced(&self) -> bool {
        let under_way = self.in_progress.as_ref().map(|persist| &persist.record);
        [&self.decided, &self.durable].into_iter().chain(under_way).any(|record| is_fenced(record))
    }
}

fn is_fenced(record: &GateRecord) -> bool {
    record.order.as_ref().is_some_and(|order| order.order.stage == Stage::Fence)
}

fn version_of(record: &GateRecord) -> Option<MapVersion> {
    record.map.as_ref().map(|map| map.version())
}
