//! What Sheaf keeps in a database: the schema `sheaf`, and whether this server can be trusted with it.
//!
//! Decides which servers are refused. Never changes what another program made.

use sheaf_engines::EngineError;
use sheaf_engines::validate::is_ranked;
use sheaf_types::{CollectionConfig, CollectionId, IndexKind, Metric};
use tokio_postgres::{Client, Error};

use crate::collection::table;
use crate::error::unapplied;

/// The form of the tables.
const FORM: i32 = 1;
/// The oldest PostgreSQL whose behaviour this engine needs.
const SERVER_VERSION_MIN: i32 = 140_000;
/// The oldest pgvector that goes on looking when what it found isn't wanted.
const VECTOR_VERSION_MIN: (u32, u32) = (0, 8);
/// Numbers in a vector that pgvector's HNSW takes.
pub const INDEXED_DIM_MAX: u32 = 2_000;

const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS sheaf;
    CREATE TABLE IF NOT EXISTS sheaf.owner (
        one bool PRIMARY KEY DEFAULT true CHECK (one),
        form int NOT NULL,
        database uuid NOT NULL DEFAULT gen_random_uuid(),
        token uuid NOT NULL DEFAULT gen_random_uuid());
    CREATE TABLE IF NOT EXISTS sheaf.collections (id int8 PRIMARY KEY, config text NOT NULL);";

/// Whether a server keeps what it acknowledged.
///
/// # Errors
/// `Unsupported`, with what to change.
pub async fn check_server(client: &Client, place: &str) -> Result<(), EngineError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), \
               current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()";
    let row = client.query_one(sql, &[]).await.map_err(|error| unapplied(place, &error))?;
    let refuse = |what: &str| {
        Err(EngineError::Unsupported(format!(
            "PostgreSQL at {place} can't be used: {what}. Nothing was changed"
        )))
    };
    let text = |at: usize| -> String { row.get(at) };
    if row.get::<_, i32>(0) < SERVER_VERSION_MIN {
        return refuse(&format!("Sheaf needs PostgreSQL {} or later", SERVER_VERSION_MIN / 10_000));
    }
    if text(1) != "UTF8" {
        return refuse("its encoding must be UTF8; create the database with ENCODING 'UTF8'");
    }
    if text(2) != "on" || text(3) != "on" {
        return refuse(
            "with fsync or full_page_writes off it loses acknowledged writes; turn both on",
        );
    }
    if row.get(4) {
        return refuse("it is a standby and takes no writes; give the primary's address");
    }
    Ok(())
}

/// Makes the extension and the tables, where they are missing.
///
/// # Errors
/// `Unsupported` for an extension that is too old or can't be made, and for tables of another form.
pub async fn prepare(client: &Client, place: &str) -> Result<(), EngineError> {
    let failed = |error: Error| unapplied(place, &error);
    let version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
    if client.query_opt(version, &[]).await.map_err(failed)?.is_none() {
        client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await.map_err(|error| {
            EngineError::Unsupported(format!(
                "PostgreSQL at {place} has no extension vector in this database, and it can't be made here: {}. Install pgvector, \
                 and have a superuser run CREATE EXTENSION vector in the database. Nothing was changed",
                crate::error::cause(&error)
            ))
        })?;
    }
    let found: String = client.query_one(version, &[]).await.map_err(failed)?.get(0);
    if vector_version(&found) < VECTOR_VERSION_MIN {
        let (major, minor) = VECTOR_VERSION_MIN;
        return Err(EngineError::Unsupported(format!(
            "PostgreSQL at {place} has pgvector {found}, Sheaf needs {major}.{minor} or later; update it and run ALTER EXTENSION \
             vector UPDATE. Nothing was changed"
        )));
    }
    client.batch_execute(TABLES).await.map_err(failed)?;
    let first = format!("INSERT INTO sheaf.owner (form) VALUES ({FORM}) ON CONFLICT DO NOTHING");
    client.batch_execute(&first).await.map_err(failed)?;
    let form: i32 =
        client.query_one("SELECT form FROM sheaf.owner", &[]).await.map_err(failed)?.get(0);
    check_form(place, form)
}

/// Whether the tables have the form that this version knows.
///
/// # Errors
/// `Unsupported`: they don't.
pub fn check_form(place: &str, form: i32) -> Result<(), EngineError> {
    if form == FORM {
        return Ok(());
    }
    Err(EngineError::Unsupported(format!(
        "the tables of PostgreSQL at {place} have the form {form}, this version of Sheaf writes {FORM}: start the version that \
         wrote them. Nothing was changed"
    )))
}

fn vector_version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Checks that this engine can hold the collection.
///
/// # Errors
/// As `sheaf_engines::validate::collection`.
pub fn check(config: &CollectionConfig) -> Result<(), EngineError> {
    sheaf_engines::validate::collection_of("PostgreSQL with pgvector", config)
}

/// Whether its vectors are in an HNSW index; else it is searched exactly. Documents are compared by who reads them.
pub fn is_indexed(config: &CollectionConfig) -> bool {
    let may_be = config.index == IndexKind::Hnsw && config.dim <= INDEXED_DIM_MAX;
    may_be && is_ranked(config) && !config.holds_documents()
}

/// The statements that make a collection's table, but for its row in `sheaf.collections`.
pub fn create(id: CollectionId, config: &CollectionConfig) -> String {
    let table = table(id);
    // A vector of pgvector has 16,000 numbers at most, all vectors of a document together may have more.
    let (vector, storage) = match config.holds_documents() {
        false => (format!("vector({})", config.dim), String::new()),
        // As pgvector has it: floats can't be compressed.
        true => {
            ("real[]".to_owned(), format!("ALTER TABLE {table} ALTER vector SET STORAGE EXTERNAL;"))
        }
    };
    let index = match (is_indexed(config), operator_class(config.metric)) {
        (true, class) => format!("CREATE INDEX ON {table} USING hnsw (vector {class});"),
        (false, _) => String::new(),
    };
    format!(
        "CREATE TABLE {table} (id bytea NOT NULL, id_digest bytea NOT NULL, id_rest bytea NOT NULL, hash bytea NOT NULL, \
         bytes int4 NOT NULL, vector {vector} NOT NULL, payload json, PRIMARY KEY (id, id_digest)); {storage} {index}"
    )
}

fn operator_class(metric: Metric) -> &'static str {
    match metric {
        Metric::L2 => "vector_l2_ops",
        Metric::Cosine => "vector_cosine_ops",
        Metric::Dot => "vector_ip_ops",
    }
}

/// The operator that orders by the metric, nearest first.
pub fn operator(metric: Metric) -> &'static str {
    match metric {
        Metric::L2 => "<->",
        Metric::Cosine => "<=>",
        Metric::Dot => "<#>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(vector_version("0.8.5") >= VECTOR_VERSION_MIN);
        assert!(vector_version("0.10.0") >= VECTOR_VERSION_MIN);
        assert!(vector_version("0.7.4") < VECTOR_VERSION_MIN);
        assert!(vector_version("") < VECTOR_VERSION_MIN);
    }
}
