//! Where a coordinator keeps its record: a folder, or an etcd.
//!
//! Decides which of the two the settings mean, and refuses those that mean none or both.

use std::path::PathBuf;
use std::sync::Arc;

use sheaf_runtime::coordinator::Peer;
use sheaf_stores::{FileStore, Folder, Store, StoreError};

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

/// The place that the settings name.
pub fn place(
    common: &Common,
    settings: &CoordinatorSettings,
    complaints: &mut Complaints,
) -> Option<Place> {
    let Some(store) = &settings.store else {
        if settings.etcd_user.is_some() || settings.etcd_password.is_some() {
            complaints.add("etcd_user and etcd_password are for a store; add --store etcd://…");
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

    use sheaf_etcd::{EtcdAddress, EtcdElection, EtcdOptions, EtcdStore};
    use sheaf_runtime::coordinator::Peer;

    use super::{Common, Complaints, CoordinatorSettings, Place};

    /// Seconds for one call. Source: etcd's own limit for a request is 5 s, and an election well below.
    const CALL_SECS_MAX: u64 = 5;

    /// An etcd, and who we are there.
    pub struct Etcd {
        address: EtcdAddress,
        access: Option<(String, String)>,
    }

    impl Etcd {
        pub fn open(self, me: &Peer, lease_secs: u32) -> (EtcdStore, EtcdElection) {
            let options = EtcdOptions {
                address: self.address,
                access: self.access,
                writer: me.name.clone(),
                deadline: Duration::from_secs(CALL_SECS_MAX),
            };
            let said = serde_json::to_string(me).expect("text can be written down");
            EtcdStore::with_election(options, said, lease_secs)
        }
    }

    pub fn place(
        store: &str,
        common: &Common,
        settings: &CoordinatorSettings,
        complaints: &mut Complaints,
    ) -> Option<Place> {
        let access = match (&settings.etcd_user, &settings.etcd_password) {
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
        if let Some(remote) = address.first_remote()
            && !(common.insecure && common.i_know)
        {
            complaints.add(format!(
                "etcd at {remote} is on another machine, and Sheaf doesn't encrypt what it says to it yet: the map, the user \
                 and the password would be readable on the wire; put a TLS proxy on a loopback address, or type --insecure \
                 --i-know if the network is yours alone"
            ));
        }
        Some(Place::Etcd(Etcd { address, access }))
    }
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
