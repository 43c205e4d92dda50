//! The port on hyper: pooled HTTP/1.1 connections, over TCP or over any other connector (a simulated network).
//!
//! A request counts as not sent only when no connection was ever taken for it. hyper's pool repeats a request by itself
//! in one case: a reused connection turned out closed before the request's first byte was written, and hyper hands the
//! request back whole. Every other failure on a connection is `Lost`.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Sleep;

use crate::aborting::AbortingConnector;
use crate::port::{Body, Limits, Reply, Transport, TransportError};

/// How the client keeps its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Until a TCP connection stands; a peer that takes longer is not reachable.
    pub connect_timeout: Duration,
    /// Idle connections kept for each peer.
    pub idle_per_peer_max: usize,
    /// How long a connection may be idle; shorter than any server of Sheaf closes one.
    pub idle_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_per_peer_max: 256,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// The HTTP client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct HyperTransport<C = HttpConnector> {
    client: Client<C, Full<Bytes>>,
}

impl HyperTransport<HttpConnector> {
    /// A client over TCP, without Nagle's delay.
    pub fn new(options: HttpOptions) -> Self {
        Self::with_connector(tcp(options), options)
    }
}

impl HyperTransport<AbortingConnector> {
    /// The same; a connection on which a call was given up is reset, and sends nothing more.
    pub fn aborting(options: HttpOptions) -> Self {
        Self::with_connector(AbortingConnector::new(tcp(options)), options)
    }
}

pub(crate) fn tcp(options: HttpOptions) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(options.connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector
}

impl<C> HyperTransport<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    /// A client over the connections that `connector` makes; it has to keep the connect timeout itself.
    pub fn with_connector(connector: C, options: HttpOptions) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.idle_per_peer_max)
            .build(connector);
        Self { client }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Response<Body>, TransportError> {
        let to = peer(request.uri());
        let mut request = request.map(Full::new);
        let connection = capture_connection(&mut request);
        let not_sent = || connection.connection_metadata().is_none();
        let mut deadline = Box::pin(tokio::time::sleep(limits.timeout));
        let answer = tokio::select! {
            biased;
            answer = self.client.request(request) => answer,
            () = &mut deadline => {
                let reason = format!("no answer within {} ms", limits.timeout.as_millis());
                return Err(failure(to, reason, not_sent()));
            }
        };
        let answer = answer.map_err(|error| {
            let never_sent = error.is_connect() || not_sent();
            failure(to.clone(), causes(&error), never_sent)
        })?;
        let (parts, incoming) = answer.into_parts();
        let body = BoundedBody { incoming, deadline, bytes_left: limits.answer_bytes_max, to };
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }
}

impl<C> Transport for HyperTransport<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    fn call(&self, request: Request<Bytes>, limits: Limits) -> Reply<'_> {
        Box::pin(self.exchange(request, limits))
    }
}

fn failure(to: String, reason: String, never_sent: bool) -> TransportError {
    if never_sent {
        TransportError::NotSent { to, reason }
    } else {
        TransportError::Lost { to, reason }
    }
}

/// The peer's host and port, for messages. Never the path: it may hold a client's ids.
fn peer(uri: &Uri) -> String {
    uri.authority().map_or_else(|| "a peer without an address".to_owned(), ToString::to_string)
}

/// An error with what caused it; hyper's own text names only the outermost.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A body that ends at the exchange's deadline and at its size limit.
struct BoundedBody {
    incoming: Incoming,
    deadline: Pin<Box<Sleep>>,
    bytes_left: usize,
    to: String,
}

impl BoundedBody {
    fn lost(&self, reason: impl Into<String>) -> TransportError {
        TransportError::Lost { to: self.to.clone(), reason: reason.into() }
    }
}

impl hyper::body::Body for BoundedBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return match self.deadline.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    Poll::Ready(Some(Err(self.lost("the answer broke off at the deadline"))))
                }
                Poll::Pending => Poll::Pending,
            };
        };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| self.lost(causes(&error)))?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.bytes_left = self
                .bytes_left
                .checked_sub(bytes)
                .ok_or_else(|| self.lost("the answer is larger than allowed"))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
