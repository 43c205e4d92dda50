//! Keeps the newest map: one long poll after the other, at whichever coordinator answers.
//!
//! Decides which of two maps is kept: never an older one, never one of another cluster.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sheaf_map::Map;
use sheaf_types::{ClusterId, MapVersion};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Wishes;

/// A map, when it comes.
pub type MapReply<'a> = Pin<Box<dyn Future<Output = Result<Map, String>> + Send + 'a>>;

/// Where maps come from: the coordinators, numbered from 0.
pub trait MapSource: Send + Sync + 'static {
    /// How many coordinators there are; at least one.
    fn coordinators(&self) -> usize;

    /// The coordinator's current map: at once if it is newer than `after`, otherwise when it is, or when `wait` is
    /// over. Ends by itself soon after `wait`.
    ///
    /// # Errors
    /// The coordinator can't be asked or has no map; the text says why.
    fn map(&self, coordinator: usize, after: MapVersion, wait: Duration) -> MapReply<'_>;
}

/// How the keeper asks.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// How long a poll may wait for news.
    pub poll: Duration,
    /// After a coordinator could not be asked: the shortest and the longest pause. Doubled in between.
    pub backoff: (Duration, Duration),
    /// The cluster that the maps must be of; `None`: that of the first map.
    pub cluster_id: Option<ClusterId>,
    /// Whether nobody is asked for a map before a request needs one.
    pub on_demand: bool,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(20),
            backoff: (Duration::from_millis(20), Duration::from_secs(2)),
            cluster_id: None,
            on_demand: false,
        }
    }
}

pub(super) struct Keeper {
    source: Arc<dyn MapSource>,
    options: KeeperOptions,
    /// Which coordinator is asked next.
    coordinator: usize,
    /// Questions in a row that brought no map.
    failures: u32,
    jitter: u64,
    map: watch::Sender<Option<Arc<Map>>>,
    wishes: watch::Receiver<Wishes>,
    looked: watch::Sender<u64>,
}

impl Keeper {
    pub(super) fn new(
        source: Arc<dyn MapSource>,
        options: KeeperOptions,
        seed: u64,
        map: watch::Sender<Option<Arc<Map>>>,
        wishes: watch::Receiver<Wishes>,
        looked: watch::Sender<u64>,
    ) -> Self {
        let jitter = seed | 1;
        Self { source, options, coordinator: 0, failures: 0, jitter, map, wishes, looked }
    }

    /// Runs until its router is gone.
    pub(super) async fn run(mut self) {
        if self.options.on_demand && self.wishes.changed().await.is_err() {
            return;
        }
        while !self.map.is_closed() {
            let wishes = *self.wishes.borrow_and_update();
            let answer = self.ask(wishes).await;
            match answer.map(|answer| answer.and_then(|map| self.adopt(map))) {
                Some(Ok(())) => {
                    self.failures = 0;
                    self.looked.send_replace(wishes.look);
                    if self.version() < wishes.version {
                        // This coordinator doesn't know what a gate knows; another might.
                        self.coordinator += 1;
                        self.pause().await;
                    }
                }
                Some(Err(reason)) => {
                    self.failures = self.failures.saturating_add(1);
                    // Once for each outage, not once for each try.
                    if self.failures as usize == self.source.coordinators() {
                        warn!(%reason, "no coordinator gives a map that can be used; the known one stays in use");
                    }
                    self.coordinator += 1;
                    self.pause().await;
                }
                None => {} // Something is wanted that this poll didn't know of.
            }
        }
    }

    fn version(&self) -> MapVersion {
        self.map.borrow().as_ref().map_or(MapVersion(0), |map| map.version())
    }

    /// Asks one coordinator; `None`: given up because of a new wish.
    async fn ask(&mut self, wishes: Wishes) -> Option<Result<Map, String>> {
        let version = self.version();
        // Who waits for an answer, whatever it is, must not wait for news.
        let urgent = version < wishes.version || *self.looked.borrow() < wishes.look;
        let wait = if urgent { Duration::ZERO } else { self.options.poll };
        let coordinator = self.coordinator % self.source.coordinators().max(1);
        let answer = self.source.map(coordinator, version, wait);
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            // A look that is under way already isn't interrupted by the next one.
            Ok(()) = self.wishes.changed(), if !urgent => None,
        }
    }

    /// Keeps the map if it is newer.
    ///
    /// # Errors
    /// It is older than the one that is known, or of another cluster: who answers so can't be relied on.
    fn adopt(&mut self, map: Map) -> Result<(), String> {
        let mine = self.options.cluster_id.get_or_insert_with(|| map.cluster_id().clone());
        if map.cluster_id() != mine {
            let theirs = map.cluster_id();
            return Err(format!(
                "a coordinator belongs to cluster {theirs}, this router to {mine}"
            ));
        }
        let (known, answered) = (self.version(), map.version());
        if answered < known {
            return Err(format!(
                "a coordinator has map {answered}, this router has {known} already"
            ));
        }
        if answered > known {
            info!(version = answered.0, shards = map.shards().len(), "adopted a map");
            self.map.send_replace(Some(Arc::new(map)));
        }
        Ok(())
    }

    /// Waits longer after each further failure, and differently long in each router.
    async fn pause(&mut self) {
        let (first, most) = self.options.backoff;
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let half = doubled.min(most) / 2;
        let pause = half + half.mul_f64((self.jitter >> 40) as f64 / (1u64 << 24) as f64);
        tokio::time::sleep(pause).await;
    }
}
