//! The operator: founds the collection, asks for migrations, has the cluster verified at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::book::{Book, Stage};
use crate::clients::Client;
use crate::http_client::{COLLECTION, DIM};
use crate::net;
use crate::trace;

/// Between two tries of the same ask.
const RETRY_PAUSE: Duration = Duration::from_millis(400);
/// Milliseconds that the coordinator gets to answer.
const ASK_MS: u64 = 4_000;
/// Milliseconds that a verification may take.
const VERIFY_MS: u64 = 10_000;
/// Times that a verification is tried before the cluster counts as not whole.
const VERIFY_TRIES_MAX: u32 = 10;

/// Something that an operator asks of the coordinator.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The shard of this number joins.
    Grow(u32),
    /// The shard of the host with this number leaves, if it is in the map then.
    Drain(u32),
    /// The running transition is given up, if it can be.
    Cancel,
    Pause,
    Resume,
    /// The shard of the host with this number gets this weight.
    Reweight(u32, f64),
}

pub struct Operator {
    pub book: Arc<Book>,
    pub client: Client,
    /// When, in milliseconds of the run, and what.
    pub asks: Vec<(u64, Ask)>,
    /// The hosts that are asked, one after the other.
    pub coordinators: Vec<String>,
    pub tries: AtomicUsize,
    pub copy_points_per_s: Option<u64>,
}

pub fn shard_name(number: u32) -> String {
    format!("shard-{number}")
}

impl Operator {
    pub async fn run(mut self) -> turmoil::Result {
        self.create_collection().await;
        self.client.load().await;
        self.book.founded.store(true, Ordering::SeqCst);
        for (at_ms, ask) in std::mem::take(&mut self.asks) {
            let now_ms = turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
            tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms))).await;
            self.ask(&ask).await;
        }
        self.book.operator_done.store(true, Ordering::SeqCst);
        while !(self.book.stage() == Stage::Audit && self.all_calm()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.client.audit().await;
        self.verify().await;
        self.book.audited.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// The path at the next coordinator: an operator need not know which one leads.
    fn coordinator(&self, path: &str) -> String {
        let tries = self.tries.fetch_add(1, Ordering::SeqCst);
        format!("{}{path}", net::url(&self.coordinators[tries % self.coordinators.len()]))
    }

    fn all_calm(&self) -> bool {
        self.book.calm_clients.load(Ordering::SeqCst) >= self.book.clients()
    }

    async fn create_collection(&self) {
        let body = json!({ "name": COLLECTION, "dim": DIM, "metric": "l2" });
        loop {
            let router = &self.client.routers[0];
            let url = format!("{}/v1/collections", net::url(router));
            let headers = [("idempotency-key", "the-collection".to_owned())];
            let answer =
                self.client.caller.call(Method::POST, url, Some(body.clone()), ASK_MS, &headers);
            if let Ok((StatusCode::OK | StatusCode::CREATED, _)) = answer.await {
                return;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks until there is an answer that decides.
    async fn ask(&self, ask: &Ask) {
        let key = format!("{ask:?}-{}", self.book.op().0);
        loop {
            let Some((method, path, body)) = self.request(ask).await else { return };
            let headers = [("idempotency-key", key.clone())];
            let url = self.coordinator(&path);
            let answer = self.client.caller.call(method, url, Some(body), ASK_MS, &headers);
            match answer.await {
                Ok((status, body)) => {
                    trace::fold(format_args!("{ask:?} {status} {body}"));
                    tracing::info!(target: "sheaf_turmoil", %status, %body, "asked for {ask:?}");
                    let later = status.is_server_error();
                    // A node that has not yet confirmed that it left can't join; a migration has to end first.
                    let busy = status == StatusCode::CONFLICT
                        && matches!(ask, Ask::Grow(_) | Ask::Drain(_));
                    let again = later || (busy && self.book.stage() < Stage::Liveness);
                    if !again {
                        return;
                    }
                }
                Err(error) => tracing::info!(target: "sheaf_turmoil", %error, "asked for {ask:?}"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The call that asks for it; `None`: it makes no sense any more.
    async fn request(&self, ask: &Ask) -> Option<(Method, String, Value)> {
        let limits = json!({ "points_per_s_max": self.copy_points_per_s });
        let post = |path: &str, body| Some((Method::POST, path.to_owned(), body));
        match ask {
            Ask::Grow(shard) => {
                let url = net::url(&shard_name(*shard));
                let body = json!({ "primary_url": url, "limits": limits });
                post("/cluster/shards/grow", body)
            }
            Ask::Drain(shard) => {
                let id = self.id_of(*shard).await?;
                post(&format!("/cluster/shards/{id}/drain"), json!({ "limits": limits }))
            }
            Ask::Reweight(shard, weight) => {
                let id = self.id_of(*shard).await?;
                let path = format!("/cluster/shards/{id}/weight");
                Some((Method::PUT, path, json!({ "weight": weight, "limits": limits })))
            }
            Ask::Cancel => post("/cluster/transitions/current/cancel", json!({})),
            Ask::Pause => post("/cluster/transitions/current/pause", json!({})),
            Ask::Resume => post("/cluster/transitions/current/resume", json!({})),
        }
    }

    /// The id of the shard on this host, by the coordinator's map.
    async fn id_of(&self, shard: u32) -> Option<u64> {
        let url = net::url(&shard_name(shard));
        loop {
            let map = self.coordinator("/cluster/map");
            let answer = self.client.caller.call(Method::GET, map, None, ASK_MS, &[]);
            if let Ok((StatusCode::OK, map)) = answer.await {
                let mut shards = map["shards"].as_array()?.iter();
                let entry = shards.find(|entry| entry["primary_url"] == url.as_str());
                return entry?["id"].as_u64();
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Every gate's own count agrees with the map: nothing foreign, nothing of another version.
    async fn verify(&self) {
        let mut said = String::new();
        for _ in 0..VERIFY_TRIES_MAX {
            let url = self.coordinator("/cluster/verify");
            let answer = self.client.caller.call(Method::GET, url, None, VERIFY_MS, &[]);
            match answer.await {
                Ok((StatusCode::OK, body)) if body["ok"] == true => {
                    return trace::fold(format_args!("verified {body}"));
                }
                Ok((status, body)) => said = format!("{status} {body}"),
                Err(error) => said = error.to_string(),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.book.broken("P8 nothing-destroyed", format!("the cluster is not whole: {said}"));
    }
}
