//! Whether nodes can hold collections, asked of them before anything is decided.
//!
//! Decides what an operator is told at once that would otherwise end a transition: a node that can't take part makes its core give
//! up, too. So a node that doesn't answer is left to the core.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::{Method, StatusCode};
use sheaf_coordinator::{NewShard, PlanRequest};
use sheaf_engines::validate;
use sheaf_map::Map;
use sheaf_transport::Limits;
use sheaf_types::CollectionConfig;

use super::Api;
use super::gates::{call, read};
use crate::problem::Problem;
use crate::wire::peer::HoldsReply;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nodes that are asked at once.
const ASKED_MAX: usize = 128;

impl Api {
    fn map(&self) -> Option<Arc<Map>> {
        self.host.maps().borrow().clone()
    }

    /// Whether nodes that are to join can hold all collections that there are.
    ///
    /// # Errors
    /// 409: one can't, with the reason. Nothing was changed.
    pub(super) async fn hold_all(&self, nodes: &[NewShard]) -> Result<(), Problem> {
        let Some(map) = self.map() else { return Ok(()) };
        let configs: Vec<&CollectionConfig> =
            map.collections().iter().map(|collection| &*collection.config).collect();
        if configs.is_empty() {
            return Ok(());
        }
        let urls = nodes.iter().map(|node| node.primary_url.clone()).collect();
        match self.refusals(urls, &configs).await.into_iter().next() {
            None => Ok(()),
            Some((url, why)) => Err(Problem::conflict(format!(
                "the node at {url} can't join: {why}. Nothing was changed; drop that collection first, or choose a node with another engine"
            ))),
        }
    }

    /// Whether what is planned could be done by the nodes that would join.
    ///
    /// # Errors
    /// As of [`Api::hold_all`].
    pub(super) async fn hold_planned(&self, request: &PlanRequest) -> Result<(), Problem> {
        match request {
            PlanRequest::Grow { shards } => self.hold_all(shards).await,
            PlanRequest::Replace { primary_url, .. } => {
                let primary_url = primary_url.clone();
                let (replica_urls, weight) = Default::default();
                self.hold_all(&[NewShard { primary_url, replica_urls, weight }]).await
            }
            PlanRequest::Drain { .. } | PlanRequest::Reweight { .. } => Ok(()),
        }
    }

    /// Whether every shard can hold a new collection, and every node that is about to become one. What any engine can hold isn't
    /// asked for.
    ///
    /// # Errors
    /// 400: nobody could. 501: one can't, with the reason. Nothing was changed.
    pub(super) async fn all_hold(&self, config: &CollectionConfig) -> Result<(), Problem> {
        let sense = validate::makes_sense(config);
        sense.map_err(|why| Problem::bad_request(format!("{why}; nothing was created")))?;
        if validate::is_held_everywhere(config) {
            return Ok(());
        }
        let mut urls: Vec<String> = self.map().map_or_else(Vec::new, |map| {
            map.shards().iter().map(|entry| entry.primary_url.clone()).collect()
        });
        let record = self.host.look(|core| Arc::clone(core.record()));
        if let Some(running) = &record.transition {
            urls.extend(running.next.shards().iter().map(|entry| entry.primary_url.clone()));
        }
        urls.sort_unstable();
        urls.dedup();
        match self.refusals(urls, &[config]).await.into_iter().next() {
            None => Ok(()),
            Some((url, why)) => Err(Problem::not_implemented(format!(
                "the shard at {url} refuses: {why}. Nothing was created"
            ))),
        }
    }

    /// The first reason of each node that can't hold one of these.
    async fn refusals(
        &self,
        urls: Vec<String>,
        configs: &[&CollectionConfig],
    ) -> Vec<(String, String)> {
        let body = serde_json::to_vec(configs).unwrap_or_default();
        let asked = stream::iter(urls).map(|url| {
            let body = body.clone();
            async move {
                let why = self.first_refusal(&url, body).await;
                why.map(|why| (url, why))
            }
        });
        asked.buffered(ASKED_MAX).filter_map(std::future::ready).collect().await
    }

    async fn first_refusal(&self, url: &str, body: Vec<u8>) -> Option<String> {
        let url = format!("{}/internal/holds", url.trim_end_matches('/'));
        let limits = Limits { timeout: TIMEOUT, answer_bytes_max: ANSWER_BYTES_MAX };
        let (transport, key) = (&*self.transport, self.authorization.as_ref());
        let answer = call(transport, Method::POST, &url, key, body, limits).await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let reply: HoldsReply = read(&answer).ok()?;
        reply.refusals.into_iter().next()
    }
}
