//! A real Quiver server in a temporary folder: a process that can be killed, frozen and started again. Also as a router of Quiver's own.
//!
//! It ends when this value is dropped, and, should this process be killed, when its standard input closes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::ask::Client;
use crate::patience::eventually;
use crate::port::Port;

/// Seconds that it may take until it serves, on a busy machine.
const READY_SECS_MAX: u64 = 60;
/// Seconds that a killed one may take to be gone.
const GONE_SECS_MAX: u64 = 10;
/// The file of a coordinator, in its folder.
const COORDINATOR_STATE: &str = "coordinator.json";
/// How to get what these tests need.
const INSTALL: &str =
    "cargo install quiverdb-cli --version 1.1.0 --locked, or set QUIVER_BIN to the binary";
/// Runs it until standard input closes: a test that is killed leaves no orphan. Tells the id of the server's process, and nothing
/// else. A write beyond a limit of its files fails, and doesn't end it.
const RUN: &str =
    "trap '' XFSZ; \"$0\" serve < /dev/null >&2 & echo $!; read -r _; kill -9 $!; wait $!";

/// One server.
pub struct QuiverServer {
    rest: Port,
    grpc: Port,
    settings: Vec<(String, String)>,
    /// `None`: it was killed.
    process: Option<Running>,
    // Last: the folder goes after the process has ended.
    folder: tempfile::TempDir,
}

struct Running {
    shell: Child,
    server: Pid,
}

/// Where the binary is.
pub fn binary() -> PathBuf {
    std::env::var_os("QUIVER_BIN").map_or_else(|| PathBuf::from("quiver"), PathBuf::from)
}

impl QuiverServer {
    /// Starts one that asks nobody for a key.
    ///
    /// # Panics
    /// Quiver isn't installed, or doesn't start.
    pub async fn start() -> Self {
        Self::start_as(&[]).await
    }

    /// Starts one that serves those only who show this key.
    ///
    /// # Panics
    /// As of [`QuiverServer::start`].
    pub async fn start_with_key(key: &str) -> Self {
        Self::start_as(&[("QUIVER_API_KEYS", key)]).await
    }

    /// Starts one that is a router of a cluster: it begins with these shards, and asks the coordinator for its map every two
    /// seconds; `None`: never.
    ///
    /// # Panics
    /// As of [`QuiverServer::start`].
    pub async fn start_router(shards: &[&str], coordinator: Option<&str>) -> Self {
        let shards = format!("[{}]", shards.join(","));
        let mut settings = vec![("QUIVER_CLUSTER_SHARDS", shards.as_str())];
        settings.extend(coordinator.map(|url| ("QUIVER_COORDINATOR_URL", url)));
        Self::start_as(&settings).await
    }

    /// Starts one that is the coordinator of a cluster of these shards, and keeps its map in a file.
    ///
    /// # Panics
    /// As of [`QuiverServer::start`].
    pub async fn start_coordinator(shards: &[&str]) -> Self {
        Self::start_as(&[
            ("QUIVER_COORDINATOR", "true"),
            ("QUIVER_COORDINATOR_STATE", COORDINATOR_STATE),
            ("QUIVER_CLUSTER_SHARDS", &format!("[{}]", shards.join(","))),
        ])
        .await
    }

    /// The file of a coordinator; there from its first change on.
    pub fn coordinator_state(&self) -> PathBuf {
        self.folder.path().join(COORDINATOR_STATE)
    }

    /// Starts one that follows another one: it has all that the other has, a little later, and refuses writes.
    ///
    /// # Panics
    /// As of [`QuiverServer::start`].
    pub async fn start_follower(leader: &Self) -> Self {
        Self::start_as(&[("QUIVER_LEADER_URL", &leader.grpc_url())]).await
    }

