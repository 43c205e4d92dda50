//! Which engine a shard has, and whether its data directory goes with it.
//!
//! Decides which settings make sense for an engine. A data directory belongs to one engine and one database for ever: started with
//! another, a gate would take points for lost that are elsewhere.

use std::path::Path;
use std::sync::Arc;

use sheaf_engines::{Embedded, EmbeddedOptions, Engine, Quiver, QuiverOptions};
use sheaf_pgvector::{PgOptions, PgVector};
use sheaf_quiver_grpc::{GrpcReads, GrpcReadsOptions};
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
/// The files of a data directory that aren't the embedded engine's.
pub const FILES: [&str; 2] = [super::shard::LEDGER_NAME, DATABASE_FILE];
const DATABASE_FILE_NEW: &str = "database.new";
/// How the text in it begins when it is a Quiver server; the same text is kept there. Of a PostgreSQL database it is the number.
const QUIVER_OWNER: &str = "quiver ";

/// Where a shard's points are.
pub enum Place {
    Embedded,
    Quiver { url: String, grpc_url: Option<String>, key: Option<String>, adopts: bool },
    Pgvector(Box<PgOptions>),
}

/// The place that the settings name.
pub fn place(
    common: &Common,
    settings: &ShardSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    let (url, key, password) =
        (&settings.engine_url, &settings.engine_key, &settings.engine_password);
    let mut only_for = |given: bool, setting: &str, engine: &str| {
        if given {
            complaints.add(format!("{setting} is for {engine}; choose that, or leave it out"));
        }
    };
    if settings.engine != EngineKind::Quiver {
        only_for(key.is_some(), "engine_key", "--engine quiver");
        only_for(settings.engine_grpc_url.is_some(), "engine_grpc_url", "--engine quiver");
        only_for(settings.adopt, "adopt", "--engine quiver");
    }
    if settings.engine != EngineKind::Pgvector {
        only_for(password.is_some(), "engine_password", "--engine pgvector");
        only_for(settings.engine_ca.is_some(), "engine_ca", "--engine pgvector");
    }
    match settings.engine {
        EngineKind::Embedded => {
            only_for(url.is_some(), "engine_url", "--engine quiver or pgvector");
            Some(Place::Embedded)
        }
        EngineKind::Quiver => quiver(common, settings, complaints),
        EngineKind::Pgvector => pgvector(common, settings, complaints),
    }
}

fn quiver(common: &Common, settings: &ShardSettings, complaints: &mut Complaints) -> Option<Place> {
    let Some(url) = &settings.engine_url else {
        complaints
            .add("the engine quiver needs --engine-url http://HOST:PORT, a server of its own");
        return None;
    };
    let url = quiver_url(common, "engine_url", url, complaints)?;
    let grpc_url = match &settings.engine_grpc_url {
        Some(url) => Some(quiver_url(common, "engine_grpc_url", url, complaints)?),
        None => None,
    };
    let (key, adopts) = (settings.engine_key.clone(), settings.adopt);
    Some(Place::Quiver { url, grpc_url, key, adopts })
}

/// The URL of a Quiver server, which is the setting `name`.
pub fn quiver_url(
    common: &Common,
    name: &str,
    url: &str,
    complaints: &mut Complaints,
) -> Option<String> {
    if url.contains('@') {
        // Not shown: it may be a secret.
        complaints.add(format!(
            "{name} has a user or a password in it; give http://HOST:PORT of the Quiver server, and its key as a setting of its own"
        ));
        return None;
    }
    let url = check::node_url(name, url, complaints)?;
    if !is_local(&url) {
        let encrypt = "reach it through a TLS tunnel on a loopback address";
        refuse_open_wire(common, &format!("the Quiver server at {url}"), encrypt, complaints);
    }
    Some(url)
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
    let options = PgSettings {
        name: "engine_url",
        url,
        password: settings.engine_password.as_deref(),
        ca: settings.engine_ca.as_deref(),
        ca_flag: "--engine-ca",
    };
    Some(Place::Pgvector(Box::new(options.options(common, complaints)?)))
}

