//! An etcd that speaks TLS only, and only to those who show a certificate.

use sheaf_etcd::{EtcdAccess, EtcdStore, EtcdTls};
use sheaf_stores::{Election, Loaded, Store, StoreError};
use sheaf_tests::{Etcd, eventually, pause_ms};

use crate::{CALM_MS, fresh_prefix, loaded, now, options, pattern, stored};

/// Milliseconds that a store may take to find out that it isn't spoken to.
const SHORT_MS: u64 = 1_500;

fn read(file: &std::path::Path) -> Vec<u8> {
    std::fs::read(file).expect("the certificates are there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_and_its_election_work_in_tls_and_whoever_lacks_a_certificate_is_refused() {
    let etcd = Etcd::start_with_tls(3).await;
    let url = etcd.url(&fresh_prefix());
    let files = etcd.certificates();
    let identity = Some((read(&files.cert), read(&files.key)));
    let access = |tls| EtcdAccess { login: None, tls };
    let tls = EtcdTls { ca: read(&files.ca), identity };
    let options = |tls, ms| sheaf_etcd::EtcdOptions { access: access(tls), ..options(&url, ms) };
    let (store, election) =
        EtcdStore::with_election(options(Some(tls.clone()), CALM_MS), "me".to_owned(), 3);
    eventually("it leads", 30, || async {
        let look = election.look(now()).await;
        if election.leads(now()) { Ok(()) } else { Err(format!("{look:?}")) }
    })
    .await;
    let etag = stored(&store, None, pattern(3_000_000)).await;
    assert_eq!(loaded(&store).await, Some(Loaded { etag, bytes: pattern(3_000_000) }));
    // Renewed several times over the same connection.
    for _ in 0..20 {
        pause_ms(200).await;
        election.look(now()).await.expect("etcd answers");
    }
    assert!(election.leads(now()));
    let other_ca = Etcd::start_with_tls(1).await;
    let strangers = [
        ("no certificate", Some(EtcdTls { identity: None, ..tls.clone() })),
        ("another authority", Some(EtcdTls { ca: read(&other_ca.certificates().ca), ..tls })),
        ("plain text", None),
    ];
    for (who, tls) in strangers {
        let stranger = EtcdStore::new(options(tls, SHORT_MS));
        let Err(StoreError::Unavailable(_)) = stranger.load().await else {
            panic!("{who}: it could read");
        };
    }
}
