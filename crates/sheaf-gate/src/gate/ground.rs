//! What the gate's parts may rely on while an event is handled: views of what is durable and decided.

use sheaf_protocol::Load;

use super::{Fence, Part};
use crate::donor::{Donor, DonorGround};
use crate::ledger::Ledger;
use crate::requests::Surroundings;

impl Fence {
    pub fn is_of(&self, donor: &Donor) -> bool {
        self.transition == donor.transition()
    }
}

pub(super) fn surroundings<'a>(
    ledger: &'a Ledger,
    fence: Option<&'a Fence>,
    part: Option<&Part>,
) -> Surroundings<'a> {
    let clean = ledger.decided().clean && ledger.durable().clean;
    let fence = fence.map(|fence| &fence.moves);
    Surroundings { ledger, fence, engine_is_clean: clean && part.is_none_or(|part| !part.receives) }
}

/// What a donor may rely on, when there is an order that is decided and durable.
pub(super) fn donor_ground(ledger: &Ledger, load: Load) -> Option<DonorGround<'_>> {
    let record = ledger.durable();
    let order = ledger.order()?;
    Some(DonorGround {
        cluster_id: record.cluster_id.as_ref()?,
        incarnation: record.incarnation,
        map: ledger.map()?,
        order: &order.order,
        prepared: order.prepared,
        request_p99_ms: load.request_p99_ms,
    })
}
