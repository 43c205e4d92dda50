//! The coordinator's shell: its store calls one after the other, its polls, the map that it hands out.

use std::collections::VecDeque;
use std::sync::Arc;

use sheaf_checkers::Fact;
use sheaf_coordinator::{
    Ask, Asked, Config, Coordinator, CoordinatorRecord, Effects, Event, Identity, Outgoing, Phase,
    PollAnswer, StoreOutcome, StoreRead, StoreWrite, Token,
};
use sheaf_gate::Seen;
use sheaf_map::Map;
use sheaf_sim::store::decided;
use sheaf_types::{Serial, Time};

use crate::gate::url_of;
use crate::marks::Mark;
use crate::node::Node;
use crate::wire::{Call, Message, Proc, Reply, What};
use crate::world::World;

/// Milliseconds that an operator's ask may wait.
const ASK_MS: u64 = 3_600_000;

/// A call to the store.
#[derive(Clone, Debug, Hash)]
pub enum StoreCall {
    Write(StoreWrite),
    Load,
}

/// A write that may still reach the store.
#[derive(Clone, Debug, Hash)]
pub struct LateWrite(pub StoreWrite);

/// The coordinator's process.
#[derive(Clone, Debug, Hash)]
pub struct CoordinatorNode {
    pub core: Coordinator,
    pub published: Option<Arc<Map>>,
    pub calls: VecDeque<StoreCall>,
    pub wake: Option<Time>,
    pub life: u8,
}

/// What becomes of a call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFate {
    Carried,
    /// The outcome stays unknown; the write was carried out.
    UnknownDone,
    /// The outcome stays unknown; the write may be carried out later, or never.
    UnknownLate,
}

impl CoordinatorNode {
    pub fn new(now: Time, record: Arc<CoordinatorRecord>, life: u8) -> Self {
        let core = Coordinator::new(now, record, Config::default(), u64::from(life));
        Self { core, published: None, calls: VecDeque::new(), wake: None, life }
    }
}

