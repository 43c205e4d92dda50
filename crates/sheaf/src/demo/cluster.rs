//! The demo's processes: real daemons of this very binary on free loopback ports, in one temporary folder, and their databases.
//!
//! No process outlives the demo: each ends when its standard input closes, however the demo ends. Decides nothing about data.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::servers::{Programs, Server};

/// Seconds that a daemon may take until it listens.
const START_SECS_MAX: u64 = 20;
/// Seconds that a daemon may take to stop before it is killed.
const STOP_SECS_MAX: u64 = 10;
/// Times that a restart tries to get its old port back.
const BIND_TRIES_MAX: u32 = 20;

/// One daemon.
#[derive(Debug)]
pub struct Node {
    /// `shard-3`: also the name of its folder and log.
    pub name: String,
    pub url: String,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Child,
}

impl Node {
    /// Starts a daemon on a free port, and waits until it listens.
    ///
    /// # Errors
    /// It doesn't start; its log's end says why.
    pub async fn start(folder: &Path, name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let (child, url) = spawn(folder, name, &arguments, "127.0.0.1:0").await?;
        Ok(Self { name: name.to_owned(), url, arguments, folder: folder.to_owned(), child })
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("can't kill {}", self.name))
    }

    /// Starts it again at its old address, with its old data.
    ///
    /// # Errors
    /// It doesn't start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let address = self.url.trim_start_matches("http://").to_owned();
        let mut tries = 0;
        loop {
            match spawn(&self.folder, &self.name, &self.arguments, &address).await {
                Ok((child, _)) => {
                    self.child = child;
                    return Ok(());
                }
                Err(error) if tries == BIND_TRIES_MAX => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks it to stop by closing its standard input, and waits; kills it when that takes too long.
    pub async fn stop(&mut self) {
        drop(self.child.stdin.take());
        let stopped = tokio::time::timeout(Duration::from_secs(STOP_SECS_MAX), self.child.wait());
        if stopped.await.is_err() {
            // It is this process's own child; a failure leaves nothing more to do.
            self.child.kill().await.ok();
        }
    }

    /// Whether it has ended by itself, which no daemon should.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        log_end(&self.folder, &self.name)
    }
}

async fn spawn(
    folder: &Path,
    name: &str,
    arguments: &[String],
    listen: &str,
) -> anyhow::Result<(Child, String)> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(folder, name))?;
    let mut command = Command::new(std::env::current_exe()?);
    // Settings of the person's own cluster are none of the demo's.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SHEAF_"))
    {
        command.env_remove(name);
    }
    let mut child = command
        .args(arguments)
        .args(["--listen", listen, "--insecure", "--exit-with-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {name}"))?;
    let stdout = child.stdout.take().context("the child has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(Duration::from_secs(START_SECS_MAX), lines.next_line()).await;
    let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let Some(url) = first.strip_prefix("listening on ") else {
        bail!("{name} didn't start; the end of its log:\n{}", log_end(folder, name));
    };
    Ok((child, url.trim().to_owned()))
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn log_end(folder: &Path, name: &str) -> String {
    let text = std::fs::read(log_path(folder, name)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(10);
    lines[last..].join("\n")
}

/// All daemons of the demo.
#[derive(Debug)]
pub struct Cluster {
    pub coordinator: Node,
    pub routers: Vec<Node>,
    /// Shards and standbys, in the order in which they were started.
    pub shards: Vec<Node>,
    /// Their databases, in the same order; none when they have their points in their own folders.
    pub servers: Vec<Server>,
}

impl Cluster {
    /// Starts a coordinator, then the nodes of data with their databases, of which none is in the map yet.
    ///
    /// # Errors
    /// A daemon or a database doesn't start.
    pub async fn start(folder: &Path, nodes: usize, programs: &Programs) -> anyhow::Result<Self> {
        let servers = programs.start(nodes).await?;
        let data_dir = |name: &str| folder.join(name).display().to_string();
        let name = "coordinator";
        let arguments = ["coordinator", "--data-dir", &data_dir(name)];
        let coordinator = Node::start(folder, name, &arguments).await?;
        let mut shards = Vec::new();
        for number in 1..=nodes {
            let name = format!("node-{number}");
            let data_dir = data_dir(&name);
            let mut arguments =
                vec!["shard", "--data-dir", &data_dir, "--coordinator", &coordinator.url];
            if let Some(server) = servers.get(number - 1) {
                arguments.extend(server.shard_arguments.iter().map(String::as_str));
            }
            shards.push(Node::start(folder, &name, &arguments).await?);
        }
        Ok(Self { coordinator, routers: Vec::new(), shards, servers })
    }

    /// Starts the routers.
    ///
    /// # Errors
    /// A daemon doesn't start.
    pub async fn start_routers(&mut self, folder: &Path, routers: usize) -> anyhow::Result<()> {
        for number in 1..=routers {
            let name = format!("router-{number}");
            let arguments = ["router", "--coordinator", &self.coordinator.url];
            self.routers.push(Node::start(folder, &name, &arguments).await?);
        }
        Ok(())
    }

    /// The node at this URL, with its database.
    pub fn node_at(&mut self, url: &str) -> Option<(&mut Node, Option<&mut Server>)> {
        let url = url.trim_end_matches('/');
        let at = self.shards.iter().position(|node| node.url == url)?;
        Some((self.shards.get_mut(at)?, self.servers.get_mut(at)))
    }

    /// Names of the daemons and databases that ended without being told to, with the ends of their logs.
    pub fn ended_by_themselves(&mut self) -> Vec<(String, String)> {
        let all =
            std::iter::once(&mut self.coordinator).chain(&mut self.routers).chain(&mut self.shards);
        let daemons =
            all.filter_map(|node| node.has_ended().then(|| (node.name.clone(), node.log_end())));
        let databases = self.servers.iter_mut().filter_map(|server| {
            server.has_ended().then(|| (server.name.clone(), server.log_end()))
        });
        daemons.chain(databases).collect()
    }

    /// Stops all of them, the ones that others ask last.
    pub async fn stop(&mut self) {
        for node in self.routers.iter_mut().chain(&mut self.shards) {
            node.stop().await;
        }
        self.coordinator.stop().await;
        futures_util::future::join_all(self.servers.iter_mut().map(Server::stop)).await;
    }
}
