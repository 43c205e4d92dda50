//! What is known of Quiver's index of a collection.
//!
//! Decides whether a search may ask it, and what it may lack. Not before it was built: Quiver lets the first search after its start
//! wait for that, and builds anew as long as writes come in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use sheaf_types::IndexKind;
use tokio::task::AbortHandle;

use super::apply::BULK_POINTS_MIN;
use super::recent::{Became, Begun, Carried, Mark, Moment, POINTS_MAX, Recent};
use super::server::CallError;
use super::{Held, Inner, wire};
use crate::EngineError;

/// Seconds that an index may take to be built. Whoever searches meanwhile doesn't wait for it.
const BUILD_SECS_MAX: u64 = 3_600;
/// Hits of a search for a mark, and how widely it is searched for.
const MARK_HITS: usize = 8;
const MARK_EF: usize = 128;
/// Milliseconds between two rounds of searches for marks.
const MARKS_EVERY_MS: u64 = 250;
/// Collections with this many numbers at most are searched exactly as long as what was written to them isn't known.
const UNSURE_FLOATS_MAX: u64 = 2 * 1024 * 1024;

/// What is known of one collection's index.
pub struct IndexState {
    /// One more than the silences of the server when it was last seen to have an index. None since, and it has it yet.
    seen_at: AtomicU64,
    building: Mutex<Option<Building>>,
    recent: Mutex<Recent>,
    is_looking: AtomicBool,
}

/// The search that has Quiver build its first index.
struct Building {
    /// What was done until then will be in it.
    began: Moment,
    search: AbortHandle,
}

impl IndexState {
    /// Of a new collection, or of one that was written to before.
    pub fn new(is_new: bool) -> Self {
        let recent = if is_new { Recent::default() } else { Recent::of_unknown() };
        let (seen_at, recent) = (AtomicU64::new(0), Mutex::new(recent));
        let (building, is_looking) = (Mutex::new(None), AtomicBool::new(false));
        Self { seen_at, building, recent, is_looking }
    }

    pub fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn building(&self) -> MutexGuard<'_, Option<Building>> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn floats(&self) -> u64 {
        self.points.load(Ordering::Relaxed) * u64::from(self.config().dim)
    }
}

impl Inner {
    /// Whether the collection is to be searched by Quiver's index. Has it built when there is none.
    pub async fn may_ask_index(self: &Arc<Self>, held: &Arc<Held>) -> Result<bool, EngineError> {
        let floats = held.floats();
        if floats <= self.options.exact_floats_max as u64 {
            return Ok(false);
        }
        if !self.has_index(held).await? {
            return Ok(false);
        }
        self.look_for_marks(held);
        let recent = held.index.recent();
        // Without a mark nothing will ever be known: of a large collection, the index must do.
        Ok(recent.is_whole() || !recent.has_marks() && floats > UNSURE_FLOATS_MAX)
    }

    /// Whether Quiver has an index of the collection for sure.
    fn has_seen_index(&self, held: &Held) -> bool {
        held.index.seen_at.load(Ordering::Acquire) == self.server.silences() + 1
    }

    async fn has_index(self: &Arc<Self>, held: &Arc<Held>) -> Result<bool, EngineError> {
        let now = self.server.silences() + 1;
        if self.has_seen_index(held) {
            return Ok(true);
        }
        if !self.shown_one(held).await?.index_ready {
            self.build_index(held);
            return Ok(false);
        }
        // The search that had it built would have it built anew, from what it was, as long as writes come in between, while those
        // that follow do the same: the older one may come last. Quiver gives up with whoever asked.
        if let Some(Building { began, search }) = held.index.building().take() {
            search.abort();
            held.index.recent().has_all_until(began);
        }
        held.index.seen_at.store(now, Ordering::Release);
        Ok(true)
    }

