//! A wire between two daemons that a test can cut: it forwards TCP, and stops when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

struct Wire {
    cut: AtomicBool,
    now_cut: Notify,
}

/// Forwards connections to one address.
pub struct Proxy {
    pub url: String,
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A wire to the daemon at this `HOST:PORT`.
    ///
    /// # Panics
    /// No port is free.
    pub async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let wire = Arc::new(Wire { cut: AtomicBool::new(false), now_cut: Notify::new() });
        let accepting = tokio::spawn(accept(listener, address.to_owned(), Arc::clone(&wire)));
        Self { url, wire, accepting }
    }

    /// Ends every connection, and ends new ones at once.
    pub fn cut(&self) {
        self.wire.cut.store(true, Ordering::SeqCst);
        self.wire.now_cut.notify_waiters();
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.wire.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, address: String, wire: Arc<Wire>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (address, wire) = (address.clone(), Arc::clone(&wire));
        tokio::spawn(async move {
            let cut = wire.now_cut.notified();
            tokio::pin!(cut);
            // Registers first, or a cut between the look and the wait would be missed.
            cut.as_mut().enable();
            if wire.cut.load(Ordering::SeqCst) {
                return;
            }
            let Ok(mut server) = TcpStream::connect(&address).await else { return };
            tokio::select! {
                biased;
                () = &mut cut => {}
                _ = copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}