/// What the settings say of one PostgreSQL.
pub struct PgSettings<'a> {
    /// The setting that is its URL.
    pub name: &'a str,
    pub url: &'a str,
    pub password: Option<&'a str>,
    pub ca: Option<&'a Path>,
    /// The flag that would give `ca`.
    pub ca_flag: &'a str,
}

impl PgSettings<'_> {
    pub fn options(&self, common: &Common, complaints: &mut Complaints) -> Option<PgOptions> {
        let options = match PgOptions::parse_with(self.url, self.password, self.ca) {
            Ok(options) => options,
            Err(why) => {
                complaints.add(format!("{}: {why}", self.name));
                return None;
            }
        };
        if !options.is_local() && !options.is_verified() {
            let encrypt = format!(
                "write ?sslmode=verify-full behind the database's name, with {} FILE unless the system trusts its certificate",
                self.ca_flag
            );
            let server = format!("PostgreSQL at {}", options.place());
            refuse_open_wire(common, &server, &encrypt, complaints);
        }
        Some(options)
    }
}

/// `encrypt` says how it would be.
fn refuse_open_wire(common: &Common, server: &str, encrypt: &str, complaints: &mut Complaints) {
    if !(common.insecure && common.i_know) {
        complaints.add(format!(
            "{server} is on another machine, and what is said to it isn't encrypted: points and password would be readable on \
             the wire; {encrypt}, or type --insecure --i-know if the network is yours alone (keys are still asked for)"
        ));
    }
}

/// Whether no other machine is on the way. A name counts as another machine, but for the one that always means this one.
pub fn is_local(url: &str) -> bool {
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
    let is_new = folder.read(ledger).map_err(super::failed)?.is_none();
    let is_quiver = bound.as_deref().is_some_and(|bound| bound.starts_with(QUIVER_OWNER));
    let other = match (&place, &bound) {
        (Place::Embedded, Some(_)) if !is_quiver => Some("a PostgreSQL database"),
        (Place::Embedded | Place::Pgvector(_), Some(_)) if is_quiver => Some("a Quiver server"),
        (Place::Quiver { .. }, Some(_)) if !is_quiver => Some("a PostgreSQL database"),
        (Place::Quiver { .. } | Place::Pgvector(_), None) if embedded.exists() => {
            Some("the embedded engine")
        }
        (Place::Quiver { .. }, None) if !is_new => Some("another server"),
        _ => None,
    };
    if let Some(other) = other {
        return Err(other_engine(folder.path(), other));
    }
    match place {
        Place::Embedded => {
            let open = move || Embedded::open(EmbeddedOptions::new(embedded));
            let engine = tokio::task::spawn_blocking(open).await.map_err(super::failed)?;
            Ok(Arc::new(engine.map_err(super::failed)?))
        }
        Place::Quiver { url, grpc_url, key, adopts } => {
            let owner = match bound {
                Some(owner) => owner,
                None => {
                    let owner = format!("{QUIVER_OWNER}{}", entropy::name());
                    bind(folder, &owner).map_err(super::failed)?;
                    owner
                }
            };
            let mut options =
                QuiverOptions { adopts, may_claim: is_new, ..QuiverOptions::new(url, key, owner) };
            if let Some(url) = grpc_url {
                let (key, read_deadline) = (options.key.clone(), options.read_deadline);
                let reads = GrpcReads::new(&GrpcReadsOptions { url, key, read_deadline });
                options.many_reads = Some(Arc::new(reads.map_err(super::failed)?));
            }
            let transport = Arc::new(HyperTransport::aborting(HttpOptions::default()));
            let engine = Quiver::open(transport, options).await;
            Ok(Arc::new(engine.map_err(super::failed)?))
        }
        Place::Pgvector(options) => open_pgvector(*options, folder, bound, is_new).await,
    }
}

async fn open_pgvector(
    options: PgOptions,
    folder: &Folder,
    bound: Option<String>,
    is_new: bool,
) -> Result<Arc<dyn Engine>, Failure> {
    let place = options.place().to_owned();
    let engine = PgVector::open(options).await.map_err(super::failed)?;
    match bound {
        Some(bound) if bound == engine.database() => {}
        None if is_new => bind(folder, engine.database()).map_err(super::failed)?,
        Some(_) | None => {
            return Err(super::failed(format!(
                "{place} is not the database that the data directory {} belongs to ({}): it was made anew, or the two were \
                 mixed up. Nothing was changed. Give each gate its own pair; a shard whose database is gone is replaced by a \
                 node with an empty data directory",
                folder.path().display(),
                bound.as_deref().unwrap_or("none is noted there")
            )));
        }
    }
    Ok(Arc::new(engine))
}

