//! When a daemon begins to serve, and when it stops. Decides nothing about requests.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Failure;
use crate::output;

/// Seconds that requests under way get to end. Longer than a client's default deadline.
pub const DRAIN_SECS_MAX: u64 = 15;

/// Takes the address.
///
/// # Errors
/// It is taken, or not of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
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

/// Waits for SIGTERM, SIGINT, or the end of standard input when that is watched.
///
/// # Errors
/// The system lets no signal be watched.
pub async fn stop_asked(exit_with_stdin: bool) -> Result<(), Failure> {
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

/// Gives `served` a bounded time to end after the stop was asked for.
pub async fn drained(served: impl Future<Output = ()>) {
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECS_MAX), served).await.is_err() {
        tracing::warn!("some requests did not end in {DRAIN_SECS_MAX} s; they are cut off");
    }
}
