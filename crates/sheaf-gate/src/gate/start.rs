//! Which of the rare states a gate starts in. Marks them, and decides nothing.

use sheaf_protocol::Stage;
use sheaf_types::mark;

use super::Gate;

impl Gate {
    pub(super) fn mark_start(&self) {
        let record = self.ledger.durable();
        let stage = record.order.as_ref().map(|order| order.order.stage);
        let donor = self.donor.is_some();
        let prepared = record.order.as_ref().is_some_and(|order| order.prepared);
        mark!(donor && stage == Some(Stage::Copy), "a donor starts in the middle of a copy");
        mark!(donor && stage == Some(Stage::Fence), "a donor starts fenced");
        mark!(self.recipient.is_some(), "a recipient starts in the middle of a transition");
        mark!(stage.is_some() && !prepared, "a gate starts between an order and its preparation");
        mark!(stage.is_none() && !record.clean, "a gate starts before it is swept");
    }
}
