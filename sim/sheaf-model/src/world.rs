//! One step of the cluster: a copy of a state in which one thing happens, with all the facts that it shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_checkers::Fact;
use sheaf_types::PointId;

use crate::coordinator::CoordinatorNode;
use crate::gate::GateNode;
use crate::marks::Marks;
use crate::node::Node;
use crate::router::RouterNode;
use crate::scope::{Id, Scope};
use crate::state::{Broken, Client, Flight, State};
use crate::wire::{Call, Message, Proc, Reply, Way, What};

/// What never changes during a search.
#[derive(Debug)]
pub struct Cluster {
    /// The points, by their part in the change.
    pub ids: BTreeMap<Id, PointId>,
    pub collection: sheaf_types::CollectionId,
}

/// Which parts of the state have to be sealed again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched {
    pub coordinator: bool,
    pub router: bool,
    pub gates: u8,
    pub clients: bool,
    /// An engine changed.
    pub engines: bool,
}

pub struct World<'a> {
    pub scope: &'a Scope,
    pub cluster: &'a Cluster,
    pub marks: &'a Marks,
    pub state: State,
    pub facts: Vec<Fact>,
    pub touched: Touched,
}

impl<'a> World<'a> {
    pub fn new(scope: &'a Scope, cluster: &'a Cluster, marks: &'a Marks, state: State) -> Self {
        Self { scope, cluster, marks, state, facts: Vec::new(), touched: Touched::default() }
    }

    pub fn coordinator(&mut self) -> &mut CoordinatorNode {
        self.touched.coordinator = true;
        self.state.coordinator.edit()
    }

    pub fn router(&mut self) -> &mut RouterNode {
        self.touched.router = true;
        self.state.router.edit()
    }

    pub fn gate(&mut self, gate: u8) -> &mut GateNode {
        self.touched.gates |= 1 << gate;
        self.state.gates[usize::from(gate)].edit()
    }

    pub fn client(&mut self, client: u8) -> &mut Client {
        self.touched.clients = true;
        &mut self.state.clients.edit().clients[usize::from(client)]
    }

    /// The first broken promise counts.
    pub fn break_promise(&mut self, label: &str, text: String) {
        if self.state.broken.is_none() {
            self.state.broken = Some(Arc::new(Broken { label: label.to_owned(), text }));
        }
    }

    /// Sends a request and waits for the answer.
    pub fn call(&mut self, mut call: Call, message: Message) {
        while self.is_used(&call) {
            let What::Frame { tries, .. } = &mut call.what else { break };
            *tries += 1;
        }
        self.state.open.insert(call);
        self.fly(call, Way::There, message);
    }

    /// Whether something is still known of a call of this name.
    fn is_used(&self, call: &Call) -> bool {
        self.state.open.contains(call)
            || self.state.flights.contains_key(&(*call, Way::There))
            || self.state.gates[usize::from(call.to)].get().has_question(call)
    }

    fn fly(&mut self, call: Call, way: Way, message: Message) {
        let message = Node::new(message);
        self.state.flights.insert((call, way), Flight { message, copies: 1 });
    }

    /// A gate answers; nobody may be waiting any more.
    pub fn reply(&mut self, call: Call, reply: Reply) {
        if self.state.open.contains(&call) {
            self.fly(call, Way::Back, Message::Answer(reply));
        }
    }

    /// A message arrives. `keep`: so does a copy of it, later.
    pub fn deliver(&mut self, call: Call, way: Way, keep: bool) {
        let Some(flight) = self.state.flights.get_mut(&(call, way)) else { return };
        let message = Message::clone(flight.message.get());
        if !keep {
            flight.copies -= 1;
            if flight.copies == 0 {
                self.state.flights.remove(&(call, way));
            }
        }
        match message {
            Message::Answer(reply) => self.hear(call, reply),
            request => self.gate_request(call, request),
        }
    }

    fn hear(&mut self, call: Call, reply: Reply) {
        if !self.state.open.remove(&call) {
            return;
        }
        match call.from {
            Proc::Coordinator => self.coordinator_answered(call.what, reply),
            Proc::Router => self.router_answered(call.what, reply),
            Proc::Gate(gate) => self.gate_answered(gate, call.what, reply),
        }
    }

    /// A message is lost; its caller notices at some time.
    pub fn lose(&mut self, call: Call, way: Way) {
        self.state.flights.remove(&(call, way));
        self.fly(call, Way::Back, Message::Answer(Reply::Lost));
    }

    /// The caller waits no longer, though its request still travels.
    pub fn give_up(&mut self, call: Call) {
        self.hear(call, Reply::Lost);
    }

    /// A process is gone: it hears no answers any more.
    pub fn hang_up(&mut self, proc: Proc) {
        self.state.open.retain(|call| call.from != proc);
        self.state.flights.retain(|(call, way), _| *way == Way::There || call.from != proc);
    }

    /// A router's operation has ended: answers to its calls are not waited for.
    pub fn close_operation(&mut self, number: u8) {
        let of =
            |call: &Call| matches!(call.what, What::Data { operation, .. } if operation == number);
        self.state.open.retain(|call| !of(call));
        self.state.flights.retain(|(call, way), _| *way == Way::There || !of(call));
    }
}
