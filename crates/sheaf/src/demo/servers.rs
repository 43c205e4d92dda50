//! The demo's databases: real Quiver or PostgreSQL servers, one for each shard, on loopback and in temporary folders.
//!
//! No server outlives the demo: each runs under a shell that ends it, by its process id, when its standard input closes. Knows
//! nothing of points.

mod postgres;
mod quiver;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_runtime::entropy;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::client::Failure;
use crate::config::EngineKind;

/// Seconds until a server serves, its recovery from a kill included.
const READY_SECS_MAX: u64 = 60;
/// Seconds until a server that was told to end has ended.
const END_SECS_MAX: u64 = 10;
const LOOK_EVERY_MS: u64 = 50;
/// Starts of a killed server: what is left of it may hold its port or its memory for a moment.
const STARTS_MAX: u32 = 20;
/// Below the ports that systems take for outgoing connections: a killed server finds its own free when it comes back.
const PORTS: (u64, u64) = (11_000, 31_000);
const PORT_DRAWS_MAX: u32 = 1_000;
/// Ends a program with the signal that it reads, or, when its input closes, with the first argument; ends when the program has.
const RUN: &str = r#"end=$1; shift; exec 3<&0
"$@" 3<&- < /dev/null & server=$!
(word=; read -r word <&3; kill -"${word:-$end}" $server) & reader=$!
wait $server; status=$?; kill $reader 2> /dev/null; exit $status"#;

/// Programs that were found and are of a version that the demo knows.
#[derive(Debug)]
pub enum Programs {
    /// Shards have their points in their own folders.
    None,
    Quiver(quiver::Program),
    Postgres(postgres::Programs),
}

impl Programs {
    /// Looks for the programs of this engine: where `bin` says, or where they usually are.
    ///
    /// # Errors
    /// They aren't there, or of no use; the words say what to do.
    pub async fn find(engine: EngineKind, bin: Option<&Path>) -> Result<Self, Failure> {
        match (engine, bin) {
            (EngineKind::Embedded, None) => Ok(Self::None),
            (EngineKind::Embedded, Some(_)) => Err(Failure::Usage(
                "--engine-bin is for --engine quiver or pgvector; choose one, or leave it out"
                    .to_owned(),
            )),
            (EngineKind::Quiver, _) => quiver::Program::find(bin).await.map(Self::Quiver),
            (EngineKind::Pgvector, _) => postgres::Programs::find(bin).await.map(Self::Postgres),
        }
    }

    /// What the demo says before it starts so many of them.
    pub fn sentence(&self, servers: usize) -> String {
        match self {
            Self::None => String::new(),
            Self::Quiver(_) => {
                format!("; and {servers} Quiver servers, one for each of them that has points")
            }
            Self::Postgres(_) => {
                format!("; and {servers} PostgreSQL servers, one for each of them that has points")
            }
        }
    }

    /// Starts so many servers, in the order of their shards.
    ///
    /// # Errors
    /// One doesn't start: the end of its log says why.
    pub async fn start(&self, servers: usize) -> anyhow::Result<Vec<Server>> {
        let ports = free_ports(servers * 2)?;
        let starts = ports.chunks(2).zip(1..).map(async |(ports, number)| match self {
            Self::None => Ok(None),
            Self::Quiver(program) => program.start(number, ports).await.map(Some),
            Self::Postgres(programs) => programs.start(number, ports).await.map(Some),
        });
        let started = futures_util::future::try_join_all(starts).await?;
        Ok(started.into_iter().flatten().collect())
    }
}

/// One server.
#[derive(Debug)]
pub struct Server {
    pub name: String,
    /// What its shard is told: the engine, and where it is.
    pub shard_arguments: Vec<String>,
    run: Run,
    probe: Probe,
    process: Process,
    // Last: the folder goes after the process has ended.
    folder: tempfile::TempDir,
}

/// How a server is run, each time.
#[derive(Clone, Debug, Default)]
struct Run {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Settings of the person's own server, which are none of the demo's, begin so.
    foreign_prefix: &'static str,
    /// Who runs it, when that is somebody else: user and group.
    user: Option<(u32, u32)>,
    /// The signal that ends it at the end of the demo, and cleans up after it.
    end_signal: &'static str,
}

impl Run {
    /// A command with its environment and its user.
    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(self.foreign_prefix.as_bytes()) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // A Ctrl-C of the terminal is for the demo alone, which then ends its servers.
        command.current_dir(folder).process_group(0);
        command
    }

    fn spawn(&self, folder: &Path) -> anyhow::Result<Process> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(folder))?;
        let mut command = self.command(Path::new("sh"), folder);
        command.args(["-c", RUN, "sheaf-demo", self.end_signal]).arg(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped());
        command.stdout(log.try_clone()?).stderr(log);
        let mut shell = command.spawn().context("can't run sh")?;
        // Taken out, because who waits for a child closes its input first.
        let input = shell.stdin.take();
        Ok(Process { shell, input })
    }
}

