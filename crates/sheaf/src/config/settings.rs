//! The settings that exist, with their defaults and what each means. Decides nothing about them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_coordinator::AutoscaleConfig;
use sheaf_types::limits::FENCE_BUDGET_MS_DEFAULT;

use super::{RoleSettings, one_or_many};

/// Source: etcd's own election timeout is 1 s, and it takes no lease below one and a half of it.
const LEASE_SECS_DEFAULT: u32 = 3;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What every daemon has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// `KEY[:role[:collections]]`: who may call, as what, and which collections.
    #[serde(rename = "api_key", deserialize_with = "one_or_many")]
    pub api_keys: Vec<String>,
    /// A file of such keys, one a line; `#` begins a comment.
    pub api_key_file: Option<PathBuf>,
    /// What coordinators, routers and shards show each other.
    pub peer_key: Option<String>,
    /// Without keys, and without encryption.
    pub insecure: bool,
    /// Insecure where other machines can reach it.
    pub i_know: bool,
    pub log: LogFormat,
    /// A level (`info`), or directives for modules (`info,sheaf_gate=debug`).
    pub log_level: String,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            api_key_file: None,
            peer_key: None,
            insecure: false,
            i_know: false,
            log: LogFormat::default(),
            log_level: "info".to_owned(),
        }
    }
}

/// A coordinator's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoordinatorSettings {
    pub listen: String,
    pub data_dir: Option<PathBuf>,
    /// `etcd://…`: where its state is kept instead of a data directory.
    pub store: Option<String>,
    pub etcd_user: Option<String>,
    pub etcd_password: Option<String>,
    /// Files in PEM: who signs the members' certificates, our own one, and its key. With `etcds://…` only.
    pub etcd_ca: Option<PathBuf>,
    pub etcd_cert: Option<PathBuf>,
    pub etcd_key: Option<PathBuf>,
    /// Where the other coordinators and their callers reach it; where it listens, unless given.
    pub advertise: Option<String>,
    /// Seconds for which a leader that is gone leads on in etcd.
    pub lease_secs: u32,
    /// The shards that a new cluster begins with.
    #[serde(rename = "shard", deserialize_with = "one_or_many")]
    pub shards: Vec<String>,
    /// `<shard id>=<url>`.
    #[serde(rename = "replica", deserialize_with = "one_or_many")]
    pub replicas: Vec<String>,
    /// Milliseconds after which a fence is backed out.
    pub fence_budget_ms: u64,
    /// When it grows or shrinks by itself.
    pub autoscale: AutoscaleConfig,
}

impl Default for CoordinatorSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7600".to_owned(),
            data_dir: None,
            store: None,
            etcd_user: None,
            etcd_password: None,
            etcd_ca: None,
            etcd_cert: None,
            etcd_key: None,
            advertise: None,
            lease_secs: LEASE_SECS_DEFAULT,
            shards: Vec::new(),
            replicas: Vec::new(),
            fence_budget_ms: FENCE_BUDGET_MS_DEFAULT,
            autoscale: AutoscaleConfig::default(),
        }
    }
}

impl RoleSettings for CoordinatorSettings {
    const ROLE: &'static str = "coordinator";
}

/// The database behind a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// In the data directory.
    #[default]
    Embedded,
    /// A Quiver server.
    Quiver,
    /// PostgreSQL with the vector extension.
    Pgvector,
}

/// A shard's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardSettings {
    pub listen: String,
    pub data_dir: Option<PathBuf>,
    pub engine: EngineKind,
    /// `http://HOST:PORT` or `postgres://…`
    pub engine_url: Option<String>,
    /// `http://HOST:PORT` of the same Quiver server's other interface.
    pub engine_grpc_url: Option<String>,
    pub engine_key: Option<String>,
    pub engine_password: Option<String>,
    /// A file in PEM: who signs PostgreSQL's certificate.
    pub engine_ca: Option<PathBuf>,
    /// Whether the collections that a Quiver server has already may be taken over.
    pub adopt: bool,
    #[serde(rename = "coordinator", deserialize_with = "one_or_many")]
    pub coordinators: Vec<String>,
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".to_owned(),
            data_dir: None,
            engine: EngineKind::default(),
            engine_url: None,
            engine_grpc_url: None,
            engine_key: None,
            engine_password: None,
            engine_ca: None,
            adopt: false,
            coordinators: Vec::new(),
        }
    }
}

impl RoleSettings for ShardSettings {
    const ROLE: &'static str = "shard";
}

/// A replica's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaSettings {
    pub listen: String,
    /// The shard whose searches it answers.
    pub of_shard: Option<u64>,
    /// Of the shard, and so of what follows it.
    pub engine: EngineKind,
    /// `http://HOST:PORT` or `postgres://…` of the follower.
    pub engine_url: Option<String>,
    pub engine_key: Option<String>,
    pub engine_password: Option<String>,
    /// A file in PEM: who signs the certificate of a PostgreSQL that follows.
    pub engine_ca: Option<PathBuf>,
    /// The same of the server that the follower follows.
    pub leader_url: Option<String>,
    pub leader_key: Option<String>,
    pub leader_password: Option<String>,
    pub leader_ca: Option<PathBuf>,
    #[serde(rename = "coordinator", deserialize_with = "one_or_many")]
    pub coordinators: Vec<String>,
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7800".to_owned(),
            of_shard: None,
            engine: EngineKind::Quiver,
            engine_url: None,
            engine_key: None,
            engine_password: None,
            engine_ca: None,
            leader_url: None,
            leader_key: None,
            leader_password: None,
            leader_ca: None,
            coordinators: Vec::new(),
        }
    }
}

impl RoleSettings for ReplicaSettings {
    const ROLE: &'static str = "replica";
}

/// A router's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterSettings {
    pub listen: String,
    /// `COLLECTION=MODEL@URL`: who embeds the texts of a collection.
    #[serde(deserialize_with = "one_or_many")]
    pub embedding: Vec<String>,
    /// The key that these servers are shown.
    pub embedding_key: Option<String>,
    /// The same: who ranks again what was found in a collection.
    #[serde(deserialize_with = "one_or_many")]
    pub reranker: Vec<String>,
    pub reranker_key: Option<String>,
    /// A file in PEM: who signs the certificates of all these servers. With `https://…` only.
    pub model_ca: Option<PathBuf>,
    #[serde(rename = "coordinator", deserialize_with = "one_or_many")]
    pub coordinators: Vec<String>,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7500".to_owned(),
            embedding: Vec::new(),
            embedding_key: None,
            reranker: Vec::new(),
            reranker_key: None,
            model_ca: None,
            coordinators: Vec::new(),
        }
    }
}

impl RoleSettings for RouterSettings {
    const ROLE: &'static str = "router";
}
