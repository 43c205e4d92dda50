//! The daemons: flags of each role, and how its parts are put together.
//!
//! Decides the order of starting and stopping; everything else is decided by the parts.

mod coordinator;
mod engine;
mod follower;
mod listen;
mod models;
mod replica;
mod router;
mod shard;
pub mod store;

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::header::HeaderValue;
use serde::Serialize;

use crate::client::Failure;
use crate::config::{self, EngineKind, Loaded, LogFormat, RoleSettings};

pub use coordinator::run as coordinator;
pub use replica::run as replica;
pub use router::run as router;
pub use shard::run as shard;

/// Flags that every daemon has. Each is also a setting of the file and of the environment, under the same name.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct CommonFlags {
    /// A TOML file of settings; environment (SHEAF_...) and flags go before it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where to listen: IP:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Who may call: KEY[:role[:collections]], role read, write or admin; repeat it for several
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api_key: Vec<String>,
    /// A file of such keys, one a line
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_file: Option<PathBuf>,
    /// What coordinators, routers and shards show each other
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_key: Option<String>,
    /// No keys are asked for, nothing is encrypted
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
    /// With --insecure: also where other machines can reach it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    i_know: bool,
    /// How log lines look
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or by module: info,sheaf_gate=debug
    #[arg(long, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<String>,
    /// Stop when standard input closes: for parents that must not leave orphans
    #[arg(long, hide = true)]
    #[serde(skip)]
    exit_with_stdin: bool,
}

/// Where a coordinator's state is kept.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct PlaceFlags {
    /// Where its state is kept
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Keep its state in etcd instead: etcd://HOST:PORT,HOST:PORT,HOST:PORT[/PREFIX], or etcds://… for TLS
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// Who it is to etcd
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_user: Option<String>,
    /// How it proves that; better given in the environment or in the file
    #[arg(long, value_name = "PASSWORD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_password: Option<String>,
    /// Who has signed the certificates of etcd's members, in PEM; with etcds://
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_ca: Option<PathBuf>,
    /// Its own certificate for etcd, in PEM
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_key: Option<PathBuf>,
}

impl PlaceFlags {
    /// These flags over a coordinator's environment.
    ///
    /// # Errors
    /// A variable can't be understood.
    pub fn settings(&self) -> Result<config::CoordinatorSettings, Failure> {
        Ok(settings::<config::CoordinatorSettings>(None, self)?.role)
    }
}

/// `sheaf coordinator`
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct CoordinatorFlags {
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    #[serde(flatten)]
    place: PlaceFlags,
    /// Where the other coordinators, and their callers, reach this one; where it listens, unless given
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    /// Seconds after which another coordinator leads when the leader is gone
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_secs: Option<u32>,
    /// A shard that a new cluster begins with; repeat it for several
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shard: Vec<String>,
    /// A replica of a shard
    #[arg(long, value_name = "ID=URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replica: Vec<String>,
    /// Milliseconds after which a fence is backed out and tried again later
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fence_budget_ms: Option<u64>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "AutoscaleFlags::is_empty")]
    autoscale: AutoscaleFlags,
}

/// The table `[autoscale]` as flags.
#[derive(Clone, Debug, Default, Args, Serialize)]
struct AutoscaleFlags {
    /// Grow into standbys, and shrink, by itself
    #[arg(long = "autoscale")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enabled: bool,
    /// Grow when a shard holds more points than this
    #[arg(long = "autoscale-high-water-points", value_name = "POINTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    high_water_points: Option<u64>,
    /// Drain the least loaded shard when the others would still hold fewer points than this
    #[arg(long = "autoscale-low-water-points", value_name = "POINTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    low_water_points: Option<u64>,
    /// A node to grow into; repeat it for several
    #[arg(long = "autoscale-standby-url", value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    standby_urls: Vec<String>,
    /// Seconds between two looks
    #[arg(long = "autoscale-interval-secs", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_secs: Option<u64>,
    /// Seconds between two actions
    #[arg(long = "autoscale-cooldown-secs", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cooldown_secs: Option<u64>,
    /// Shards at most; 0: no cap
    #[arg(long = "autoscale-max-shards", value_name = "SHARDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_shards: Option<u64>,
    /// Shards at least
    #[arg(long = "autoscale-min-shards", value_name = "SHARDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_shards: Option<u64>,
}

