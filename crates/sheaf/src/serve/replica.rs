//! `sheaf replica`: checks its settings, puts its parts together, serves until it is told to stop.

use std::sync::Arc;

use sheaf_http::replica::{HttpPrimary, replica};
use sheaf_http::router::{Coordinators, InnerRouter, RouterParts};
use sheaf_runtime::replica::{ReplicaHost, ReplicaParts};
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_runtime::{Clock, entropy};
use sheaf_transport::{HttpOptions, HyperTransport};
use sheaf_types::ShardId;
use tracing::info;

use super::follower::{self, Followed};
use super::{ReplicaFlags, listen};
use crate::client::Failure;
use crate::config::ReplicaSettings;
use crate::config::check::{self, Checked, Complaints};

struct Settings {
    checked: Checked,
    shard: ShardId,
    follower: Followed,
    coordinators: Vec<String>,
}

fn settings(flags: &ReplicaFlags) -> Result<Settings, Failure> {
    let loaded = super::settings::<ReplicaSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let coordinators = check::coordinators(&loaded.role.coordinators, &mut complaints);
    if loaded.role.of_shard.is_none() {
        complaints
            .add("no shard is given; add --of-shard ID of the shard whose engine is followed");
    }
    let follower = follower::followed(&loaded.common, &loaded.role, &mut complaints);
    let all = checked.zip(follower).zip(loaded.role.of_shard);
    let ((checked, follower), shard) = complaints.or(all).map_err(super::usage)?;
    Ok(Settings { checked, shard: ShardId(shard), follower, coordinators })
}

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't be used, or it can't start.
pub async fn run(flags: &ReplicaFlags) -> Result<(), Failure> {
    let Settings { checked, shard, follower, coordinators } = settings(flags)?;
    crate::logging::start(checked.log, &checked.log_level);
    let listener = listen::bind(checked.listen).await?;
    let transport = Arc::new(HyperTransport::new(HttpOptions::default()));
    let peer_key = checked.peer_key.clone();
    let coordinators = Coordinators::new(transport.clone(), &coordinators, peer_key.as_deref());
    let coordinators = coordinators.map_err(super::failed)?;
    let source = Arc::new(coordinators.clone());
    let (maps, keeper) =
        RouterHost::new(Clock::system(), source, KeeperOptions::default(), entropy::seed());
    let keeper = tokio::spawn(keeper);
    let follower = follower.open(transport.clone())?;
    let primary =
        HttpPrimary::new(transport.clone(), peer_key.as_deref()).map_err(super::failed)?;
    let (host, rounds) = ReplicaHost::new(ReplicaParts {
        shard,
        follower,
        primary: Arc::new(primary),
        maps: maps.clone(),
    });
    tokio::spawn(rounds);
    let keys = checked.keys.clone();
    let parts = RouterParts {
        host: maps,
        transport,
        coordinators,
        keys,
        peer_key,
        models: Default::default(),
    };
    let cluster = InnerRouter::new(parts).map_err(super::failed)?;
    let routes = replica(host.clone(), checked.keys, cluster);
    listen::announce(&listener)?;
    tokio::spawn(sheaf_http::metrics::upkeep());
    let until = std::future::pending();
    let stop = || {
        keeper.abort();
        host.stop();
    };
    listen::serve(listener, routes, flags.common.exit_with_stdin, until, stop).await?;
    info!("stopped");
    Ok(())
}
