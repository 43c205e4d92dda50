//! The rest of a body that was refused unread: read and thrown away, within bounds, so that the client gets to read why.
//!
//! A server that closes a connection with bytes unread has the system reset it, and the reset overtakes the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use sheaf_types::limits::BODY_BYTES_MAX;
use tower::util::MapRequestLayer;

/// Bytes that are thrown away; who sends more sees the connection break.
const DRAIN_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// For how long, at most.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The same routes; what they leave unread of a body is read out.
pub fn drained(routes: Router) -> Router {
    routes.layer(MapRequestLayer::new(|request: Request<Body>| {
        if request.body().is_end_stream() {
            return request;
        }
        request.map(|body| Body::new(Drained { body, ended: false }))
    }))
}

struct Drained {
    body: Body,
    ended: bool,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let body = std::mem::take(&mut self.body);
        // Without a runtime there is no connection any more either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME_MAX, read_out(body)));
        }
    }
}

async fn read_out(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
