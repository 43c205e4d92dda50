//! Several coordinators on one store: one leads, the others follow, and whoever can't be sure decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sheaf_coordinator::Config;
use sheaf_runtime::Clock;
use sheaf_runtime::coordinator::{CandidateParts, CoordinatorHost, Gates, NotDone, Standing};
use sheaf_stores::{
    Etag, Loaded, MemoryElection, MemoryStore, Polls, Reply, Store, StoreError, StoreOutcome,
};
use sheaf_types::{ClusterId, Term, Time};
use tokio::time::sleep;

use crate::gates::{ModelGates, me, until, url};
use crate::{ask, grow, ids};

const LEASE_MS: u64 = 3_000;
const LEASE: Duration = Duration::from_millis(LEASE_MS);

/// What the coordinators have in common.
struct Shared {
    store: Arc<MemoryStore>,
    polls: Polls,
    gates: Arc<ModelGates>,
    clock: Clock,
}

impl Shared {
    fn new() -> Self {
        let clock = Clock::starting_at(Time(1_000_000));
        let (store, polls) = (Arc::new(MemoryStore::new()), Polls::new(move || clock.now()));
        Self { store, polls, gates: ModelGates::new(4), clock }
    }

    fn stand(&self, name: &str) -> (CoordinatorHost, Arc<AtomicBool>) {
        self.stand_with(name, |store| store)
    }

    /// `through`: what it has between itself and its store.
    fn stand_with(
        &self,
        name: &str,
        through: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> (CoordinatorHost, Arc<AtomicBool>) {
        let said = serde_json::to_string(&me(name)).unwrap();
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let is_cut_off = Arc::new(AtomicBool::new(false));
        let election =
            MemoryElection::new(&self.polls, store, said, LEASE_MS, Arc::clone(&is_cut_off));
        let host = CoordinatorHost::stand(CandidateParts {
            clock: self.clock,
            store: through(election.store()),
            election: Arc::new(election),
            kind: "memory",
            gates: Arc::clone(&self.gates) as Arc<dyn Gates>,
            config: Config::default(),
            new_cluster_id: ClusterId::from("c"),
        });
        (host, is_cut_off)
    }

    /// A founded cluster of nodes 1 and 2 with a leader, and one that follows it.
    async fn cluster(&self) -> [(CoordinatorHost, Arc<AtomicBool>); 2] {
        let first = self.stand("first");
        first.0.found(vec![url(1), url(2)]).await;
        let second = self.stand("second");
        stands(&second.0, |standing| standing.leader == Some(me("first"))).await;
        [first, second]
    }
}

/// A store that answers a load late.
struct SlowLoads(Arc<dyn Store>, Duration);

impl Store for SlowLoads {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            sleep(self.1).await;
            self.0.load().await
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.0.compare_and_set(expected, bytes)
    }
}

/// Waits until it stands so.
async fn stands(host: &CoordinatorHost, so: impl FnMut(&Standing) -> bool) {
    host.standing().wait_for(so).await.unwrap();
}

async fn leads(host: &CoordinatorHost) {
    stands(host, |standing| standing.leads).await;
    host.maps().wait_for(Option::is_some).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_follower_decides_nothing_and_shows_what_the_leader_decides() {
    let shared = Shared::new();
    let [(first, _), (second, _)] = shared.cluster().await;
    until(&second, |record| record.map.shards().len() == 2).await;
    assert_eq!(ask(&second, grow(3)).await, Err(NotDone::NotLeading));
    let mut maps = second.maps();
    ask(&first, grow(3)).await.unwrap();
    let newer = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.shards().len() == 3));
    tokio::time::timeout(Duration::from_secs(20), newer).await.expect("it hears of it").unwrap();
    assert_eq!((ids(&second), second.look(|core| core.record().term)), (vec![1, 2, 3], Term(1)));
    let standing = second.standing().borrow().clone();
    assert_eq!((standing.leads, standing.followers), (false, vec![me("second")]));
}

