//! The simulated etcd. Its state is in memory, so a restart that keeps it has to be made: saved before, loaded after.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, SimServer};
use madsim::runtime::Handle;
use madsim::task::NodeId;

use crate::place::ETCD_ADDRESS;

/// Before the state is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// What the server starts with, each time.
#[derive(Clone, Default)]
pub struct Etcd(Arc<Mutex<Start>>);

#[derive(Clone, Default)]
struct Start {
    data: Option<String>,
    timeouts_permille: u64,
}

impl Etcd {
    /// Of a thousand calls, so many are not answered in time; from the next start on.
    pub fn set_timeouts(&self, permille: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).timeouts_permille = permille;
    }

    /// The process.
    pub async fn run(self) {
        let start = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut server =
            SimServer::builder().timeout_rate(start.timeouts_permille as f32 / 1_000.0);
        if let Some(data) = start.data {
            server = server.load(data);
        }
        if let Err(error) = server.serve(ETCD_ADDRESS).await {
            tracing::error!(target: "sheaf_madsim", %error, "etcd has ended");
        }
    }

    /// Keeps its state for the next start.
    pub async fn save(&self, handle: &Handle, node: NodeId) {
        let Some(node) = handle.get_node(node) else { return };
        let dumped = node.spawn(async {
            loop {
                if let Ok(mut client) = Client::connect([ETCD_ADDRESS.to_string()], None).await
                    && let Ok(data) = client.dump().await
                {
                    return data;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        });
        let data = dumped.await.ok();
        assert!(data.is_some(), "etcd's state is lost, which nobody promised to survive");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).data = data;
    }
}
