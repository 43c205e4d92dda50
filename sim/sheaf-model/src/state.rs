//! A state of the whole cluster: the cores, their disks, what is on its way, and what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sheaf_coordinator::CoordinatorRecord;
use sheaf_map::Map;
use sheaf_types::Time;

use crate::coordinator::{CoordinatorNode, LateWrite};
use crate::gate::GateNode;
use crate::node::Node;
use crate::register::Register;
use crate::router::RouterNode;
use crate::scope::Budget;
use crate::wire::{Call, Message, Proc, Way, What};

/// Where clocks begin.
const FIRST_MS: u64 = 1_000_000;

/// A broken promise: the search ends there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Number and name: `I3 one-writer`.
    pub label: String,
    pub text: String,
}

/// A message on its way, perhaps more than once.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Flight {
    pub message: Node<Message>,
    pub copies: u8,
}

/// A client: the number of its next call, and whether one is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    pub next: u8,
    pub busy: bool,
}

/// What clients do and know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clients {
    pub clients: Vec<Client>,
    /// One for each point.
    pub registers: Vec<Register>,
}

/// Where something of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    AtCaller,
    There,
    AtGate,
    Back,
}

#[derive(Clone, Debug)]
pub struct State {
    /// Time that passed while all was quiet, for all processes alike.
    pub clock_ms: u64,
    /// Time by which each process is ahead, because its timer fired early.
    pub ahead_ms: Vec<u64>,
    pub coordinator: Node<CoordinatorNode>,
    pub router: Node<RouterNode>,
    pub gates: Vec<Node<GateNode>>,
    pub store: Node<CoordinatorRecord>,
    pub late_write: Option<Node<LateWrite>>,
    /// Every map that was ever current.
    pub maps: Node<Vec<Arc<Map>>>,
    /// Calls whose callers wait.
    pub open: BTreeSet<Call>,
    pub flights: BTreeMap<(Call, Way), Flight>,
    pub clients: Node<Clients>,
    pub budget: Budget,
    /// Times that all was quiet.
    pub quiet: u8,
    pub broken: Option<Arc<Broken>>,
}

impl State {
    /// What a process' clock shows.
    pub fn now(&self, proc: Proc) -> Time {
        Time(FIRST_MS + self.clock_ms + self.ahead_ms[proc.at()])
    }

    /// Where the polls are, each with its rank among all: their numbers depend on how often gates were asked, their order
    /// is what counts.
    fn polls(&self) -> Vec<(u8, Call, Place)> {
        let questions = self.gates.iter().flat_map(|gate| gate.get().questions.values());
        let flying = self.flights.keys().map(|(call, way)| match way {
            Way::There => (*call, Place::There),
            Way::Back => (*call, Place::Back),
        });
        let mut polls: Vec<(Call, Place)> = questions
            .map(|question| (question.call, Place::AtGate))
            .chain(flying)
            .chain(self.open.iter().map(|call| (*call, Place::AtCaller)))
            .filter(|(call, _)| matches!(call.what, What::Directive { .. }))
            .collect();
        polls.sort_unstable();
        let mut rank = 0;
        let mut before = None;
        polls
            .into_iter()
            .map(|(call, place)| {
                rank += u8::from(before.replace(call).is_some_and(|before| before != call));
                (rank, call, place)
            })
            .collect()
    }

    pub fn procs(&self) -> impl Iterator<Item = Proc> + use<> {
        let gates = (0..self.gates.len() as u8).map(Proc::Gate);
        [Proc::Coordinator, Proc::Router].into_iter().chain(gates)
    }

    /// When a process wants to be called.
    pub fn wake(&self, proc: Proc) -> Option<Time> {
        match proc {
            Proc::Coordinator => self.coordinator.get().wake,
            Proc::Router => self.router.get().wake(),
            Proc::Gate(gate) => self.gates[usize::from(gate)].get().wake,
        }
    }

    /// Whether nothing happens before time passes.
    pub fn is_quiet(&self) -> bool {
        let published = self.published_version();
        self.flights.keys().all(|(call, way)| self.is_straggler(call, *way))
            && self.coordinator.get().calls.is_empty()
            && self.gates.iter().all(|gate| gate.get().is_quiet(published))
            && !self.router_lags()
            && self.clients.get().clients.iter().enumerate().all(|(at, client)| {
                client.busy || usize::from(client.next) >= self.router.get().scripts[at]
            })
    }

    /// Whether nobody waits for this message any more: it may arrive at any time, or never.
    pub fn is_straggler(&self, call: &Call, way: Way) -> bool {
        way == Way::There && !self.open.contains(call)
    }

    /// Whether this message is the first of those that go the same way between the same two processes. Others have to
    /// overtake it. Clients' requests don't wait for each other, and a straggler holds up nobody.
    pub fn is_next(&self, call: &Call, way: Way) -> bool {
        if self.is_straggler(call, way) || matches!(call.what, What::Data { .. }) {
            return true;
        }
        let mut others = self.flights.keys().filter(|(other, other_way)| {
            (other.from, other.to, *other_way) == (call.from, call.to, way)
                && !self.is_straggler(other, *other_way)
        });
        others.next().is_none_or(|(first, _)| first == call)
    }

    pub fn published_version(&self) -> Option<sheaf_types::MapVersion> {
        self.coordinator.get().published.as_ref().map(|map| map.version())
    }

    pub fn router_lags(&self) -> bool {
        self.published_version() > Some(self.router.get().map.version())
    }

    /// Whether the transition has ended, all gates are clean and all clients have their answers. Asked when all is quiet.
    pub fn is_done(&self) -> bool {
        let record = self.store.get();
        record.transition.is_none()
            && record.queue.is_empty()
            && record.retiring.is_empty()
            && self.coordinator.get().core.reigns()
            && self.gates.iter().all(|gate| gate.get().is_settled_in(&record.map))
            && self.router.get().map.version() == record.map.version()
            && self.clients.get().clients.iter().all(|client| !client.busy)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        crate::node::digest_of(self) == crate::node::digest_of(other)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.clock_ms.hash(state);
        self.ahead_ms.hash(state);
        self.coordinator.hash(state);
        self.router.hash(state);
        self.gates.hash(state);
        self.store.hash(state);
        self.late_write.hash(state);
        self.maps.hash(state);
        self.polls().hash(state);
        self.open.hash(state);
        self.flights.hash(state);
        self.clients.hash(state);
        self.budget.hash(state);
        self.quiet.hash(state);
        self.broken.hash(state);
    }
}
