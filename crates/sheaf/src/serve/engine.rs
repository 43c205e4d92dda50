//! Which engine a shard has, and whether its data directory goes with it.
//!
//! Decides which settings make sense for an engine. A data directory belongs to one engine and one database for ever: started with
//! another, a gate would take points for lost that are elsewhere.

use std::path::Path;
use std::sync::Arc;

use sheaf_engines::{Embedded, EmbeddedOptions, Engine};
use sheaf_pgvector::{PgOptions, PgVector};
use sheaf_stores::{Disk, Folder};

use crate::client::Failure;
use crate::config::check::Complaints;
use crate::config::{Common, EngineKind, ShardSettings};

/// The folder of the embedded engine in the data directory.
const EMBEDDED_FOLDER: &str = "engine";
/// The file that says which database the data directory belongs to.
const DATABASE_FILE: &str = "database";
const DATABASE_FILE_NEW: &str = "database.new";

/// Where a shard's points are.
pub enum Place {
    Embedded,
    Pgvector(Box<PgOptions>),
}

/// The place that the settings name.
pub fn place(
    common: &Common,
    settings: &ShardSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    match settings.engine {
        EngineKind::Embedded => {
            if settings.engine_url.is_some() || settings.engine_password.is_some() {
                complaints.add(
                    "engine_url and engine_password are for an engine elsewhere; add --engine pgvector, or leave them out",
                );
            }
            Some(Place::Embedded)
        }
        EngineKind::Pgvector => pgvector(common, settings, complaints),
    }
}

fn pgvector(
    common: &Common,
    settings: &ShardSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    let Some(url) = &settings.engine_url else {
        complaints.add(
            "the engine pgvector needs --engine-url postgres://USER@HOST:PORT/DATABASE, a database of its own",
        );
        return None;
    };
    let options = match PgOptions::parse(url, settings.engine_password.as_deref()) {
        Ok(options) => options,
        Err(why) => {
            complaints.add(format!("engine_url: {why}"));
            return None;
        }
    };
    let is_accepted = common.insecure && common.i_know;
    if !options.is_local() && !is_accepted {
        complaints.add(format!(
            "PostgreSQL at {} is on another machine, and what is said to it isn't encrypted: points and password would be \
             readable on the wire; reach it through a TLS tunnel on a loopback address, or type --insecure --i-know if the \
             network is yours alone (keys are still asked for)",
            options.place()
        ));
    }
    Some(Place::Pgvector(Box::new(options)))
}

/// Opens the engine there. `ledger` is the name of the file by which a data directory shows that it was used.
///
/// # Errors
/// It can't be opened, or the data directory belongs to another one.
pub async fn open(place: Place, folder: &Folder, ledger: &str) -> Result<Arc<dyn Engine>, Failure> {
    let bound = folder.read(DATABASE_FILE).map_err(super::failed)?;
    let bound = bound.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let embedded = folder.path().join(EMBEDDED_FOLDER);
    match place {
        Place::Embedded => {
            if let Some(database) = bound {
                return Err(other_engine(folder.path(), "a PostgreSQL database", &database));
            }
            let open = move || Embedded::open(EmbeddedOptions::new(embedded));
            let engine = tokio::task::spawn_blocking(open).await.map_err(super::failed)?;
            Ok(Arc::new(engine.map_err(super::failed)?))
        }
        Place::Pgvector(options) => {
            if bound.is_none() && embedded.exists() {
                return Err(other_engine(folder.path(), "the embedded engine", EMBEDDED_FOLDER));
            }
            let place = options.place().to_owned();
            let engine = PgVector::open(*options).await.map_err(super::failed)?;
            let database = engine.database();
            match bound {
                Some(bound) if bound == database => {}
                None if folder.read(ledger).map_err(super::failed)?.is_none() => {
                    bind(folder, database).map_err(super::failed)?;
                }
                Some(_) | None => {
                    return Err(super::failed(format!(
                        "{place} is not the database that the data directory {} belongs to ({}): it was made anew, or the two \
                         were mixed up. Nothing was changed. Give each gate its own pair; a shard whose database is gone is \
                         replaced by a node with an empty data directory",
                        folder.path().display(),
                        bound.as_deref().unwrap_or("none is noted there")
                    )));
                }
            }
            Ok(Arc::new(engine))
        }
    }
}

fn other_engine(folder: &Path, engine: &str, what: &str) -> Failure {
    super::failed(format!(
        "the data directory {} belongs to {engine} ({what}), and its points are there. Nothing was changed. Start it with that \
         engine; to move the points, let a node with another one join and drain this one",
        folder.display()
    ))
}

/// Notes durably which database the data directory belongs to.
fn bind(folder: &Folder, database: &str) -> std::io::Result<()> {
    folder.write_synced(DATABASE_FILE_NEW, format!("{database}\n").as_bytes())?;
    folder.rename(DATABASE_FILE_NEW, DATABASE_FILE)?;
    folder.sync_names()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(engine: EngineKind, url: Option<&str>, common: Common) -> String {
        let settings = ShardSettings {
            engine,
            engine_url: url.map(str::to_owned),
            engine_password: Some("hush".to_owned()),
            ..ShardSettings::default()
        };
        let mut complaints = Complaints::default();
        let place = place(&common, &settings, &mut complaints);
        complaints.or(place.map(|_| ())).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn settings_of_another_engine_or_of_none_are_refused_without_showing_the_password() {
        let local = Some("postgres://u:hush@127.0.0.1/d");
        let far = Some("postgres://u:hush@10.0.0.1/d");
        let plain = Common::default;
        let known = Common { insecure: true, i_know: true, ..Common::default() };
        assert_eq!(complaints(EngineKind::Pgvector, local, plain()), "");
        assert_eq!(complaints(EngineKind::Pgvector, far, known), "");
        for (engine, url, says) in [
            (EngineKind::Embedded, local, "--engine pgvector"),
            (EngineKind::Pgvector, None, "--engine-url"),
            (EngineKind::Pgvector, Some("http://u:hush@h/d"), "postgres://"),
            (EngineKind::Pgvector, far, "isn't encrypted"),
        ] {
            let said = complaints(engine, url, plain());
            assert!(said.contains(says) && !said.contains("hush"), "{said}");
        }
    }
}
