//! Stands between a client and a server: every connection is handed on with one of its own to the server.

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Listens in place of the server at this `HOST:PORT`, and has each connection forwarded. Returns where, `HOST:PORT`.
pub async fn listen<F>(
    server: &str,
    forward: impl Fn(TcpStream, TcpStream) -> F + Send + 'static,
) -> (String, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let server = server.to_owned();
    let accepting = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A server that is down refuses; so does this, by ending the connection.
            let Ok(server) = TcpStream::connect(&server).await else { continue };
            // Small frames, each of which the other side waits for.
            for side in [&client, &server] {
                side.set_nodelay(true).expect("a connection takes it");
            }
            tokio::spawn(forward(client, server));
        }
    });
    (address, accepting)
}
