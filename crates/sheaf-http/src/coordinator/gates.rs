//! The coordinator's calls of gates over HTTP: directives and identities.
//!
//! Decides what an answer means for the core: a report, a refusal, or nothing that can be relied on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use sheaf_coordinator::{Identity, Outgoing, PollAnswer};
use sheaf_protocol::GateReport;
use sheaf_runtime::coordinator::{GateReply, Gates};
use sheaf_transport::{Limits, Transport, call_whole};

use crate::wire::directive::{ToldMaps, Written};
use crate::wire::peer::DirectiveReply;

/// How long a gate may take for what it needn't wait for.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a node may take to say who it is.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a report: 10,000 recipients need about 4 MiB.
const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The gates, over HTTP.
pub struct HttpGates {
    transport: Arc<dyn Transport>,
    authorization: Option<HeaderValue>,
    told: ToldMaps,
}

impl HttpGates {
    /// Gates are shown `authorization`.
    pub fn new(transport: Arc<dyn Transport>, authorization: Option<HeaderValue>) -> Self {
        Self { transport, authorization, told: ToldMaps::default() }
    }

    /// Maps of more bytes are left out where a gate has them, or sent as what has changed.
    pub fn with_whole_maps_up_to(self, bytes: usize) -> Self {
        Self { told: ToldMaps::new(bytes), ..self }
    }

    async fn poll(&self, outgoing: Outgoing) -> Result<PollAnswer, String> {
        let short = self.told.write(&outgoing.url, &outgoing.directive, false);
        let short = short.map_err(|error| error.to_string())?;
        let answer = self.send(&outgoing, &short).await;
        self.told.sent(&outgoing.url, &short);
        match answer? {
            Some(answer) => Ok(answer),
            None => {
                let whole = self.told.write(&outgoing.url, &outgoing.directive, true);
                let whole = whole.map_err(|error| error.to_string())?;
                let answer = self.send(&outgoing, &whole).await?;
                answer.ok_or_else(|| "it says that it wasn't sent the map, and it was".to_owned())
            }
        }
    }

    /// `None`: it needs the map that was left out.
    async fn send(
        &self,
        outgoing: &Outgoing,
        written: &Written,
    ) -> Result<Option<PollAnswer>, String> {
        let Outgoing { url, wait_ms, seen_incarnation, seen_seq, .. } = outgoing;
        let url = format!(
            "{url}/internal/directive?wait_ms={wait_ms}&seen_incarnation={}&seen_seq={seen_seq}",
            seen_incarnation.0
        );
        let timeout = Duration::from_millis(*wait_ms) + ANSWER_TIMEOUT;
        let limits = Limits { timeout, answer_bytes_max: REPORT_BYTES_MAX };
        let (authorization, body) = (self.authorization.as_ref(), written.body.clone());
        let answer =
            call(&*self.transport, Method::POST, &url, authorization, body, limits).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::CONFLICT => Ok(match read(&answer)? {
                DirectiveReply::Report(report) => Some(PollAnswer::Report(report)),
                DirectiveReply::Refusal(refusal) => Some(PollAnswer::Refused(refusal)),
                DirectiveReply::MapNeeded => None,
            }),
            // A gate of the version before doesn't know that a map can be left out.
            StatusCode::BAD_REQUEST if !written.is_whole => Ok(None),
            _ => Err(unexpected(&answer)),
        }
    }

    async fn report(&self, url: &str) -> Result<GateReport, String> {
        let url = format!("{url}/internal/report");
        let limits = Limits { timeout: IDENTITY_TIMEOUT, answer_bytes_max: REPORT_BYTES_MAX };
        let authorization = self.authorization.as_ref();
        let answer =
            call(&*self.transport, Method::GET, &url, authorization, Vec::new(), limits).await?;
        if answer.status() == StatusCode::OK { read(&answer) } else { Err(unexpected(&answer)) }
    }
}

impl Gates for HttpGates {
    fn direct(&self, outgoing: Outgoing) -> GateReply<'_, PollAnswer> {
        Box::pin(async move {
            let answer = self.poll(outgoing).await;
            answer.unwrap_or_else(|reason| PollAnswer::Unreachable { reason })
        })
    }

    fn identify(&self, url: String) -> GateReply<'_, Identity> {
        Box::pin(async move {
            match self.report(&url).await {
                Ok(report) => Identity::Gate(Box::new(report)),
                Err(reason) => Identity::Unreachable { reason },
            }
        })
    }
}

/// One call of a gate.
pub(super) async fn call(
    transport: &dyn Transport,
    method: Method,
    url: &str,
    authorization: Option<&HeaderValue>,
    body: impl Into<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, String> {
    let mut request = Request::builder().method(method).uri(url);
    request = request.header(header::CONTENT_TYPE, "application/json");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(body.into()).map_err(|error| error.to_string())?;
    call_whole(transport, request, limits).await.map_err(|error| error.to_string())
}

pub(super) fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, String> {
    serde_json::from_slice(answer.body())
        .map_err(|error| format!("its answer can't be understood: {error}"))
}

pub(super) fn unexpected(answer: &Response<Bytes>) -> String {
    match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "it doesn't accept the peer key; give both the same one".to_owned()
        }
        StatusCode::NOT_FOUND => "what answers there is no shard of Sheaf".to_owned(),
        status => format!("it answered {status}"),
    }
}
