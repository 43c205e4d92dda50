//! One daemon under test: a real process with a folder and a log, that can be killed, frozen and started again.
//!
//! It ends when this value is dropped, and, should this process be killed, when its standard input closes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::binary;
use crate::patience::pause_ms;
use crate::port::Port;

/// Seconds that a daemon may take until it listens, on a busy machine.
const START_SECS_MAX: u64 = 30;
/// Seconds that a daemon may take to stop when it is asked to.
const STOP_SECS_MAX: u64 = 15;
/// Times that a restart tries to get its port back.
const BIND_TRIES_MAX: u32 = 30;
/// Bytes of a file that no test reaches: a limit that is none, but can be lowered.
pub const FILE_BYTES_ANY: u64 = 1 << 40;
/// Lines of a log in a failure.
const LOG_LINES: usize = 30;

/// What a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Coordinator,
    Shard,
    Replica,
    Router,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Shard => "shard",
            Self::Replica => "replica",
            Self::Router => "router",
        }
    }
}

/// One daemon.
#[derive(Debug)]
pub struct Node {
    /// `shard-3`: also the name of its log.
    pub name: String,
    pub url: String,
    pub folder: PathBuf,
    role: Role,
    arguments: Vec<String>,
    /// Bytes that a file of the process may have; `None`: no limit.
    pub file_bytes_max: Option<u64>,
    child: Child,
    /// Its own while it is down, too.
    _port: Port,
}

impl Node {
    /// Starts a daemon with its log and its data in `folder`, and waits until it listens.
    ///
    /// # Panics
    /// It doesn't start: the message has the end of its log.
    pub async fn start(role: Role, name: &str, folder: &Path, arguments: &[&str]) -> Self {
        let started = Self::try_start(role, name, folder, arguments, None).await;
        started.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, with a limit on the size of its files: a disk that is full.
    ///
    /// # Errors
    /// It doesn't start: the message has the end of its log.
    pub async fn try_start(
        role: Role,
        name: &str,
        folder: &Path,
        arguments: &[&str],
        file_bytes_max: Option<u64>,
    ) -> Result<Self, String> {
        let mut arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let is_elsewhere = arguments.iter().any(|argument| argument == "--store");
        if matches!(role, Role::Coordinator | Role::Shard) && !is_elsewhere {
            let data = data_dir(folder, name);
            arguments.extend(["--data-dir".to_owned(), data.display().to_string()]);
        }
        let port = Port::reserve();
        let listen = format!("127.0.0.1:{}", port.number);
        let (child, url) = spawn(role, folder, name, &arguments, &listen, file_bytes_max).await?;
        let (name, folder) = (name.to_owned(), folder.to_owned());
        Ok(Self { name, url, folder, role, arguments, file_bytes_max, child, _port: port })
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder, &self.name)
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Gives it further arguments, from its next start on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|&text| text.to_owned()));
    }

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap_or_else(|why| panic!("can't kill {}: {why}", self.name));
    }

    /// Starts it again at its old address, with what its folder has.
    ///
    /// # Panics
    /// It doesn't start.
    pub async fn restart(&mut self) {
        self.try_restart().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same.
    ///
    /// # Errors
    /// It doesn't start: the message has the end of its log.
    pub async fn try_restart(&mut self) -> Result<(), String> {
        let listen = self.address().to_owned();
        // Only a port that is still taken is worth a second try.
        for _ in 0..BIND_TRIES_MAX {
            if TcpListener::bind(&listen).is_ok() {
                break;
            }
            pause_ms(100).await;
        }
        let (folder, arguments) = (&self.folder, &self.arguments);
        let (child, _) =
            spawn(self.role, folder, &self.name, arguments, &listen, self.file_bytes_max).await?;
        self.child = child;
        Ok(())
    }

    /// Asks it to stop as an operator does, and waits for its end.
    ///
    /// # Panics
    /// It doesn't end in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let stopped =
            tokio::time::timeout(Duration::from_secs(STOP_SECS_MAX), self.child.wait()).await;
        let stopped =
            stopped.unwrap_or_else(|_| panic!("{} ignores SIGTERM; {}", self.name, self.log_end()));
        stopped.unwrap_or_else(|why| panic!("can't wait for {}: {why}", self.name))
    }

    /// Stops it in the middle of whatever it does; it keeps its connections and its port.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Fills its disk, or makes room on it, while it runs: no file of it may grow beyond this size; `None`: any may.
    /// Only for one that was started with a limit, else the system would end it.
    ///
    /// # Panics
    /// The system's `prlimit` can't do it.
    pub async fn limit_files(&mut self, bytes: Option<u64>) {
        assert!(self.file_bytes_max.is_some(), "{} was started without a limit", self.name);
        let id = self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name));
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // A lower limit of the system itself stays: only the soft one is changed.
        let arguments = ["--pid".to_owned(), id.to_string(), format!("--fsize={soft}:")];
        let done = Command::new("prlimit").args(&arguments).output().await;
        let done = done.unwrap_or_else(|why| panic!("prlimit (util-linux) is needed: {why}"));
        assert!(done.status.success(), "prlimit: {}", String::from_utf8_lossy(&done.stderr));
        self.file_bytes_max = Some(bytes.unwrap_or(FILE_BYTES_ANY));
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// The id of its process.
    ///
    /// # Panics
    /// It has ended.
    pub fn process(&self) -> i32 {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        id.unwrap_or_else(|| panic!("{} has ended by itself; {}", self.name, self.log_end()))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process()), signal)
            .unwrap_or_else(|why| panic!("can't signal {}: {why}", self.name));
    }

    /// Its exit status, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        read_log(&self.folder, &self.name)
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        log_end(&self.folder, &self.name)
    }
}

fn data_dir(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// The command of a daemon, without settings of the person who runs the tests.
fn command(role: Role, file_bytes_max: Option<u64>) -> Command {
    let sheaf = binary::sheaf();
    let mut command = match file_bytes_max {
        None => Command::new(sheaf),
        // A write beyond the limit shall fail, not end the process: the signal's disposition is inherited.
        Some(bytes) => {
            let blocks = bytes / 512;
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\""));
            shell.arg(sheaf);
            shell
        }
    };
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.as_encoded_bytes().starts_with(b"SHEAF_")) {
        command.env_remove(name);
    }
    command.arg(role.word());
    command
}

async fn spawn(
    role: Role,
    folder: &Path,
    name: &str,
    arguments: &[String],
    listen: &str,
    file_bytes_max: Option<u64>,
) -> Result<(Child, String), String> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(folder, name));
    let log = log.map_err(|why| format!("can't write the log of {name}: {why}"))?;
    let mut command = command(role, file_bytes_max);
    let has_keys = arguments.iter().any(|argument| argument == "--api-key");
    if !has_keys {
        command.arg("--insecure");
    }
    let mut child = command
        .args(arguments)
        .args(["--listen", listen, "--exit-with-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(|why| format!("can't start {name}: {why}"))?;
    let stdout = child.stdout.take().ok_or("a child without standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(Duration::from_secs(START_SECS_MAX), lines.next_line()).await;
    let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let Some(url) = first.strip_prefix("listening on ") else {
        return Err(format!("{name} didn't start, it said {first:?}; {}", log_end(folder, name)));
    };
    Ok((child, url.trim().to_owned()))
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn read_log(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(log_path(folder, name)).unwrap_or_default()).into_owned()
}

fn log_end(folder: &Path, name: &str) -> String {
    let text = read_log(folder, name);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(LOG_LINES);
    format!("the end of its log:\n{}", lines[last..].join("\n"))
}
