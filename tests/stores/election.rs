//! Who leads on a real etcd: one at a time, and only the leader's writes are taken.

use sheaf_etcd::{EtcdElection, EtcdStore};
use sheaf_stores::{Election, Etag, Look, Store, StoreOutcome};
use sheaf_tests::{Etcd, eventually, pause_ms};

use crate::late::{Mischief, Wire};
use crate::{CALM_MS, fresh_prefix, loaded, now, options, pattern, store, stored, unique};

const LEASE_SECS: u32 = 3;
/// Milliseconds between two looks, as a coordinator takes them.
const LOOK_MS: u64 = 200;
/// Seconds until a lease has ended: its own, those in which etcd notices, and a busy machine.
const ENDS_SECS_MAX: u64 = 30;

/// A process that stands for election.
struct Candidate {
    said: String,
    store: EtcdStore,
    election: EtcdElection,
}

impl Candidate {
    fn new(url: &str, deadline_ms: u64) -> Self {
        let said = format!("candidate {}", unique());
        let options = options(url, deadline_ms);
        let (store, election) = EtcdStore::with_election(options, said.clone(), LEASE_SECS);
        Self { said, store, election }
    }

    async fn look(&self) -> Look {
        self.election.look(now()).await.unwrap_or_else(|error| panic!("{}: {error}", self.said))
    }

    /// Looks until it leads.
    async fn leads(&self) {
        eventually(&format!("{} leads", self.said), ENDS_SECS_MAX, || async {
            let look = self.election.look(now()).await;
            if self.election.leads(now()) { Ok(()) } else { Err(format!("{look:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_leads_the_others_wait_and_only_the_leader_may_write() {
    let etcd = Etcd::start(3).await;
    let url = etcd.url(&fresh_prefix());
    let (first, second) = (Candidate::new(&url, CALM_MS), Candidate::new(&url, CALM_MS));
    let outcome = first.store.compare_and_set(None, pattern(1)).await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "it doesn't stand yet: {outcome:?}");
    first.leads().await;
    assert_eq!(second.look().await.standing, [first.said.clone(), second.said.clone()]);
    assert!(!second.election.leads(now()));
    let etag = stored(&first.store, None, pattern(10)).await;
    assert_eq!(second.look().await.etag, Some(etag), "a follower sees that there is something new");
    let outcome = second.store.compare_and_set(Some(etag), pattern(20)).await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    // For far longer than a lease: looking keeps it.
    for _ in 0..(u64::from(LEASE_SECS) * 3_000 / LOOK_MS) {
        first.look().await;
        pause_ms(LOOK_MS).await;
        assert!(first.election.leads(now()), "it looks, and loses its lease");
    }
    first.election.resign().await;
    let asked = now();
    second.leads().await;
    assert!(now().ms_since(asked) < 1_000 * u64::from(LEASE_SECS), "it waited for the lease");
    let outcome = first.store.compare_and_set(Some(etag), pattern(30)).await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    stored(&second.store, Some(etag), pattern(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_looking_is_followed_and_its_late_write_is_never_applied() {
    let etcd = Etcd::start(3).await;
    let prefix = fresh_prefix();
    let wire = Wire::to(&etcd.addresses()[0]).await;
    let old = Candidate::new(&format!("etcd://{}{prefix}", wire.address), 1_500);
    let new = Candidate::new(&etcd.url(&prefix), CALM_MS);
    old.leads().await;
    let etag = stored(&old.store, None, pattern(10)).await;
    wire.set(Mischief::Late);
    let outcome = old.store.compare_and_set(Some(etag), pattern(666)).await;
    assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "{outcome:?}");
    wire.set(Mischief::None);
    new.leads().await;
    assert!(!old.election.leads(now()), "its own clock tells it");
    // What is loaded by a leader is final: the late write may arrive before the leader writes, or after.
    assert_eq!(loaded(&new.store).await.map(|loaded| loaded.etag), Some(etag));
    assert!(wire.deliver().await > 0, "a write was late");
    let found = loaded(&new.store).await.expect("a record");
    assert_eq!((found.etag, found.bytes), (etag, pattern(10)), "the late write was applied");
    stored(&new.store, Some(etag), pattern(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_not_notice_that_its_lease_is_gone_is_refused_and_told_so() {
    let etcd = Etcd::start(3).await;
    let prefix = fresh_prefix();
    let leader = Candidate::new(&etcd.url(&prefix), CALM_MS);
    leader.leads().await;
    let etag = stored(&leader.store, None, pattern(10)).await;
    etcd.ctl(&["del", "--prefix", &format!("{prefix}/leader/")]).await;
    assert!(leader.election.leads(now()), "nobody has told it");
    let outcome = leader.store.compare_and_set(Some(etag), pattern(20)).await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    assert!(!leader.election.leads(now()), "the store has seen it");
    // Whoever reads finds the old state, and it may stand again.
    assert_eq!(loaded(&store(&etcd.url(&prefix), CALM_MS)).await.map(|l| l.etag), Some(etag));
    leader.leads().await;
    stored(&leader.store, Some(etag), pattern(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_keeps_its_lease_when_its_member_dies_and_loses_it_without_a_majority() {
    let mut etcd = Etcd::start(3).await;
    let url = etcd.url(&fresh_prefix());
    let leader = Candidate::new(&url, CALM_MS);
    leader.leads().await;
    let etag: Etag = stored(&leader.store, None, pattern(10)).await;
    etcd.kill(0).await;
    let member_is_gone = now();
    while now().ms_since(member_is_gone) < 2_000 * u64::from(LEASE_SECS) {
        // One look may fail while the members elect among themselves.
        let _looked = leader.election.look(now()).await.is_ok();
        pause_ms(LOOK_MS).await;
    }
    leader.leads().await;
    etcd.kill(1).await;
    eventually("it knows that it can't be sure", ENDS_SECS_MAX, || async {
        let looked = leader.election.look(now()).await;
        if leader.election.leads(now()) { Err(format!("{looked:?}")) } else { Ok(()) }
    })
    .await;
    // Only a look takes the badge away: until then the store would ask etcd.
    let _looked = leader.election.look(now()).await.is_ok();
    let outcome = leader.store.compare_and_set(Some(etag), pattern(20)).await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    etcd.restart(0);
    etcd.restart(1);
    leader.leads().await;
    stored(&leader.store, Some(etag), pattern(30)).await;
}
