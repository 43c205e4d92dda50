//! What an operator may do to a transition that runs or is queued: pause, resume, throttle, promote, cancel.

use sheaf_types::{ShardId, Time, TransitionId, mark};

use super::{abort, start};
use crate::asks::Decided;
use crate::effect::Reply;
use crate::event::CopyLimits;
use crate::record::{
    CoordinatorRecord, HistoryKind, Options, Outcome, Phase, Promotion, Transition,
};
use crate::refusal::AskRefusal;

impl Transition {
    /// Whether it can still commit or abort.
    pub(crate) fn is_undecided(&self) -> bool {
        match self.phase {
            Phase::Prepare | Phase::Copy | Phase::Fence => true,
            Phase::Sweep { .. } | Phase::Abort { .. } => false,
        }
    }

    /// Refuses when it is decided.
    fn check_undecided(&self) -> Result<(), AskRefusal> {
        match self.phase {
            Phase::Prepare | Phase::Copy | Phase::Fence => Ok(()),
            Phase::Sweep { .. } => Err(AskRefusal::Committed { transition: self.id }),
            Phase::Abort { .. } => Err(AskRefusal::Aborting { transition: self.id }),
        }
    }
}

pub(crate) fn pause(
    record: CoordinatorRecord,
    now: Time,
    transition: TransitionId,
) -> Result<Decided, AskRefusal> {
    adjust(record, now, transition, "paused", |options| options.copy.paused = true)
}

pub(crate) fn resume(
    record: CoordinatorRecord,
    now: Time,
    transition: TransitionId,
) -> Result<Decided, AskRefusal> {
    adjust(record, now, transition, "resumed", |options| options.copy.paused = false)
}

pub(crate) fn throttle(
    record: CoordinatorRecord,
    now: Time,
    transition: TransitionId,
    limits: CopyLimits,
) -> Result<Decided, AskRefusal> {
    adjust(record, now, transition, "throttled", |options| {
        options.copy.points_per_s_max = limits.points_per_s_max;
        options.copy.bytes_per_s_max = limits.bytes_per_s_max;
        options.copy.request_p99_ms_max = limits.request_p99_ms_max;
    })
}

/// Lets the join of this shard be committed as soon as it has converged; never earlier.
pub(crate) fn promote(
    record: CoordinatorRecord,
    now: Time,
    shard: ShardId,
) -> Result<Decided, AskRefusal> {
    let joins =
        |request: &crate::record::Request| request.joining().iter().any(|entry| entry.id == shard);
    let joining = record.underway().find(|(_, request)| joins(request));
    let Some((transition, _)) = joining else {
        let running = record.transition.iter().find(|running| joins(&running.request));
        return Err(match running {
            Some(decided) => {
                decided.check_undecided().err().unwrap_or(AskRefusal::NotJoining { shard })
            }
            None => AskRefusal::NotJoining { shard },
        });
    };
    adjust(record, now, transition, "promoted", |options| {
        if options.promotion == Promotion::Awaited {
            mark!("an operator promotes a transition");
            options.promotion = Promotion::Asked;
        }
    })
}

/// Gives a transition up, or takes it out of the queue.
pub(crate) fn cancel(
    mut record: CoordinatorRecord,
    now: Time,
    transition: TransitionId,
) -> Result<Decided, AskRefusal> {
    let reply = Reply::Steered { transition };
    let reason = "an operator cancelled it".to_owned();
    if let Some(running) = record.transition.as_ref().filter(|running| running.id == transition) {
        mark!(!running.is_undecided(), "a cancel comes too late");
        running.check_undecided()?;
        mark!(running.phase == Phase::Prepare, "a transition is cancelled in Prepare");
        mark!(running.phase == Phase::Copy, "a transition is cancelled in Copy");
        mark!(running.phase == Phase::Fence, "a transition is cancelled in Fence");
        abort::give_up(&mut record, now, reason);
        return Ok(Decided::Change(Box::new(record), reply));
    }
    let at = record.queue.iter().position(|queued| queued.id == transition);
    let at = at.ok_or_else(|| not_underway(&record, transition))?;
    let queued = record.queue.remove(at);
    mark!("a transition is cancelled in the queue");
    start::end_unstarted(&mut record, now, queued, Outcome::Cancelled, reason);
    Ok(Decided::Change(Box::new(record), reply))
}

/// Changes the options of a transition. During a fence that waits: gates have better things to do.
fn adjust(
    mut record: CoordinatorRecord,
    now: Time,
    transition: TransitionId,
    done: &str,
    change: impl FnOnce(&mut Options),
) -> Result<Decided, AskRefusal> {
    let running = record.transition.as_mut().filter(|running| running.id == transition);
    let options = if let Some(running) = running {
        running.check_undecided()?;
        if running.phase == Phase::Fence {
            mark!("an operator's change waits for the fence");
            return Ok(Decided::Wait);
        }
        mark!("a running transition is steered");
        &mut running.options
    } else {
        mark!("a transition that waits, or is none, is steered");
        let at = record.queue.iter().position(|queued| queued.id == transition);
        let at = at.ok_or_else(|| not_underway(&record, transition))?;
        &mut record.queue[at].options
    };
    let before = *options;
    change(options);
    let reply = Reply::Steered { transition };
    if *options == before {
        return Ok(Decided::Unchanged(reply));
    }
    record.note(now, HistoryKind::Transition, format!("{transition} was {done}"), Some(transition));
    Ok(Decided::Change(Box::new(record), reply))
}

/// Why a transition that neither runs nor waits can't be steered: who asks too late shall hear that it is committed.
fn not_underway(record: &CoordinatorRecord, transition: TransitionId) -> AskRefusal {
    let mut ended = record.ended.iter();
    if ended.any(|report| report.id == transition && report.outcome == Outcome::Committed) {
        AskRefusal::Committed { transition }
    } else {
        AskRefusal::UnknownTransition { transition }
    }
}
