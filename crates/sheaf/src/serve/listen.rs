//! When a daemon begins to serve, and when it stops. Decides nothing about requests.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Failure;
use crate::output;

/// Seconds after which long polls are ended; other requests go on.
const QUIET_SECS_MAX: u64 = 2;
/// Seconds that requests under way get to end. Longer than a client's default deadline.
const DRAIN_SECS_MAX: u64 = 12;

/// Takes the address, and as many open files as the system allows: each connection is one, and each poll is held open.
///
/// # Errors
/// It is taken, or not of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "connections and files that may be open at once"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Failed(format!(
            "can't listen on {address}: {error}; is another daemon running there?"
        ))
    })
}

/// Says where it listens: the first line of standard output, for people and for parents.
///
/// # Errors
/// The system doesn't say which port it gave.
pub fn announce(listener: &TcpListener) -> Result<(), Failure> {
    output::say(format!("listening on http://{}", listener.local_addr()?));
    Ok(())
}

/// Serves until a stop is asked for or `until` is over; then takes no new connection, lets requests end, and after
/// `QUIET_SECS_MAX` calls `stop`, which ends what waits for news.
///
/// # Errors
/// The system lets no signal be watched.
pub async fn serve(
    listener: TcpListener,
    routes: axum::Router,
    exit_with_stdin: bool,
    until: impl Future<Output = ()>,
    stop: impl FnOnce(),
) -> Result<(), Failure> {
    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    let listener = listener.tap_io(|connection| {
        // Small answers must not wait for more; where it can't be set they only come later.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's delay");
        }
    });
    let routes = sheaf_http::drain::drained(routes);
    let served = axum::serve(listener, routes).with_graceful_shutdown(async move {
        // An error: the sender is gone, so this has ended anyway.
        stopped.wait_for(|stopped| *stopped).await.ok();
    });
    let mut served = tokio::spawn(served.into_future());
    tokio::select! {
        biased;
        asked = stop_asked(exit_with_stdin) => asked?,
        () = until => {}
        ended = &mut served => {
            let why = ended.map_or_else(|error| error.to_string(), |served| format!("{served:?}"));
            return Err(Failure::Failed(format!("the server ended by itself: {why}")));
        }
    }
    stopping.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(QUIET_SECS_MAX), &mut served).await.is_ok() {
        stop();
        return Ok(());
    }
    stop();
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECS_MAX), &mut served).await.is_err() {
        served.abort();
        tracing::warn!("some requests did not end in {DRAIN_SECS_MAX} s; they are cut off");
    }
    Ok(())
}

/// Waits for SIGTERM, SIGINT, or the end of standard input when that is watched.
async fn stop_asked(exit_with_stdin: bool) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => tracing::info!("asked to stop by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("asked to stop by SIGINT"),
        () = stdin_closed(), if exit_with_stdin => tracing::info!("standard input closed: stopping"),
    }
    Ok(())
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}