/// A program under its shell. Dropped, it is ended, and waited for: its folder goes next.
#[derive(Debug)]
struct Process {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Process {
    fn has_ended(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        for _ in 0..END_SECS_MAX * 1_000 / LOOK_EVERY_MS {
            if self.has_ended() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(LOOK_EVERY_MS));
        }
    }
}

/// How to see that a server serves.
#[derive(Debug)]
enum Probe {
    /// It answers a GET with a success.
    Http(String),
    /// The command succeeds.
    Command(PathBuf, Vec<String>),
}

impl Server {
    async fn start(
        name: String,
        shard_arguments: Vec<String>,
        run: Run,
        probe: Probe,
        folder: tempfile::TempDir,
    ) -> anyhow::Result<Self> {
        let process = run.spawn(folder.path())?;
        let mut server = Self { name, shard_arguments, run, probe, process, folder };
        server.until_it_serves().await?;
        Ok(server)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        let mut behind =
            self.shard_arguments.iter().skip_while(|argument| *argument != "--engine-url");
        behind.nth(1).map_or("", String::as_str)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It doesn't end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(input) = &mut self.process.input {
            input.write_all(b"KILL\n").await?;
        }
        self.has_gone().await
    }

    /// Starts a killed one again, with its data, and waits until it serves.
    ///
    /// # Errors
    /// It doesn't start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let mut starts = 1;
        loop {
            self.process = self.run.spawn(self.folder.path())?;
            match self.until_it_serves().await {
                Ok(()) => return Ok(()),
                Err(error) if starts == STARTS_MAX => return Err(error),
                Err(_) => starts += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it, and waits.
    pub async fn stop(&mut self) {
        drop(self.process.input.take());
        // One that doesn't end has been told to all the same; its folder is removed under it.
        self.has_gone().await.ok();
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        log_end(self.folder.path())
    }

    async fn has_gone(&mut self) -> anyhow::Result<()> {
        let ended =
            tokio::time::timeout(Duration::from_secs(END_SECS_MAX), self.process.shell.wait());
        ended.await.with_context(|| format!("{} doesn't end", self.name))??;
        Ok(())
    }

    async fn until_it_serves(&mut self) -> anyhow::Result<()> {
        for _ in 0..READY_SECS_MAX * 1_000 / LOOK_EVERY_MS {
            if self.serves().await {
                return Ok(());
            }
            if self.has_ended() {
                bail!("{} ended at its start; the end of its log:\n{}", self.name, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        }
        bail!(
            "{} doesn't serve in {READY_SECS_MAX} s; the end of its log:\n{}",
            self.name,
            self.log_end()
        )
    }

    /// Whether it has ended by itself, which no server should.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    async fn serves(&self) -> bool {
        match &self.probe {
            Probe::Http(url) => {
                let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1));
                let Ok(client) = client.build() else { return false };
                client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
            }
            Probe::Command(program, arguments) => {
                let mut command = self.run.command(program, self.folder.path());
                command.args(arguments).stdin(Stdio::null());
                command.output().await.is_ok_and(|done| done.status.success())
            }
        }
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn log_end(folder: &Path) -> String {
    let text = std::fs::read(log_path(folder)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

fn folder(kind: &str) -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(&format!("sheaf-demo-{kind}-")).tempdir()
}

/// So many different ports of this machine where nobody listens.
fn free_ports(wanted: usize) -> anyhow::Result<Vec<u16>> {
    let mut free = BTreeSet::new();
    for _ in 0..PORT_DRAWS_MAX {
        if free.len() == wanted {
            return Ok(free.into_iter().collect());
        }
        let port = u16::try_from(PORTS.0 + entropy::seed() % (PORTS.1 - PORTS.0))?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            free.insert(port);
        }
    }
    bail!("too few ports from {} to {} are free", PORTS.0, PORTS.1)
}

/// What `PROGRAM --version` says; `None`: it can't be run.
async fn version(program: &Path, environment: &[(String, String)]) -> Option<String> {
    let environment = environment.iter().map(|(name, value)| (name, value));
    let said = Command::new(program).arg("--version").envs(environment).output().await.ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// The first number with dots in a text, as far as two places.
fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let number =
        version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut places = number.split(|c: char| !c.is_ascii_digit());
    let major = places.next()?.parse().ok()?;
    let minor = places.next().and_then(|place| place.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(major_and_minor("quiver 1.1.0"), Some((1, 1)));
        assert_eq!(major_and_minor("postgres (PostgreSQL) 18.4"), Some((18, 4)));
        assert_eq!(major_and_minor("postgres (PostgreSQL) 19beta1"), Some((19, 0)));
        assert_eq!(major_and_minor("no number here"), None);
    }

    #[tokio::test]
    async fn an_engine_that_needs_no_program_takes_none() {
        let refused = Programs::find(EngineKind::Embedded, Some(Path::new("/bin/true"))).await;
        assert!(matches!(refused, Err(Failure::Usage(_))));
    }
}
