//! Scripts that run with other people's clients, in a virtual environment of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// Names another interpreter that has the packages.
const PYTHON_VARIABLE: &str = "SHEAF_TEST_QUIVER_CLIENT";
/// Where `.ci/run` installs them.
const PYTHON: &str = "/usr/local/lib/sheaf-quiver-client/bin/python";
/// How to get what these tests need.
const INSTALL: &str = "python3 -m venv /usr/local/lib/sheaf-quiver-client && /usr/local/lib/sheaf-quiver-client/bin/pip install \
                       'quiver-client[encryption,dcpe]==1.1.0' langchain-core==1.8.3, or set SHEAF_TEST_QUIVER_CLIENT to a Python \
                       that has them";
/// Seconds that a script may take, on a busy machine.
const SCRIPT_SECS_MAX: u64 = 120;

/// What the script `sdk/quiver_client.py` says of the server at this URL, step by step.
///
/// # Panics
/// Quiver's client isn't installed, or the script fails: the message is what it said.
pub async fn quiver_client(url: &str, key: &str, what: &str) -> Vec<Value> {
    let python =
        std::env::var_os(PYTHON_VARIABLE).map_or_else(|| PathBuf::from(PYTHON), PathBuf::from);
    let imports = "import quiver.langchain, nacl, cryptography";
    let known = Command::new(&python).args(["-c", imports]).output().await;
    let known =
        known.unwrap_or_else(|why| panic!("can't run {}: {why}; {INSTALL}", python.display()));
    let said = String::from_utf8_lossy(&known.stderr);
    assert!(
        known.status.success(),
        "{} lacks Quiver's client: {said}; {INSTALL}",
        python.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/quiver_client.py");
    let mut command = Command::new(&python);
    command.arg(script).args([url, key, what]).stdin(Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(Duration::from_secs(SCRIPT_SECS_MAX), command.output()).await;
    let ran = ran.unwrap_or_else(|_| panic!("{what} at {url} takes too long"));
    let ran = ran.unwrap_or_else(|why| panic!("can't run {}: {why}", python.display()));
    let words = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{what} at {url}: {words}");
    serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|why| panic!("{what} at {url}: {why}; {words}"))
}