fn other_engine(folder: &Path, engine: &str) -> Failure {
    super::failed(format!(
        "the data directory {} belongs to {engine}, and its points are there. Nothing was changed. Start it with that engine; to \
         move the points, let a node with another one join and drain this one",
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
        let secret = |of| (engine == of).then(|| "hush".to_owned());
        let settings = ShardSettings {
            engine,
            engine_url: url.map(str::to_owned),
            engine_key: secret(EngineKind::Quiver),
            engine_password: secret(EngineKind::Pgvector),
            ..ShardSettings::default()
        };
        said(&settings, &common)
    }

    fn said(settings: &ShardSettings, common: &Common) -> String {
        let mut complaints = Complaints::default();
        let place = place(common, settings, &mut complaints);
        complaints.or(place.map(|_| ())).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn settings_of_another_engine_or_of_none_are_refused_without_showing_a_secret() {
        let (quiver, far_quiver) = (Some("http://127.0.0.1:7000"), Some("http://10.0.0.1:7000"));
        let local = Some("postgres://u:hush@127.0.0.1/d");
        let far = Some("postgres://u:hush@10.0.0.1/d");
        let plain = Common::default;
        let known = || Common { insecure: true, i_know: true, ..Common::default() };
        for (engine, url, common) in [
            (EngineKind::Quiver, quiver, plain()),
            (EngineKind::Quiver, Some("http://[::1]:7000"), plain()),
            (EngineKind::Quiver, far_quiver, known()),
            (EngineKind::Pgvector, local, plain()),
            (
                EngineKind::Pgvector,
                Some("postgres://u:hush@10.0.0.1/d?sslmode=verify-full"),
                plain(),
            ),
            (EngineKind::Pgvector, far, known()),
        ] {
            assert_eq!(complaints(engine, url, common), "");
        }
        for (engine, url, says) in [
            (EngineKind::Embedded, quiver, "--engine quiver or pgvector"),
            (EngineKind::Quiver, None, "--engine-url"),
            (EngineKind::Quiver, local, "http://HOST:PORT"),
            (EngineKind::Quiver, Some("postgres://h/d"), "http"),
            (EngineKind::Quiver, far_quiver, "isn't encrypted"),
            (EngineKind::Pgvector, None, "--engine-url"),
            (EngineKind::Pgvector, Some("http://u:hush@h/d"), "postgres://"),
            (EngineKind::Pgvector, far, "isn't encrypted"),
            (
                EngineKind::Pgvector,
                Some("postgres://u:hush@10.0.0.1/d?sslmode=prefer"),
                "isn't encrypted",
            ),
            (
                EngineKind::Pgvector,
                Some("postgres://u:hush@10.0.0.1/d?sslmode=allow"),
                "engine_url: its sslmode",
            ),
        ] {
            let said = complaints(engine, url, plain());
            assert!(said.contains(says) && !said.contains("hush"), "{said}");
        }
        let secret = Some("hush".to_owned());
        let settings = ShardSettings { engine_key: secret.clone(), ..ShardSettings::default() };
        assert!(said(&settings, &plain()).contains("engine_key is for --engine quiver"));
        let settings =
            ShardSettings { engine_ca: Some("ca.pem".into()), ..ShardSettings::default() };
        assert!(said(&settings, &plain()).contains("engine_ca is for --engine pgvector"));
        let settings = ShardSettings {
            engine: EngineKind::Pgvector,
            engine_url: local.map(str::to_owned),
            engine_ca: Some("/none/ca.pem".into()),
            ..ShardSettings::default()
        };
        assert!(said(&settings, &plain()).contains("engine_url: /none/ca.pem can't be read"));
        let settings = ShardSettings { engine_password: secret, ..ShardSettings::default() };
        assert!(said(&settings, &plain()).contains("engine_password is for --engine pgvector"));
    }
}
