//! The router's side of the coordinator's API: maps, and the catalogue.
//!
//! Decides which coordinator is asked next; never which map counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use sheaf_map::Map;
use sheaf_runtime::router::{MapReply, MapSource};
use sheaf_runtime::{Clock, entropy};
use sheaf_transport::{Limits, Transport, call_whole};
use sheaf_types::{MapVersion, Time};

use super::shard;
use crate::problem::Problem;
use crate::wire;

/// How long a coordinator may take for what it needn't wait for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a map: 10,000 shards and 10,000 collections need about 8 MiB.
const MAP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Between two rounds of asking all coordinators.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// The coordinators of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Coordinators {
    transport: Arc<dyn Transport>,
    urls: Arc<[String]>,
    authorization: Option<HeaderValue>,
    /// The map that was last answered: the next one may come as a difference from it.
    last: Arc<Mutex<Option<Map>>>,
}

/// Why coordinators can't be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorsError {
    #[error("no coordinator is given: a router without one would never know the map")]
    None,
    #[error("the peer key can't be sent in a header; use visible ASCII")]
    BadKey,
}

impl Coordinators {
    /// The coordinators at these URLs (`http://HOST:PORT`), which are shown `peer_key`.
    ///
    /// # Errors
    /// There is none, or the key isn't visible ASCII.
    pub fn new(
        transport: Arc<dyn Transport>,
        urls: &[String],
        peer_key: Option<&str>,
    ) -> Result<Self, CoordinatorsError> {
        if urls.is_empty() {
            return Err(CoordinatorsError::None);
        }
        let authorization = peer_key.map(authorization).transpose()?;
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self { transport, urls, authorization, last: Arc::default() })
    }

    fn request(
        &self,
        coordinator: usize,
        method: Method,
        path: &str,
    ) -> Result<http::request::Builder, String> {
        let url = self.urls.get(coordinator).ok_or("there is no such coordinator")?;
        let mut request = Request::builder().method(method).uri(format!("{url}{path}"));
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    async fn fetch(
        &self,
        coordinator: usize,
        after: MapVersion,
        wait: Duration,
    ) -> Result<Map, String> {
        let path = format!("/cluster/map?after={}&wait={}", after.0, wait.as_secs_f64());
        let known = self.lock().clone().filter(|known| known.version() == after);
        let mut request = self.request(coordinator, Method::GET, &path)?;
        if known.is_some() {
            request = request.header(wire::MAP_DELTA, "1");
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let limits = Limits { timeout: wait + ANSWER_TIMEOUT, answer_bytes_max: MAP_BYTES_MAX };
        let answer = call_whole(&*self.transport, request, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let url = &self.urls[coordinator];
        if !answer.status().is_success() {
            return Err(format!("{url} answered {} to GET /cluster/map", answer.status()));
        }
        let map = wire::map::read_after(answer.body(), known.as_ref());
        // After a difference that led nowhere, the next answer is a whole map.
        self.lock().clone_from(&map.as_ref().ok().cloned());
        map.map_err(|error| format!("{url} answered with something that is no map: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Map>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a coordinator change the catalogue, whichever decides, and hands on its answer. Repeated until one has answered:
    /// the idempotency key makes that harmless.
    ///
    /// # Errors
    /// 503: nobody was reached. 504: it may have been done.
    pub(super) async fn change(
        &self,
        clock: Clock,
        deadline: Time,
        method: Method,
        path: &str,
        body: Bytes,
        idempotency_key: Option<HeaderValue>,
    ) -> Result<Response<Bytes>, Problem> {
        let key = match idempotency_key {
            Some(key) => key,
            None => HeaderValue::from_str(&entropy::name())
                .map_err(|error| Problem::internal(error.to_string()))?,
        };
        let mut may_be_done = false;
        let mut last = "no coordinator was asked".to_owned();
        while clock.now() < deadline {
            for coordinator in 0..self.urls.len() {
                let request = self.request(coordinator, method.clone(), path);
                let request = request.map_err(Problem::internal)?.header("idempotency-key", &key);
                let request = request.body(body.clone());
                let request = request.map_err(|error| Problem::internal(error.to_string()))?;
                let mut limits = shard::limits(clock, deadline);
                limits.timeout = limits.timeout.min(ANSWER_TIMEOUT);
                match call_whole(&*self.transport, request, limits).await {
                    Ok(answer) if is_decided(answer.status()) => return Ok(answer),
                    Ok(answer) => last = format!("a coordinator answered {}", answer.status()),
                    Err(error) => {
                        may_be_done |= !error.surely_not_sent();
                        last = error.to_string();
                    }
                }
            }
            tokio::time::sleep(ROUND_PAUSE.min(clock.until(deadline))).await;
        }
        Err(undecided(may_be_done, &last))
    }
}

/// Whether a coordinator has decided; one that doesn't lead, or can't store now, says 503.
fn is_decided(status: StatusCode) -> bool {
    !matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::MISDIRECTED_REQUEST
    )
}

fn undecided(may_be_done: bool, last: &str) -> Problem {
    if may_be_done {
        return Problem::outcome_unknown(format!(
            "no coordinator said before the request's deadline whether the catalogue was changed ({last}). List the collections to see, or ask again"
        ));
    }
    Problem::unavailable(format!(
        "no coordinator decided before the request's deadline, so nothing was changed ({last}). Ask again; points are served meanwhile"
    ))
}

impl MapSource for Coordinators {
    fn coordinators(&self) -> usize {
        self.urls.len()
    }

    fn map(&self, coordinator: usize, after: MapVersion, wait: Duration) -> MapReply<'_> {
        Box::pin(self.fetch(coordinator, after, wait))
    }
}

/// The header that shows this key.
pub(crate) fn authorization(key: &str) -> Result<HeaderValue, CoordinatorsError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| CoordinatorsError::BadKey)?;
    value.set_sensitive(true);
    Ok(value)
}