    /// Searches, which has the index built; how that goes shows in what Quiver says of the collection.
    fn build_index(self: &Arc<Self>, held: &Arc<Held>) {
        let mut building = held.index.building();
        if building.as_ref().is_some_and(|building| !building.search.is_finished()) {
            return;
        }
        let began = held.index.recent().tick();
        let search = tokio::spawn({
            let (inner, held) = (Arc::clone(self), Arc::clone(held));
            async move {
                let vector = vec![1.0; held.config().dim as usize];
                let deadline = Duration::from_secs(BUILD_SECS_MAX);
                if let Err(error) = inner.look(&held, &vector, deadline).await {
                    let next = "the next search tries again";
                    tracing::warn!(?error, "Quiver has not built its index; {next}");
                    *held.index.building() = None;
                }
            }
        });
        *building = Some(Building { began, search: search.abort_handle() });
    }

    /// Quiver's hits near a vector, by its index alone.
    async fn look(
        &self,
        held: &Held,
        vector: &[f32],
        deadline: Duration,
    ) -> Result<Vec<wire::Row>, CallError> {
        let mut body = String::from("{\"vector\":");
        wire::push_vector(&mut body, vector);
        body.push_str(&format!(r#","k":{MARK_HITS},"ef_search":{MARK_EF}}}"#));
        let path = format!("{}/query", super::catalogue::path_of(held.name()));
        let answer = self.server.call(Method::POST, &path, Bytes::from(body), deadline).await?;
        wire::read_rows(&answer).map_err(|error| CallError::Lost(error.to_string()))
    }

    /// A write was answered. Small collections, and documents, are searched without the index, so nothing of it is kept for them.
    pub fn was_written(
        self: &Arc<Self>,
        held: &Arc<Held>,
        begun: Begun,
        written: Vec<Became>,
        carried: Carried,
        witness: Option<&Mark>,
    ) {
        let mut recent = held.index.recent();
        let is_small = held.floats() * 2 <= self.options.exact_floats_max as u64;
        if is_small || held.config().holds_documents() {
            recent.pass_over();
            return;
        }
        let (before, points) = (recent.len(), written.len());
        recent.end(held.config().metric, begun, written, carried, witness);
        // An index of another kind would be built anew for it, and so would one that doesn't have a batch yet.
        let is_kept_up = held.config().index == IndexKind::Hnsw && points < BULK_POINTS_MIN;
        let is_time = (before + points) / (POINTS_MAX / 8) > before / (POINTS_MAX / 8);
        drop(recent);
        if is_kept_up && is_time {
            self.look_for_marks(held);
        }
    }

    /// Asks the index for one of the points that are to be written, when that can tell how far it is.
    pub async fn witness(&self, held: &Held, written: &[Became]) -> Option<Mark> {
        if !self.has_seen_index(held) || held.config().index != IndexKind::Hnsw {
            return None;
        }
        let candidate = held.index.recent().candidate(held.config().metric, written)?;
        let hits = self.look(held, &candidate.vector, self.options.read_deadline).await.ok()?;
        (!candidate.is_proved_by(&hits)).then_some(candidate)
    }

    /// Looks, in the background, how far the index is.
    fn look_for_marks(self: &Arc<Self>, held: &Arc<Held>) {
        let marks = held.index.recent().marks();
        if !self.has_seen_index(held)
            || marks.is_empty()
            || held.index.is_looking.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (inner, held) = (Arc::clone(self), Arc::clone(held));
        tokio::spawn(async move {
            if let Err(error) = inner.newest_mark(&held, &marks).await {
                tracing::debug!(?error, "how far Quiver's index is can't be seen now");
            }
            tokio::time::sleep(Duration::from_millis(MARKS_EVERY_MS)).await;
            held.index.is_looking.store(false, Ordering::Release);
        });
    }

    /// Finds the newest of these marks that the index shows, by halves. Missing one that it has costs time only.
    async fn newest_mark(&self, held: &Held, marks: &[u64]) -> Result<(), CallError> {
        let (mut low, mut high) = (0, marks.len());
        // Often it has all of them.
        let mut at = marks.len() - 1;
        while low < high {
            let mark = held.index.recent().mark(marks[at]);
            let found = match &mark {
                Some(mark) => {
                    let hits = self.look(held, &mark.vector, self.options.read_deadline).await?;
                    mark.is_proved_by(&hits)
                }
                None => false,
            };
            match mark.filter(|_| found) {
                Some(mark) => {
                    held.index.recent().confirm(&mark);
                    low = at + 1;
                }
                None => high = at,
            }
            at = low + (high - low) / 2;
        }
        Ok(())
    }
}
