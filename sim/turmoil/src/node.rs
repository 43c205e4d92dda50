//! The cluster's processes: production's parts, put together as production does, on simulated hardware.
//!
//! Decides when a process that doesn't start is started again, and which reasons for not starting break a promise.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sheaf_coordinator::Config;
use sheaf_engines::embedded::Work;
use sheaf_engines::{Embedded, EmbeddedOptions, Engine, EngineError};
use sheaf_http::auth::Keys;
use sheaf_http::coordinator::{CoordinatorApiParts, HttpGates, coordinator};
use sheaf_http::gate::{HttpPeers, gate};
use sheaf_http::router::{Coordinators, RouterParts, router};
use sheaf_runtime::coordinator::{
    CandidateParts, CoordinatorHost, CoordinatorOpenError, CoordinatorParts, Peer,
};
use sheaf_runtime::gate::{GateHost, GateParts, OpenError};
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_runtime::{Clock, entropy};
use sheaf_stores::{FileStore, MemoryElection, MemoryStore, Polls, Store, StoreError};
use sheaf_types::{ClusterId, Time};

use crate::book::Book;
use crate::disk::{EngineDisk, Folder, Hardware};
use crate::net;
use crate::older::OlderStore;
use crate::slow::{Pace, SlowEngine};
use crate::watch::{AtGate, Owner, WatchedGates, WatchedStore, at_gate};

/// The wall clock when a run begins.
const ORIGIN_MS: u64 = 1_700_000_000_000;
/// Between a start that failed and the next one, as a service manager would have it.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// Milliseconds for which a leader of several coordinators leads on that is gone.
const LEASE_MS: u64 = 3_000;
/// Bytes of pages that redb keeps in memory: little, so that the disk is asked.
const CACHE_BYTES: usize = 256 * 1024;

/// What a process is started with, each time.
#[derive(Clone)]
pub struct Machine {
    pub book: Arc<Book>,
    pub number: u32,
    /// How far its wall clock is ahead.
    pub skew_ms: u64,
    pub hardware: Arc<Hardware>,
    pub pace: Arc<Pace>,
    /// The URLs of all coordinators.
    pub coordinators: Vec<String>,
    /// What several coordinators share; `None`: there is one.
    pub shared: Option<Shared>,
    /// The shards that a new cluster begins with.
    pub seeds: Vec<String>,
    pub fence_budget_ms: Option<u64>,
    /// Before each start the version of Sheaf before this one has run.
    pub is_upgraded: bool,
    /// Directives leave out whatever a gate knows, as those of large maps do.
    pub has_short_directives: bool,
    /// Loads of what that has written.
    pub older_records: Arc<AtomicU64>,
}

/// The store of several coordinators, and their election: on none of their machines.
#[derive(Clone)]
pub struct Shared {
    store: Arc<MemoryStore>,
    polls: Polls,
    /// One machine can't reach it.
    is_away: Arc<AtomicBool>,
}

impl Shared {
    pub fn new() -> Self {
        let polls = Polls::new(|| Time(ORIGIN_MS + since_ms()));
        Self { store: Arc::default(), polls, is_away: Arc::default() }
    }

    /// The same store, as one machine has it.
    pub fn for_one(&self) -> Self {
        Self { is_away: Arc::default(), ..self.clone() }
    }
}

fn since_ms() -> u64 {
    turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64
}

/// Why a process doesn't run.
#[derive(Debug)]
pub enum Failure {
    /// Started again later it may run.
    Later(String),
    /// It found something that can't be, whatever happened to its disk.
    Damaged(String),
}

fn later(reason: impl Display) -> Failure {
    Failure::Later(reason.to_string())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(what) => Self::Damaged(what),
            StoreError::Unavailable(what) | StoreError::InUse(what) => Self::Later(what),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Damaged(what) => Self::Damaged(what),
            other => later(other),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Ledger(error) => error.into(),
            OpenError::Engine(error) => error.into(),
            OpenError::LedgerNotStored(error) => later(error),
            OpenError::LedgerForm { .. } | OpenError::LedgerLost { .. } => {
                Self::Damaged(error.to_string())
            }
        }
    }
}

impl From<CoordinatorOpenError> for Failure {
    fn from(error: CoordinatorOpenError) -> Self {
        match error {
            CoordinatorOpenError::Store(error) => error.into(),
            CoordinatorOpenError::Record(_) => Self::Damaged(error.to_string()),
        }
    }
}

