//! A replica's HTTP: searches at one version of the map; all that names no version is answered for the whole cluster, as by a gate.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use sheaf_engines::Search;
use sheaf_protocol::GateReport;
use sheaf_runtime::gate::NotServed;
use sheaf_runtime::replica::{Primary, ReplicaHost, VersionReply};
use sheaf_transport::{Limits, Transport, call_whole};
use sheaf_types::{MapVersion, ShardId};

use crate::auth::{Keys, Role};
use crate::call;
use crate::gate::{answer, gather, number, refusal};
use crate::metrics;
use crate::metrics::gauges::Gauges;
use crate::problem::Problem;
use crate::router::target::Target;
use crate::router::{CoordinatorsError, InnerRouter, cluster, intake};
use crate::wire::query::Query;
use crate::wire::{MAP_VERSION, SHARD};

/// How long a gate may take to say which version it serves.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
const REPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The routes of a replica.
pub fn replica(host: ReplicaHost, keys: Keys, cluster: InnerRouter) -> Router {
    metrics::begin();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .fallback(serve)
        .with_state(Arc::new(Api { host, keys, cluster }))
}

struct Api {
    host: ReplicaHost,
    keys: Keys,
    cluster: InnerRouter,
}

async fn readyz(State(api): State<Arc<Api>>) -> Result<String, Problem> {
    let version = api.host.version().ok_or_else(|| {
        Problem::unavailable(
            "this replica isn't known to have caught up with its shard; searches are left to the shard itself. Its log says why",
        )
    })?;
    Ok(format!("caught up at map {version}\n"))
}

async fn figures(State(api): State<Arc<Api>>) -> Response {
    let mut gauges = Gauges::default();
    let help = "The version of the map that the replica serves; 0: none, it isn't known to have caught up.";
    gauges.one("sheaf_replica_map_version", help, api.host.version().map_or(0, |v| v.0));
    metrics::answer(gauges)
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = |target| api.answer(target, &parts.headers, body);
    call::counted(metrics::Role::Replica, api.host.clock(), &parts, answer).await
}

impl Api {
    async fn answer(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let caller = self.keys.caller(headers)?;
        let deadline = intake::deadline(self.host.clock(), headers)?;
        let version = number(headers, &MAP_VERSION)?.map(MapVersion);
        let shard = number(headers, &SHARD)?.map(ShardId);
        let body = intake::body(self.host.clock(), deadline, body).await?;
        let Some(version) = version else {
            return self.cluster.answer(target, headers, &caller, deadline, body).await;
        };
        let Target::Query(name) = target else {
            return Err(Problem::not_implemented(
                "a replica answers searches only; ask the shard itself. Nothing was applied",
            ));
        };
        caller.need(Role::Read, &name.text)?;
        let query = Query::read(&body)?;
        let (filter, shown) = (query.filter()?, query.shown());
        let search = |accept| Search {
            vector: query.vector,
            vector_json: Some(query.vector_json),
            k: query.k,
            ef: query.ef_search,
            accept,
            filter,
            bodies: shown.bodies(),
        };
        let served = self.host.search(version, shard, &name.text, deadline, search).await;
        let served = served.map_err(refusal::problem)?;
        let json = gather::matches(&served.value, shown);
        let json = json.map_err(|error| refusal::problem(NotServed::Engine(error)))?;
        Ok(answer(served.version, json))
    }
}

/// A gate that is asked over HTTP what it serves.
pub struct HttpPrimary {
    transport: Arc<dyn Transport>,
    authorization: Option<HeaderValue>,
}

impl HttpPrimary {
    /// Gates are shown `peer_key`.
    ///
    /// # Errors
    /// The key can't be sent in a header.
    pub fn new(
        transport: Arc<dyn Transport>,
        peer_key: Option<&str>,
    ) -> Result<Self, CoordinatorsError> {
        let authorization = peer_key.map(cluster::authorization).transpose()?;
        Ok(Self { transport, authorization })
    }

    async fn report(&self, url: &str) -> Result<GateReport, String> {
        let uri = format!("{}/internal/report", url.trim_end_matches('/'));
        let mut request = http::Request::get(uri);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let limits = Limits { timeout: REPORT_TIMEOUT, answer_bytes_max: REPORT_BYTES_MAX };
        let answer = call_whole(&*self.transport, request, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url} answered {}", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
    }
}

impl Primary for HttpPrimary {
    fn version(&self, url: String, shard: ShardId) -> VersionReply<'_> {
        Box::pin(async move {
            match self.report(&url).await {
                Ok(report) => report.map_version.filter(|_| report.shard == Some(shard)),
                Err(reason) => {
                    tracing::debug!(%reason, "the shard's gate doesn't say what it serves");
                    None
                }
            }
        })
    }
}
