//! The demo's client of a router: one request, one answer, no second try. It must see what any client would see.
//!
//! Decides what an answer means for the record: acknowledged, surely not applied, or unknown. Never hides a failure.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::{refusal, segment};
use crate::import::Point;

/// The collection that the demo fills.
pub const COLLECTION: &str = "senses";
/// Seconds that the demo waits for an answer; longer than a router may take.
const ANSWER_SECS_MAX: u64 = 30;

/// Why a request did not succeed.
#[derive(Clone, Debug)]
pub enum Miss {
    /// Nothing was applied.
    Refused(String),
    /// It may have been applied, or will be.
    Unknown(String),
}

impl Miss {
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Unknown(why) => why,
        }
    }
}

/// A hit of a search, or a point of a list.
#[derive(Debug, Deserialize)]
pub struct Hit {
    pub id: String,
    #[serde(default)]
    pub score: Option<f64>,
    #[serde(default)]
    pub payload: Value,
}

impl Hit {
    /// The stamp of the write that made it.
    pub fn stamp(&self) -> Option<u64> {
        self.payload.get("stamp").and_then(Value::as_u64)
    }
}

/// One router.
#[derive(Clone, Debug)]
pub struct Router {
    http: reqwest::Client,
    url: String,
}

impl Router {
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(ANSWER_SECS_MAX))
            .no_proxy()
            .build()?;
        Ok(Self { http, url: url.to_owned() })
    }

    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn create(&self, dim: usize) -> Result<(), Miss> {
        let body = json!({
            "name": COLLECTION, "dim": dim, "metric": "cosine",
            "filterable": [{ "path": "group", "field_type": "numeric" }],
        });
        self.ask::<Value>(Method::POST, "/v1/collections", Some(&body)).await.map(drop)
    }

    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn put(&self, points: &[Point]) -> Result<(), Miss> {
        let path = format!("/v1/collections/{COLLECTION}/points");
        let body = json!({ "points": points });
        self.ask::<Value>(Method::POST, &path, Some(&body)).await.map(drop)
    }

    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn delete(&self, ids: &[&str]) -> Result<(), Miss> {
        let path = format!("/v1/collections/{COLLECTION}/points");
        self.ask::<Value>(Method::DELETE, &path, Some(&json!({ "ids": ids }))).await.map(drop)
    }

    /// The point; `None` when it is absent.
    ///
    /// # Errors
    /// It was not answered.
    pub async fn get(&self, id: &str) -> Result<Option<Point>, Miss> {
        let path = format!("/v1/collections/{COLLECTION}/points/{}", segment(id));
        self.ask_maybe(Method::GET, &path, None).await.map(Result::ok)
    }

    /// # Errors
    /// It was not answered.
    pub async fn query(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<Value>,
    ) -> Result<Vec<Hit>, Miss> {
        #[derive(Deserialize)]
        struct Answer {
            matches: Vec<Hit>,
        }
        let mut body = json!({ "vector": vector, "k": k });
        if let Some(filter) = filter {
            body["filter"] = filter;
        }
        let path = format!("/v1/collections/{COLLECTION}/query");
        self.ask::<Answer>(Method::POST, &path, Some(&body)).await.map(|answer| answer.matches)
    }

    /// # Errors
    /// It was not answered.
    pub async fn fetch(&self, filter: Value, limit: usize) -> Result<Vec<Hit>, Miss> {
        #[derive(Deserialize)]
        struct Answer {
            points: Vec<Hit>,
        }
        let body = json!({ "filter": filter, "limit": limit });
        let path = format!("/v1/collections/{COLLECTION}/fetch");
        self.ask::<Answer>(Method::POST, &path, Some(&body)).await.map(|answer| answer.points)
    }

    /// Points in the cluster, as the list of collections says.
    ///
    /// # Errors
    /// It was not answered.
    pub async fn count(&self) -> Result<u64, Miss> {
        let path = format!("/v1/collections/{COLLECTION}");
        let collection: Value = self.ask(Method::GET, &path, None).await?;
        let count = collection.get("count").and_then(Value::as_u64);
        count.ok_or_else(|| Miss::Refused(format!("the collection has no count: {collection}")))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Miss> {
        let answer = self.ask_maybe(method, path, body).await?;
        answer.map_err(|said| Miss::Refused(format!("404 for {path}: {said}")))
    }

    /// What there is; or what a 404 says, which a get has for a point that is absent.
    async fn ask_maybe<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<T, String>, Miss> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            let why = format!("{path}: {error}");
            if error.is_connect() { Miss::Refused(why) } else { Miss::Unknown(why) }
        })?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| Miss::Unknown(error.to_string()))?;
        match status {
            status if status.is_success() => serde_json::from_slice(&body)
                .map(Ok)
                .map_err(|error| Miss::Unknown(format!("{path}: {error}"))),
            StatusCode::NOT_FOUND => Ok(Err(refusal(status, &body).to_string())),
            StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR => {
                Err(Miss::Unknown(format!("{status}: {}", refusal(status, &body))))
            }
            _ => Err(Miss::Refused(format!("{status}: {}", refusal(status, &body)))),
        }
    }
}
