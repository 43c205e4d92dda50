//! Model gates behind the port of a coordinator's shell: they do what they are told, in memory.
#![allow(dead_code, reason = "each test uses another part of it")]

#[path = "../../../sheaf-coordinator/tests/coordinator/world/gate.rs"]
pub mod model;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::ModelGate;
use sheaf_coordinator::{Config, CoordinatorRecord, Identity, Outgoing, PollAnswer};
use sheaf_runtime::Clock;
use sheaf_runtime::coordinator::{CoordinatorHost, CoordinatorParts, GateReply, Gates, Peer};
use sheaf_stores::{MemoryStore, Store};
use sheaf_types::{ClusterId, Time};

/// Milliseconds between two looks at whether a gate has news.
const LOOK_MS: u64 = 5;

pub fn url(n: u64) -> String {
    format!("http://node-{n}:7000")
}

/// Nodes in memory.
pub struct ModelGates(Mutex<BTreeMap<String, ModelGate>>);

impl ModelGates {
    /// Nodes 1 to `n`.
    pub fn new(n: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new((1..=n).map(|n| (url(n), ModelGate::new(n))).collect())))
    }

    /// Changes a node.
    pub fn with<T>(&self, n: u64, change: impl FnOnce(&mut ModelGate) -> T) -> T {
        change(self.0.lock().unwrap().get_mut(&url(n)).unwrap())
    }

    fn identity(&self, url: &str) -> Identity {
        match self.0.lock().unwrap().get_mut(url).filter(|gate| gate.alive) {
            Some(gate) => Identity::Gate(Box::new(gate.report())),
            None => Identity::Unreachable { reason: "nobody listens".to_owned() },
        }
    }

    /// The end of a poll, `None` while there is no news.
    fn look(&self, outgoing: &Outgoing, first: bool, last: bool) -> Option<PollAnswer> {
        let mut gates = self.0.lock().unwrap();
        let Some(gate) = gates.get_mut(&outgoing.url).filter(|gate| gate.alive) else {
            return Some(PollAnswer::Unreachable { reason: "nobody listens".to_owned() });
        };
        if first && let Err(refusal) = gate.follow(&outgoing.directive) {
            return Some(PollAnswer::Refused(refusal));
        }
        let alive = gates.values_mut().filter(|gate| gate.alive);
        let seals: Vec<_> = alive.flat_map(ModelGate::work).collect();
        for (recipient, seal) in seals {
            let gate = gates.values_mut().find(|gate| gate.shard() == Some(recipient));
            if let Some(gate) = gate {
                gate.receive(seal);
            }
        }
        let gate = gates.get_mut(&outgoing.url)?;
        let news = gate.has_news(outgoing.seen_incarnation, outgoing.seen_seq);
        (news || last).then(|| PollAnswer::Report(Box::new(gate.report())))
    }
}

impl Gates for ModelGates {
    fn direct(&self, outgoing: Outgoing) -> GateReply<'_, PollAnswer> {
        Box::pin(async move {
            let looks = outgoing.wait_ms / LOOK_MS;
            for look in 0.. {
                if let Some(answer) = self.look(&outgoing, look == 0, look >= looks) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
            unreachable!("the last look always answers")
        })
    }

    fn identify(&self, url: String) -> GateReply<'_, Identity> {
        Box::pin(async move { self.identity(&url) })
    }
}

/// What a coordinator of this name says of itself.
pub fn me(name: &str) -> Peer {
    Peer { name: name.to_owned(), url: format!("http://{name}:7600"), version: "0".to_owned() }
}

/// A coordinator on this store and these gates.
pub async fn open(store: &Arc<MemoryStore>, gates: &Arc<ModelGates>, seed: u64) -> CoordinatorHost {
    let parts = CoordinatorParts {
        clock: Clock::starting_at(Time(1_000_000)),
        store: Arc::clone(store) as Arc<dyn Store>,
        kind: "memory",
        gates: Arc::clone(gates) as Arc<dyn Gates>,
        config: Config::default(),
        new_cluster_id: ClusterId::from("c"),
        me: me("only"),
        seed,
    };
    CoordinatorHost::open(parts).await.unwrap()
}

/// Waits until this is so of the record.
pub async fn until(host: &CoordinatorHost, holds: impl Fn(&CoordinatorRecord) -> bool) {
    for _ in 0..100_000 {
        if host.look(|core| holds(core.record())) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    panic!("it never is so: {:#?}", host.look(|core| core.status()));
}
