//! The loop around the router's core: keeps the newest map, and carries each client's request to its end.
//!
//! Decides nothing: which map counts is said by its version, whom to ask by `sheaf-router`. Knows no JSON.

mod keeper;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_map::Map;
use sheaf_types::{MapVersion, Time};
use tokio::sync::watch;

pub use keeper::{KeeperOptions, MapReply, MapSource};
pub use run::Ended;

use crate::clock::Clock;

/// What the requests of one router share: the clock, the newest map, a seed for each. Cheap to clone.
#[derive(Clone)]
pub struct RouterHost(Arc<Shared>);

struct Shared {
    clock: Clock,
    seed: u64,
    requests: AtomicU64,
    /// The newest map; `None` until the first is known.
    map: watch::Receiver<Option<Arc<Map>>>,
    wishes: watch::Sender<Wishes>,
    /// The last look that the keeper has taken.
    looked: watch::Receiver<u64>,
}

/// What requests want of the keeper. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wishes {
    /// Someone has seen a map of this version.
    version: MapVersion,
    /// Someone wants to know whether there is a newer map: the number of the look.
    look: u64,
}

impl RouterHost {
    /// A router's host, and the task that keeps its map: spawn it, it never ends by itself.
    pub fn new(
        clock: Clock,
        source: Arc<dyn MapSource>,
        options: KeeperOptions,
        seed: u64,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (map_sender, map) = watch::channel(None);
        let (wishes, wishes_receiver) = watch::channel(Wishes::default());
        let (looked_sender, looked) = watch::channel(0);
        let keeper =
            keeper::Keeper::new(source, options, seed, map_sender, wishes_receiver, looked_sender);
        let requests = AtomicU64::new(0);
        let host = Self(Arc::new(Shared { clock, seed, requests, map, wishes, looked }));
        (host, keeper.run())
    }

    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// The newest map; `None` until the first is known.
    pub fn map(&self) -> Option<Arc<Map>> {
        self.0.map.borrow().clone()
    }

    /// The newest map as soon as it has at least this version; `None`: not before `deadline`.
    pub async fn map_of_at_least(&self, version: MapVersion, deadline: Time) -> Option<Arc<Map>> {
        self.want(version);
        let mut map = self.0.map.clone();
        let wanted = map.wait_for(|map| map.as_ref().is_some_and(|m| m.version() >= version));
        match tokio::time::timeout(self.0.clock.until(deadline), wanted).await {
            Ok(Ok(map)) => map.clone(),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// The newest map that a coordinator has from now on; `None`: no coordinator said within `patience`.
    pub async fn look_for_newer_map(&self, patience: Duration) -> Option<Arc<Map>> {
        let mut number = 0;
        self.0.wishes.send_modify(|wishes| {
            wishes.look += 1;
            number = wishes.look;
        });
        let mut looked = self.0.looked.clone();
        let look = looked.wait_for(|looked| *looked >= number);
        match tokio::time::timeout(patience, look).await {
            Ok(Ok(_)) => self.map(),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Tells the keeper that a map of this version exists.
    fn want(&self, version: MapVersion) {
        self.0.wishes.send_if_modified(|wishes| {
            let news = version > wishes.version;
            wishes.version = wishes.version.max(version);
            news
        });
    }

    /// A number that no two requests have in common; it only spreads their retries.
    fn next_seed(&self) -> u64 {
        self.0.seed.wrapping_add(self.0.requests.fetch_add(1, Ordering::Relaxed))
    }
}