impl AutoscaleFlags {
    fn is_empty(&self) -> bool {
        !self.enabled
            && self.high_water_points.is_none()
            && self.low_water_points.is_none()
            && self.standby_urls.is_empty()
            && self.interval_secs.is_none()
            && self.cooldown_secs.is_none()
            && self.max_shards.is_none()
            && self.min_shards.is_none()
    }
}

/// `sheaf shard`
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ShardFlags {
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonFlags,
    /// Where its points are kept
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// The database behind it
    #[arg(long, value_name = "ENGINE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineKind>,
    /// Where that is, unless it is embedded: http://HOST:PORT of Quiver, postgres://USER@HOST:PORT/DATABASE of PostgreSQL
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_url: Option<String>,
    /// The same Quiver server's gRPC interface, http://HOST:PORT: points are read through it, several times faster
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_grpc_url: Option<String>,
    /// The key that Quiver is shown; better given in the environment or in the file
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_key: Option<String>,
    /// PostgreSQL's password; better given in the environment or in the file
    #[arg(long, value_name = "PASSWORD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_password: Option<String>,
    /// Who has signed PostgreSQL's certificate, in PEM: it is spoken to in TLS then, and has to be the host of its URL
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_ca: Option<PathBuf>,
    /// Let `sheaf adopt` take over the collections that the Quiver server has; leave it out once that is done
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    adopt: bool,
    /// A coordinator; repeat it for several
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    coordinator: Vec<String>,
}

/// `sheaf replica`
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ReplicaFlags {
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonFlags,
    /// The shard whose searches it answers
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    of_shard: Option<u64>,
    /// The shard's engine: quiver, unless given, or pgvector
    #[arg(long, value_name = "ENGINE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineKind>,
    /// What follows the shard's own server: http://HOST:PORT of Quiver, postgres://USER@HOST:PORT/DATABASE of a standby
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_url: Option<String>,
    /// The key that Quiver is shown; better given in the environment or in the file
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_key: Option<String>,
    /// The standby's password; better given in the environment or in the file
    #[arg(long, value_name = "PASSWORD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_password: Option<String>,
    /// Who has signed the standby's certificate, in PEM: it is spoken to in TLS then, and has to be the host of its URL
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_ca: Option<PathBuf>,
    /// The shard's own server: http://HOST:PORT of Quiver, postgres://USER@HOST:PORT/DATABASE of PostgreSQL
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_url: Option<String>,
    /// The key that it is shown; better given in the environment or in the file
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_key: Option<String>,
    /// Its password; better given in the environment or in the file
    #[arg(long, value_name = "PASSWORD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_password: Option<String>,
    /// Who has signed its certificate, in PEM, as of the standby's
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_ca: Option<PathBuf>,
    /// A coordinator; repeat it for several
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    coordinator: Vec<String>,
}

/// `sheaf router`
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct RouterFlags {
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonFlags,
    /// Who embeds the texts of a collection: COLLECTION=MODEL@URL, a server with OpenAI's embeddings API; repeat it for several
    #[arg(long, value_name = "COLLECTION=MODEL@URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embedding: Vec<String>,
    /// The key that these servers are shown; better given in the environment or in the file
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_key: Option<String>,
    /// Who ranks again what was found in a collection: COLLECTION=MODEL@URL, a server with Cohere's rerank API; repeat it for several
    #[arg(long, value_name = "COLLECTION=MODEL@URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reranker: Vec<String>,
    /// The key that these servers are shown; better given in the environment or in the file
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reranker_key: Option<String>,
    /// Who has signed the certificates of all these servers, in PEM; with https://, unless the system trusts them
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model_ca: Option<PathBuf>,
    /// A coordinator; repeat it for several
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    coordinator: Vec<String>,
}

