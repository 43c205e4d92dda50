//! Taking in a transition: it is checked against what is known now, numbered, and queued.
//!
//! Decides whether it may be queued; whether it can still start is decided again when its turn comes.

use sheaf_protocol::CopyOptions;
use sheaf_types::limits::QUEUED_TRANSITIONS_MAX;
use sheaf_types::{ShardId, Time, TransitionId, mark};

use crate::effect::Reply;
use crate::event::AskedOptions;
use crate::record::{CoordinatorRecord, HistoryKind, Options, Origin, Promotion, Queued, Request};
use crate::refusal::AskRefusal;

/// The options of a transition as it was asked for.
pub(crate) fn options(asked: &AskedOptions, default_ms: u64) -> Result<Options, AskRefusal> {
    let fence_budget_ms = asked.fence_budget_ms.unwrap_or(default_ms);
    if !(10..=60_000).contains(&fence_budget_ms) {
        return Err(AskRefusal::BadFenceBudget { given: fence_budget_ms });
    }
    Ok(Options {
        copy: CopyOptions {
            paused: false,
            points_per_s_max: asked.limits.points_per_s_max,
            bytes_per_s_max: asked.limits.bytes_per_s_max,
            request_p99_ms_max: asked.limits.request_p99_ms_max,
        },
        fence_budget_ms,
        promotion: if asked.by_hand { Promotion::Awaited } else { Promotion::Automatic },
    })
}

/// Numbers and queues a transition.
pub(crate) fn accept(
    record: &mut CoordinatorRecord,
    now: Time,
    request: Request,
    origin: Origin,
    options: Options,
) -> Result<Reply, AskRefusal> {
    if record.unproven {
        mark!("a transition is wanted of a cluster that is unproven");
        return Err(AskRefusal::Unproven);
    }
    if record.queue.len() >= QUEUED_TRANSITIONS_MAX {
        return Err(AskRefusal::QueueFull { limit: QUEUED_TRANSITIONS_MAX });
    }
    check(record, &request)?;
    let transition = record.next_transition;
    record.next_transition = transition.next();
    let joining = request.joining().iter().map(|entry| entry.id).collect();
    let used: Vec<&str> = request.joining().iter().flat_map(|entry| entry.urls()).collect();
    record.autoscale.standbys.retain(|standby| !used.contains(&standby.as_str()));
    let text = format!("{transition} was asked for: {request}");
    record.note(now, HistoryKind::Transition, text, Some(transition));
    record.queue.push(Queued { id: transition, request, origin, options, requested: now });
    Ok(Reply::Accepted { transition, shards: joining })
}

fn check(record: &CoordinatorRecord, request: &Request) -> Result<(), AskRefusal> {
    let Some(shard) = request.subject() else {
        return Ok(());
    };
    let joins = |request: &Request| request.joining().iter().any(|entry| entry.id == shard);
    let known =
        record.map.shard(shard).is_some() || record.underway().any(|(_, request)| joins(request));
    if !known {
        return Err(AskRefusal::UnknownShard { shard });
    }
    let leaves = |request: &Request| request.leaving() == Some(shard);
    if let Some((transition, _)) = record.underway().find(|(_, request)| leaves(request)) {
        return Err(AskRefusal::InTransition { shard, transition });
    }
    let alone = record.map.shards().len() == 1 && record.underway().next().is_none();
    if alone && matches!(request, Request::Drain { .. }) {
        return Err(AskRefusal::LastShard { shard });
    }
    Ok(())
}

impl CoordinatorRecord {
    /// The transitions that run or wait and may still commit.
    pub(crate) fn underway(&self) -> impl Iterator<Item = (TransitionId, &Request)> {
        let running = self.transition.iter().filter(|running| running.is_undecided());
        let queued = self.queue.iter().map(|queued| (queued.id, &queued.request));
        running.map(|running| (running.id, &running.request)).chain(queued)
    }
}

impl Request {
    /// The shards that join.
    pub(crate) fn joining(&self) -> &[sheaf_map::ShardEntry] {
        match self {
            Self::Grow { shards } => shards,
            Self::Replace { with, .. } => std::slice::from_ref(with),
            Self::Drain { .. } | Self::Reweight { .. } => &[],
        }
    }

    /// The shard that leaves.
    pub(crate) fn leaving(&self) -> Option<ShardId> {
        match self {
            Self::Drain { shard } | Self::Replace { shard, .. } => Some(*shard),
            Self::Grow { .. } | Self::Reweight { .. } => None,
        }
    }

    /// The shard that must be there.
    fn subject(&self) -> Option<ShardId> {
        match self {
            Self::Drain { shard } | Self::Replace { shard, .. } | Self::Reweight { shard, .. } => {
                Some(*shard)
            }
            Self::Grow { .. } => None,
        }
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grow { shards } => {
                f.write_str("grow by")?;
                for shard in shards {
                    write!(f, " {} ({})", shard.id, shard.primary_url)?;
                }
                Ok(())
            }
            Self::Drain { shard } => write!(f, "drain {shard}"),
            Self::Replace { shard, with } => {
                write!(f, "replace {shard} by {} ({})", with.id, with.primary_url)
            }
            Self::Reweight { shard, weight } => write!(f, "weigh {shard} {weight}"),
        }
    }
}
