//! `sheaf shard`: checks its settings, puts its parts together, serves until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use sheaf_http::gate::{HttpPeers, gate_for_everyone};
use sheaf_http::router::{Coordinators, InnerRouter, RouterParts};
use sheaf_runtime::gate::{GateHost, GateParts};
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_runtime::{Clock, entropy};
use sheaf_stores::{FileStore, Folder};
use sheaf_transport::HyperTransport;
use tracing::info;

use super::{ShardFlags, engine, listen};
use crate::client::Failure;
use crate::config::ShardSettings;
use crate::config::check::{self, Checked, Complaints};

/// The file of the gate's ledger in the data directory.
pub const LEDGER_NAME: &str = "ledger";

struct Settings {
    checked: Checked,
    data_dir: PathBuf,
    engine: engine::Place,
    coordinators: Vec<String>,
}

fn settings(flags: &ShardFlags) -> Result<Settings, Failure> {
    let loaded = super::settings::<ShardSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let data_dir = check::data_dir(loaded.role.data_dir.as_ref(), &mut complaints);
    let coordinators = check::coordinators(&loaded.role.coordinators, &mut complaints);
    let engine = engine::place(&loaded.common, &loaded.role, &mut complaints);
    let all = checked.zip(data_dir).zip(engine);
    let ((checked, data_dir), engine) = complaints.or(all).map_err(super::usage)?;
    Ok(Settings { checked, data_dir, engine, coordinators })
}

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't be used, or it can't start.
pub async fn run(flags: &ShardFlags) -> Result<(), Failure> {
    let Settings { checked, data_dir, engine, coordinators } = settings(flags)?;
    crate::logging::start(checked.log, &checked.log_level);
    let listener = listen::bind(checked.listen).await?;
    // Locks the folder, so that no second daemon opens the engine's files.
    let folder = Folder::open(&data_dir).map_err(super::failed)?;
    let engine = engine::open(engine, &folder, LEDGER_NAME).await?;
    let transport = Arc::new(HyperTransport::new(sheaf_transport::HttpOptions::default()));
    let peers = HttpPeers::new(transport.clone(), &coordinators, checked.peer_key.as_deref());
    let host = GateHost::open(GateParts {
        clock: Clock::system(),
        ledger: Arc::new(FileStore::open(folder, LEDGER_NAME).map_err(super::failed)?),
        engine,
        peers: Arc::new(peers.map_err(super::failed)?),
        new_store_id: entropy::store_id(),
    });
    let host = host.await.map_err(super::failed)?;
    host.copy_with_snapshots(engine::FILES.map(|name| data_dir.join(name)).to_vec());
    let cluster = inner_router(transport, &coordinators, &checked)?;
    let routes = gate_for_everyone(host.clone(), checked.keys, cluster);
    listen::announce(&listener)?;
    tokio::spawn(sheaf_http::metrics::upkeep());
    let until = std::future::pending();
    listen::serve(listener, routes, flags.common.exit_with_stdin, until, || host.stop()).await?;
    info!("stopped");
    Ok(())
}

/// For requests that name no version of the map; it asks no coordinator before there is one.
fn inner_router(
    transport: Arc<HyperTransport>,
    coordinators: &[String],
    checked: &Checked,
) -> Result<InnerRouter, Failure> {
    let peer_key = checked.peer_key.clone();
    let coordinators = Coordinators::new(transport.clone(), coordinators, peer_key.as_deref());
    let coordinators = coordinators.map_err(super::failed)?;
    let options = KeeperOptions { on_demand: true, ..KeeperOptions::default() };
    let source = Arc::new(coordinators.clone());
    let (host, keeper) = RouterHost::new(Clock::system(), source, options, entropy::seed());
    tokio::spawn(keeper);
    let keys = checked.keys.clone();
    InnerRouter::new(RouterParts {
        host,
        transport,
        coordinators,
        keys,
        peer_key,
        models: Default::default(),
    })
    .map_err(super::failed)
}
