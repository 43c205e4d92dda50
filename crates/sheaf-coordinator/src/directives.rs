//! What each gate should be doing, as a pure function of what is durable.
//!
//! Decides the content of directives; never when they are sent. Nothing here looks at a clock or at a report.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::ShardEntry;
use sheaf_protocol::{Directive, Order, Stage};
use sheaf_types::ShardId;

use crate::record::{CoordinatorRecord, Phase, Transition};

/// What one gate should be doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Intent {
    pub url: String,
    pub directive: Directive,
}

/// The gates of the current map, of the next one, and those that are to learn that they have left.
pub(crate) fn intents(record: &CoordinatorRecord) -> BTreeMap<ShardId, Intent> {
    let mut intents = BTreeMap::new();
    let next = record.transition.as_ref().filter(|t| stage(&t.phase).is_some());
    let joining = next.iter().flat_map(|transition| transition.next.shards());
    for shard in joining.chain(record.map.shards()) {
        intents.insert(shard.id, intent(record, shard, Leaving::No));
    }
    for retiring in &record.retiring {
        let leaving = Leaving::Yes { sweep: retiring.sweep };
        intents.insert(retiring.shard.id, intent(record, &retiring.shard, leaving));
    }
    intents
}

enum Leaving {
    No,
    Yes { sweep: bool },
}

fn intent(record: &CoordinatorRecord, shard: &ShardEntry, leaving: Leaving) -> Intent {
    let order = match leaving {
        Leaving::No => record.transition.as_ref().and_then(|t| order(t, shard.id)),
        Leaving::Yes { .. } => None,
    };
    let mut sweep = may_sweep(record, order.as_ref());
    let mut retired = false;
    if let Leaving::Yes { sweep: allowed } = leaving {
        sweep &= allowed;
        retired = true;
    }
    let directive = Directive {
        cluster_id: record.map.cluster_id().clone(),
        term: record.term,
        revision: record.revision,
        shard: shard.id,
        store_id: shard.store_id.clone(),
        map: Arc::clone(&record.map),
        order,
        sweep,
        retired,
        unproven: record.unproven,
    };
    Intent { url: shard.primary_url.clone(), directive }
}

/// The part of this shard, `None` for a bystander.
fn order(transition: &Transition, shard: ShardId) -> Option<Order> {
    let takes_part = transition.donors.binary_search(&shard).is_ok()
        || transition.recipients.binary_search(&shard).is_ok();
    if !takes_part {
        return None;
    }
    Some(Order {
        transition: transition.id,
        attempt: transition.attempt,
        stage: stage(&transition.phase)?,
        next: Arc::clone(&transition.next),
        copy: transition.options.copy,
    })
}

/// The stage that gates are told; `None` once the transition is decided.
fn stage(phase: &Phase) -> Option<Stage> {
    match phase {
        Phase::Prepare => Some(Stage::Prepare),
        Phase::Copy => Some(Stage::Copy),
        Phase::Fence => Some(Stage::Fence),
        Phase::Sweep { .. } | Phase::Abort { .. } => None,
    }
}

/// Every owner under the map is known to hold its points, except between a commit and its confirmation, and in a cluster that
/// is unproven. A fenced gate has better things to do.
fn may_sweep(record: &CoordinatorRecord, order: Option<&Order>) -> bool {
    let confirmed = !matches!(
        record.transition,
        Some(Transition { phase: Phase::Sweep { permitted: false }, .. })
    );
    confirmed && !record.unproven && order.is_none_or(|order| order.stage != Stage::Fence)
}