impl World<'_> {
    pub fn coordinator_event(&mut self, event: Event) {
        let now = self.state.now(Proc::Coordinator);
        let effects = self.coordinator().core.handle(now, event);
        let Effects { store, load, send, identify, answer: _, publish, deposed, wake } = effects;
        let node = self.coordinator();
        node.calls.extend(store.map(StoreCall::Write));
        if load {
            node.calls.push_back(StoreCall::Load);
        }
        node.wake = wake.map(|(at, _)| at);
        for outgoing in send {
            self.send_directive(outgoing);
        }
        if let Some(map) = publish {
            self.facts.push(Fact::Published { map: Arc::clone(&map) });
            self.coordinator().published = Some(map);
        }
        for url in identify {
            self.identify(url);
        }
        if deposed {
            self.break_promise("I2 map-monotone", "the only coordinator is deposed".to_owned());
        }
    }

    fn send_directive(&mut self, outgoing: Outgoing) {
        let Outgoing { shard, poll, url, directive, wait_ms, seen_incarnation, seen_seq } =
            outgoing;
        self.facts.push(Fact::DirectiveSent { directive: Box::new((*directive).clone()) });
        let Some(to) = self.gate_at(&url) else { return };
        let life = self.state.coordinator.get().life;
        let call = Call {
            from: Proc::Coordinator,
            life,
            to,
            what: What::Directive { shard, poll: Serial(poll) },
        };
        let seen = Seen { incarnation: seen_incarnation, seq: seen_seq };
        self.call(call, Message::Directive { directive, wait_ms, seen });
    }

    pub fn gate_at(&self, url: &str) -> Option<u8> {
        (0..self.state.gates.len() as u8).find(|gate| url_of(*gate) == url)
    }

    /// Who answers at a URL is asked and told in one step: only before the search begins.
    fn identify(&mut self, url: String) {
        let identity = match self.gate_at(&url) {
            Some(gate) => {
                Identity::Gate(Box::new(self.state.gates[usize::from(gate)].get().core.report()))
            }
            None => Identity::Unreachable { reason: "nobody lives there".to_owned() },
        };
        self.coordinator_event(Event::Identified { url, identity });
    }

    /// The operator asks.
    pub fn ask(&mut self, ask: Ask) {
        let deadline = self.state.now(Proc::Coordinator).plus_ms(ASK_MS);
        let asked = Asked { token: Token(0), ask, key: None, expects: None, deadline };
        self.coordinator_event(Event::Asked(Box::new(asked)));
    }

    /// The answer to a poll has arrived.
    pub fn coordinator_answered(&mut self, what: What, reply: Reply) {
        let What::Directive { shard, poll } = what else { return };
        let answer = match reply {
            Reply::Directed(Ok(report)) => PollAnswer::Report(report),
            Reply::Directed(Err(refusal)) => PollAnswer::Refused(refusal),
            _ => PollAnswer::Unreachable { reason: "no answer".to_owned() },
        };
        self.coordinator_event(Event::Reported { shard, poll: poll.0, answer });
    }

    /// The first call to the store is carried out, and its outcome is heard.
    pub fn store_step(&mut self, fate: StoreFate) {
        let Some(call) = self.coordinator().calls.pop_front() else { return };
        let event = match call {
            StoreCall::Load => {
                Event::Loaded { read: StoreRead::Found(Arc::clone(self.state.store.shared())) }
            }
            StoreCall::Write(write) => {
                let number = write.number;
                let outcome = match fate {
                    StoreFate::Carried if self.store_write(&write) => StoreOutcome::Done,
                    StoreFate::Carried => StoreOutcome::Refused,
                    StoreFate::UnknownDone | StoreFate::UnknownLate => {
                        self.state.budget.unknowns -= 1;
                        self.marks.hit(Mark::UnknownStore);
                        if write.record.map.committed() != self.state.store.get().map.committed() {
                            self.marks.hit(Mark::UnknownCommit);
                        }
                        if fate == StoreFate::UnknownDone {
                            self.store_write(&write);
                        } else {
                            self.state.late_write = Some(Node::new(LateWrite(write)));
                        }
                        StoreOutcome::Unknown
                    }
                };
                Event::Stored { write: number, outcome }
            }
        };
        self.coordinator_event(event);
    }

    pub fn late_write_arrives(&mut self) {
        if let Some(write) = self.state.late_write.take() {
            self.store_write(&write.get().0);
        }
    }

    /// Tries a write; tells the checkers what it made of the store.
    fn store_write(&mut self, write: &StoreWrite) -> bool {
        let before = Arc::clone(self.state.store.shared());
        if before.stamp() != write.expects {
            return false;
        }
        if write.record.map.committed() != before.map.committed() {
            self.tell_holdings();
        }
        self.state.store = Node::of(Arc::clone(&write.record));
        let after = &write.record;
        if after.map.version() != before.map.version() {
            self.state.maps.edit().push(Arc::clone(&after.map));
            self.state.maps.seal();
        }
        self.facts.push(Fact::Stored { decided: Box::new(decided(after)) });
        self.mark_step(&before, after);
        true
    }

    fn mark_step(&mut self, before: &CoordinatorRecord, after: &CoordinatorRecord) {
        let phase =
            |record: &CoordinatorRecord| record.transition.as_ref().map(|t| t.phase.clone());
        match (phase(before), phase(after)) {
            (Some(Phase::Fence), Some(Phase::Copy)) => self.marks.hit(Mark::BackedOut),
            (Some(Phase::Fence), Some(Phase::Sweep { .. })) => {
                self.marks.hit(Mark::Committed);
                let attempt = after.transition.as_ref().map_or(0, |running| running.attempt.0);
                if attempt > 1 {
                    self.marks.hit(Mark::RefencedCommit);
                }
            }
            (Some(Phase::Abort { .. }), None) => self.marks.hit(Mark::Aborted),
            _ => {}
        }
    }

    /// The memory is gone. `kept`: what was on its way to the store arrives.
    pub fn crash_coordinator(&mut self, kept: bool) {
        let writing = self.state.coordinator.get().calls.front().cloned();
        if let Some(StoreCall::Write(write)) = writing {
            self.marks.hit(Mark::CoordinatorCrashesWriting);
            if kept {
                self.store_write(&write);
            }
        }
        self.hang_up(Proc::Coordinator);
        let now = self.state.now(Proc::Coordinator);
        let record = Arc::clone(self.state.store.shared());
        let node = self.coordinator();
        *node = CoordinatorNode::new(now, record, node.life + 1);
        self.coordinator_event(Event::Tick);
    }
}
