//! Where a coordinator keeps its record: a folder, or an etcd.
//!
//! Decides which of the two the settings mean, and refuses those that mean none or both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheaf_runtime::coordinator::Peer;
use sheaf_stores::{FileStore, Folder, Loaded, Store, StoreError};

use crate::config::check::{self, Complaints};
use crate::config::{Common, CoordinatorSettings};

/// The file of the record in the data directory.
const RECORD_NAME: &str = "coordinator";

/// Where the record is.
pub enum Place {
    Folder(PathBuf),
    #[cfg(feature = "etcd")]
    Etcd(etcd::Etcd),
}

impl Place {
    /// What kind of store it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "file",
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => "etcd",
        }
    }
}

impl Place {
    /// What is stored there, while a coordinator may work with it.
    ///
    /// # Errors
    /// It can't be read, or isn't what was stored.
    pub async fn read(&self) -> Result<Option<Loaded>, StoreError> {
        match self {
            Self::Folder(folder) => read_file(&folder.join(RECORD_NAME)),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.alone().load().await,
        }
    }

    /// The store there for somebody who is no coordinator, while there is none.
    ///
    /// # Errors
    /// A coordinator works with it, or it can't be used.
    pub async fn write(&self) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::Folder(folder) => {
                Ok(Arc::new(FileStore::open(Folder::open(folder)?, RECORD_NAME)?))
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => {
                let store = etcd.alone();
                let standing = store.standing().await?;
                if !standing.is_empty() {
                    let url = |said: String| match serde_json::from_str::<Peer>(&said) {
                        Ok(peer) => peer.url,
                        Err(_) => said,
                    };
                    let urls: Vec<String> = standing.into_iter().map(url).collect();
                    return Err(StoreError::InUse(format!(
                        "coordinators work with it: {}; stop them all, and wait until their lease has ended",
                        urls.join(", ")
                    )));
                }
                Ok(Arc::new(store))
            }
        }
    }
}

/// The record in a file as a store or `sheaf store export` writes it; `None`: there is no file.
///
/// # Errors
/// It can't be read, or isn't what was written.
pub fn read_file(file: &Path) -> Result<Option<Loaded>, StoreError> {
    let place = file.display();
    match std::fs::read(file) {
        Ok(bytes) => sheaf_stores::file::decode(bytes.into())
            .map(Some)
            .map_err(|what| StoreError::Damaged(format!("the file {place} {what}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(StoreError::Unavailable(format!("the file {place} can't be read: {error}")))
        }
    }
}

/// The place that the settings name.
pub fn place(
    common: &Common,
    settings: &CoordinatorSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    let Some(store) = &settings.store else {
        let files = [&settings.etcd_ca, &settings.etcd_cert, &settings.etcd_key];
        let words = [&settings.etcd_user, &settings.etcd_password];
        if words.iter().any(|given| given.is_some()) || files.iter().any(|given| given.is_some()) {
            complaints
                .add("settings whose names begin with etcd are for a store; add --store etcd://…");
        }
        return check::data_dir(settings.data_dir.as_ref(), complaints).map(Place::Folder);
    };
    if settings.data_dir.is_some() {
        complaints.add(
            "data_dir and store are both set, and a coordinator's state is in one place; leave out one of them",
        );
    }
    etcd::place(store, common, settings, complaints)
}

/// A store that is open, and whose it is.
pub enum Opened {
    /// Of this coordinator alone, as the folder is locked.
    Alone(Arc<dyn Store>),
    /// Of all coordinators that stand for its election.
    #[cfg(feature = "etcd")]
    Shared { store: Arc<dyn Store>, election: Arc<dyn sheaf_stores::Election> },
}

/// Opens the store there. `me` is shown to the other coordinators, if there can be any, and leads for `lease_secs` when it is gone.
///
/// # Errors
/// The folder can't be used.
#[cfg_attr(
    not(feature = "etcd"),
    expect(unused_variables, reason = "nobody else could be elected")
)]
pub fn open(place: Place, me: &Peer, lease_secs: u32) -> Result<Opened, StoreError> {
    match place {
        Place::Folder(folder) => {
            let store = FileStore::open(Folder::open(&folder)?, RECORD_NAME)?;
            Ok(Opened::Alone(Arc::new(store)))
        }
        #[cfg(feature = "etcd")]
        Place::Etcd(etcd) => {
            let (store, election) = etcd.open(me, lease_secs);
            Ok(Opened::Shared { store: Arc::new(store), election: Arc::new(election) })
        }
    }
}