    /// Starts one with further settings, as its environment has them.
    ///
    /// # Panics
    /// As of [`QuiverServer::start`].
    pub async fn start_as(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("the system has room for temporary folders");
        let (rest, grpc) = (Port::reserve(), Port::reserve());
        let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(setting).collect();
        let mut server = Self { rest, grpc, settings, process: None, folder };
        server.restart().await;
        server
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `HOST:PORT` of its REST API.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.rest.number)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc.number)
    }

    /// What a shard in front of it is told, that reads points over gRPC.
    pub fn shard_arguments(&self) -> [String; 6] {
        let (url, grpc_url) = (self.url(), self.grpc_url());
        let engine = ["--engine", "quiver", "--engine-url", &url, "--engine-grpc-url", &grpc_url];
        engine.map(str::to_owned)
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Panics
    /// It was killed before, or doesn't end.
    pub async fn kill(&mut self) {
        let mut running = self.process.take().expect("it runs");
        drop(running.shell.stdin.take());
        let gone = tokio::time::timeout(Duration::from_secs(GONE_SECS_MAX), running.shell.wait());
        gone.await.expect("a killed Quiver is gone in time").expect("it is a child");
    }

    /// Starts it, with what its folder has, and waits until it serves.
    ///
    /// # Panics
    /// It isn't installed, or doesn't start.
    pub async fn restart(&mut self) {
        self.process = Some(self.spawn().await);
        let client = Client::new(&self.url());
        eventually("Quiver serves", READY_SECS_MAX, || async {
            let answer = client.get("/healthz").await.map_err(|gone| gone.to_string())?;
            if answer.status.is_success() { Ok(()) } else { Err(self.log_end()) }
        })
        .await;
    }

    /// The same with an empty folder: all that it has after that it gets from whom it follows.
    ///
    /// # Panics
    /// As of [`QuiverServer::restart`].
    pub async fn restart_empty(&mut self) {
        let data = self.folder.path().join("data");
        std::fs::remove_dir_all(&data).expect("a killed server holds no file");
        self.restart().await;
    }

    /// Stops it in the middle of whatever it does; it keeps its connections.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Fills its disk, or makes room on it: no file of it may grow beyond this size; `None`: any may.
    ///
    /// # Panics
    /// The system's `prlimit` can't do it.
    pub async fn limit_files(&self, bytes: Option<u64>) {
        let running = self.process.as_ref().expect("it runs");
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let arguments = [format!("--pid={}", running.server), format!("--fsize={soft}:")];
        let done = Command::new("prlimit").args(&arguments).output().await;
        let done = done.unwrap_or_else(|why| panic!("prlimit (util-linux) is needed: {why}"));
        assert!(done.status.success(), "prlimit: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn signal(&self, signal: Signal) {
        let running = self.process.as_ref().expect("it runs");
        kill(running.server, signal).unwrap_or_else(|why| panic!("can't signal Quiver: {why}"));
    }

    async fn spawn(&self) -> Running {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let quiver = binary();
        let known = Command::new(&quiver).arg("--version").output().await;
        known.unwrap_or_else(|why| panic!("can't run {}: {why}; {INSTALL}", quiver.display()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("the folder can be written");
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"QUIVER_") {
                command.env_remove(name);
            }
        }
        command.args(["-c", RUN]).arg(&quiver).current_dir(self.folder.path());
        command.env("QUIVER_INSECURE", "true");
        command.env("QUIVER_REST_ADDR", self.address());
        command.env("QUIVER_GRPC_ADDR", format!("127.0.0.1:{}", self.grpc.number));
        command.env("QUIVER_DATA_DIR", self.data_dir());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut shell = command.spawn().unwrap_or_else(|why| panic!("can't run sh: {why}"));
        let mut lines = BufReader::new(shell.stdout.take().expect("it is piped")).lines();
        let first = lines.next_line().await.ok().flatten().unwrap_or_default();
        let server = first.parse().unwrap_or_else(|_| panic!("the shell says {first:?}"));
        Running { shell, server: Pid::from_raw(server) }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("quiver.log")
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().take(5).collect::<Vec<_>>();
        format!("the last lines of its log, newest first: {}", last.join("\n"))
    }
}
