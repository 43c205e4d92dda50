//! What an operator does with a coordinator: changes, waiting for their end, audits.
//!
//! A change has an idempotency key and is asked until it is answered, so it is made once though the coordinator may be
//! killed in between.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::ask::{Answer, Client};
use crate::patience::eventually;

/// Seconds that a change may take until it is accepted, with the coordinator restarting.
const ACCEPT_SECS_MAX: u64 = 30;

/// How a transition ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub transition: u64,
    /// The transition's report.
    pub report: Value,
}

impl Ended {
    pub fn committed(&self) -> bool {
        self.report["outcome"] == "committed"
    }

    /// # Panics
    /// It was not committed: the message is the whole report.
    #[must_use]
    pub fn expect_committed(self) -> Self {
        assert!(
            self.committed(),
            "transition {} was not committed: {}",
            self.transition,
            self.report
        );
        self
    }
}

/// An operator at one coordinator.
#[derive(Clone)]
pub struct Operator {
    pub client: Client,
}

/// A text that no other change of this run has.
pub fn fresh_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Operator {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks for a change until it is accepted; a conflict may pass (a node that has just left is still being swept).
    ///
    /// # Panics
    /// It isn't accepted in time, or is refused as something that can't pass.
    pub async fn change(&self, method: Method, path: &str, body: &Value) -> Value {
        let key = fresh_key();
        eventually(&format!("{method} {path}"), ACCEPT_SECS_MAX, || async {
            let headers = [("idempotency-key", key.as_str())];
            let answer = self.client.json(method.clone(), path, &headers, body).await;
            let answer = answer.map_err(|gone| gone.to_string())?;
            match answer.status.as_u16() {
                200..=299 => Ok(answer.body),
                409 | 429 | 500..=599 => Err(answer.to_string()),
                _ => panic!("{method} {path} {body}: {answer}"),
            }
        })
        .await
    }

    /// Adds a shard while the cluster is empty, and waits until it serves.
    pub async fn add_first_shard(&self, url: &str) {
        let accepted =
            self.change(Method::POST, "/cluster/shards", &json!({ "primary_url": url })).await;
        if let Some(transition) = accepted["transition"].as_u64() {
            let _ = self.ended(transition, 30).await.expect_committed();
        }
    }

    /// Lets these nodes join, all in one transition. Returns its id and theirs.
    pub async fn grow(&self, urls: &[&str]) -> (u64, Vec<u64>) {
        let shards: Vec<Value> = urls.iter().map(|url| json!({ "primary_url": url })).collect();
        let path = "/cluster/shards/grow";
        let accepted = self.change(Method::POST, path, &json!({ "shards": shards })).await;
        accepted_transition(&accepted)
    }

    /// Lets one node join, so slowly that its copy is still under way when this returns and for as long as a test needs.
    pub async fn grow_slowly(&self, url: &str, points_per_s: u64) -> u64 {
        let limits = json!({ "points_per_s_max": points_per_s });
        let body = json!({ "primary_url": url, "limits": limits });
        let accepted = self.change(Method::POST, "/cluster/shards/grow", &body).await;
        let transition = accepted_transition(&accepted).0;
        self.running("it copies", |running| {
            running["phase"] == "copy" && running["points_sent"].as_u64() > Some(0)
        })
        .await;
        transition
    }

    /// Pauses, resumes or cancels a transition.
    pub async fn steer(&self, transition: u64, word: &str) {
        let path = format!("/cluster/transitions/{transition}/{word}");
        self.change(Method::POST, &path, &Value::Null).await;
    }

    /// The texts of the history's lines of this kind, the oldest first.
    pub async fn history(&self, kind: &str) -> Vec<String> {
        let history = self.read("/cluster/history").await;
        let lines = history.as_array().cloned().unwrap_or_default();
        let of_kind = lines.iter().filter(|line| line["kind"] == kind);
        of_kind.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect()
    }

    /// The first of the two steps of a join: it copies, and goes on only when promoted.
    pub async fn join(&self, url: &str) -> (u64, u64) {
        let path = "/cluster/shards/joining";
        let accepted = self.change(Method::POST, path, &json!({ "primary_url": url })).await;
        let (transition, shards) = accepted_transition(&accepted);
        (transition, shards.first().copied().unwrap_or_else(|| panic!("no shard: {accepted}")))
    }

    pub async fn promote(&self, shard: u64) {
        let path = format!("/cluster/shards/{shard}/promote");
        self.change(Method::POST, &path, &Value::Null).await;
    }

    pub async fn drain(&self, shard: u64) -> u64 {
        let path = format!("/cluster/shards/{shard}/drain");
        accepted_transition(&self.change(Method::POST, &path, &Value::Null).await).0
    }

    /// Limits the copy of the transition; one that has ended already is left alone.
    pub async fn throttle(&self, transition: u64, points_per_s: u64) {
        let path = format!("/cluster/transitions/{transition}/throttle");
        let body = json!({ "points_per_s_max": points_per_s });
        // A coordinator that is being killed need not answer: the speed decides nothing.
        drop(self.client.post(&path, &body).await);
    }

    /// Waits until the transition has ended.
    ///
    /// # Panics
    /// It doesn't end in time: the message has the status.
    pub async fn ended(&self, transition: u64, seconds: u64) -> Ended {
        let path = format!("/cluster/transitions/{transition}/report");
        eventually(&format!("transition {transition} ends"), seconds, || async {
            let answer = self.client.get(&path).await.map_err(|gone| gone.to_string())?;
            if answer.status.is_success() && answer.body["outcome"].is_string() {
                return Ok(Ended { transition, report: answer.body });
            }
            let status = self.client.get("/cluster/status").await;
            let status =
                status.map_or_else(|gone| Value::from(gone.to_string()), |answer| answer.body);
            Err(format!("{answer}; {}", status.get("transition").unwrap_or(&status)))
        })
        .await
    }

    /// Waits until the running transition is as `wanted` says, and returns it.
    pub async fn running(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, 30, || async {
            let status =
                self.client.get("/cluster/status").await.map_err(|gone| gone.to_string())?;
            let running = status.body["transition"].clone();
            if !running.is_null() && wanted(&running) {
                Ok(running)
            } else {
                Err(running.to_string())
            }
        })
        .await
    }

    /// Waits until nothing runs, waits or is swept.
    pub async fn idle(&self) {
        eventually("the cluster is idle", 60, || async {
            let status =
                self.client.get("/cluster/status").await.map_err(|gone| gone.to_string())?.body;
            let empty = |name: &str| status[name].as_array().is_none_or(Vec::is_empty);
            let idle = status["transition"].is_null() && empty("queue") && empty("retiring");
            if idle { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// The answer to a read that must succeed.
    ///
    /// # Panics
    /// It doesn't.
    pub async fn read(&self, path: &str) -> Value {
        let answer: Answer =
            self.client.get(path).await.unwrap_or_else(|gone| panic!("{path}: {gone}"));
        answer.expect_ok(path)
    }

    pub async fn map(&self) -> Value {
        self.read("/cluster/map").await
    }

    pub async fn version(&self) -> u64 {
        self.map().await["version"].as_u64().expect("a map has a version")
    }

    /// The ids of the shards in the map.
    pub async fn shard_ids(&self) -> Vec<u64> {
        let map = self.map().await;
        let shards = map["shards"].as_array().cloned().unwrap_or_default();
        shards.iter().filter_map(|shard| shard["id"].as_u64()).collect()
    }

    /// Audits the cluster: fails unless every point is on exactly its owner and nothing is extra. Returns how many
    /// points there are.
    ///
    /// # Panics
    /// Something is not where it belongs.
    pub async fn verify(&self) -> u64 {
        let audit = eventually("an audit at one version", 60, || async {
            let answer =
                self.client.get("/cluster/verify").await.map_err(|gone| gone.to_string())?;
            let ok = answer.status.is_success() && answer.body["ok"] == true;
            if ok { Ok(answer.body) } else { Err(answer.to_string()) }
        })
        .await;
        let shards = audit["shards"].as_array().cloned().unwrap_or_default();
        for shard in &shards {
            assert_eq!(shard["foreign_points"], 0, "a shard holds what it doesn't own: {audit}");
        }
        shards.iter().filter_map(|shard| shard["points"].as_u64()).sum()
    }
}

fn accepted_transition(accepted: &Value) -> (u64, Vec<u64>) {
    let transition = accepted["transition"].as_u64();
    let transition = transition.unwrap_or_else(|| panic!("no transition was accepted: {accepted}"));
    let shards = accepted["shards"].as_array().cloned().unwrap_or_default();
    (transition, shards.iter().filter_map(Value::as_u64).collect())
}
