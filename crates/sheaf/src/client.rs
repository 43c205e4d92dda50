//! The operator's HTTP client: which server to ask, and what an answer means for the exit status.
//!
//! Repeats only what is surely not applied, or reads. Never prints.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// All but letters, digits and what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Seconds that an answer may take, long polls aside.
const ANSWER_SECS_MAX: u64 = 30;
/// Seconds, about, until some coordinator has decided on a change. Longer than a leader's lease and its successor's start.
const DECIDE_SECS_MAX: u32 = 10;
/// Between two rounds over all coordinators.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// Seconds that a connection may take.
const CONNECT_SECS_MAX: u64 = 3;

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The command can't mean anything; nothing was asked.
    Usage(String),
    /// Nobody answered, and nothing was applied.
    Unreachable(String),
    /// The server refused; nothing was applied. Its title and its detail.
    Refused { status: u16, title: String, detail: String },
    /// It may or may not have been applied.
    Unknown(String),
    /// Something else did not go as promised.
    Failed(String),
}

impl Failure {
    /// 1: refused or failed, 2: usage, 3: unknown outcome.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable(_) | Self::Refused { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unknown(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unreachable(text) | Self::Failed(text) => f.write_str(text),
            Self::Refused { status, title, detail } if detail.is_empty() => {
                write!(f, "{title} ({status})")
            }
            Self::Refused { title, detail, .. } => write!(f, "{title}: {detail}"),
            Self::Unknown(text) => write!(f, "outcome unknown: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// One text as a segment of a path: ids are any string.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// `http://HOST[:PORT]` without a slash at its end.
///
/// # Errors
/// The text is something else; the words say what.
pub fn base_url(text: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("{text:?} {why}; give http://HOST:PORT");
    let url = Url::parse(text.trim()).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if url.scheme() != "http" {
        return Err(wrong("is not an http URL"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has something behind the address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has a user in it; keys are given with --api-key"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Talks to the servers of one role: several addresses of the same thing.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    role: &'static str,
    urls: Vec<String>,
    key: Option<String>,
}

impl Client {
    /// A client of `role` (a word for messages) at these URLs.
    ///
    /// # Errors
    /// There is no URL, or one is malformed.
    pub fn new(role: &'static str, urls: &[String], key: Option<&str>) -> Result<Self, Failure> {
        if urls.is_empty() {
            let variable = role.to_ascii_uppercase();
            return Err(Failure::Usage(format!(
                "no {role} is given; add --{role} URL or set SHEAF_{variable}"
            )));
        }
        let urls: Result<Vec<String>, String> = urls.iter().map(|url| base_url(url)).collect();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
            .timeout(Duration::from_secs(ANSWER_SECS_MAX))
            .no_proxy()
            .build()
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self {
            http,
            role,
            urls: urls.map_err(Failure::Usage)?,
            key: key.map(|key| key.split(':').next().unwrap_or(key).to_owned()),
        })
    }

    /// The answer to a read.
    ///
    /// # Errors
    /// Nobody answered, or it was refused.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, &Change::none()).await
    }

    /// The answer to a question that needs a body and changes nothing.
    ///
    /// # Errors
    /// As of [`Self::get`].
    pub async fn question<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, Some(body), &Change::none()).await
    }

    /// The answer to a change, which carries its own idempotency key.
    ///
    /// # Errors
    /// As of [`Self::get`], or its outcome is unknown.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        change: &Change,
    ) -> Result<T, Failure> {
        self.ask(method, path, body, change).await
    }