#[cfg(feature = "etcd")]
mod etcd {
    //! In a binary that has etcd.

    use std::time::Duration;

    use sheaf_etcd::{EtcdAccess, EtcdAddress, EtcdElection, EtcdOptions, EtcdStore, EtcdTls};
    use sheaf_runtime::coordinator::Peer;
    use sheaf_runtime::entropy;

    use super::{Common, Complaints, CoordinatorSettings, Path, PathBuf, Place};

    /// Seconds for one call. Source: etcd's own limit for a request is 5 s, and an election well below.
    const CALL_SECS_MAX: u64 = 5;

    /// An etcd, and who we are there.
    pub struct Etcd {
        address: EtcdAddress,
        access: EtcdAccess,
    }

    impl Etcd {
        pub fn open(self, me: &Peer, lease_secs: u32) -> (EtcdStore, EtcdElection) {
            let said = serde_json::to_string(me).expect("text can be written down");
            EtcdStore::with_election(self.options(me.name.clone()), said, lease_secs)
        }

        /// The store without an election.
        pub fn alone(&self) -> EtcdStore {
            EtcdStore::new(self.options(entropy::name()))
        }

        fn options(&self, writer: String) -> EtcdOptions {
            EtcdOptions {
                address: self.address.clone(),
                access: self.access.clone(),
                writer,
                deadline: Duration::from_secs(CALL_SECS_MAX),
            }
        }
    }

    pub fn place(
        store: &str,
        common: &Common,
        settings: &CoordinatorSettings,
        complaints: &mut Complaints,
    ) -> Option<Place> {
        let login = match (&settings.etcd_user, &settings.etcd_password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                complaints.add("etcd_user and etcd_password belong together; give both or none");
                return None;
            }
        };
        let address = match EtcdAddress::parse(store) {
            Ok(address) => address,
            Err(why) => {
                complaints.add(format!("store: {why}"));
                return None;
            }
        };
        let tls = tls(&address, settings, complaints)?;
        if let Some(remote) = address.first_remote()
            && !address.is_tls
            && !(common.insecure && common.i_know)
        {
            complaints.add(format!(
                "etcd at {remote} is on another machine, and what is said to it isn't encrypted: the map, the user and the \
                 password would be readable on the wire; write etcds://… and give --etcd-ca, or type --insecure --i-know if the \
                 network is yours alone"
            ));
        }
        Some(Place::Etcd(Etcd { address, access: EtcdAccess { login, tls } }))
    }

    /// How TLS is spoken there, if it is. The outer `None`: that can't be.
    fn tls(
        address: &EtcdAddress,
        settings: &CoordinatorSettings,
        complaints: &mut Complaints,
    ) -> Option<Option<EtcdTls>> {
        let CoordinatorSettings { etcd_ca, etcd_cert, etcd_key, .. } = settings;
        if !address.is_tls {
            if etcd_ca.is_some() || etcd_cert.is_some() || etcd_key.is_some() {
                complaints.add(
                    "etcd_ca, etcd_cert and etcd_key are for TLS; write etcds://… in the store",
                );
                return None;
            }
            return Some(None);
        }
        let Some(ca) = etcd_ca else {
            complaints.add(
                "etcds:// needs --etcd-ca FILE: the certificate of who has signed those of etcd's members",
            );
            return None;
        };
        let identity = match (etcd_cert, etcd_key) {
            (Some(cert), Some(key)) => {
                Some((pem("etcd_cert", cert, complaints)?, pem("etcd_key", key, complaints)?))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                complaints.add("etcd_cert and etcd_key belong together; give both or none");
                return None;
            }
        };
        Some(Some(EtcdTls { ca: pem("etcd_ca", ca, complaints)?, identity }))
    }

    fn pem(name: &str, file: &Path, complaints: &mut Complaints) -> Option<Vec<u8>> {
        let file: PathBuf = file.to_owned();
        match std::fs::read(&file) {
            Ok(bytes) if bytes.windows(PEM.len()).any(|some| some == PEM) => Some(bytes),
            Ok(_) => {
                complaints.add(format!("{name}: {} has nothing in PEM", file.display()));
                None
            }
            Err(error) => {
                complaints.add(format!("{name}: {} can't be read: {error}", file.display()));
                None
            }
        }
    }

    /// How each part of a file in PEM begins.
    const PEM: &[u8] = b"-----BEGIN ";
}

