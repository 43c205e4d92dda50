//! Which engine a shard has, and whether its data directory goes with it.
//!
//! Decides which settings make sense for an engine. A data directory belongs to one engine and one database for ever: started with
//! another, a gate would take points for lost that are elsewhere.

use std::path::Path;
use std::sync::Arc;

use sheaf_engines::{Embedded, EmbeddedOptions, Engine, Quiver, QuiverOptions};
use sheaf_runtime::entropy;
use sheaf_stores::{Disk, Folder};
use sheaf_transport::{HttpOptions, HyperTransport};

use crate::client::Failure;
use crate::config::check::{self, Complaints};
use crate::config::{Common, EngineKind, ShardSettings};

/// The folder of the embedded engine in the data directory.
const EMBEDDED_FOLDER: &str = "engine";
/// The file that says which database the data directory belongs to.
const DATABASE_FILE: &str = "database";
const DATABASE_FILE_NEW: &str = "database.new";
/// How the text in it begins when it is a Quiver server; the same text is kept there.
const QUIVER_OWNER: &str = "quiver ";

/// Where a shard's points are.
pub enum Place {
    Embedded,
    Quiver { url: String, key: Option<String> },
}

/// The place that the settings name.
pub fn place(
    common: &Common,
    settings: &ShardSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    match settings.engine {
        EngineKind::Embedded => {
            if settings.engine_url.is_some() || settings.engine_key.is_some() {
                complaints.add(
                    "engine_url and engine_key are for an engine elsewhere; add --engine quiver, or leave them out",
                );
            }
            Some(Place::Embedded)
        }
        EngineKind::Quiver => quiver(common, settings, complaints),
    }
}

fn quiver(common: &Common, settings: &ShardSettings, complaints: &mut Complaints) -> Option<Place> {
    let Some(url) = &settings.engine_url else {
        complaints
            .add("the engine quiver needs --engine-url http://HOST:PORT, a server of its own");
        return None;
    };
    let url = check::node_url("engine_url", url, complaints)?;
    let may_be_read = common.insecure && common.i_know;
    if !is_local(&url) && !may_be_read {
        complaints.add(format!(
            "the Quiver server at {url} is on another machine, and what is said to it isn't encrypted: points and key \
             would be readable on the wire; reach it through a TLS tunnel on a loopback address, or type --insecure \
             --i-know if the network is yours alone (keys are still asked for)"
        ));
    }
    Some(Place::Quiver { url, key: settings.engine_key.clone() })
}

/// Whether no other machine is on the way. A name counts as another machine, but for the one that always means this one.
fn is_local(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
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
                return Err(other_engine(folder.path(), "another engine", &database));
            }
            let open = move || Embedded::open(EmbeddedOptions::new(embedded));
            let engine = tokio::task::spawn_blocking(open).await.map_err(super::failed)?;
            Ok(Arc::new(engine.map_err(super::failed)?))
        }
        Place::Quiver { url, key } => {
            let is_new = folder.read(ledger).map_err(super::failed)?.is_none();
            let owner = match bound {
                Some(owner) if owner.starts_with(QUIVER_OWNER) => owner,
                Some(other) => return Err(other_engine(folder.path(), "another engine", &other)),
                None if embedded.exists() || !is_new => {
                    return Err(other_engine(
                        folder.path(),
                        "the embedded engine",
                        EMBEDDED_FOLDER,
                    ));
                }
                None => {
                    let owner = format!("{QUIVER_OWNER}{}", entropy::name());
                    bind(folder, &owner).map_err(super::failed)?;
                    owner
                }
            };
            let options =
                QuiverOptions { may_claim: is_new, ..QuiverOptions::new(url, key, owner) };
            let transport = Arc::new(HyperTransport::aborting(HttpOptions::default()));
            let engine = Quiver::open(transport, options).await;
            Ok(Arc::new(engine.map_err(super::failed)?))
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
            engine_key: Some("hush".to_owned()),
            ..ShardSettings::default()
        };
        let mut complaints = Complaints::default();
        let place = place(&common, &settings, &mut complaints);
        complaints.or(place.map(|_| ())).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn settings_of_another_engine_or_of_none_are_refused_without_showing_the_key() {
        let (local, far) = (Some("http://127.0.0.1:7000"), Some("http://10.0.0.1:7000"));
        let plain = Common::default;
        let known = Common { insecure: true, i_know: true, ..Common::default() };
        assert_eq!(complaints(EngineKind::Quiver, local, plain()), "");
        assert_eq!(complaints(EngineKind::Quiver, Some("http://[::1]:7000"), plain()), "");
        assert_eq!(complaints(EngineKind::Quiver, far, known), "");
        for (engine, url, says) in [
            (EngineKind::Embedded, local, "--engine quiver"),
            (EngineKind::Quiver, None, "--engine-url"),
            (EngineKind::Quiver, Some("postgres://h/d"), "http"),
            (EngineKind::Quiver, far, "isn't encrypted"),
        ] {
            let said = complaints(engine, url, plain());
            assert!(said.contains(says) && !said.contains("hush"), "{said}");
        }
    }
}
