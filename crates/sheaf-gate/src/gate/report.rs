//! What the gate tells its coordinator, and when there is something new to tell. Decides nothing.

use std::sync::Arc;

use sheaf_protocol::{CopyState, GateReport, Sealed};
use sheaf_types::{MapVersion, Time};

use super::Gate;
use crate::donor::Donor;
use crate::ingest::Recipient;
use crate::record::GateRecord;

/// Milliseconds between two reports of progress.
const PROGRESS_MS: u64 = 100;

/// What the coordinator has been told of.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Progress {
    pub(super) seq: u64,
    told: Milestones,
    sent_points: u64,
    next_at: Time,
}

/// What a coordinator waits for.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
struct Milestones {
    record: Option<Arc<GateRecord>>,
    outgoing: Vec<(CopyState, bool)>,
    incoming: Vec<Option<Sealed>>,
    strays: Option<u64>,
    cannot_hold: Option<String>,
}

/// A gate's figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateMetrics {
    pub map_version: MapVersion,
    pub held_requests: u64,
    pub fenced: bool,
    /// Writes of outgoing ids that the running transition captured.
    pub captured_points: u64,
    /// Of these, ids that the recipients haven't been told of yet: how far the copy lags.
    pub dirty_points: u64,
    pub sent_points: u64,
    pub clean: bool,
}

impl Gate {
    /// Notices whether there is anything new that a coordinator waits for.
    pub(super) fn note_progress(&mut self) {
        let order = self.ledger.order().map(|order| &order.order);
        let told = &self.progress.told;
        let outgoing_told = match &self.donor {
            Some(donor) => donor.milestones(order).eq(told.outgoing.iter().copied()),
            None => told.outgoing.is_empty(),
        };
        let incoming_told = match &self.recipient {
            Some(recipient) => recipient.seals().eq(told.incoming.iter().copied()),
            None => told.incoming.is_empty(),
        };
        let record = self.ledger.durable_shared();
        let (strays, cannot_hold) = (self.sweep.strays(), self.cannot_hold());
        let all_told = told.record.as_ref() == Some(record)
            && told.strays == strays
            && told.cannot_hold.as_ref() == cannot_hold
            && outgoing_told
            && incoming_told;
        let sent = self.donor.as_ref().map_or(0, Donor::sent_points);
        let moved_on = sent != self.progress.sent_points && self.now >= self.progress.next_at;
        if !all_told || moved_on {
            let told = Milestones {
                record: Some(Arc::clone(record)),
                outgoing: self.donor.iter().flat_map(|donor| donor.milestones(order)).collect(),
                incoming: self.recipient.iter().flat_map(Recipient::seals).collect(),
                strays,
                cannot_hold: cannot_hold.cloned(),
            };
            self.progress.seq += 1;
            self.progress.told = told;
            self.progress.sent_points = sent;
            self.progress.next_at = self.now.plus_ms(PROGRESS_MS);
        }
    }

    /// Why the engine can't have the collections of a map that it follows, or waits to follow; or a point that is to move here.
    fn cannot_hold(&self) -> Option<&String> {
        let directed = self.control.directive.as_ref().map(|directive| &directive.map);
        let maps = directed.into_iter().chain(&self.control.map).chain(self.ledger.map());
        let collection = maps.filter_map(|map| self.catalogue.cannot_hold(map)).next();
        collection.or_else(|| self.recipient.as_ref().and_then(Recipient::cannot_hold))
    }

    /// What is durably so.
    pub fn report(&self) -> GateReport {
        let record = self.ledger.durable();
        let order = self.ledger.order();
        let wishes = order.map(|order| &order.order);
        GateReport {
            store_id: record.store_id.clone(),
            incarnation: record.incarnation,
            cluster_id: record.cluster_id.clone(),
            shard: record.shard,
            term: record.term,
            revision: record.revision,
            seq: self.progress.seq,
            map_version: record.map.as_ref().map(|map| map.version()),
            catalogue_ready: record.map.as_ref().is_some_and(|map| self.catalogue.has_all_of(map)),
            cannot_hold: self.cannot_hold().cloned(),
            clean: record.clean,
            unproven: record.unproven,
            strays: self.sweep.strays().filter(|_| record.unproven),
            transition: order.map(|order| order.order.transition),
            prepared: order.is_some_and(|order| order.prepared),
            outgoing: self.donor.as_ref().map(|donor| donor.reports(wishes)).unwrap_or_default(),
            incoming: self.recipient.as_ref().map(Recipient::reports).unwrap_or_default(),
            stall: self.requests.stalls(),
            load: self.load,
        }
    }

    /// Figures for the shell's metrics.
    pub fn metrics(&self) -> GateMetrics {
        GateMetrics {
            map_version: self.ledger.map().map_or(MapVersion(0), |map| map.version()),
            held_requests: self.requests.held() as u64,
            fenced: self.fence.is_some(),
            captured_points: self.donor.as_ref().map_or(0, Donor::captured),
            dirty_points: self.donor.as_ref().map_or(0, Donor::dirty),
            sent_points: self.donor.as_ref().map_or(0, Donor::sent_points),
            clean: self.ledger.durable().clean,
        }
    }
}
