//! What PostgreSQL's errors mean for the data, and what to do about them.
//!
//! Decides which failures of a COMMIT leave its outcome open. Never holds a password: PostgreSQL's own texts don't.

use sheaf_engines::EngineError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

/// The library's words for a server that answers TLS with a no; it has no other sign of it.
const NO_TLS: &str = "server does not support TLS";

/// The error of a call that changed nothing.
pub fn unapplied(place: &str, error: &Error) -> EngineError {
    let Some(db) = error.as_db_error() else {
        let (why, what_to_do) = (cause(error), of_tls(error));
        return EngineError::Unavailable(format!(
            "PostgreSQL at {place} can't be asked: {why}. Nothing was changed;{what_to_do} it is tried again with the next request"
        ));
    };
    let (code, said) = (db.code().code(), db.message());
    let what_to_do = match code.get(..2).unwrap_or_default() {
        "22" => {
            return EngineError::Invalid(format!(
                "PostgreSQL can't hold it: {said} ({code}). Nothing was changed"
            ));
        }
        _ if code.starts_with("XX0") && code != "XX000" => {
            return EngineError::Damaged(format!(
                "PostgreSQL at {place} says that its data is damaged: {said} ({code}). Nothing was changed. Look at its \
                 log; restore the database, or replace this shard if its points exist elsewhere"
            ));
        }
        "28" => "check the user and the password of the engine's URL, and pg_hba.conf",
        "3D" => "create the database, or correct the engine's URL",
        "53" if code == "53100" => "its disk is full: make room on it",
        "53" => "it lacks memory or connections: see max_connections",
        "57" if code == "57014" => "it took too long, or somebody cancelled it",
        "57" => "it is starting or stopping",
        "40" if code == "40001" => {
            "a standby breaks off what would hold up its replay: see hot_standby_feedback and max_standby_streaming_delay"
        }
        "42" if code == "42501" => "grant the user what it lacks, see docs/engines/pgvector.md",
        "25" => "it takes no writes: is it a standby?",
        _ => "look at its log",
    };
    EngineError::Unavailable(format!(
        "PostgreSQL at {place} says: {said} ({code}). Nothing was changed; {what_to_do}. It is tried again with the next request"
    ))
}

/// What to do about a server that isn't believed, or has no TLS, and nothing of it was sent.
fn of_tls(error: &Error) -> &'static str {
    let source = std::error::Error::source(error);
    let handshake = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    let of_rustls = handshake.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
    match of_rustls {
        Some(rustls::Error::InvalidCertificate(_)) => {
            " no password was sent, since it isn't known who that is: engine_ca or sslrootcert must be the authority of the server's \
             certificate, and that must name the URL's host;"
        }
        Some(_) => " TLS with it failed, and it isn't asked without: look at its log;",
        None if cause(error) == NO_TLS => {
            " the URL or engine_ca asks for TLS, and nothing is said without: set ssl = on in postgresql.conf;"
        }
        None => "",
    }
}

/// Whether a COMMIT that failed so may have been carried out: only the server's plain word says that it wasn't.
pub fn is_open(error: &Error) -> bool {
    let Some(db) = error.as_db_error() else { return true };
    let is_plain = db.parsed_severity() == Some(Severity::Error);
    !is_plain || ["08", "57P", "XX"].iter().any(|class| db.code().code().starts_with(class))
}

/// Whether the error says that a table isn't there.
pub fn is_missing_table(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db: &DbError| db.code().code() == "42P01")
}

/// The innermost cause, which says more than "error communicating with the server".
pub fn cause(error: &Error) -> String {
    let mut text = error.to_string();
    let mut inner = std::error::Error::source(error);
    while let Some(error) = inner {
        text = error.to_string();
        inner = error.source();
    }
    text
}

/// The deadline of a call passed; nothing of it was applied.
pub fn too_late(place: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "PostgreSQL at {place} didn't answer in time. Nothing was changed; ask again, and look at its load and locks if it stays"
    ))
}

/// Rows that can't have been written by this engine, or were changed since.
pub fn damaged(place: &str, what: &str) -> EngineError {
    EngineError::Damaged(format!(
        "the tables of PostgreSQL at {place} were changed past Sheaf, or are damaged: {what}. Nothing was changed. Put the row \
         back as it was, restore the database, or replace this shard if its points exist elsewhere"
    ))
}
