//! Server-sent events: the status at each decision, the running transition's progress in between.
//!
//! Decides how often; a slow reader misses steps, never the newest.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::HeaderMap;
use sheaf_coordinator::Coordinator;
use sheaf_types::Revision;
use tokio::sync::watch;

use super::Api;
use crate::auth::Role;
use crate::problem::Problem;

/// Between two looks at a running transition.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

struct Watch {
    api: Arc<Api>,
    revisions: watch::Receiver<Revision>,
    first: bool,
    /// What was last sent as progress.
    told: String,
}

/// `GET /cluster/events`: `status` (the status) and `transition` (the running transition).
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Role::Read)?;
    let revisions = api.host.revisions();
    let watch = Watch { api, revisions, first: true, told: String::new() };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

impl Watch {
    /// The next event; `None`: the coordinator is stopping.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.first) {
                return Some(self.status());
            }
            tokio::select! {
                biased;
                changed = self.revisions.changed() => {
                    changed.ok()?;
                    return Some(self.status());
                }
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if let Some(event) = self.progress() {
                        return Some(event);
                    }
                }
            }
        }
    }

    fn status(&self) -> Event {
        let status = super::reads::status_of(&self.api);
        event("status", serde_json::to_string(&status).unwrap_or_default())
    }

    /// The running transition, if that is news.
    fn progress(&mut self) -> Option<Event> {
        let running = self.api.host.look(Coordinator::running)?;
        let told = serde_json::to_string(&running).unwrap_or_default();
        if told == self.told {
            return None;
        }
        self.told.clone_from(&told);
        Some(event("transition", told))
    }
}

fn event(name: &str, data: String) -> Event {
    Event::default().event(name).data(data)
}