/// Reads all layers of settings.
fn settings<R: RoleSettings>(
    file: Option<&Path>,
    flags: &impl Serialize,
) -> Result<Loaded<R>, Failure> {
    // A variable that isn't Unicode can't be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    config::load(file, environment, flags).map_err(usage)
}

/// The header that other nodes are shown.
fn authorization(peer_key: Option<&str>) -> Result<Option<HeaderValue>, Failure> {
    let Some(key) = peer_key else { return Ok(None) };
    let mut header = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
        Failure::Usage("the peer key can't be sent in a header; use visible ASCII".to_owned())
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// A part that doesn't start says why.
fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("can't start: {error}"))
}

/// Settings that can't be used are wrong usage: nothing was started.
pub fn usage(error: config::SettingsError) -> Failure {
    Failure::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CoordinatorSettings, RouterSettings, ShardSettings};

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheaf.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn load<R: RoleSettings>(
        text: &str,
        environment: &[(&str, &str)],
        flags: &impl Serialize,
    ) -> Result<Loaded<R>, String> {
        let (_dir, path) = file(text);
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config::load(Some(&path), environment, flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_file() {
        let text = "listen = '1.1.1.1:1'\npeer_key = 'file'\nfence_budget_ms = 100\ndata_dir = '/file'\n\
                    [autoscale]\nhigh_water_points = 7\nmax_shards = 3\n";
        let environment = [
            ("SHEAF_LISTEN", "2.2.2.2:2"),
            ("SHEAF_PEER_KEY", "007"),
            ("SHEAF_AUTOSCALE__HIGH_WATER_POINTS", "8"),
            ("SHEAF_AUTOSCALE__STANDBY_URLS", "http://a http://b"),
            ("SHEAF_ROUTER", "http://of-the-operator"),
            ("HOME", "/"),
        ];
        let mut flags = CoordinatorFlags::default();
        flags.common.listen = Some("3.3.3.3:3".to_owned());
        flags.autoscale.enabled = true;
        let loaded: Loaded<CoordinatorSettings> = load(text, &environment, &flags).unwrap();
        assert_eq!(loaded.role.listen, "3.3.3.3:3");
        assert_eq!(loaded.common.peer_key.as_deref(), Some("007"));
        assert_eq!(loaded.role.data_dir, Some(PathBuf::from("/file")));
        assert_eq!(loaded.role.fence_budget_ms, 100);
        let autoscale = &loaded.role.autoscale;
        assert!(autoscale.enabled);
        assert_eq!((autoscale.high_water_points, autoscale.max_shards), (8, 3));
        assert_eq!(autoscale.standby_urls, ["http://a", "http://b"]);
        assert_eq!((autoscale.interval_secs, autoscale.cooldown_secs), (30, 300));
    }

    #[test]
    fn a_list_may_be_one_text() {
        let loaded: Loaded<ShardSettings> = load(
            "coordinator = 'http://a'\napi_key = ['k:read', 'l']",
            &[],
            &ShardFlags::default(),
        )
        .unwrap();
        assert_eq!(loaded.role.coordinators, ["http://a"]);
        assert_eq!(loaded.common.api_keys, ["k:read", "l"]);
    }

    #[test]
    fn a_name_that_nobody_knows_stops_the_start() {
        let refused = |text: &str, environment: &[(&str, &str)]| {
            load::<RouterSettings>(text, environment, &RouterFlags::default()).unwrap_err()
        };
        assert!(refused("lisen = ''", &[]).contains("lisen is not a setting of a router"));
        assert!(refused("data_dir = '/x'", &[]).contains("data_dir is not a setting of a router"));
        assert!(refused("", &[("SHEAF_LISEN", "x")]).contains("SHEAF_LISEN"));
        assert!(refused("", &[("SHEAF_INSECURE", "perhaps")]).contains("not true or false"));
        assert!(refused("listen = 5", &[]).contains("listen"));
        assert!(refused("listen = ", &[]).contains("sheaf.toml"));
        let nested: Result<Loaded<CoordinatorSettings>, String> =
            load("[autoscale]\nhigh_water = 5", &[], &CoordinatorFlags::default());
        assert!(nested.unwrap_err().contains("high_water"));
    }
}
