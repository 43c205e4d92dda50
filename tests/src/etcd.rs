//! A real etcd of several members in a temporary folder, each a process that can be killed and started again.
//!
//! A member ends when this value is dropped, and, should this process be killed, when its standard input closes.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::ask::Client;
use crate::certificates::Certificates;
use crate::patience::eventually;
use crate::port::Port;

/// Seconds that the members may take until they have a leader, on a busy machine.
const READY_SECS_MAX: u64 = 60;
/// Seconds that a killed member may take to be gone.
const GONE_SECS_MAX: u64 = 10;
/// How to get what these tests need.
const INSTALL: &str = "apt-get install -y etcd-server etcd-client protobuf-compiler";
/// Runs a member until standard input closes: a test that is killed leaves no orphan.
const RUN: &str = "\"$0\" \"$@\" < /dev/null & read -r _; kill -9 $!; wait $!";

/// The members of one etcd.
pub struct Etcd {
    members: Vec<Member>,
    certificates: Option<Certificates>,
    // Last: the folder goes after the processes have ended.
    folder: tempfile::TempDir,
}

struct Member {
    name: String,
    client: Port,
    peer: Port,
    /// Where it says how it is, without TLS.
    health: Port,
    /// `None`: it was killed.
    process: Option<Child>,
}

impl Etcd {
    /// Starts this many members and waits until all of them serve.
    ///
    /// # Panics
    /// etcd isn't installed, or doesn't start.
    pub async fn start(members: usize) -> Self {
        let folder = tempfile::tempdir().expect("the system has room for temporary folders");
        Self::start_in(folder, members, None).await
    }

    /// The same, in TLS only, and only to those who show a certificate.
    ///
    /// # Panics
    /// As of [`Etcd::start`].
    pub async fn start_with_tls(members: usize) -> Self {
        let folder = tempfile::tempdir().expect("the system has room for temporary folders");
        let certificates = Certificates::issue(folder.path());
        Self::start_in(folder, members, Some(certificates)).await
    }

    async fn start_in(
        folder: tempfile::TempDir,
        members: usize,
        certificates: Option<Certificates>,
    ) -> Self {
        let member = |number: usize| {
            let (client, peer, health) = (Port::reserve(), Port::reserve(), Port::reserve());
            Member { name: format!("m{number}"), client, peer, health, process: None }
        };
        let members_of_it: Vec<Member> = (1..=members).map(member).collect();
        let mut etcd = Self { members: members_of_it, certificates, folder };
        for number in 0..members {
            etcd.spawn(number);
        }
        for number in 0..members {
            etcd.is_ready(number).await;
        }
        etcd
    }

    /// What its clients must know and show.
    ///
    /// # Panics
    /// It doesn't speak TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("it speaks TLS")
    }

    /// `HOST:PORT` of each member.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("127.0.0.1:{}", member.client.number)).collect()
    }

    /// `etcd://…` of all members, with a prefix of keys.
    pub fn url(&self, prefix: &str) -> String {
        let scheme = if self.certificates.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://{}{prefix}", self.addresses().join(","))
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Panics
    /// It was killed before, or doesn't end.
    pub async fn kill(&mut self, number: usize) {
        let member = &mut self.members[number];
        let mut process = member.process.take().expect("it runs");
        drop(process.stdin.take());
        let gone = tokio::time::timeout(Duration::from_secs(GONE_SECS_MAX), process.wait()).await;
        gone.unwrap_or_else(|_| panic!("{} is still there", member.name)).expect("it is a child");
    }

    /// Starts a killed member again, with its data. Serves once it and others are a majority.
    pub fn restart(&mut self, number: usize) {
        self.spawn(number);
    }

    /// Waits until this member knows a leader and serves.
    pub async fn is_ready(&self, number: usize) {
        let client =
            Client::new(&format!("http://127.0.0.1:{}", self.members[number].health.number));
        eventually("a member of etcd serves", READY_SECS_MAX, || async {
            let answer = client.get("/health").await.map_err(|gone| gone.to_string())?;
            let is_well = answer.status.is_success() && answer.body["health"] == "true";
            if is_well { Ok(()) } else { Err(format!("{answer}; {}", self.log_end(number))) }
        })
        .await;
    }

    /// Runs `etcdctl` against all members.
    ///
    /// # Panics
    /// It isn't installed, or fails.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.addresses().join(",")]);
        let ran = command.args(arguments).stdin(Stdio::null()).output().await;
        let Output { status, stdout, stderr } =
            ran.unwrap_or_else(|why| panic!("can't run etcdctl: {why}; {INSTALL}"));
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "etcdctl {arguments:?}: {stderr}");
        String::from_utf8_lossy(&stdout).into_owned()
    }

    fn spawn(&mut self, number: usize) {
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.peer.number);
        let all = self.members.iter().map(|member| format!("{}={}", member.name, peer(member)));
        let all = all.collect::<Vec<_>>().join(",");
        let member = &self.members[number];
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", member.client.number);
        let health = format!("http://127.0.0.1:{}", member.health.number);
        let log = log_path(self.folder.path(), &member.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("the folder can be written");
        let (name, peer) = (member.name.as_str(), peer(member));
        let data = self.folder.path().join(name);
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ETCD_") {
                command.env_remove(name);
            }
        }
        let known = Command::new("etcd").arg("--version").as_std_mut().output();
        known.unwrap_or_else(|why| panic!("can't run etcd: {why}; {INSTALL}"));
        command.args(["-c", RUN, "etcd", "--name", name]).arg("--data-dir").arg(data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-metrics-urls", &health]);
        if let Some(Certificates { ca, cert, key }) = &self.certificates {
            command.arg("--client-cert-auth");
            command.arg("--trusted-ca-file").arg(ca);
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
        }
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all, "--logger", "zap", "--log-level", "warn"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap_or_else(|why| panic!("can't run sh: {why}"));
        self.members[number].process = Some(process);
    }

    fn log_end(&self, number: usize) -> String {
        let path = log_path(self.folder.path(), &self.members[number].name);
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().take(5).collect::<Vec<_>>();
        format!("the last lines of its log, newest first: {}", last.join("\n"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Their standard inputs close, and each is killed by its shell.
        for member in &mut self.members {
            member.process = None;
        }
    }
}

fn log_path(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.log"))
}
