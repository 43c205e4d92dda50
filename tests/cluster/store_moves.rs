//! `sheaf store`: a cluster's record moves from a folder to etcd and back while clients work; a backup is one command.

use std::process::{Output, Stdio};

use sheaf_tests::{Cluster, Etcd, Node, Role, Shape, load::Workload, under_load};
use tokio::process::Command;

const PREFIX: &str = "/moved";

/// Runs `sheaf store` with these words.
async fn store(words: &[&str]) -> (bool, String) {
    let mut command = Command::new(sheaf_tests::binary::sheaf());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SHEAF_") {
            command.env_remove(name);
        }
    }
    let ran = command.arg("store").args(words).stdin(Stdio::null()).output().await;
    let Output { status, stdout, stderr } = ran.expect("the binary runs");
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn done(words: &[&str]) -> String {
    let (ok, said) = store(words).await;
    assert!(ok, "{words:?}: {said}");
    said
}

async fn refused(words: &[&str], why: &str) {
    let (ok, said) = store(words).await;
    assert!(!ok && said.contains(why), "{words:?} should be refused with {why:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_moves_to_etcd_and_back_under_load_and_is_never_overwritten_by_accident() {
    let etcd = Etcd::start(3).await;
    let mut cluster = Cluster::start(Shape::of(2, 0)).await;
    let workload = Workload { keys: 200, ..Workload::seeded(71) };
    let load = under_load(&mut cluster, workload, async |cluster, load| {
        let folder = cluster.coordinator.data_dir();
        let folder = folder.to_str().expect("a path of this test").to_owned();
        let path = |name: &str| cluster.folder().join(name).to_str().expect("as above").to_owned();
        let (running, stopped, back) = (path("running"), path("stopped"), path("back"));
        let url = etcd.url(PREFIX);
        let before = cluster.operator().map().await;
        done(&["export", &running, "--data-dir", &folder]).await;
        refused(&["export", &running, "--data-dir", &folder], "there already").await;
        refused(&["import", &running, "--data-dir", &folder], "in use").await;
        refused(&["check", "--store", &url], "no record").await;
        cluster.coordinator.terminate().await;
        done(&["export", &stopped, "--data-dir", &folder]).await;
        done(&["import", &stopped, "--store", &url]).await;
        refused(&["import", &stopped, "--store", &url], "--replace").await;
        let arguments = ["--store", url.as_str()];
        let mut on_etcd =
            Node::start(Role::Coordinator, "on-etcd", cluster.folder(), &arguments).await;
        cluster.daemon_is_ready(&on_etcd).await;
        let map = cluster.client(&on_etcd.url).get("/cluster/map").await.expect("it answers");
        assert_eq!(map.expect_ok("/cluster/map"), before, "it goes on from there");
        refused(&["import", &stopped, "--store", &url, "--replace"], &on_etcd.url).await;
        load.until_acknowledged(50).await;
        on_etcd.terminate().await;
        let said = done(&["export", &back, "--store", &url]).await;
        assert!(said.contains("term 2"), "{said}");
        refused(&["import", &back, "--data-dir", &folder], "--replace").await;
        let half = std::fs::read(&back).expect("the backup is there");
        std::fs::write(&running, &half[..half.len() / 2]).expect("the folder can be written");
        refused(&["check", &running], "damaged").await;
        refused(&["import", &running, "--data-dir", &folder, "--replace"], "damaged").await;
        done(&["import", &back, "--data-dir", &folder, "--replace"]).await;
        cluster.coordinator.restart().await;
        cluster.daemon_is_ready(&cluster.coordinator).await;
        assert_eq!(cluster.operator().map().await, before);
    })
    .await;
    load.expect_no_failure();
}
