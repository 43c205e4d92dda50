//! TCP connections that are reset when they are given up: what the system still had to send is thrown away.
//!
//! For peers that must not carry out, later, what the caller has given up. A connection that is closed in the usual way goes on
//! sending in the background.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

/// Makes such connections.
#[derive(Clone, Debug)]
pub struct AbortingConnector(HttpConnector);

impl AbortingConnector {
    pub(crate) fn new(connector: HttpConnector) -> Self {
        Self(connector)
    }
}

impl Service<Uri> for AbortingConnector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            stream.inner().set_zero_linger()?;
            Ok(stream)
        })
    }
}
