//! An etcd that asks who one is.

use sheaf_stores::{Loaded, Store, StoreError, StoreOutcome};
use sheaf_tests::Etcd;

use crate::{CALM_MS, loaded, options, pattern, stored};
use sheaf_etcd::{EtcdAccess, EtcdStore};

const PREFIX: &str = "/ours";

fn store_of(etcd: &Etcd, prefix: &str, password: &str) -> EtcdStore {
    let login = Some(("sheaf".to_owned(), password.to_owned()));
    let access = EtcdAccess { login, tls: None };
    EtcdStore::new(sheaf_etcd::EtcdOptions { access, ..options(&etcd.url(prefix), CALM_MS) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_rights_on_the_prefix_is_enough_and_less_is_refused_with_a_reason() {
    let etcd = Etcd::start(3).await;
    for arguments in [
        "user add root:r",
        "user grant-role root root",
        "user add sheaf:right",
        "role add ours",
        "role grant-permission ours --prefix=true readwrite /ours",
        "user grant-role sheaf ours",
        "auth enable",
    ] {
        etcd.ctl(&arguments.split(' ').collect::<Vec<_>>()).await;
    }
    let store = store_of(&etcd, PREFIX, "right");
    let mut etag = stored(&store, None, pattern(10)).await;
    for length in [3_000_000, 20] {
        etag = stored(&store, Some(etag), pattern(length)).await;
        assert_eq!(loaded(&store).await, Some(Loaded { etag, bytes: pattern(length) }));
    }
    let anonymous = EtcdStore::new(options(&etcd.url(PREFIX), CALM_MS));
    for (who, store, why) in [
        ("a wrong password", store_of(&etcd, PREFIX, "wrong"), "invalid user ID or password"),
        ("another prefix", store_of(&etcd, "/theirs", "right"), "permission denied"),
        ("nobody", anonymous, "user name is empty"),
    ] {
        let Err(StoreError::Unavailable(said)) = store.load().await else {
            panic!("{who}: it could read");
        };
        assert!(said.contains(why), "{who}: {said}");
        let outcome = store.compare_and_set(None, pattern(1)).await;
        let StoreOutcome::NotStored { reason } = outcome else {
            panic!("{who}: surely nothing is stored: {outcome:?}");
        };
        assert!(reason.contains(why), "{who}: {reason}");
    }
}
