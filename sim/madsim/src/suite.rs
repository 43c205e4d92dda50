//! The suite that every store passes, on the simulated etcd: one handle, two that fight, and writes whose fate nobody knows.
//!
//! Panics with a sentence when the store breaks its promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use madsim::time::Instant;
use sheaf_etcd::{EtcdAccess, EtcdAddress, EtcdOptions, EtcdStore};
use sheaf_stores::conformance::{self, Doubtful};
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

use crate::dice::{Dice, Purpose};
use crate::etcd::Etcd;
use crate::place::{CLIENTS, ETCD, ETCD_ADDRESS, ip};

/// For one call of the store.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a late message is under way: its author has given up by then.
const LATE: Duration = Duration::from_secs(4);
/// How long any other one is.
const LATENCY: Duration = Duration::from_millis(4);
/// Records on each of which four writes get no answer.
const RECORDS_IN_DOUBT: u64 = 8;

/// The network between the store and etcd.
#[derive(Clone)]
struct Wire {
    net: Arc<NetSim>,
    etcd: NodeId,
    client: NodeId,
}

/// Runs the whole suite; says what was done. To be called in the simulation.
pub async fn run(seed: u64) -> String {
    let handle = Handle::current();
    let etcd = Etcd::default();
    let server = handle.create_node().name(ETCD).ip(ip(ETCD));
    let server = server.init(move || etcd.clone().run()).build();
    let client = handle.create_node().name(CLIENTS).ip(ip(CLIENTS)).build();
    let wire = Wire { net: NetSim::current(), etcd: server.id(), client: client.id() };
    wire.set_latency(LATENCY);
    client.spawn(suite(wire, seed)).await.expect("the suite runs to its end")
}

async fn suite(wire: Wire, seed: u64) -> String {
    let records = AtomicU64::new(0);
    let fresh = || format!("/suite/{}", records.fetch_add(1, Ordering::Relaxed));
    conformance::run(|| store(&fresh(), "only")).await;
    let both = fresh();
    conformance::two_handles_never_both_win(&store(&both, "one"), &store(&both, "other")).await;
    let (mut late, mut unanswered) = (0, 0);
    for record in 0..RECORDS_IN_DOUBT {
        let dice = Mutex::new(Dice::new(seed, Purpose::Client(record)));
        let store = store(&fresh(), "in-doubt");
        let (wire, counts) = (wire.clone(), [AtomicU64::new(0), AtomicU64::new(0)]);
        let behind = BehindWire { store, wire, dice, counts };
        conformance::a_load_decides_what_was_in_doubt(&behind).await;
        late += behind.counts[0].load(Ordering::Relaxed);
        unanswered += behind.counts[1].load(Ordering::Relaxed);
    }
    format!(
        "the store on the simulated etcd conforms: one handle, two handles, {late} late writes, {unanswered} without an answer"
    )
}

fn store(prefix: &str, writer: &str) -> EtcdStore {
    let members = vec![ETCD_ADDRESS.to_string()];
    let address = EtcdAddress { members, prefix: prefix.to_owned(), is_tls: false };
    let (access, writer) = (EtcdAccess::default(), writer.to_owned());
    EtcdStore::new(EtcdOptions { address, access, writer, deadline: DEADLINE })
}

impl Wire {
    fn set_latency(&self, latency: Duration) {
        let range = latency..latency + Duration::from_nanos(1);
        self.net.update_config(|config| config.send_latency = range);
    }
}

/// A store of which one write can be late, or its answer be lost.
struct BehindWire {
    store: EtcdStore,
    wire: Wire,
    dice: Mutex<Dice>,
    /// Late writes, and those without an answer.
    counts: [AtomicU64; 2],
}

impl Store for BehindWire {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        self.store.load()
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.store.compare_and_set(expected, bytes)
    }
}

impl Doubtful for BehindWire {
    fn write_in_doubt(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        let is_late = self.dice.lock().unwrap_or_else(PoisonError::into_inner).chance(0.5);
        self.counts[usize::from(!is_late)].fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let Wire { net, etcd, client } = &self.wire;
            // So that the write needn't read first: a read without an answer would leave nothing in doubt.
            let begun = Instant::now();
            let known = self.store.load().await.expect("nothing is cut yet");
            assert_eq!(known.map(|known| known.etag), expected, "nobody else writes");
            let write = self.store.compare_and_set(expected, bytes);
            let cut = async {
                if expected.is_none() {
                    // The first write of a store asks for leftovers before, which takes as long as this read of nothing.
                    tokio::time::sleep(begun.elapsed()).await;
                }
                match is_late {
                    true => self.wire.set_latency(LATE),
                    false => net.clog_link(*etcd, *client),
                }
            };
            let (outcome, ()) = tokio::join!(write, cut);
            self.wire.set_latency(LATENCY);
            net.unclog_link(*etcd, *client);
            outcome
        })
    }

    fn deliver(&self) -> Reply<'_, ()> {
        Box::pin(tokio::time::sleep(2 * LATE))
    }
}
