//! A Quiver server that follows another one: whether it has all that the other had.
//!
//! Quiver doesn't tell how far a follower is. So a mark is written to the leader, and looked for at the follower: what the leader
//! took before it is there then, for a follower carries out one write after the other. But for its first ones: it begins
//! with a copy of the leader, in no order of time. So of a follower that was just started two marks must be seen, the second one written
//! after the first was seen. That it was started anew shows in its own count of requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sheaf_transport::Transport;
use sheaf_types::CollectionId;

use super::catalogue::{Entry, Shown};
use super::log::Log;
use super::payload::PayloadLimit;
use super::server::{CallError, Server};
use super::{Held, Inner, QuiverOptions};
use crate::follower::Follower;
use crate::{EngineError, Hit, Reply, Search};

/// Until a mark that was written must be seen.
const SEEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks for it.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Until one call is given up.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How the names of the collections begin that have marks: each follower has its own.
const MARKS: &str = "sheaf-marks-";
/// The point that is the mark.
const MARK: &str = "mark";
const REQUESTS_METRIC: &str = "quiver_http_requests_total{";

/// Where the two servers are.
#[derive(Clone, Debug)]
pub struct QuiverFollowerOptions {
    /// `http://HOST:PORT` of the follower, which nobody else asks.
    pub url: String,
    /// A key with the role read for all collections.
    pub key: Option<String>,
    /// The server that it follows: the shard's own.
    pub leader_url: String,
    /// A key with the role admin for all collections.
    pub leader_key: Option<String>,
    /// A text that no other life of any replica has.
    pub name: String,
}

/// See [`Follower`].
pub struct QuiverFollower {
    inner: Arc<Inner>,
    leader: Server,
    name: String,
    /// The collection of this follower's marks.
    marks: String,
    catching_up: tokio::sync::Mutex<Progress>,
    /// Requests that the follower had counted beyond ours, in the life in which it has caught up.
    life: Mutex<Option<i64>>,
}

#[derive(Default)]
struct Progress {
    marks_exist: bool,
    next: u64,
}

impl QuiverFollower {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A key can't be sent in a header.
    pub fn new(
        transport: Arc<dyn Transport>,
        options: QuiverFollowerOptions,
    ) -> Result<Self, EngineError> {
        let QuiverFollowerOptions { url, key, leader_url, leader_key, name } = options;
        let leader = Server::new(Arc::clone(&transport), &leader_url, leader_key.as_deref())?;
        let server = Server::new(transport, &url, key.as_deref())?;
        let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let marks = format!("{MARKS}{}", url.chars().map(letters).collect::<String>());
        let inner = Inner {
            server,
            options: QuiverOptions {
                read_deadline: CALL_DEADLINE,
                ..QuiverOptions::new(url, None, "")
            },
            held: Mutex::default(),
            log: tokio::sync::Mutex::new(Log::Sound),
            adoptable: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            payloads: PayloadLimit::default(),
        };
        let inner = Arc::new(inner);
        let (catching_up, life) = (tokio::sync::Mutex::default(), Mutex::new(None));
        Ok(Self { inner, leader, name, marks, catching_up, life })
    }

    fn life(&self) -> Option<i64> {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_life(&self, life: Option<i64>) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }

    async fn try_catch_up(&self) -> Result<(), CallError> {
        let mut progress = self.catching_up.lock().await;
        self.make_marks(&mut progress).await?;
        let known = match self.life() {
            Some(life) if self.lives_on(life).await? => Some(life),
            Some(_) | None => None,
        };
        let life = match known {
            Some(life) => life,
            None => {
                self.set_life(None);
                let requests = self.requests().await?;
                let life = requests - self.inner.server.answered() as i64;
                self.mark(&mut progress).await?;
                life
            }
        };
        self.mark(&mut progress).await?;
        self.read_catalogue().await?;
        if !self.lives_on(life).await? {
            self.set_life(None);
            return Err(CallError::Lost("it was started anew meanwhile".to_owned()));
        }
        self.set_life(Some(life));
        Ok(())
    }

    async fn make_marks(&self, progress: &mut Progress) -> Result<(), CallError> {
        if progress.marks_exist {
            return Ok(());
        }
        // Looked for first: a creation that is refused would count as a failed write of the leader's.
        let list = self.leader.call(Method::GET, "/v1/collections", Bytes::new(), CALL_DEADLINE);
        let list: Vec<Shown> = read(&list.await?)?;
        if !list.iter().any(|shown| shown.name == self.marks) {
            let body = json!({"name": self.marks, "dim": 1, "metric": "l2"}).to_string();
            let path = "/v1/collections";
            self.leader.call(Method::POST, path, Bytes::from(body), CALL_DEADLINE).await?;
        }
        progress.marks_exist = true;
        Ok(())
    }

