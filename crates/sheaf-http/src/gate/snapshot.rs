//! `POST /v1/snapshot` of one shard. Decides status codes; what may be copied is decided by the gate.

use std::path::PathBuf;

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use sheaf_protocol::Refusal;
use sheaf_runtime::gate::{NotCopied, NotServed};

use super::{Api, Asked, answer_json, refusal};
use crate::problem::Problem;
use crate::router::intake;
use crate::wire::peer::CopiedReply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    /// A folder of this machine.
    destination: PathBuf,
}

impl Api {
    pub(super) async fn snapshot(&self, asked: &Asked, body: Bytes) -> Result<Response, Problem> {
        let Snapshot { destination } = intake::json(&body)?;
        let version = self.host.map().map(|map| map.version());
        if let (Some(asked), Some(version)) = (asked.version, version)
            && asked != version
        {
            let other = NotServed::Refused(Refusal::OtherVersion { version });
            return Err(refusal::problem(other));
        }
        let copied = self.host.snapshot(&destination).await.map_err(not_copied)?;
        let reply = CopiedReply { data_dir: copied.data_dir, engine: copied.engine };
        answer_json(copied.version, &reply)
    }
}

fn not_copied(why: NotCopied) -> Problem {
    match why {
        NotCopied::Engine(error) => refusal::problem(NotServed::Engine(error)),
        NotCopied::NotServing => refusal::problem(NotServed::Refused(Refusal::NotServing)),
        NotCopied::NotAbsolute(_) => Problem::bad_request(why.to_string()),
        NotCopied::InTransition | NotCopied::MapChanged | NotCopied::Exists(_) => {
            Problem::conflict(why.to_string())
        }
        NotCopied::Files { .. } => Problem::internal(why.to_string()),
    }
}
