//! Whether Quiver's log can be trusted: a write goes to the server only then, and one at a time. (One may be several requests, which are
//! carried out together or not at all, as far as anybody is told.)
//!
//! A write that Quiver fails (its disk is full, say) may leave a torn record in its log. Quiver goes on, answers later writes, and
//! at its next start reads up to the torn record: all behind it is gone. So once it failed a write, nothing more is written until it was
//! restarted, which cuts the log at the tear. That it was restarted shows in its count of failed writes, which begins anew.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::Inner;
use super::server::CallError;

/// The routes of writes, as Quiver's metrics name them.
const WRITE_ROUTES: [&str; 4] = [
    r#"route="/v1/collections""#,
    r#"route="/v1/collections/{name}""#,
    r#"route="/v1/collections/{name}/points""#,
    r#"route="/v1/collections/{name}/points:bulk""#,
];
const FAILED_METRIC: &str = "quiver_http_request_errors_total{";

/// What is known of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Sound,
    /// Quiver failed a write. With the number of those that it had counted when it was first asked.
    Suspect(Option<u64>),
}

impl Log {
    /// A write that Quiver fails makes it suspect.
    pub fn note<T>(&mut self, answer: &Result<T, CallError>) {
        if let Err(CallError::Refused { status, .. }) = answer
            && status.is_server_error()
            && *status != StatusCode::NOT_IMPLEMENTED
        {
            *self = Self::Suspect(None);
        }
    }
}

impl Inner {
    /// Sends a write, unless the log is suspect.
    pub async fn write_through(
        &self,
        log: &mut Log,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        self.check_log(log).await?;
        let answer = self.server.call(method, path, body, self.options.write_deadline).await;
        log.note(&answer);
        answer
    }

    /// A write with a body of JSON; `null`: without one.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Bytes, CallError> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut log = self.log.lock().await;
        self.write_through(&mut log, method, path, body).await
    }

    /// At the start of the shard: what the server failed before is unknown, but for that it did.
    pub async fn first_look_at_log(&self) -> Result<(), CallError> {
        let mut log = self.log.lock().await;
        let failed = self.failed_writes().await?;
        *log = if failed == 0 { Log::Sound } else { Log::Suspect(Some(failed)) };
        Ok(())
    }

    pub async fn check_log(&self, log: &mut Log) -> Result<(), CallError> {
        let Log::Suspect(before) = *log else { return Ok(()) };
        let now = self.failed_writes().await?;
        let was_restarted = now == 0 || before.is_some_and(|before| now < before);
        if was_restarted {
            *log = Log::Sound;
            return Ok(());
        }
        *log = Log::Suspect(Some(before.unwrap_or(now)));
        Err(CallError::Withheld)
    }

    /// Writes that the server has failed or refused since it was started.
    async fn failed_writes(&self) -> Result<u64, CallError> {
        let text = self.get("/metrics").await?;
        Ok(failed_writes(&String::from_utf8_lossy(&text)))
    }
}

fn failed_writes(metrics: &str) -> u64 {
    let is_write = |line: &&str| {
        let labels = line.strip_prefix(FAILED_METRIC).and_then(|rest| rest.split_once("} "));
        labels.is_some_and(|(labels, _)| {
            !labels.contains(r#"method="GET""#)
                && WRITE_ROUTES.iter().any(|route| labels.ends_with(route))
        })
    };
    let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
    metrics.lines().filter(is_write).filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_failed_are_counted_and_nothing_else() {
        let metrics = r#"# TYPE quiver_http_request_errors_total counter
quiver_http_requests_total{method="POST",route="/v1/collections/{name}/points"} 900
quiver_http_request_errors_total{method="GET",route="/v1/collections/{name}/points/{id}"} 70
quiver_http_request_errors_total{method="GET",route="/v1/collections/{name}"} 6
quiver_http_request_errors_total{method="POST",route="/v1/collections/{name}/query"} 5
quiver_http_request_errors_total{method="POST",route="/v1/collections/{name}/points"} 3
quiver_http_request_errors_total{method="DELETE",route="/v1/collections/{name}/points"} 1
"#;
        assert_eq!(failed_writes(metrics), 4);
        assert_eq!(failed_writes(""), 0);
    }
}
