//! The beginning of a search: a cluster that was founded, filled and asked to change, by the same steps, nothing going wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use sheaf_checkers::Stamp;
use sheaf_coordinator::{Ask, AskedOptions, CoordinatorRecord, NewShard};
use sheaf_map::{Placement, Weight};
use sheaf_types::{
    ClusterId, CollectionConfig, CollectionId, IndexKind, Metric, PointId, ShardId, Time,
};

use crate::coordinator::CoordinatorNode;
use crate::gate::{COLLECTION, GateNode, url_of};
use crate::marks::Marks;
use crate::model::{Action, Search, ordinary};
use crate::node::Node;
use crate::register::Register;
use crate::router::RouterNode;
use crate::scope::{Budget, Change, Id, Scope};
use crate::state::{Client, Clients, State};
use crate::wire::Work;
use crate::world::{Cluster, World};

/// Gates in every scope.
const GATES: u8 = 3;
/// Steps that the beginning may take.
const STEPS_MAX: u32 = 2_000;

/// Prepares a search.
///
/// # Errors
/// The cluster doesn't come up: a mistake in this crate, or in a core.
pub fn prepare(scope: &Scope) -> anyhow::Result<Search> {
    let quiet =
        Scope { clients: &[], budget: Budget::default(), split_reads: false, ..scope.clone() };
    let cluster = Cluster { ids: ids(scope)?, collection: CollectionId(1) };
    let first = empty(&cluster);
    let mut setup = Search { scope: quiet, cluster, first, marks: Marks::default() };
    let mut state = setup.first.clone();
    state.coordinator.edit(); // Its term isn't written yet.
    state = step(&setup, &state, |world| world.coordinator_event(sheaf_coordinator::Event::Tick));
    state = settle(&setup, state)?;
    let founders = match scope.change {
        Change::Grow => 2,
        Change::Drain => GATES,
    };
    let shards = (0..founders).map(|gate| NewShard::at(&url_of(gate))).collect();
    state = step(&setup, &state, |world| world.ask(Ask::AddShards { shards }));
    state = settle(&setup, state)?;
    state = step(&setup, &state, |world| world.ask(Ask::CreateCollection { config: config() }));
    state = settle(&setup, state)?;
    state = fill(&setup, state)?;
    let options = AskedOptions::default();
    let ask = match scope.change {
        Change::Grow => Ask::Grow { shards: vec![NewShard::at(&url_of(GATES - 1))], options },
        Change::Drain => Ask::Drain { shard: ShardId(u64::from(GATES)), options },
    };
    state = step(&setup, &state, |world| world.ask(ask));
    ensure!(state.store.get().transition.is_none(), "the transition began before the search");
    setup.first = begin(scope, state);
    setup.scope = scope.clone();
    setup.marks = Marks::default();
    Ok(setup)
}

/// The state in which the search begins: what happened before is forgotten, but for the cluster itself.
fn begin(scope: &Scope, mut state: State) -> State {
    let calls = scope.clients.iter().map(|ops| ops.len()).sum();
    let registers = (1..=scope.ids.len()).map(|n| Register::new(Some(n as Stamp), calls)).collect();
    let clients = vec![Client::default(); scope.clients.len()];
    state.clients = Node::new(Clients { clients, registers });
    state.router.edit().scripts = scope.clients.iter().map(|ops| ops.len()).collect();
    state.router.seal();
    state.budget = scope.budget;
    state.quiet = 0;
    state
}

fn config() -> CollectionConfig {
    CollectionConfig {
        name: COLLECTION.to_owned(),
        dim: 1,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: Vec::new(),
        multivector: None,
        vector_encryption: Default::default(),
    }
}

/// Points of which each has its part in the change: shards 1 and 2 on one side, 1, 2 and 3 on the other.
fn ids(scope: &Scope) -> anyhow::Result<BTreeMap<Id, PointId>> {
    let placement = |shards: u64| Placement::new((1..=shards).map(|id| (ShardId(id), Weight::ONE)));
    let (two, three) = (placement(2), placement(3));
    let mut ids = BTreeMap::new();
    for id in scope.ids {
        let wanted = match id {
            Id::A => (1, 3),
            Id::B => (2, 3),
            Id::C => (1, 1),
        };
        let name =
            (0..1_000).map(|n| PointId::from(format!("{id:?}{n}").to_lowercase())).find(|name| {
                let key = name.placement_key();
                let owners = (two.owner(key), three.owner(key));
                owners == (Some(ShardId(wanted.0)), Some(ShardId(wanted.1)))
            });
        ids.insert(*id, name.with_context(|| format!("no id is placed as {id:?}"))?);
    }
    Ok(ids)
}

/// New nodes, and a new coordinator that hasn't said anything.
fn empty(cluster: &Cluster) -> State {
    let record = Arc::new(CoordinatorRecord::new(ClusterId::from("model")));
    let now = Time(1_000_000);
    let map = Arc::clone(&record.map);
    let router = RouterNode {
        map: Arc::clone(&map),
        running: BTreeMap::new(),
        scripts: Vec::new(),
        life: 0,
    };
    let registers = vec![Register::new(None, cluster.ids.len()); cluster.ids.len()];
    State {
        clock_ms: 0,
        ahead_ms: vec![0; 2 + usize::from(GATES)],
        coordinator: Node::new(CoordinatorNode::new(now, Arc::clone(&record), 0)),
        router: Node::new(router),
        gates: (0..GATES).map(|gate| Node::new(GateNode::new(gate, now))).collect(),
        store: Node::of(record),
        late_write: None,
        maps: Node::new(vec![map]),
        open: BTreeSet::new(),
        flights: BTreeMap::new(),
        clients: Node::new(Clients { clients: Vec::new(), registers }),
        budget: Budget::default(),
        quiet: 0,
        broken: None,
    }
}

/// Has each point written by a client.
fn fill(setup: &Search, mut state: State) -> anyhow::Result<State> {
    state.clients.edit().clients = vec![Client::default(); setup.cluster.ids.len()];
    state.clients.seal();
    state.router.edit().scripts = vec![0; setup.cluster.ids.len()];
    state.router.seal();
    for (number, id) in (0u8..).zip(setup.cluster.ids.values()) {
        let stamp = Stamp::from(number) + 1;
        let work = Work::Put(vec![(id.clone(), stamp)]);
        state = step(setup, &state, |world| world.begin(number, number, work));
        state = settle(setup, state)?;
    }
    Ok(state)
}

fn step(setup: &Search, state: &State, change: impl FnOnce(&mut World<'_>)) -> State {
    let mut world = World::new(&setup.scope, &setup.cluster, &setup.marks, state.clone());
    change(&mut world);
    world.end(state)
}

/// Lets everything happen that happens by itself, the first thing first, until all is done.
fn settle(setup: &Search, mut state: State) -> anyhow::Result<State> {
    for _ in 0..STEPS_MAX {
        let mut actions = Vec::new();
        ordinary(&state, &mut actions);
        let settled = actions.is_empty() && state.is_done();
        if let Some(broken) = &state.broken {
            bail!("the cluster doesn't come up: {}: {}", broken.label, broken.text);
        }
        if settled {
            state.quiet = 0;
            return Ok(state);
        }
        let action = actions.first().copied().unwrap_or(Action::TimePasses);
        state = setup.perform(&state, action);
    }
    bail!("the cluster isn't settled after {STEPS_MAX} steps: {:?}", state.store.get().transition)
}
