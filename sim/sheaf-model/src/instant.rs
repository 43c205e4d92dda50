//! What happens at once. Two kinds always do, since nothing that comes between could make a difference: a poll that says
//! nothing new to its gate, and the answer to a poll after which another was sent. The others are a scope's choice.

use crate::coordinator::StoreFate;
use crate::engine::{Fate, OpName};
use crate::model::Action;
use crate::scope::Instant;
use crate::state::{Flight, State};
use crate::wire::{Call, Message, Way, What};

/// The next thing that happens at once.
pub fn next(state: &State, instant: &Instant) -> Option<Action> {
    let mut flights = state.flights.iter();
    let message = flights.find(|((call, way), flight)| {
        !state.is_straggler(call, *way)
            && state.is_next(call, *way)
            && match call.what {
                What::Directive { .. } => {
                    let chosen =
                        if *way == Way::There { instant.directives } else { instant.reports };
                    chosen || is_idle(state, call, *way, flight)
                }
                What::Frame { .. } => instant.frames,
                What::Data { .. } => instant.answers && *way == Way::Back,
            }
    });
    if let Some(((call, way), _)) = message {
        return Some(Action::Deliver { call: *call, way: *way });
    }
    if instant.store && !state.coordinator.get().calls.is_empty() {
        return Some(Action::Store(StoreFate::Carried));
    }
    (0u8..).zip(&state.gates).find_map(|(gate, node)| {
        let node = node.get();
        if instant.disks && node.ledger.is_some() {
            return Some(Action::Persisted { gate });
        }
        let mut ops = node.ops.iter().filter(|(name, _)| matches!(name, OpName::Core(_)));
        let (name, op) = ops.next().filter(|_| instant.engines)?;
        Some(match op.answer {
            None => Action::EngineActs { gate, name: *name, fate: Fate::Carried },
            Some(_) => Action::EngineAnswers { gate, name: *name },
        })
    })
}

/// Whether a poll or its answer says nothing that matters.
fn is_idle(state: &State, call: &Call, way: Way, flight: &Flight) -> bool {
    match (way, flight.message.get()) {
        (Way::There, Message::Directive { directive, .. }) => {
            let record = &state.gates[usize::from(call.to)].get().record;
            record.shard.is_some()
                && (record.term, record.revision) == (directive.term, directive.revision)
        }
        (Way::Back, _) => state.open.iter().any(|other| {
            let polls = matches!(other.what, What::Directive { .. });
            polls && other.to == call.to && other > call
        }),
        (Way::There, _) => false,
    }
}
