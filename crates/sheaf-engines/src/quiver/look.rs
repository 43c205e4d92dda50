//! Searches that look at every point: of small collections, and of large ones while Quiver has no index of them.
//!
//! One walk through the points serves all searches that wait for one, so they cost no more the more there are, and leave the server
//! time to build its index.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::pages::Wanted;
use super::search::{Asked, Found, best};
use super::wire::Row;
use super::{Held, Inner};
use crate::EngineError;

/// Searches that one walk serves.
const TOGETHER_MAX: usize = 64;

type Answer = Result<Vec<Found>, EngineError>;

/// Searches of one collection that wait for a walk.
#[derive(Default)]
pub struct Lookers {
    waiting: Mutex<Vec<(Arc<Asked>, oneshot::Sender<Answer>)>>,
    walking: tokio::sync::Mutex<()>,
}

impl Lookers {
    fn push(&self, asked: Arc<Asked>) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((asked, answer));
        answered
    }

    /// Those that wait.
    fn take(&self) -> Vec<(Arc<Asked>, oneshot::Sender<Answer>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever gave up needs no answer.
        waiting.retain(|(_, answer)| !answer.is_closed());
        let together = waiting.len().min(TOGETHER_MAX);
        waiting.drain(..together).collect()
    }
}

impl Inner {
    /// The hits among all points.
    pub async fn by_looking_at_all(&self, held: &Held, asked: Arc<Asked>) -> Answer {
        loop {
            let mut answered = held.lookers.push(Arc::clone(&asked));
            let _walking = held.lookers.walking.lock().await;
            match answered.try_recv() {
                Ok(answer) => return answer,
                // Whoever walked for it gave up half-way.
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let together = held.lookers.take();
            let questions: Vec<&Asked> = together.iter().map(|(asked, _)| &**asked).collect();
            let found = self.look_at_all(held, &questions).await;
            let answers = match found {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); together.len()],
            };
            for ((_, asker), answer) in together.into_iter().zip(answers) {
                // Whoever asked may have gone.
                let _ = asker.send(answer);
            }
            if let Ok(answer) = answered.try_recv() {
                return answer;
            }
        }
    }

    /// The hits of each of these questions.
    async fn look_at_all(
        &self,
        held: &Held,
        questions: &[&Asked],
    ) -> Result<Vec<Vec<Found>>, EngineError> {
        let filter = match questions {
            [alone] => alone.pushed(),
            _ => None,
        };
        let payloads = questions.iter().any(|asked| asked.needs_payloads());
        let wanted = Wanted { filter, payloads, vectors: true };
        let mut found: Vec<Vec<Found>> = questions.iter().map(|_| Vec::new()).collect();
        let look = |rows: Vec<Row>| {
            for (asked, found) in questions.iter().zip(&mut found) {
                let full = found.len() >= asked.k();
                let worst = found.last().filter(|_| full).map_or(f32::INFINITY, |last| last.rank);
                found.extend(rows.iter().filter_map(|row| asked.accepted(row, worst)));
                best(found, asked.k());
            }
        };
        self.walk(held, wanted, look).await?;
        Ok(found)
    }
}
