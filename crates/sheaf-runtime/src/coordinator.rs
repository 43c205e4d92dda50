//! A coordinator's shell: the core, its store, and its polls of gates.
//!
//! Decides nothing: it carries out what the core asks for. Everybody reads the same core under one short lock.

mod candidate;
mod core;
mod gates;
mod open;
mod standing;
mod store;

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Ask, AskRefusal, Coordinator, NewShard, Reply};
use sheaf_map::Map;
use sheaf_types::{MapVersion, Revision, Time};
use tokio::sync::watch;
use tracing::{info, warn};

pub use candidate::CandidateParts;
pub use gates::{GateReply, Gates};
pub use open::{CoordinatorOpenError, CoordinatorParts, RecordError};
pub use standing::{Peer, Standing, StoreHealth};

use crate::clock::Clock;
use core::Shared;

/// Milliseconds for which an answer may come late, so that the core's own "too late" is heard.
const ANSWER_GRACE_MS: u64 = 100;
/// Milliseconds for a try to found the cluster, and between two of them.
const FOUND_MS_MAX: u64 = 10_000;
const FOUND_PAUSE: Duration = Duration::from_secs(1);

/// A running coordinator. Cheap to clone; its tasks end with [`CoordinatorHost::stop`] or with the runtime.
#[derive(Clone)]
pub struct CoordinatorHost {
    shared: Arc<Shared>,
}

/// Why an ask has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    #[error("{0}")]
    Refused(#[from] AskRefusal),
    #[error(
        "the store has not said whether the change was stored, so it may or may not be in force; look at the status, or ask again with the same idempotency key"
    )]
    Unknown,
    #[error("the coordinator is stopping; nothing was changed")]
    Stopping,
    #[error("this coordinator doesn't lead; nothing was changed, ask the one that does")]
    NotLeading,
}

impl CoordinatorHost {
    /// The clock by which deadlines are judged.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The current map and every later one; `None` until this coordinator's term is durable.
    pub fn maps(&self) -> watch::Receiver<Option<Arc<Map>>> {
        self.shared.maps.subscribe()
    }

    /// Changes with every durable decision.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.shared.revisions.subscribe()
    }

    /// Reads the core. `look` must be quick: everything else waits.
    pub fn look<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> T {
        self.shared.look(look)
    }

    /// Has the core decide something.
    ///
    /// # Errors
    /// See [`NotDone`].
    pub async fn ask(
        &self,
        ask: Ask,
        key: Option<String>,
        expects: Option<MapVersion>,
        deadline: Time,
    ) -> Result<Reply, NotDone> {
        if *self.shared.stopped.borrow() {
            return Err(NotDone::Stopping);
        }
        let asked = self.shared.ask(ask, key, expects, deadline);
        let Some((token, answer)) = asked else { return Err(NotDone::NotLeading) };
        let patience = self.clock().until(deadline.plus_ms(ANSWER_GRACE_MS));
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) | Err(_) => {
                self.shared.forget(token);
                Err(NotDone::Unknown)
            }
        }
    }

    /// Makes these nodes the first shards, as soon as all of them answer. Does nothing once there is a shard.
    pub async fn found(&self, urls: Vec<String>) {
        if urls.is_empty() {
            return;
        }
        let mut maps = self.maps();
        loop {
            let Ok(map) = maps.wait_for(Option::is_some).await.map(|map| map.clone()) else {
                return; // It is stopping.
            };
            if map.is_some_and(|map| !map.shards().is_empty()) {
                return;
            }
            if !self.standing().borrow().leads {
                tokio::time::sleep(FOUND_PAUSE).await;
                continue;
            }
            let shards = urls.iter().map(|url| NewShard::at(url)).collect();
            let deadline = self.clock().now().plus_ms(FOUND_MS_MAX);
            match self.ask(Ask::AddShards { shards }, None, None, deadline).await {
                Ok(_) => return info!("the cluster is founded"),
                Err(reason) => {
                    warn!(%reason, "the first shards can't be taken in yet; this is tried again");
                }
            }
            tokio::time::sleep(FOUND_PAUSE).await;
        }
    }

    /// How this coordinator stands among the others, now and later.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Returns when another coordinator has taken over from one that has its store for itself, or this one stops.
    pub async fn deposed(&self) {
        let mut deposed = self.shared.deposed.subscribe();
        let mut stopped = self.shared.stopped.subscribe();
        tokio::select! {
            biased;
            _ = deposed.wait_for(Option::is_some) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Returns when a stopped coordinator has given up its lease, or tried to.
    pub async fn stopped(&self) {
        let mut resigned = self.shared.resigned.subscribe();
        // An error: nobody is there any more who could.
        let _gone = resigned.wait_for(|resigned| *resigned).await.is_err();
    }

    /// Ends the tasks. What is on its way to the store may still be stored.
    pub fn stop(&self) {
        self.shared.stop();
    }
}