    /// Writes a mark that there never was, and waits until the follower has it.
    async fn mark(&self, progress: &mut Progress) -> Result<(), CallError> {
        progress.next += 1;
        let mark = format!("{}-{}", self.name, progress.next);
        let point = json!({"id": MARK, "vector": [1.0], "payload": {"mark": mark}});
        let body = Bytes::from(json!({"points": [point]}).to_string());
        let path = format!("/v1/collections/{}/points", self.marks);
        self.leader.call(Method::POST, &path, body, CALL_DEADLINE).await?;
        let path = format!("{path}/{MARK}");
        let seen = async {
            loop {
                match self.inner.get(&path).await {
                    Ok(found) => {
                        let found: Value = read(&found)?;
                        if found["payload"]["mark"] == mark {
                            return Ok(());
                        }
                    }
                    Err(CallError::Refused { status, .. }) if status == 404 => {}
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(SEEN_TIMEOUT, seen).await.unwrap_or_else(|_| {
            Err(CallError::Lost(format!(
                "it hasn't got in {} s what its leader took: it is slow, or no longer follows; start it anew with an empty data directory",
                SEEN_TIMEOUT.as_secs()
            )))
        })
    }

    /// What collections there are, and how full.
    async fn read_catalogue(&self) -> Result<(), CallError> {
        let body = self.inner.get("/v1/collections").await?;
        let shown: Vec<Shown> = read(&body)?;
        let mut rows = self.inner.entries_as_read().await?;
        rows.retain(|(id, _)| Entry::is_one(id));
        let mut held = std::collections::BTreeMap::new();
        for (_, payload) in rows {
            let entry: Entry = serde_json::from_value(payload).map_err(|error| {
                CallError::Lost(format!("its catalogue can't be read: {error}"))
            })?;
            let of_entry = shown.iter().find(|shown| shown.name == entry.quiver);
            if let Some(shown) = of_entry.filter(|_| !entry.dropping) {
                // Its answers may be old, so what its index may lack since doesn't matter.
                held.insert(entry.id, Arc::new(Held::new(entry, shown.count, true)));
            }
        }
        *self.inner.all() = held;
        Ok(())
    }

    /// Requests that it has counted since it was started.
    async fn requests(&self) -> Result<i64, CallError> {
        let text = self.inner.get("/metrics").await?;
        Ok(requests(&String::from_utf8_lossy(&text)))
    }

    /// Whether all our requests of this life are in its count.
    async fn lives_on(&self, life: i64) -> Result<bool, CallError> {
        let ours = self.inner.server.answered() as i64;
        Ok(self.requests().await? >= life + ours)
    }

    async fn search_now(&self, id: CollectionId, search: Search) -> Result<Vec<Hit>, EngineError> {
        let unknown = || unavailable("it isn't known to have caught up");
        let life = self.life().ok_or_else(unknown)?;
        let held = self.inner.held(id)?;
        let hits = self.inner.search(&held, search).await?;
        match self.lives_on(life).await {
            Ok(true) => Ok(hits),
            Ok(false) => Err(unavailable("it was started anew")),
            Err(error) => Err(error.into_engine_error()),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Lost(error.to_string()))
}

fn unavailable(why: &str) -> EngineError {
    EngineError::Unavailable(format!("the follower can't be relied on: {why}"))
}

fn requests(metrics: &str) -> i64 {
    let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<i64>().ok());
    metrics.lines().filter(|line| line.starts_with(REQUESTS_METRIC)).filter_map(count).sum()
}

impl Follower for QuiverFollower {
    fn catch_up(&self) -> Reply<'_, ()> {
        Box::pin(async {
            self.try_catch_up().await.map_err(|error| match error.into_engine_error() {
                EngineError::Unavailable(why) => unavailable(&why),
                other => other,
            })
        })
    }

    fn search(&self, collection: CollectionId, search: Search) -> Reply<'_, Vec<Hit>> {
        Box::pin(self.search_now(collection, search))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_requests_are_counted_whatever_their_route() {
        let metrics = "# TYPE quiver_http_requests_total counter\n\
                       quiver_http_requests_total{method=\"GET\",route=\"/v1/collections\"} 2\n\
                       quiver_http_requests_total{method=\"POST\",route=\"/v1/collections/{name}/query\"} 40\n\
                       quiver_http_request_errors_total{method=\"GET\",route=\"/v1/collections\"} 1\n";
        assert_eq!(requests(metrics), 42);
        assert_eq!(requests(""), 0);
    }
}
