//! A broken promise as a letter: which, where, and every step from the beginning, in words.

use sheaf_coordinator::Phase;
use stateright::Path;

use crate::engine::{EngineOp, Fate, Kind, OpName};
use crate::model::{Action, Search};
use crate::state::State;
use crate::wire::{Call, Proc, Way, What, Work};

/// The letter for a search that found a broken promise.
pub fn letter(search: &Search, path: Path<State, Action>) -> String {
    let last = path.last_state().broken.clone();
    let (label, text) = last.as_deref().map_or(("nothing", ""), |b| (&b.label, &b.text));
    let steps = path.into_vec();
    let count = steps.len().saturating_sub(1);
    let mut letter = format!("FAILED  {label} after {count} steps: {text}\n");
    let mut before = String::new();
    for (number, (state, action)) in steps.into_iter().enumerate() {
        let situation = situation(&state);
        if situation != before {
            letter.push_str(&format!("        -- {situation}\n"));
            before = situation;
        }
        let Some(action) = action else { continue };
        letter.push_str(&format!("{:>5}   {}\n", number + 1, step(search, &state, &action)));
    }
    let name = search.scope.name;
    letter.push_str(&format!("replay  cargo xtask sim exhaustive --scope {name}"));
    letter
}

/// What a reader has to know of a state.
fn situation(state: &State) -> String {
    let record = state.store.get();
    let phase = match &record.transition {
        None => "no transition".to_owned(),
        Some(running) => {
            let phase = match &running.phase {
                Phase::Prepare => "Prepare",
                Phase::Copy => "Copy",
                Phase::Fence => "Fence",
                Phase::Sweep { permitted: false } => "Sweep, not permitted",
                Phase::Sweep { permitted: true } => "Sweep",
                Phase::Abort { .. } => "Abort",
            };
            format!("{} in {phase} {}", running.id, running.attempt)
        }
    };
    format!("{phase}, map {}", record.map.version())
}

fn step(search: &Search, state: &State, action: &Action) -> String {
    match action {
        Action::Deliver { call, way } => arrives(state, call, *way, ""),
        Action::Repeat { call } => arrives(state, call, Way::There, ", and will arrive again"),
        Action::Overtake { call, way } => arrives(state, call, *way, ", before an earlier one"),
        Action::Lose { call, way: Way::There } => format!("{} is lost", name(call)),
        Action::Lose { call, way: Way::Back } => format!("the answer to {} is lost", name(call)),
        Action::GiveUp { call } => format!("{} waits no longer for {}", who(call.from), name(call)),
        Action::Store(fate) => format!("the store carries out a call: {fate:?}"),
        Action::LateWriteArrives => "a late write reaches the store".to_owned(),
        Action::Persisted { gate } => format!("gate {gate}'s ledger is durable"),
        Action::EngineActs { gate, name, fate } => {
            let op = state.gates[usize::from(*gate)].get().ops.get(name);
            let fate = if *fate == Fate::Carried { String::new() } else { format!(": {fate:?}") };
            format!("gate {gate}'s engine carries out {}{fate}", op.map_or_else(String::new, brief))
        }
        Action::EngineAnswers { gate, name } => {
            let what = match name {
                OpName::Core(_) => "its gate",
                OpName::Request(_) => "a client's request",
            };
            format!("gate {gate}'s engine answers {what}")
        }
        Action::Fetched { gate } => format!("gate {gate} has fetched the map"),
        Action::FetchFails { gate } => format!("gate {gate} can't fetch the map"),
        Action::RouterLearns => "the router learns the new map".to_owned(),
        Action::Start { client } => {
            let next = state.clients.get().clients[usize::from(*client)].next;
            let op = search.scope.clients[usize::from(*client)][usize::from(next)];
            format!("client {client} begins {op:?}")
        }
        Action::Crash { proc, stored, applied } => {
            let kept = match (stored, applied) {
                (false, false) => "",
                (true, false) => "; its record arrives",
                (false, true) => "; its engine's writes arrive",
                (true, true) => "; its record and its engine's writes arrive",
            };
            format!("{} crashes and starts again{kept}", who(*proc))
        }
        Action::Cancel => "the operator cancels the transition".to_owned(),
        Action::Early { proc } => format!("a timer of {} fires", who(*proc)),
        Action::TimePasses => "all is quiet; time passes until a timer fires".to_owned(),
    }
}

fn arrives(state: &State, call: &Call, way: Way, how: &str) -> String {
    if way == Way::Back {
        return format!("the answer to {} arrives at {}{how}", name(call), who(call.from));
    }
    let late = if state.open.contains(call) { "" } else { ", late" };
    format!("{} arrives at gate {}{late}{how}", name(call), call.to)
}

fn who(proc: Proc) -> String {
    match proc {
        Proc::Coordinator => "the coordinator".to_owned(),
        Proc::Gate(gate) => format!("gate {gate}"),
        Proc::Router => "the router".to_owned(),
    }
}

fn name(call: &Call) -> String {
    match call.what {
        What::Directive { shard, poll } => format!("directive {} for {shard}", poll.0),
        What::Frame { to, stream, seq, tries, transition } => {
            let again = if tries == 0 { String::new() } else { format!(", try {}", tries + 1) };
            let stream = format!("{}.{}", stream.incarnation, stream.number);
            format!("frame {seq} of stream {stream} of {transition} to {to}{again}")
        }
        What::Data { operation, part } => format!("part {part} of call {operation}"),
    }
}

/// A call to an engine in a few words.
fn brief(op: &EngineOp) -> String {
    use sheaf_gate::EngineCall;
    match &op.kind {
        Kind::Core(EngineCall::CreateCollection { id, .. }) => format!("create {id}"),
        Kind::Core(EngineCall::DropCollection { id }) => format!("drop {id}"),
        Kind::Core(EngineCall::Scan(scan)) => format!("a scan after {:?}", scan.after),
        Kind::Core(EngineCall::Read { ids, .. }) => format!("a read of {ids:?}"),
        Kind::Core(EngineCall::Apply { writes, .. }) => {
            format!("{} writes of its gate", writes.len())
        }
        Kind::Request { request, .. } => match &request.work {
            Work::Put(points) => format!("a client's upsert of {points:?}"),
            Work::Delete(ids) => format!("a client's delete of {ids:?}"),
            Work::Get(id) => format!("a client's read of {id}"),
            Work::Gather => "a client's gather".to_owned(),
        },
    }
}

/// The first broken promise that a search found.
pub fn first_broken(
    search: &Search,
    discoveries: impl IntoIterator<Item = Path<State, Action>>,
) -> Option<String> {
    let broken = discoveries.into_iter().filter(|path| path.last_state().broken.is_some());
    let shortest = broken.min_by_key(|path| path.clone().into_actions().len())?;
    Some(letter(search, shortest))
}
