//! A daemon that can't start right doesn't start: it ends with a status that isn't 0 and one clear message.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sheaf_tests::{Cluster, Shape, binary};
use tempfile::NamedTempFile;
use tokio::process::Command;

/// Seconds that a start which fails may take.
const END_SECS_MAX: u64 = 20;

/// How a start ended.
struct Ended {
    code: Option<i32>,
    said: String,
}

/// Starts a daemon with nothing but these arguments and variables, and waits for its end.
async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(binary::sheaf());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SHEAF_") {
            command.env_remove(name);
        }
    }
    // In files: what it said is known, too, when it doesn't end.
    let (stdout, stderr) = (NamedTempFile::new(), NamedTempFile::new());
    let files = stdout.and_then(|stdout| Ok((stdout, stderr?)));
    let (stdout, stderr) = files.expect("the system has room for temporary files");
    let writer = |file: &NamedTempFile| file.reopen().expect("it was just made");
    let said = |file: &NamedTempFile| {
        let bytes = std::fs::read(file.path()).expect("it was just made");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(writer(&stdout)).stderr(writer(&stderr));
    let ended = tokio::time::timeout(Duration::from_secs(END_SECS_MAX), command.status()).await;
    let (stdout, stderr) = (said(&stdout), said(&stderr));
    let ended = ended.unwrap_or_else(|_| {
        panic!("{arguments:?} {variables:?}: it runs after {END_SECS_MAX} s: {stdout}{stderr}")
    });
    let status = ended.expect("the binary can be started");
    assert!(!stdout.contains("listening"), "{arguments:?} {variables:?}: it listened: {stdout}");
    Ended { code: status.code(), said: stderr }
}

impl Ended {
    /// It failed, and its message has all of these words and nothing that frightens.
    fn expect_message(&self, what: &str, words: &[&str]) {
        let said = &self.said;
        assert!(matches!(self.code, Some(code) if code != 0), "{what}: {:?} {said}", self.code);
        assert!(!said.contains("panicked"), "{what}: {said}");
        let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{what}: one message, please: {said}");
        for word in words {
            assert!(said.contains(word), "{what}: it doesn't say {word:?}: {said}");
        }
    }
}

