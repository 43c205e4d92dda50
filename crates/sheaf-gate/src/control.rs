//! Control: follows the coordinator. Which directives count, what a new map or order changes in the record, and when a waiting
//! coordinator is answered.

use std::sync::Arc;

use sheaf_map::{Map, Moves};
use sheaf_protocol::{Directive, DirectiveRefusal, Order};
use sheaf_types::{MapVersion, Revision, ShardId, Term, Time, mark};

use crate::context::Context;
use crate::effect::WakeReason;
use crate::event::{Seen, Token};
use crate::record::{GateRecord, OrderRecord};

/// What the coordinator said last, as far as it isn't durable.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Control {
    /// Waits until the engine has the collections of its map.
    pub directive: Option<Box<Directive>>,
    /// A map that was fetched, waiting in the same way.
    pub map: Option<Arc<Map>>,
    /// The map under which the coordinator permits a sweep.
    pub sweep_permit: Option<MapVersion>,
    /// The coordinator wants this gate to become a standby.
    pub retired: bool,
    polls: Vec<Poll>,
}

#[derive(Clone, Debug, Hash)]
struct Poll {
    token: Token,
    seen: Seen,
    follows: (Term, Revision),
    deadline: Time,
}

/// Why a directive is not followed, if so.
pub(crate) fn refusal_of(
    directive: &Directive,
    record: &GateRecord,
    foreign_points: Option<u64>,
) -> Option<DirectiveRefusal> {
    if record.store_id != directive.store_id {
        return Some(DirectiveRefusal::OtherStore { mine: record.store_id.clone() });
    }
    match &record.cluster_id {
        Some(mine) if *mine != directive.cluster_id => {
            return Some(DirectiveRefusal::OtherCluster { mine: mine.clone() });
        }
        None => {
            if let Some(points) = foreign_points {
                return Some(DirectiveRefusal::NotEmpty { points });
            }
        }
        Some(_) => {}
    }
    if directive.term < record.term {
        mark!("a gate refuses a deposed coordinator");
        return Some(DirectiveRefusal::Deposed { highest: record.term });
    }
    let known = record.map.as_ref().map_or(MapVersion(0), |map| map.version());
    let order_of = (directive.term, directive.revision);
    if order_of < (record.term, record.revision) || directive.map.version() < known {
        mark!("a gate refuses a late directive");
        return Some(DirectiveRefusal::Stale { revision: record.revision, map: known });
    }
    if let Some(mine) = record.shard.filter(|mine| *mine != directive.shard) {
        return Some(DirectiveRefusal::OtherShard { mine });
    }
    // A gate that has left follows no more directives about the shard that it was.
    let left =
        record.shard.is_none() && !directive.retired && order_of == (record.term, record.revision);
    (left && record.cluster_id.is_some())
        .then_some(DirectiveRefusal::Stale { revision: record.revision, map: known })
}

/// The record as the directive wants it.
pub(crate) fn follow(record: &mut GateRecord, directive: &Directive) {
    record.cluster_id = Some(directive.cluster_id.clone());
    record.shard = Some(directive.shard);
    record.term = directive.term;
    record.revision = directive.revision;
    adopt(record, &directive.map);
    if directive.unproven && !record.unproven {
        mark!("a gate learns that it is unproven");
        record.clean = false; // Until it has looked.
    }
    record.unproven = directive.unproven;
    let over = |order: &Order| directive.map.committed() >= order.transition;
    let order = directive.order.clone().filter(|order| !over(order));
    let before = record.order.take();
    record.order = order.map(|order| {
        let prepared = before
            .is_some_and(|before| before.order.transition == order.transition && before.prepared);
        OrderRecord { order, prepared }
    });
}

/// The record of a gate that is told to leave and isn't there: whatever older directives arrive late are stale.
pub(crate) fn stay_away(record: &mut GateRecord, directive: &Directive) {
    record.cluster_id = Some(directive.cluster_id.clone());
    record.term = directive.term;
    record.revision = directive.revision;
}

/// Makes a newer map current. A transition that it commits, or that is older than one it commits, is over.
pub(crate) fn adopt(record: &mut GateRecord, map: &Arc<Map>) {
    if record.map.as_ref().is_some_and(|known| known.version() >= map.version()) {
        return;
    }
    mark!(
        record.order.as_ref().is_some_and(|order| map.committed() > order.order.transition),
        "a gate learns of a commit that came after its own transition"
    );
    if let (Some(known), Some(me)) = (&record.map, record.shard)
        && gives_away(known, map, me)
    {
        record.clean = false;
    }
    record.map = Some(Arc::clone(map));
    record.order = record.order.take().filter(|order| map.committed() < order.order.transition);
}

fn gives_away(known: &Map, map: &Map, me: ShardId) -> bool {
    known.placement() != map.placement()
        && Moves::between(known.placement(), map.placement()).donors().contains(&me)
}

impl Control {
    pub fn wait(&mut self, token: Token, directive: &Directive, seen: Seen, deadline: Time) {
        let follows = (directive.term, directive.revision);
        self.polls.push(Poll { token, seen, follows, deadline });
    }

    /// The polls to be answered now: those with news, those whose time is over, and all but the newest.
    pub fn due(&mut self, record: &GateRecord, seq: u64, ctx: &mut Context<'_>) -> Vec<Token> {
        let newest = self.polls.last().map(|poll| poll.token);
        let mut due = Vec::new();
        self.polls.retain(|poll| {
            let followed = (record.term, record.revision) >= poll.follows;
            let news = poll.seen.incarnation != record.incarnation || poll.seen.seq < seq;
            let is_due =
                (followed && news) || poll.deadline <= ctx.now || Some(poll.token) != newest;
            if is_due {
                due.push(poll.token);
            } else {
                ctx.wake(poll.deadline, WakeReason::Poll);
            }
            !is_due
        });
        due
    }
}
