//! The HTTP port: one request, one answer, one deadline, and an error that says whether the request may have left.
//!
//! Decides nothing about retries: only who asks knows whether asking twice is harmless.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// The answer, when it comes.
pub type Reply<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'a>>;

/// An answer's body, as it arrives. It ends with `Lost` when the deadline passes or the body grows too long.
pub type Body = UnsyncBoxBody<Bytes, TransportError>;

/// How long and how large an exchange may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the call to the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub answer_bytes_max: usize,
}

/// Sends HTTP requests.
pub trait Transport: Send + Sync + 'static {
    /// Sends the request to the authority of its URI and answers with whatever status comes back.
    ///
    /// # Errors
    /// `NotSent`: the peer surely never saw any of it. `Lost`: it may have been carried out.
    fn call(&self, request: Request<Bytes>, limits: Limits) -> Reply<'_>;
}

/// Why there is no (whole) answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made, so nothing can have been carried out.
    #[error("{to} can't be reached, so nothing was sent: {reason}")]
    NotSent { to: String, reason: String },
    /// The exchange broke or took too long: the request may have been carried out, now or later.
    #[error("no whole answer came from {to}, which may have carried out the request: {reason}")]
    Lost { to: String, reason: String },
}

impl TransportError {
    /// Whether the peer surely saw nothing of the request.
    pub fn surely_not_sent(&self) -> bool {
        match self {
            Self::NotSent { .. } => true,
            Self::Lost { .. } => false,
        }
    }
}

/// [`Transport::call`], with the whole body read.
///
/// # Errors
/// Those of the call; a body that breaks off is `Lost`.
pub async fn call_whole(
    transport: &dyn Transport,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, TransportError> {
    let (parts, body) = transport.call(request, limits).await?.into_parts();
    let mut buffer = body.collect().await?.aggregate();
    let length = buffer.remaining();
    // A body of one piece is taken over without a copy.
    Ok(Response::from_parts(parts, buffer.copy_to_bytes(length)))
}
