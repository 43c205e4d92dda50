//! A copy of the whole server, by the server itself, on its own machine.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::Inner;
use super::server::CallError;
use crate::EngineError;

/// How long a copy may take.
const DEADLINE: Duration = Duration::from_secs(600);

impl Inner {
    /// Has the server write its data into a folder beside the shard's; a server can be started on it.
    pub(super) async fn snapshot(&self, beside: PathBuf) -> Result<Option<PathBuf>, EngineError> {
        let mut name = beside.file_name().unwrap_or_default().to_owned();
        name.push("-quiver");
        let folder = beside.with_file_name(name);
        let body = Bytes::from(json!({ "destination": folder }).to_string());
        match self.server.call(Method::POST, "/v1/snapshot", body, DEADLINE).await {
            Ok(_) => Ok(Some(folder)),
            Err(CallError::Refused { status, detail }) => Err(EngineError::Unavailable(format!(
                "the Quiver server can't write its copy {}: {status}: {detail}",
                folder.display()
            ))),
            Err(CallError::Lost(why)) => Err(EngineError::Unavailable(format!(
                "whether the Quiver server has written its copy {} isn't known: {why}; remove what there is of it",
                folder.display()
            ))),
            Err(error) => Err(error.into_engine_error()),
        }
    }
}
