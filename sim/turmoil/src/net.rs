//! turmoil's sockets in the shapes that axum and hyper want. Decides nothing.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use sheaf_transport::{HttpOptions, HyperTransport};
use tower_service::Service;
use turmoil::net::{TcpListener, TcpStream};

/// The port of every host.
pub const PORT: u16 = 7000;
/// While no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// `http://HOST:PORT`.
pub fn url(host: &str) -> String {
    format!("http://{host}:{PORT}")
}

/// The HTTP client of production over simulated connections.
pub fn transport() -> HyperTransport<Connector> {
    let options = HttpOptions::default();
    HyperTransport::with_connector(Connector { timeout: options.connect_timeout }, options)
}

/// Serves until the host is gone. The date is fixed: hyper would take it from the wall clock.
pub async fn serve(routes: Router) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let routes = sheaf_http::drain::drained(routes);
    let routes = routes.layer(axum::middleware::map_response(
        async |mut response: axum::response::Response| {
            let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
            response.headers_mut().insert(header::DATE, date);
            response
        },
    ));
    axum::serve(Listener(listener), routes).await
}

struct Listener(TcpListener);

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Opens simulated connections.
#[derive(Clone, Copy, Debug)]
pub struct Connector {
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let timeout = self.timeout;
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let port = uri.port_u16().unwrap_or(PORT);
            let connecting = TcpStream::connect((host, port));
            let connected = tokio::time::timeout(timeout, connecting).await;
            let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(Stream(TokioIo::new(stream)))
        })
    }
}

/// A connection as hyper knows it.
#[derive(Debug)]
pub struct Stream(TokioIo<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