/// Runs a process for as long as its host is on.
pub async fn run<F>(machine: Machine, start: impl Fn(Machine) -> F) -> turmoil::Result
where
    F: Future<Output = Result<(), Failure>>,
{
    let counts = &machine.book.counts;
    loop {
        counts.boots.fetch_add(1, Ordering::SeqCst);
        match start(machine.clone()).await {
            Ok(()) => return Ok(()),
            Err(Failure::Later(reason)) => {
                tracing::warn!(target: "sheaf_turmoil", reason, "doesn't start");
            }
            Err(Failure::Damaged(reason)) => {
                machine.book.broken("I5 durable", format!("a node doesn't start: {reason}"));
            }
        }
        counts.failed_boots.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

impl Machine {
    fn clock(&self) -> Clock {
        Clock::starting_at(Time(ORIGIN_MS + self.skew_ms + since_ms()))
    }

    /// From now on this coordinator doesn't reach the shared store, or does again.
    pub fn store_away(&self, is_away: bool) {
        if let Some(shared) = &self.shared {
            shared.is_away.store(is_away, Ordering::SeqCst);
        }
    }

    /// This coordinator's record, as the version before wrote it if that has run until now.
    fn upgraded<S: Store>(&self, inner: S) -> Arc<OlderStore<S>> {
        let (is_older, count) = (self.is_upgraded, Arc::clone(&self.older_records));
        Arc::new(OlderStore { inner, is_older, count })
    }

    fn store(&self, name: &str, owner: Owner) -> Result<WatchedStore<FileStore<Folder>>, Failure> {
        let folder = Folder::open(self.hardware.plug()).map_err(later)?;
        let store = FileStore::open(folder, name)?;
        Ok(WatchedStore::new(store, Arc::clone(&self.book), owner))
    }
}

/// `sheaf coordinator`
pub async fn coordinator_process(machine: Machine) -> Result<(), Failure> {
    let transport = Arc::new(net::transport());
    let mut gates = HttpGates::new(transport.clone(), None);
    if machine.has_short_directives {
        gates = gates.with_whole_maps_up_to(0);
    }
    let gates = Arc::new(WatchedGates { inner: gates, book: Arc::clone(&machine.book) });
    let default = Config::default();
    let fence_budget_ms = machine.fence_budget_ms.unwrap_or(default.fence_budget_ms);
    let config = Config { fence_budget_ms, ..default };
    let (clock, new_cluster_id) = (machine.clock(), ClusterId::from(entropy::name()));
    let url = machine.coordinators[machine.number as usize].clone();
    let me = Peer { name: entropy::name(), url, version: String::new() };
    let host = match &machine.shared {
        None => {
            let store = machine.upgraded(machine.store("coordinator", Owner::Coordinator)?);
            let (kind, seed) = ("file", entropy::seed());
            let parts =
                CoordinatorParts { clock, store, kind, gates, config, new_cluster_id, me, seed };
            CoordinatorHost::open(parts).await?
        }
        Some(shared) => {
            let Shared { store, polls, is_away } = shared.clone();
            let book = Arc::clone(&machine.book);
            let said = serde_json::to_string(&me).map_err(later)?;
            let election = MemoryElection::new(&polls, store, said, LEASE_MS, is_away);
            let store = WatchedStore::new(election.clone(), book, Owner::Coordinator);
            let store = machine.upgraded(store);
            let (election, kind) = (Arc::new(election), "memory");
            let parts =
                CandidateParts { clock, store, election, kind, gates, config, new_cluster_id };
            CoordinatorHost::stand(parts)
        }
    };
    let founding = host.clone();
    let seeds = machine.seeds.clone();
    tokio::spawn(async move { founding.found(seeds).await });
    let parts = CoordinatorApiParts { host, transport, keys: Keys::open(), authorization: None };
    net::serve(coordinator(parts)).await.map_err(later)
}

/// `sheaf shard`
pub async fn shard_process(machine: Machine) -> Result<(), Failure> {
    let ledger = machine.store("ledger", Owner::Gate(machine.number))?;
    let mut options = EmbeddedOptions::on(Arc::new(EngineDisk(machine.hardware.plug())));
    options.work = Work::Inline;
    options.cache_bytes = CACHE_BYTES;
    let engine = SlowEngine { inner: Embedded::open(options)?, pace: Arc::clone(&machine.pace) };
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let transport = Arc::new(net::transport());
    let peers = HttpPeers::new(transport, &machine.coordinators, None).map_err(later)?;
    let host = GateHost::open(GateParts {
        clock: machine.clock(),
        ledger: Arc::new(ledger),
        engine,
        peers: Arc::new(peers),
        new_store_id: entropy::store_id(),
    });
    let routes = gate(host.await?, Keys::open());
    let at = AtGate { book: Arc::clone(&machine.book), node: machine.number };
    let routes = routes.layer(axum::middleware::from_fn_with_state(at, at_gate));
    net::serve(routes).await.map_err(later)
}

/// `sheaf router`
pub async fn router_process(machine: Machine) -> Result<(), Failure> {
    let transport = Arc::new(net::transport());
    let coordinators = Coordinators::new(transport.clone(), &machine.coordinators, None);
    let coordinators = coordinators.map_err(later)?;
    let source = Arc::new(coordinators.clone());
    let options = KeeperOptions::default();
    let (host, keeper) = RouterHost::new(machine.clock(), source, options, entropy::seed());
    tokio::spawn(keeper);
    machine.book.router_started(machine.number, host.clone());
    let parts = RouterParts {
        host,
        transport,
        coordinators,
        keys: Keys::open(),
        peer_key: None,
        models: Default::default(),
    };
    net::serve(router(parts).map_err(later)?).await.map_err(later)
}
