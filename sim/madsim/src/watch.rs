//! A window into the stores: what they hold is written down, each state once, as soon as somebody knows that it is durable.
//!
//! Decides only which states are news. Whoever replaces a record has seen it before, so the first sightings of the coordinators'
//! records are in the order in which they were stored; an answer that comes late is none.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_checkers::{Fact, NodeId};
use sheaf_coordinator::CoordinatorRecord;
use sheaf_gate::GateRecord;
use sheaf_runtime::Clock;
use sheaf_sim::gate_node::held;
use sheaf_sim::store::decided;
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};
use sheaf_types::Time;

use crate::book::Book;
use crate::reigns::Reigns;
use crate::slow::Pace;

/// Whose record a store keeps.
#[derive(Clone)]
pub enum Owner {
    /// One of several; they have in common what was seen of the record.
    Coordinator(Arc<Reigns>),
    Gate(u32),
}

/// A store that is watched, and may take its time.
pub struct WatchedStore<S> {
    inner: S,
    book: Arc<Book>,
    owner: Owner,
    pace: Option<Arc<Pace>>,
    clock: Clock,
}

impl<S> WatchedStore<S> {
    pub fn new(inner: S, book: Arc<Book>, owner: Owner, pace: Option<Arc<Pace>>) -> Self {
        Self { inner, book, owner, pace, clock: Clock::starting_at(Time(0)) }
    }

    fn durable(&self, bytes: &[u8]) {
        match &self.owner {
            Owner::Coordinator(reigns) => {
                let Ok(record) = serde_json::from_slice::<CoordinatorRecord>(bytes) else { return };
                if !reigns.is_news(record.term.0, record.revision.0, bytes) {
                    return;
                }
                let record = Arc::new(record);
                self.book.fact(Fact::Stored { decided: Box::new(decided(&record)) });
                self.book.stored(record);
            }
            Owner::Gate(node) => {
                let Ok(record) = serde_json::from_slice::<GateRecord>(bytes) else { return };
                let known = self.book.ledger(*node);
                if known.as_ref() == Some(&record) {
                    return;
                }
                let (node_id, held) = (NodeId(*node), held(&record));
                let restarted = known.is_none_or(|known| known.incarnation != record.incarnation);
                self.book.fact(match restarted {
                    true => Fact::GateStarted { node: node_id, held },
                    false => Fact::Persisted { node: node_id, held },
                });
                self.book.kept(*node, record);
            }
        }
    }

    /// A coordinator that goes round in circles lets no time pass, and nobody else get on: it is stopped here.
    async fn stop_who_spins(&self) {
        let Owner::Coordinator(reigns) = &self.owner else { return };
        if reigns.is_spinning(self.clock.elapsed().as_secs()) {
            let text = "a coordinator writes to its store again and again, and no time passes";
            self.book.broken("P6 converges", text);
            std::future::pending::<()>().await;
        }
    }

    async fn wait(&self) {
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
    }
}

impl<S: Store> Store for WatchedStore<S> {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            let loaded = self.inner.load().await;
            if let Ok(Some(loaded)) = &loaded {
                self.durable(&loaded.bytes);
            }
            loaded
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        Box::pin(async move {
            self.wait().await;
            self.stop_who_spins().await;
            let outcome = self.inner.compare_and_set(expected, bytes.clone()).await;
            if let StoreOutcome::Done(_) = outcome {
                self.durable(&bytes);
            }
            self.wait().await;
            outcome
        })
    }
}
