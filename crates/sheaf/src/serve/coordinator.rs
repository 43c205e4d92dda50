//! `sheaf coordinator`: checks its settings, puts its parts together, serves until it is told to stop or is deposed.

use std::sync::Arc;

use sheaf_coordinator::{Ask, Config};
use sheaf_http::coordinator::{CoordinatorApiParts, HttpGates, coordinator};
#[cfg(feature = "etcd")]
use sheaf_runtime::coordinator::CandidateParts;
use sheaf_runtime::coordinator::{CoordinatorHost, CoordinatorParts, Peer};
use sheaf_runtime::{Clock, entropy};
use sheaf_transport::HyperTransport;
use sheaf_types::{ClusterId, ShardId};
use tracing::{info, warn};

use super::store::{self, Opened, Place};
use super::{CoordinatorFlags, listen};
use crate::client::Failure;
use crate::config::check::{self, Checked, Complaints};
use crate::config::{CoordinatorSettings, SettingsError};

/// Milliseconds for a change of replicas that the settings ask for.
const REPLICAS_MS_MAX: u64 = 10_000;

struct Settings {
    checked: Checked,
    place: Place,
    seeds: Vec<String>,
    replicas: Vec<(ShardId, String)>,
    advertise: Option<String>,
    lease_secs: u32,
    config: Config,
}

fn settings(flags: &CoordinatorFlags) -> Result<Settings, Failure> {
    let loaded = super::settings::<CoordinatorSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let place = store::place(&loaded.common, &loaded.role, &mut complaints);
    let seeds = check::node_urls("shard", &loaded.role.shards, &mut complaints);
    let replicas = check::replicas(&loaded.role, &mut complaints);
    check::autoscale(&loaded.role, &mut complaints);
    check::fence_budget(loaded.role.fence_budget_ms, &mut complaints);
    let lease_secs = loaded.role.lease_secs;
    check::lease(lease_secs, &mut complaints);
    let listen = checked.as_ref().map(|checked| checked.listen);
    let advertise = check::advertised(&loaded.role, listen, &mut complaints);
    let (checked, place) = complaints.or(checked.zip(place)).map_err(super::usage)?;
    let config =
        Config { fence_budget_ms: loaded.role.fence_budget_ms, autoscale: loaded.role.autoscale };
    Ok(Settings { checked, place, seeds, replicas, advertise, lease_secs, config })
}

/// Runs it until SIGTERM or SIGINT, or until another coordinator takes over.
///
/// # Errors
/// The settings can't be used, it can't start, or it was deposed.
pub async fn run(flags: &CoordinatorFlags) -> Result<(), Failure> {
    let settings = settings(flags)?;
    crate::logging::start(settings.checked.log, &settings.checked.log_level);
    let authorization = super::authorization(settings.checked.peer_key.as_deref())?;
    let listener = listen::bind(settings.checked.listen).await?;
    let transport = Arc::new(HyperTransport::new(sheaf_transport::HttpOptions::default()));
    let gates = Arc::new(HttpGates::new(transport.clone(), authorization.clone()));
    let url = match &settings.advertise {
        Some(url) => url.clone(),
        None => format!("http://{}", listener.local_addr()?),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let me = Peer { name: entropy::name(), url, version };
    let Settings { checked, place, seeds, replicas, lease_secs, config, .. } = settings;
    let (host, is_alone) = host(place, lease_secs, me, gates, config).await?;
    if is_alone {
        refuse_unknown_replicas(&host, &seeds, &replicas)?;
    }
    let routes = coordinator(CoordinatorApiParts {
        host: host.clone(),
        transport,
        keys: checked.keys,
        authorization,
    });
    listen::announce(&listener)?;
    tokio::spawn(sheaf_http::metrics::upkeep());
    let founding = tokio::spawn(found(host.clone(), seeds, replicas));
    let over = async {
        if !is_alone {
            // It follows whoever has taken over.
            std::future::pending::<()>().await;
        }
        host.deposed().await;
        warn!("another coordinator has taken over");
    };
    let stopped =
        listen::serve(listener, routes, flags.common.exit_with_stdin, over, || host.stop()).await;
    founding.abort();
    stopped?;
    if is_alone && host.look(sheaf_coordinator::Coordinator::is_deposed) {
        return Err(Failure::Failed(
            "another coordinator has taken over; this one decides nothing any more".to_owned(),
        ));
    }
    host.stopped().await;
    info!("stopped");
    Ok(())
}

/// The coordinator on its store, and whether it is the only one there.
async fn host(
    place: Place,
    lease_secs: u32,
    me: Peer,
    gates: Arc<HttpGates>,
    config: Config,
) -> Result<(CoordinatorHost, bool), Failure> {
    let kind = place.kind();
    let (clock, new_cluster_id) = (Clock::system(), ClusterId::from(entropy::name()));
    match store::open(place, &me, lease_secs).map_err(super::failed)? {
        Opened::Alone(store) => {
            let seed = entropy::seed();
            let parts =
                CoordinatorParts { clock, store, kind, gates, config, new_cluster_id, me, seed };
            Ok((CoordinatorHost::open(parts).await.map_err(super::failed)?, true))
        }
        #[cfg(feature = "etcd")]
        Opened::Shared { store, election } => {
            let parts =
                CandidateParts { clock, store, election, kind, gates, config, new_cluster_id };
            Ok((CoordinatorHost::stand(parts), false))
        }
    }
}

/// A replica of a shard that there is not, and will not be when the first shards are taken in.
fn refuse_unknown_replicas(
    host: &CoordinatorHost,
    seeds: &[String],
    replicas: &[(ShardId, String)],
) -> Result<(), Failure> {
    let mut known: Vec<ShardId> =
        host.look(|core| core.map().shards().iter().map(|shard| shard.id).collect());
    if known.is_empty() {
        known = (1..=seeds.len() as u64).map(ShardId).collect();
    }
    let unknown = replicas.iter().filter(|(shard, _)| !known.contains(shard));
    let complaints: Vec<String> = unknown
        .map(|(shard, url)| format!("replica {}={url}: there is no shard {}", shard.0, shard.0))
        .collect();
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(super::usage(SettingsError::Several(complaints)))
    }
}

/// Takes in the first shards of a new cluster, then names the replicas in the map.
async fn found(host: CoordinatorHost, seeds: Vec<String>, replicas: Vec<(ShardId, String)>) {
    host.found(seeds).await;
    let shards: std::collections::BTreeSet<ShardId> =
        replicas.iter().map(|(shard, _)| *shard).collect();
    for shard in shards {
        let of_shard = replicas.iter().filter(|(of, _)| *of == shard).map(|(_, url)| url.clone());
        let replica_urls: Vec<String> = of_shard.collect();
        let known =
            host.look(|core| core.map().shard(shard).map(|entry| entry.replica_urls.clone()));
        if known.as_ref() == Some(&replica_urls) {
            continue;
        }
        let deadline = host.clock().now().plus_ms(REPLICAS_MS_MAX);
        let ask = Ask::SetReplicas { shard, replica_urls };
        if let Err(reason) = host.ask(ask, None, None, deadline).await {
            warn!(shard = shard.0, %reason, "the replicas of a shard are not in the map");
        }
    }
}