#[cfg(not(feature = "etcd"))]
mod etcd {
    //! In a binary that has none.

    use super::{Common, Complaints, CoordinatorSettings, Place};

    pub fn place(
        store: &str,
        _: &Common,
        _: &CoordinatorSettings,
        complaints: &mut Complaints,
    ) -> Option<Place> {
        // What else is in it could be a secret.
        let kind = store.split_once("://").map_or("…", |(kind, _)| kind);
        complaints.add(format!(
            "store is {kind}://…, and this sheaf was built without etcd; build one that has it: apt-get install -y \
             protobuf-compiler && cargo build --release --features etcd"
        ));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about these settings; nothing, when there is a place.
    fn said(settings: CoordinatorSettings, common: &Common) -> String {
        let mut complaints = Complaints::default();
        let place = place(common, &settings, &mut complaints);
        complaints.or(place).map_or_else(|error| error.to_string(), |_| String::new())
    }

    fn at(store: &str) -> CoordinatorSettings {
        CoordinatorSettings { store: Some(store.to_owned()), ..CoordinatorSettings::default() }
    }

    #[test]
    fn a_folder_is_a_place_and_none_is_not() {
        let common = Common::default();
        let folder = Some(PathBuf::from("/x"));
        let in_folder =
            CoordinatorSettings { data_dir: folder.clone(), ..CoordinatorSettings::default() };
        assert_eq!(said(in_folder.clone(), &common), "");
        let user = CoordinatorSettings { etcd_user: Some("u".to_owned()), ..in_folder };
        assert!(said(user, &common).contains("--store"));
        assert!(said(CoordinatorSettings::default(), &common).contains("--data-dir"));
        let both = CoordinatorSettings { data_dir: folder, ..at("etcd://127.0.0.1") };
        assert!(said(both, &common).contains("both set"));
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn an_etcd_is_a_place_when_it_can_be_trusted_to_be_one() {
        let common = Common::default();
        assert_eq!(said(at("etcd://127.0.0.1:1,localhost:2/a"), &common), "");
        assert!(said(at("etcd://"), &common).contains("store: "));
        assert!(said(at("file:///x"), &common).contains("etcd://"));
        let half =
            CoordinatorSettings { etcd_user: Some("u".to_owned()), ..at("etcd://127.0.0.1") };
        assert!(said(half.clone(), &common).contains("belong together"));
        let whole = CoordinatorSettings { etcd_password: Some("p".to_owned()), ..half };
        assert_eq!(said(whole, &common), "");
        let remote = said(at("etcd://10.0.0.1,10.0.0.2"), &common);
        assert!(remote.contains("10.0.0.1:2379") && remote.contains("--i-know"), "{remote}");
        assert!(said(at("etcds://10.0.0.1"), &common).contains("--etcd-ca"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let ca = Some(file.path().to_owned());
        let with_ca = |store| CoordinatorSettings { etcd_ca: ca.clone(), ..at(store) };
        assert!(said(with_ca("etcd://127.0.0.1"), &common).contains("etcds://"));
        assert!(said(with_ca("etcds://10.0.0.1"), &common).contains("nothing in PEM"));
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----").unwrap();
        assert_eq!(
            said(with_ca("etcds://10.0.0.1"), &common),
            "",
            "on the wire nobody can read it"
        );
        let half = CoordinatorSettings { etcd_cert: ca.clone(), ..with_ca("etcds://10.0.0.1") };
        assert!(said(half, &common).contains("belong together"));
        let known = Common { insecure: true, i_know: true, ..Common::default() };
        assert_eq!(said(at("etcd://10.0.0.1"), &known), "");
    }

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn a_binary_without_etcd_says_how_to_build_one() {
        let said = said(at("etcd://user:secret@h"), &Common::default());
        assert!(said.contains("--features etcd") && said.contains("protobuf-compiler"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