/// What is wrong, the arguments, and words that the message must have.
type Case = (&'static str, Vec<&'static str>, Vec<&'static str>);

const LOOPBACK: [&str; 2] = ["--listen", "127.0.0.1:0"];
const EVERYWHERE: [&str; 2] = ["--listen", "0.0.0.0:0"];
const NO_SUCH_SHARD: &str = "a replica of a shard that there is not";
const KEYS: [&str; 4] = ["--api-key", "k:admin", "--peer-key", "p"];

fn case(
    what: &'static str,
    role: &'static str,
    parts: &[&[&'static str]],
    words: &[&'static str],
) -> Case {
    let arguments = std::iter::once(role).chain(parts.iter().copied().flatten().copied());
    (what, arguments.collect(), words.to_vec())
}

/// `DIR` stands for a folder of the test.
fn wrong_settings() -> Vec<Case> {
    let (open, dir): (&[&str], &[&str]) = (&["--insecure"], &["--data-dir", "DIR"]);
    let there: &[&str] = &["--coordinator", "http://127.0.0.1:1"];
    vec![
        case("no keys", "coordinator", &[&LOOPBACK, dir], &["--api-key", "--insecure"]),
        case("no keys", "shard", &[&LOOPBACK, dir, there], &["--api-key", "--insecure"]),
        case("no keys", "router", &[&LOOPBACK, there], &["--api-key", "--insecure"]),
        case(
            "exposed and open",
            "coordinator",
            &[&EVERYWHERE, dir, open],
            &["0.0.0.0", "--i-know"],
        ),
        case(
            "exposed and open",
            "shard",
            &[&EVERYWHERE, dir, open, there],
            &["0.0.0.0", "--i-know"],
        ),
        case("exposed and open", "router", &[&EVERYWHERE, open, there], &["0.0.0.0", "--i-know"]),
        case("exposed keys", "router", &[&EVERYWHERE, &KEYS, there], &["0.0.0.0", "--i-know"]),
        case(
            "--i-know alone",
            "router",
            &[&EVERYWHERE, &["--i-know"], &KEYS, there],
            &["--insecure"],
        ),
        case("no peer key", "router", &[&LOOPBACK, &["--api-key", "k"], there], &["--peer-key"]),
        case("no API key", "router", &[&LOOPBACK, &["--peer-key", "p"], there], &["--api-key"]),
        case(
            "a bad role",
            "router",
            &[&LOOPBACK, &["--api-key", "k:king", "--peer-key", "p"], there],
            &["role", "admin"],
        ),
        case("no data dir", "coordinator", &[&LOOPBACK, open], &["data_dir", "--data-dir"]),
        case("no data dir", "shard", &[&LOOPBACK, open, there], &["data_dir", "--data-dir"]),
        case("no coordinator", "shard", &[&LOOPBACK, open, dir], &["--coordinator"]),
        case("no coordinator", "router", &[&LOOPBACK, open], &["--coordinator"]),
        case(
            "a bad URL",
            "router",
            &[&LOOPBACK, open, &["--coordinator", "ftp://x"]],
            &["ftp://x", "http"],
        ),
        case(
            "a bad address",
            "router",
            &[&["--listen", "here"], open, there],
            &["here", "IP:PORT"],
        ),
        case(
            "no file",
            "router",
            &[&LOOPBACK, open, there, &["--config", "DIR/none.toml"]],
            &["none.toml"],
        ),
    ]
}

/// What only a coordinator can be told wrongly.
fn wrong_coordinator_settings() -> Vec<Case> {
    let coordinator = |what, more: &[&'static str], words: &[&'static str]| {
        case(what, "coordinator", &[&LOOPBACK, &["--insecure", "--data-dir", "DIR"], more], words)
    };
    vec![
        coordinator("a short fence", &["--fence-budget-ms", "1"], &["fence_budget_ms"]),
        coordinator(
            "a shard twice",
            &["--shard", "http://a:1", "--shard", "http://a:1"],
            &["twice"],
        ),
        coordinator("a malformed replica", &["--replica", "http://a:1"], &["<shard id>=<url>"]),
        coordinator(
            "a replica of no number",
            &["--replica", "one=http://a:1"],
            &["<shard id>=<url>"],
        ),
        coordinator(NO_SUCH_SHARD, &["--replica", "9=http://a:1"], &["no shard 9"]),
        coordinator("autoscale without marks", &["--autoscale"], &["high_water_points"]),
        coordinator("a bad level", &["--log-level", "a=b=c"], &["log_level"]),
    ]
}

fn wrong_replica_settings() -> Vec<Case> {
    const PRIMARY: &str = "postgres://u:hush@127.0.0.1:1/d";
    let replica = |what, further: &[&'static str], words: &[&'static str]| {
        let common: &[&str] =
            &["--insecure", "--of-shard", "1", "--coordinator", "http://127.0.0.1:1"];
        case(what, "replica", &[&LOOPBACK, common, further], words)
    };
    vec![
        replica("no servers", &[], &["engine_url is missing", "leader_url is missing"]),
        replica("no follower", &["--engine", "embedded"], &["can have no replica", "pgvector"]),
        replica(
            "a leader that follows itself",
            &["--engine", "pgvector", "--engine-url", PRIMARY, "--leader-url", PRIMARY],
            &["the same server", "standby"],
        ),
        replica(
            "a password for Quiver",
            &[
                "--engine-url",
                "http://127.0.0.1:2",
                "--leader-url",
                "http://127.0.0.1:1",
                "--leader-password",
                "hush",
            ],
            &["leader_password is for --engine pgvector"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_stop_the_start_with_one_message_that_says_what_to_change() {
    let folder = tempfile::tempdir().expect("the system has room for temporary folders");
    let cases = wrong_settings().into_iter().chain(wrong_coordinator_settings());
    let cases = cases.chain(wrong_replica_settings());
    for (number, (what, arguments, words)) in cases.enumerate() {
        let data = folder.path().join(number.to_string());
        let dir = data.display().to_string();
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("DIR", &dir)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = format!("{what}: {}", arguments.join(" "));
        start(&arguments, &[]).await.expect_message(&said, &words);
        // Which shards there are is known from the record only, so that one case has begun one.
        assert!(!data.exists() || what == NO_SUCH_SHARD, "{said}: it left something");
    }
    let router = ["router", "--listen", "127.0.0.1:0", "--coordinator", "http://127.0.0.1:1"];
    let ended = start(&router, &[("SHEAF_INSECURE", "maybe")]).await;
    ended.expect_message("a bad variable", &["SHEAF_INSECURE", "maybe", "true or false"]);
    let ended = start(&router, &[("SHEAF_INSECURE", "true"), ("SHEAF_LISTENN", "x")]).await;
    ended.expect_message("an unknown variable", &["SHEAF_LISTENN"]);
    let file = folder.path().join("sheaf.toml");
    for (text, words) in
        [("listn = \"x\"", ["listn", "listen"]), ("listen = 7", ["listen", "sheaf.toml"])]
    {
        std::fs::write(&file, text).expect("the folder is the test's own");
        let path = file.display().to_string();
        let arguments =
            ["router", "--insecure", "--coordinator", "http://127.0.0.1:1", "--config", &path];
        start(&arguments, &[]).await.expect_message(text, &words);
    }
}

fn has_record(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SHEAFREC"))
}

/// The file that holds a record, right in this folder; not the next version of it, which a node that was killed may have
/// left beside it.
fn record_of(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("the folder is the test's own");
    let mut files = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_next = |path: &Path| path.extension().is_some_and(|extension| extension == "new");
    let is_record = |path: &PathBuf| path.is_file() && has_record(path) && !is_next(path);
    files.find(is_record).expect("a node has a record")
}

/// What a disk or a crash can make of a file.
fn damages(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let half = whole.len() / 2;
    let mut flipped = whole.to_vec();
    flipped[half] ^= 1;
    let mut zeroed = whole.to_vec();
    zeroed[half..].fill(0);
    let mut longer = whole.to_vec();
    longer.extend_from_slice(b"{}");
    vec![
        ("one bit flipped", flipped),
        ("half written", whole[..half].to_vec()),
        ("its end zeroed", zeroed),
        ("something behind it", longer),
        ("empty", Vec::new()),
        ("a text", b"{\"map\":{}}".to_vec()),
    ]
}

/// Starts a daemon on this damaged file, again and again, and at last on the whole one.
async fn expect_refused_damage(file: &Path, arguments: &[&str]) {
    let whole = std::fs::read(file).expect("it is there");
    for (what, bytes) in damages(&whole) {
        std::fs::write(file, &bytes).expect("the folder is the test's own");
        let ended = start(arguments, &[]).await;
        let place = file.display().to_string();
        ended.expect_message(what, &["can't start", &place, "Nothing was changed", "backup"]);
        assert_eq!(std::fs::read(file).expect("it is there"), bytes, "{what}: it was changed");
    }
    std::fs::write(file, &whole).expect("the folder is the test's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_stops_the_start_is_left_alone_and_a_restored_one_serves_again() {
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    cluster.create_collection("kept").await;
    let router = cluster.router(0);
    router.put("kept", &[("a".to_owned(), 1)]).await.expect("its shard is up");
    let map = cluster.operator().map().await;
    let url = cluster.coordinator.url.clone();

    cluster.coordinator.kill().await;
    let data = cluster.coordinator.data_dir();
    let dir = data.display().to_string();
    let arguments = ["coordinator", "--insecure", "--listen", "127.0.0.1:0", "--data-dir", &dir];
    expect_refused_damage(&record_of(&data), &arguments).await;
    // What a crash leaves beside the record counts for nothing.
    let beside = record_of(&data).with_extension("new");
    std::fs::write(&beside, b"SHEAFREC half").expect("the folder is the test's own");
    cluster.coordinator.restart().await;

    cluster.nodes[0].kill().await;
    let data = cluster.nodes[0].data_dir();
    let dir = data.display().to_string();
    let arguments = [
        "shard",
        "--insecure",
        "--listen",
        "127.0.0.1:0",
        "--coordinator",
        &url,
        "--data-dir",
        &dir,
    ];
    let ledger = record_of(&data);
    std::fs::copy(&ledger, ledger.with_extension("new")).expect("the folder is the test's own");
    expect_refused_damage(&ledger, &arguments).await;
    let whole = std::fs::read(&ledger).expect("it is there");
    std::fs::remove_file(&ledger).expect("the folder is the test's own");
    let ended = start(&arguments, &[]).await;
    ended.expect_message("no ledger", &["can't start", "ledger", "estore"]);
    std::fs::write(&ledger, &whole).expect("the folder is the test's own");
    cluster.nodes[0].restart().await;
    // A second daemon in the same folder would destroy what the first one keeps.
    let ended = start(&arguments, &[]).await;
    ended.expect_message("a second daemon", &["can't start", &dir]);

    assert_eq!(router.get("kept", "a").await.expect("its shard is up"), Some(1));
    assert_eq!(cluster.operator().map().await, map);
    assert_eq!(cluster.operator().verify().await, 1);
    cluster.expect_all_alive();
}
