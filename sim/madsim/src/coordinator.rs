//! A coordinator's process: production's candidate on the real etcd store, asked and asking by messages.

use std::sync::Arc;
use std::time::Duration;

use sheaf_checkers::Fact;
use sheaf_coordinator::{Config, Coordinator, Identity, Outgoing, PollAnswer};
use sheaf_etcd::{EtcdAccess, EtcdAddress, EtcdOptions, EtcdStore};
use sheaf_gate::Seen;
use sheaf_runtime::coordinator::{CandidateParts, CoordinatorHost, GateReply, Gates, Peer};
use sheaf_runtime::entropy;
use sheaf_types::ClusterId;

use crate::book::Book;
use crate::net::{self, Answer, Caller, Question};
use crate::place::{ETCD_ADDRESS, coordinator_name, url};
use crate::process::Machine;
use crate::watch::{Owner, WatchedStore};

/// Milliseconds that a gate may take for what it needn't wait for, as over HTTP.
const ANSWER_MS: u64 = 1_500;
/// How long a node may take to say who it is, as over HTTP.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);
/// For one call of the store, as in production.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// The gates, by messages; each directive is written down.
struct MessageGates {
    caller: Caller,
    book: Arc<Book>,
}

impl Gates for MessageGates {
    fn direct(&self, outgoing: Outgoing) -> GateReply<'_, PollAnswer> {
        let Outgoing { url, directive, wait_ms, seen_incarnation, seen_seq, .. } = outgoing;
        self.book.fact(Fact::DirectiveSent { directive: Box::new((*directive).clone()) });
        Box::pin(async move {
            let seen = Seen { incarnation: seen_incarnation, seq: seen_seq };
            let question = Question::Direct { directive, seen, wait_ms };
            let patience = Duration::from_millis(wait_ms + ANSWER_MS);
            match self.caller.ask_at(&url, question, patience).await {
                Ok(Answer::Directed(Ok(report))) => PollAnswer::Report(report),
                Ok(Answer::Directed(Err(refusal))) => PollAnswer::Refused(refusal),
                Ok(Answer::NotReady(reason)) => PollAnswer::Unreachable { reason },
                other => PollAnswer::Unreachable { reason: format!("{other:?}") },
            }
        })
    }

    fn identify(&self, url: String) -> GateReply<'_, Identity> {
        Box::pin(async move {
            match self.caller.ask_at(&url, Question::Report, IDENTITY_TIMEOUT).await {
                Ok(Answer::Report(report)) => Identity::Gate(report),
                other => Identity::Unreachable { reason: format!("{other:?}") },
            }
        })
    }
}

/// `sheaf coordinator`
pub async fn run(machine: Machine) -> std::io::Result<()> {
    let name = coordinator_name(machine.number);
    let me = Peer { name: entropy::name(), url: url(&name), version: String::new() };
    let said = serde_json::to_string(&me)?;
    let address = EtcdAddress {
        members: vec![ETCD_ADDRESS.to_string()],
        prefix: "/sheaf".to_owned(),
        is_tls: false,
    };
    let writer = entropy::name();
    let options =
        EtcdOptions { address, access: EtcdAccess::default(), writer, deadline: STORE_DEADLINE };
    let (store, election) = EtcdStore::with_election(options, said, machine.lease_secs);
    let owner = Owner::Coordinator(machine.reigns.clone());
    let store = WatchedStore::new(store, machine.book.clone(), owner, None);
    let default = Config::default();
    let fence_budget_ms = machine.fence_budget_ms.unwrap_or(default.fence_budget_ms);
    let gates = MessageGates { caller: Caller::of(&name).await?, book: machine.book.clone() };
    let host = CoordinatorHost::stand(CandidateParts {
        clock: machine.clock(),
        store: Arc::new(store),
        election: Arc::new(election),
        kind: "etcd",
        gates: Arc::new(gates),
        config: Config { fence_budget_ms, ..default },
        new_cluster_id: ClusterId::from(entropy::name()),
    });
    machine.reigns.started(machine.number, host.standing());
    let founding = host.clone();
    tokio::spawn(async move { founding.found(machine.seeds).await });
    net::serve(&name, move |question| answer(host.clone(), question)).await
}

async fn answer(host: CoordinatorHost, question: Question) -> Answer {
    match question {
        Question::Map { after, wait_ms } => {
            let mut maps = host.maps();
            let newer = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.version() > after));
            // Whatever comes first: the answer is the map as it is then.
            let wait = Duration::from_millis(wait_ms);
            let _in_time = tokio::time::timeout(wait, newer).await.is_ok();
            match host.maps().borrow().clone() {
                Some(map) if !host.look(Coordinator::is_deposed) => Answer::Map(map),
                _ => Answer::NotReady("this coordinator has no map".to_owned()),
            }
        }
        Question::Ask(message) => {
            let deadline = host.clock().now().plus_ms(message.timeout_ms);
            let (ask, key) = (message.ask.clone(), message.key.clone());
            Answer::Asked(host.ask(ask, key, message.expects, deadline).await)
        }
        other => Answer::NotReady(format!("no question for a coordinator: {other:?}")),
    }
}