#[tokio::test(start_paused = true)]
async fn when_a_leader_stops_the_next_one_goes_on_with_its_transition_at_once() {
    let shared = Shared::new();
    let [(first, _), (second, _)] = shared.cluster().await;
    ask(&first, grow(3)).await.unwrap();
    first.stop();
    first.stopped().await;
    tokio::time::timeout(LEASE / 2, leads(&second)).await.expect("it needn't wait for the lease");
    until(&second, |record| record.ended.len() == 1).await;
    assert_eq!((ids(&second), second.look(|core| core.record().term)), (vec![1, 2, 3], Term(2)));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_loads_for_longer_than_a_lease_costs_nobody_the_lead() {
    let shared = Shared::new();
    let load = 2 * LEASE;
    let first = shared.stand("first").0;
    first.found(vec![url(1), url(2)]).await;
    let slowly = |store| Arc::new(SlowLoads(store, load)) as Arc<dyn Store>;
    let second = shared.stand_with("second", slowly).0;
    stands(&second, |standing| standing.leader == Some(me("first"))).await;
    sleep(load - LEASE / 2).await;
    let others = first.standing().borrow().followers.clone();
    assert_eq!(others, vec![me("second")], "it stands while it reads what it shows");
    first.stop();
    first.stopped().await;
    let begins = until(&second, |record| record.term == Term(2));
    tokio::time::timeout(3 * load, begins).await.expect("its first load is enough");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_from_the_store_steps_down_by_itself_and_follows_later() {
    let shared = Shared::new();
    let [(first, of_first), (second, _)] = shared.cluster().await;
    of_first.store(true, Ordering::SeqCst);
    stands(&first, |standing| !standing.leads).await;
    assert_eq!(ask(&first, grow(3)).await, Err(NotDone::NotLeading));
    let standing = first.standing().borrow().clone();
    assert!(standing.leader.is_none() && standing.store.trouble.is_some(), "{standing:?}");
    assert_eq!(ids(&first), [1, 2], "it still serves its map");
    leads(&second).await;
    ask(&second, grow(3)).await.unwrap();
    until(&second, |record| record.ended.len() == 1).await;
    of_first.store(false, Ordering::SeqCst);
    stands(&first, |standing| standing.leader == Some(me("second"))).await;
    until(&first, |record| record.map.shards().len() == 3).await;
    // And back again: whoever has led before may lead again.
    second.stop();
    leads(&first).await;
    until(&first, |record| record.term == Term(3)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_leader_that_loses_its_lease_is_of_unknown_outcome_and_not_refused() {
    let shared = Shared::new();
    let [(first, of_first), (second, _)] = shared.cluster().await;
    of_first.store(true, Ordering::SeqCst);
    // It has been taken up, and can't be stored.
    assert_eq!(ask(&first, grow(3)).await, Err(NotDone::Unknown));
    leads(&second).await;
    assert_eq!(ids(&second), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nobody_leads_and_all_goes_on_when_it_is_back() {
    let shared = Shared::new();
    let [(first, of_first), (second, of_second)] = shared.cluster().await;
    ask(&first, grow(3)).await.unwrap();
    for election in [&of_first, &of_second] {
        election.store(true, Ordering::SeqCst);
    }
    sleep(10 * LEASE).await;
    for host in [&first, &second] {
        assert!(!host.standing().borrow().leads);
        assert_eq!(ask(host, grow(4)).await, Err(NotDone::NotLeading));
    }
    for election in [&of_first, &of_second] {
        election.store(false, Ordering::SeqCst);
    }
    let record = |host: &CoordinatorHost| host.look(|core| Arc::clone(core.record()));
    while record(&first).ended.is_empty() || record(&second).ended.is_empty() {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((ids(&first), ids(&second)), (vec![1, 2, 3], vec![1, 2, 3]));
}
