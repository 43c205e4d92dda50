//! The demo's Quiver servers.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::{Probe, Run, Server, folder, major_and_minor, version};
use crate::client::Failure;

const INSTALL: &str = "cargo install quiverdb-cli --version 1.1.0 --locked";
const VERSION: (u32, u32) = (1, 1);

/// The binary `quiver`.
#[derive(Debug)]
pub struct Program(PathBuf);

impl Program {
    /// At this path, or where the shell finds it.
    ///
    /// # Errors
    /// There is none, or it is another version.
    pub async fn find(bin: Option<&Path>) -> Result<Self, Failure> {
        let program = bin.unwrap_or(Path::new("quiver"));
        let shown = program.display();
        let Some(version) = version(program, &[]).await else {
            return Err(Failure::Failed(format!(
                "can't run {shown}, so nothing was started. Install Quiver ({INSTALL}), or give its binary as --engine-bin PATH"
            )));
        };
        if !version.starts_with("quiver ") || major_and_minor(&version) != Some(VERSION) {
            return Err(Failure::Failed(format!(
                "{shown} says {version:?}, and this demo needs Quiver 1.1, so nothing was started. Install it ({INSTALL}), or give \
                 its binary as --engine-bin PATH"
            )));
        }
        // Its servers run in other folders.
        let found = if program.components().count() > 1 {
            std::path::absolute(program)?
        } else {
            program.to_owned()
        };
        Ok(Self(found))
    }

    /// # Errors
    /// It doesn't start.
    pub async fn start(&self, number: usize, ports: &[u16]) -> anyhow::Result<Server> {
        let folder = folder("quiver")?;
        let [rest, grpc] = ports else { bail!("a Quiver server needs two ports") };
        let set = |name: &str, value: String| (name.to_owned(), value);
        let run = Run {
            program: self.0.clone(),
            arguments: vec!["serve".to_owned()],
            environment: vec![
                set("QUIVER_INSECURE", "true".to_owned()),
                set("QUIVER_REST_ADDR", format!("127.0.0.1:{rest}")),
                set("QUIVER_GRPC_ADDR", format!("127.0.0.1:{grpc}")),
                set("QUIVER_DATA_DIR", folder.path().join("data").display().to_string()),
            ],
            foreign_prefix: "QUIVER_",
            user: None,
            end_signal: "TERM",
        };
        let url = format!("http://127.0.0.1:{rest}");
        let probe = Probe::Http(format!("{url}/healthz"));
        let grpc_url = format!("http://127.0.0.1:{grpc}");
        let shard = ["--engine", "quiver", "--engine-url", &url, "--engine-grpc-url", &grpc_url];
        let shard = shard.map(str::to_owned).to_vec();
        Server::start(format!("quiver-{number}"), shard, run, probe, folder).await
    }
}
