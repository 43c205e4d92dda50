//! Which collections this engine has: kept as points of a collection of its own in the Quiver server, so that they live and die with
//! the data that they describe.
//!
//! An entry names the Quiver collection, so one that was there before Sheaf can be taken over under its own name. Quiver's own listing
//! doesn't show a configuration whole (`binary` is missing), the entry does.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_types::collection::FilterableField;
use sheaf_types::{CollectionConfig, CollectionId, IndexKind, Metric, PointId, VectorEncryption};

use super::log::Log;
use super::server::CallError;
use super::wire;
use super::{Held, Inner};
use crate::{EngineError, validate};

/// The collection of the entries.
pub const CATALOGUE: &str = "sheaf-catalogue";
/// The point that says whose server this is.
pub const OWNER: &str = "owner";
/// Durable writes, one after the other, that stand for "the server has carried out what it was sent before".
const BARRIER_ROUNDS: usize = 4;
/// Entries that are read at once.
const ENTRIES_MAX: usize = 10_000;

/// One collection, as it is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub id: CollectionId,
    /// Its name in the Quiver server.
    pub quiver: String,
    pub config: Arc<CollectionConfig>,
    /// Its drop has begun.
    #[serde(default)]
    pub dropping: bool,
}

/// What Quiver says about a collection, as far as it is compared.
#[derive(Debug, Deserialize)]
pub struct Shown {
    pub name: String,
    pub dim: u32,
    pub metric: Metric,
    pub index: IndexKind,
    pub count: u64,
    #[serde(default)]
    pub pq_subspaces: Option<u32>,
    #[serde(default)]
    pub filterable: Vec<FilterableField>,
    #[serde(default)]
    pub multivector: bool,
    #[serde(default)]
    pub vector_encryption: VectorEncryption,
    /// Whether an index was built since the server was started, or none is needed.
    pub index_ready: bool,
}

impl Entry {
    /// Whether this id in the catalogue is an entry's.
    pub fn is_one(id: &str) -> bool {
        id != OWNER
    }
}

fn entry_id(id: CollectionId) -> String {
    format!("collection-{}", id.0)
}

/// Where and how a point of the catalogue is written.
fn entry_request(id: &str, payload: &Value) -> (String, Value) {
    let body = json!({"points": [{"id": id, "vector": [1.0], "payload": payload}]});
    (format!("/v1/collections/{CATALOGUE}/points"), body)
}

/// The name of a new collection: ids are never reused, so neither is it. A user's name may have letters that Quiver's may not.
pub fn name_of(id: CollectionId) -> String {
    format!("sheaf-{id}")
}

impl Inner {
    /// All collections of the server.
    ///
    /// # Errors
    /// It doesn't say.
    pub async fn shown(&self) -> Result<Vec<Shown>, EngineError> {
        let body = self.get("/v1/collections").await.map_err(CallError::into_engine_error)?;
        serde_json::from_slice(&body).map_err(|error| wire::no_quiver(&error))
    }

    /// Makes the server this shard's, or finds that it is, and reads the entries.
    ///
    /// # Errors
    /// The server is another shard's, doesn't answer, or has lost a collection.
    pub async fn open_catalogue(&self) -> Result<Vec<(Entry, u64)>, EngineError> {
        let shown = self.shown().await?;
        let rows = if shown.iter().any(|shown| shown.name == CATALOGUE) {
            self.entries().await?
        } else if !self.options.may_claim {
            return Err(self.lost(CATALOGUE));
        } else {
            let body = json!({"name": CATALOGUE, "dim": 1, "metric": "l2"});
            self.create_in_quiver(&body).await?;
            Vec::new()
        };
        if !self.options.may_claim && !rows.iter().any(|(id, _)| id == OWNER) {
            return Err(self.lost(CATALOGUE));
        }
        let mut entries = Vec::new();
        for (id, payload) in rows {
            if id == OWNER {
                self.check_owner(&payload)?;
                continue;
            }
            let entry: Entry = serde_json::from_value(payload).map_err(|error| {
                EngineError::Damaged(format!(
                    "the point {id:?} of the collection {CATALOGUE} at {} can't be read ({error}); restore the Quiver \
                     server's data directory",
                    self.server.url()
                ))
            })?;
            entries.push(entry);
        }
        // From here on nothing of an earlier life of this shard follows.
        self.barrier(&mut *self.log.lock().await).await.map_err(CallError::into_engine_error)?;
        for dropping in entries.extract_if(.., |entry| entry.dropping) {
            self.drop_in_quiver(&dropping).await?;
        }
        let with_count = |entry: Entry| match shown.iter().find(|shown| shown.name == entry.quiver)
        {
            Some(shown) => Ok((entry, shown.count)),
            None => Err(self.lost(&entry.quiver)),
        };
        entries.into_iter().map(with_count).collect()
    }

