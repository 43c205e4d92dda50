//! `sheaf router`: checks its settings, puts its parts together, serves until it is told to stop.

use std::sync::Arc;

use sheaf_http::router::{Coordinators, RouterParts, router};
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_runtime::{Clock, entropy};
use sheaf_transport::HyperTransport;
use tracing::info;

use super::{RouterFlags, listen, models};
use crate::client::Failure;
use crate::config::RouterSettings;
use crate::config::check::{self, Complaints};

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't be used, or it can't start.
pub async fn run(flags: &RouterFlags) -> Result<(), Failure> {
    let loaded = super::settings::<RouterSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let coordinators = check::coordinators(&loaded.role.coordinators, &mut complaints);
    let models = models::models(&loaded.common, &loaded.role, &mut complaints);
    let (checked, models) = complaints.or(checked.zip(models)).map_err(super::usage)?;
    crate::logging::start(checked.log, &checked.log_level);
    let listener = listen::bind(checked.listen).await?;
    let transport = Arc::new(HyperTransport::new(sheaf_transport::HttpOptions::default()));
    let peer_key = checked.peer_key;
    let coordinators = Coordinators::new(transport.clone(), &coordinators, peer_key.as_deref());
    let coordinators = coordinators.map_err(super::failed)?;
    let source = Arc::new(coordinators.clone());
    let (host, keeper) =
        RouterHost::new(Clock::system(), source, KeeperOptions::default(), entropy::seed());
    let keeper = tokio::spawn(keeper);
    let routes =
        router(RouterParts { host, transport, coordinators, keys: checked.keys, peer_key, models });
    let routes = routes.map_err(super::failed)?;
    listen::announce(&listener)?;
    tokio::spawn(sheaf_http::metrics::upkeep());
    let until = std::future::pending();
    listen::serve(listener, routes, flags.common.exit_with_stdin, until, || keeper.abort()).await?;
    info!("stopped");
    Ok(())
}