    /// Asks one server after the other. A change that several could answer is asked until one has decided or
    /// `DECIDE_SECS_MAX` is over: it has an idempotency key, and another coordinator leads soon when the leader is gone.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        change: &Change,
    ) -> Result<T, Failure> {
        let is_repeatable = change.is_change() && self.urls.len() > 1;
        let mut unknown = None;
        let mut last = Failure::Failed(format!("there is no {}", self.role));
        for round in 0..DECIDE_SECS_MAX {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            for url in &self.urls {
                match self.ask_one(url, &method, path, body, change).await {
                    // Another coordinator may lead.
                    Err(
                        failure @ (Failure::Refused { status: 503, .. } | Failure::Unreachable(_)),
                    ) => last = failure,
                    Err(failure @ Failure::Unknown(_)) if is_repeatable => unknown = Some(failure),
                    decided => return decided,
                }
            }
            if !is_repeatable {
                break;
            }
        }
        Err(unknown.unwrap_or(last))
    }

    async fn ask_one<T: DeserializeOwned>(
        &self,
        url: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        change: &Change,
    ) -> Result<T, Failure> {
        let mut request = self.http.request(method.clone(), format!("{url}{path}"));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(key) = &change.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(version) = change.expected_version {
            request = request.header("if-match", version.to_string());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        match request.send().await {
            Ok(response) => answer(response, change.is_change()).await,
            Err(error) => Err(self.explain(url, &error, change.is_change())),
        }
    }

    fn explain(&self, url: &str, error: &reqwest::Error, is_change: bool) -> Failure {
        let role = self.role;
        if error.is_connect() {
            return Failure::Unreachable(format!(
                "no {role} answers at {url}, so nothing was changed; is it running, and is the address right? ({})",
                innermost(error)
            ));
        }
        let what = format!("the {role} at {url} did not answer to the end ({})", innermost(error));
        if is_change {
            return Failure::Unknown(format!(
                "{what}; look with `sheaf status` before asking again"
            ));
        }
        Failure::Unreachable(what)
    }
}

/// How a change is protected against being made twice, or on a cluster that has moved on.
#[derive(Clone, Debug, Default)]
pub struct Change {
    idempotency_key: Option<String>,
    expected_version: Option<u64>,
}

impl Change {
    fn none() -> Self {
        Self::default()
    }

    /// A change that is made once, however often it is sent.
    pub fn once(idempotency_key: String, expected_version: Option<u64>) -> Self {
        Self { idempotency_key: Some(idempotency_key), expected_version }
    }

    fn is_change(&self) -> bool {
        self.idempotency_key.is_some()
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an answer means.
async fn answer<T: DeserializeOwned>(
    response: reqwest::Response,
    is_change: bool,
) -> Result<T, Failure> {
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) if is_change => {
            return Err(Failure::Unknown(format!(
                "the answer was cut off ({})",
                innermost(&error)
            )));
        }
        Err(error) => {
            return Err(Failure::Failed(format!("the answer was cut off ({})", innermost(&error))));
        }
    };
    if status.is_success() {
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return serde_json::from_slice(body).map_err(|error| {
            Failure::Failed(format!("the answer is not what this version expects: {error}"))
        });
    }
    Err(refusal(status, &body))
}

/// A problem in words.
pub fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let title = text("title")
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("the server refused").to_owned());
    let detail = text("detail").unwrap_or_else(|| {
        String::from_utf8_lossy(body).chars().take(300).collect::<String>().trim().to_owned()
    });
    if status == StatusCode::GATEWAY_TIMEOUT {
        return Failure::Unknown(detail);
    }
    Failure::Refused { status: status.as_u16(), title, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_whatever_it_contains() {
        assert_eq!(segment("a/b?c#d%"), "a%2Fb%3Fc%23d%25");
        assert_eq!(segment("wn:0 ü"), "wn%3A0%20%C3%BC");
    }

    #[test]
    fn a_node_is_named_by_scheme_host_and_port_and_nothing_else() {
        assert_eq!(base_url("http://127.0.0.1:7600/"), Ok("http://127.0.0.1:7600".to_owned()));
        assert_eq!(base_url(" http://[::1]:7600 "), Ok("http://[::1]:7600".to_owned()));
        for wrong in [
            "",
            "127.0.0.1:7600",
            "https://a",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://k@a",
        ] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_504_is_an_unknown_outcome_and_any_other_problem_a_refusal_in_its_own_words() {
        let body =
            br#"{"title":"Conflict","status":409,"detail":"it exists; choose another name"}"#;
        let failure = refusal(StatusCode::CONFLICT, body);
        assert_eq!(failure.to_string(), "Conflict: it exists; choose another name");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(refusal(StatusCode::GATEWAY_TIMEOUT, b"{}").exit_code(), 3);
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"").to_string(), "Bad Gateway (502)");
    }
}