    /// The error that says that the server no longer has what it had.
    pub fn lost(&self, quiver: &str) -> EngineError {
        EngineError::Damaged(format!(
            "the Quiver server at {} has lost the collection {quiver}: restore its data directory, or have the cluster \
             replace this shard",
            self.server.url()
        ))
    }

    fn check_owner(&self, payload: &Value) -> Result<(), EngineError> {
        if payload["owner"] == self.options.owner {
            return Ok(());
        }
        Err(EngineError::Invalid(format!(
            "the Quiver server at {} belongs to another shard, or to one whose data directory was lost: two shards on one server \
             would overwrite each other. Give each shard a server of its own; if that shard is gone for ever, start with an \
             empty Quiver data directory",
            self.server.url()
        )))
    }

    async fn entries(&self) -> Result<Vec<(String, Value)>, EngineError> {
        self.entries_as_read().await.map_err(CallError::into_engine_error)
    }

    /// The points of the catalogue, each with its id.
    pub async fn entries_as_read(&self) -> Result<Vec<(String, Value)>, CallError> {
        let body = json!({"offset": 0, "limit": ENTRIES_MAX, "with_payload": true});
        let answer = self.fetch(CATALOGUE, &body).await?;
        let rows = wire::read_rows(&answer).map_err(|error| CallError::Lost(error.to_string()))?;
        let read = |row: wire::Row| {
            let payload = row.payload.and_then(|text| serde_json::from_str(&text).ok());
            (row.id.as_str().to_owned(), payload.unwrap_or(Value::Null))
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Sees the server carry out durable writes, each sent after the one before was answered. Every write of Quiver's passes one
    /// lock, and connections of lost calls were aborted: what they had sent was carried out before these, or never arrives.
    pub async fn barrier(&self, log: &mut Log) -> Result<(), CallError> {
        let (path, body) = entry_request(OWNER, &json!({"owner": self.options.owner}));
        for _ in 0..BARRIER_ROUNDS {
            let body = Bytes::from(body.to_string());
            self.write_through(log, Method::POST, &path, body).await?;
        }
        Ok(())
    }

    async fn keep_entry(&self, id: &str, payload: &Value) -> Result<(), CallError> {
        let (path, body) = entry_request(id, payload);
        self.send(Method::POST, &path, &body).await.map(|_| ())
    }

    /// Creates the collection in the server, then its entry.
    ///
    /// # Errors
    /// The server takes it not, or the outcome isn't known: creating it again settles that.
    pub async fn create_entry(&self, entry: &Entry) -> Result<(), EngineError> {
        let config = &entry.config;
        // A document is a point of one vector there.
        let index = match config.index {
            IndexKind::Colbert => IndexKind::Hnsw,
            other => other,
        };
        let body = json!({
            "name": entry.quiver, "dim": config.dim, "metric": config.metric, "index": index,
            "pq_subspaces": config.pq_subspaces, "binary": config.binary.unwrap_or(false),
            "filterable": config.filterable, "vector_encryption": config.vector_encryption,
        });
        self.create_in_quiver(&body).await?;
        self.remember(entry).await
    }

    /// Keeps the entry, durably.
    ///
    /// # Errors
    /// It isn't known whether it is kept: keeping it again settles that.
    pub async fn remember(&self, entry: &Entry) -> Result<(), EngineError> {
        let kept = serde_json::to_value(entry).map_err(|error| wire::no_quiver(&error))?;
        let kept = self.keep_entry(&entry_id(entry.id), &kept).await;
        kept.map_err(CallError::into_engine_error)
    }

    /// Drops the collection in the server, then its entry. Again does no harm.
    ///
    /// # Errors
    /// It isn't known whether it is dropped: dropping it again settles that.
    pub async fn drop_entry(&self, entry: &Entry) -> Result<(), EngineError> {
        let dropping = Entry { dropping: true, ..entry.clone() };
        self.remember(&dropping).await?;
        self.drop_in_quiver(&dropping).await
    }

    async fn drop_in_quiver(&self, entry: &Entry) -> Result<(), EngineError> {
        let path = path_of(&entry.quiver);
        self.send(Method::DELETE, &path, &Value::Null)
            .await
            .map_err(CallError::into_engine_error)?;
        let body = json!({"ids": [entry_id(entry.id)]});
        let path = format!("/v1/collections/{CATALOGUE}/points");
        let gone = self.send(Method::DELETE, &path, &body).await;
        gone.map(|_| ()).map_err(CallError::into_engine_error)
    }

    /// Creates a collection, or finds the empty one that a creation which was cut off has left.
    async fn create_in_quiver(&self, body: &Value) -> Result<(), EngineError> {
        match self.send(Method::POST, "/v1/collections", body).await {
            Ok(_) => Ok(()),
            Err(error) if error.is(StatusCode::CONFLICT) => {
                let path = path_of(body["name"].as_str().unwrap_or_default());
                let found = self.get(&path).await.map_err(CallError::into_engine_error)?;
                let found: Shown =
                    serde_json::from_slice(&found).map_err(|error| wire::no_quiver(&error))?;
                let is_same = json!(found.dim) == body["dim"]
                    && json!(found.metric) == body["metric"]
                    && (body["index"].is_null() || json!(found.index) == body["index"]);
                if is_same && found.count == 0 {
                    return Ok(());
                }
                Err(EngineError::Invalid(format!(
                    "the Quiver server at {} has a collection {} already, which isn't Sheaf's; nothing was changed",
                    self.server.url(),
                    found.name
                )))
            }
            Err(error) => Err(error.into_engine_error()),
        }
    }

    /// How many points the collection has.
    ///
    /// # Errors
    /// The server doesn't say.
    pub async fn points_of(&self, held: &Held) -> Result<u64, EngineError> {
        self.shown_one(held).await.map(|shown| shown.count)
    }

    /// What Quiver says of the collection.
    pub async fn shown_one(&self, held: &Held) -> Result<Shown, EngineError> {
        let found = self.get(&path_of(held.name())).await;
        let found = found.map_err(|error| self.missing(held, error))?;
        serde_json::from_slice(&found).map_err(|error| wire::no_quiver(&error))
    }

    /// The failure of a call that changed nothing in a collection that there should be.
    pub fn missing(&self, held: &Held, error: CallError) -> EngineError {
        if !error.is(StatusCode::NOT_FOUND) {
            return error.into_engine_error();
        }
        if held.is_dropping() {
            EngineError::NoCollection(held.id())
        } else {
            self.lost(held.name())
        }
    }
}

/// Checks that a Quiver server can hold the collection, and that this adapter can reach all of it.
///
/// # Errors
/// `Invalid` for what makes no sense, `Unsupported` for what needs another engine.
pub fn check(config: &CollectionConfig) -> Result<(), EngineError> {
    validate::makes_sense(config)?;
    let is_graph = match config.index {
        IndexKind::Hnsw | IndexKind::Colbert => false,
        IndexKind::Vamana | IndexKind::DiskVamana | IndexKind::Ivf => true,
    };
    if is_graph && config.metric == Metric::Dot {
        return refuse(
            config,
            "Quiver's vamana, disk_vamana and ivf know l2 and cosine; use hnsw for dot",
        );
    }
    Ok(())
}

fn refuse(config: &CollectionConfig, reason: &str) -> Result<(), EngineError> {
    Err(EngineError::Unsupported(format!(
        "the Quiver engine can't hold the collection {:?}: {reason}",
        config.name
    )))
}

/// What of a collection's name is encoded: Quiver's own have nothing else.
const NAME: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The path of a collection. One that was there before Sheaf may have any name that Quiver takes.
pub fn path_of(quiver: &str) -> String {
    format!("/v1/collections/{}", percent_encoding::utf8_percent_encode(quiver, NAME))
}

/// The path of a point. Every byte that could mean something in a path is encoded, `.` too.
pub fn point_path(quiver: &str, id: &PointId) -> String {
    let id = percent_encoding::utf8_percent_encode(id.as_str(), percent_encoding::NON_ALPHANUMERIC);
    format!("{}/points/{id}", path_of(quiver))
}
