//! A gate's way to other gates and to the coordinators, over HTTP.
//!
//! Decides which answers count: anything but a clear one is a lost frame, and the donor sends that again.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, header};
use sheaf_map::Map;
use sheaf_protocol::Frame;
use sheaf_runtime::gate::{FrameAnswer, Peers, Reply};
use sheaf_runtime::router::MapSource;
use sheaf_transport::{Limits, Transport, call_whole};
use sheaf_types::MapVersion;
use tracing::debug;

use crate::frame::{self, FRAME_MEDIA_TYPE};
use crate::router::{Coordinators, CoordinatorsError, cluster};
use crate::wire::peer::FrameReply;

/// How long a recipient may take for a frame before the donor sends it again.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the answer to a frame.
const FRAME_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a coordinator may wait for the version that is wanted.
const MAP_WAIT: Duration = Duration::from_secs(1);

/// Peers that are reached by HTTP.
#[derive(Clone)]
pub struct HttpPeers {
    transport: Arc<dyn Transport>,
    coordinators: Coordinators,
    authorization: Option<HeaderValue>,
}

impl HttpPeers {
    /// The coordinators at these URLs, and gates wherever the map says; all are shown `peer_key`.
    ///
    /// # Errors
    /// There is no coordinator, or the key isn't visible ASCII.
    pub fn new(
        transport: Arc<dyn Transport>,
        coordinators: &[String],
        peer_key: Option<&str>,
    ) -> Result<Self, CoordinatorsError> {
        let coordinators = Coordinators::new(transport.clone(), coordinators, peer_key)?;
        let authorization = peer_key.map(cluster::authorization).transpose()?;
        Ok(Self { transport, coordinators, authorization })
    }

    /// What the gate at `url` answered, or why that is not known.
    async fn send(&self, url: &str, frame: &Frame) -> Result<FrameReply, String> {
        let uri = format!("{}/internal/frame", url.trim_end_matches('/'));
        let mut request = Request::post(uri).header(header::CONTENT_TYPE, FRAME_MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(frame::encode(frame)).map_err(|error| error.to_string())?;
        let limits = Limits { timeout: FRAME_TIMEOUT, answer_bytes_max: FRAME_ANSWER_BYTES_MAX };
        let answer = call_whole(&*self.transport, request, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url} answered {} to a frame", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
    }

    async fn map(&self, at_least: MapVersion) -> Option<Arc<Map>> {
        let after = MapVersion(at_least.0.saturating_sub(1));
        for coordinator in 0..self.coordinators.coordinators() {
            match self.coordinators.map(coordinator, after, MAP_WAIT).await {
                Ok(map) if map.version() >= at_least => return Some(Arc::new(map)),
                Ok(map) => debug!(version = map.version().0, "a coordinator has only an older map"),
                Err(reason) => debug!(%reason, "a coordinator can't be asked for the map"),
            }
        }
        None
    }
}

impl Peers for HttpPeers {
    fn send_frame(&self, url: String, frame: Frame) -> Reply<'_, FrameAnswer> {
        Box::pin(async move {
            match self.send(&url, &frame).await {
                Ok(FrameReply::Carried(verdict)) => FrameAnswer::Carried(verdict),
                Ok(FrameReply::Refused(refusal)) => FrameAnswer::Refused(refusal),
                Err(reason) => {
                    debug!(%reason, "the answer to a frame is lost; it is sent again");
                    FrameAnswer::Lost
                }
            }
        })
    }

    fn fetch_map(&self, at_least: MapVersion) -> Reply<'_, Option<Arc<Map>>> {
        Box::pin(self.map(at_least))
    }
}
