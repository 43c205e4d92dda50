//! Reads points of a Quiver server by many ids at once, their vectors as bytes: its REST interface gives out one point in a request,
//! and writes a vector as text.
//!
//! Decides how many ids go into one request. Reads only: whether a write failed shows in what Quiver counts of its REST interface.

mod messages;

use std::time::Duration;

use http::uri::PathAndQuery;
use sheaf_engines::{ManyReads, ReadError, ReadPoint, ReadingMany};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use messages::{GetPointsRequest, GetPointsResponse};

const GET_POINTS: &str = "/quiver.v1.Quiver/GetPoints";
/// Bytes of one answer; with more, half of the ids are asked for, then the other half.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one HTTP/2 frame, so that an answer of a megabyte or two comes in a few pieces; 16 KiB unless one says so.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
const CONNECT_SECS_MAX: u64 = 5;
/// Seconds without a word until the server is asked whether it is still there, and until it counts as gone.
const KEEP_ALIVE_SECS: u64 = 5;

/// Where the interface is, and how long an answer may take.
#[derive(Clone, Debug)]
pub struct GrpcReadsOptions {
    /// `http://HOST:PORT`.
    pub url: String,
    /// A key that may read all collections.
    pub key: Option<String>,
    pub read_deadline: Duration,
}

/// Reads over gRPC. Connects when it is first asked, and again whenever the connection is gone.
#[derive(Clone, Debug)]
pub struct GrpcReads {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    read_deadline: Duration,
}

impl GrpcReads {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// The URL is none, or the key can't be sent.
    pub fn new(options: &GrpcReadsOptions) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(options.url.clone())
            .map_err(|error| format!("{} is no URL of a server: {error}", options.url))?;
        let authorization = options.key.as_ref().map(|key| {
            let value = MetadataValue::try_from(format!("Bearer {key}"));
            value
                .map_err(|_| "the engine's key has characters that a header can't carry".to_owned())
        });
        let channel = endpoint
            .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
            .http2_keep_alive_interval(Duration::from_secs(KEEP_ALIVE_SECS))
            .keep_alive_timeout(Duration::from_secs(KEEP_ALIVE_SECS))
            .tcp_nodelay(true)
            .max_frame_size(FRAME_BYTES_MAX)
            .connect_lazy();
        let read_deadline = options.read_deadline;
        Ok(Self { channel, authorization: authorization.transpose()?, read_deadline })
    }

    async fn ask(&self, collection: &str, ids: &[String]) -> Result<GetPointsResponse, Status> {
        let asked = GetPointsRequest {
            collection: collection.to_owned(),
            ids: ids.to_vec(),
            with_vector: true,
        };
        let mut request = Request::new(asked);
        request.set_timeout(self.read_deadline);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<GetPointsRequest, GetPointsResponse> = ProstCodec::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(GET_POINTS), codec).await?;
        Ok(answer.into_inner())
    }

    /// Asks for all of them, in halves where they are too many bytes.
    async fn read(&self, collection: &str, ids: Vec<String>) -> Result<Vec<ReadPoint>, ReadError> {
        let mut found = Vec::with_capacity(ids.len());
        let mut waiting = vec![ids];
        while let Some(mut some) = waiting.pop() {
            match self.ask(collection, &some).await {
                Ok(answer) => {
                    for point in answer.points {
                        let cut = || ReadError::NoAnswer("gRPC: a vector is cut short".to_owned());
                        found.push(point.read().ok_or_else(cut)?);
                    }
                }
                Err(status) if status.code() == Code::OutOfRange && some.len() > 1 => {
                    waiting.push(some.split_off(some.len() / 2));
                    waiting.push(some);
                }
                Err(status) => return Err(failure(&status)),
            }
        }
        Ok(found)
    }
}

impl ManyReads for GrpcReads {
    fn read(&self, collection: String, ids: Vec<String>) -> ReadingMany<'_> {
        Box::pin(async move {
            let deadline = self.read_deadline;
            let read = tokio::time::timeout(deadline, self.read(&collection, ids));
            read.await.unwrap_or_else(|_| {
                Err(ReadError::NoAnswer(format!("no answer over gRPC within {deadline:?}")))
            })
        })
    }
}

fn failure(status: &Status) -> ReadError {
    let words = || format!("gRPC, {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => ReadError::NoCollection,
        Code::Unauthenticated | Code::PermissionDenied => ReadError::KeyRefused(words()),
        _ => ReadError::NoAnswer(words()),
    }
}
