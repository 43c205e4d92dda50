//! A PostgreSQL that is slow, refuses, loses answers, restarts or has a full disk, as clients of a whole cluster see it.

use sheaf_tests::{Load, Postgres, pause_ms};

use crate::outside;
use crate::wire::{Mischief, Wire};

/// A cluster grows into a shard on PostgreSQL, and back, while `deed` does harm.
async fn in_and_out(seed: u64, mut deed: impl AsyncFnMut(&mut Postgres, &Wire, &Load)) -> Load {
    let mut server = Postgres::start().await;
    server.database("shard").await;
    let wire = Wire::to(&server.address()).await;
    let url = server.url(&wire.address, "shard");
    let deed = async |load: &Load| deed(&mut server, &wire, load).await;
    outside::in_and_out(seed, ("pgvector", &url), deed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_postgresql_makes_nothing_wrong() {
    let load = in_and_out(81, async |_, wire, load| {
        wire.delay(40);
        load.until_acknowledged(20).await;
        wire.delay(0);
    })
    .await;
    load.expect_no_failure();
}

/// It takes no writes, it ends all sessions, and it lets nobody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_refuses_makes_nothing_wrong() {
    in_and_out(82, async |server, _, load| {
        let admin = server.admin("postgres").await;
        let end_all =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shard'";
        for (harm, cure) in [
            (
                "ALTER DATABASE shard SET default_transaction_read_only = on",
                "ALTER DATABASE shard RESET default_transaction_read_only",
            ),
            (
                "ALTER DATABASE shard WITH ALLOW_CONNECTIONS false",
                "ALTER DATABASE shard WITH ALLOW_CONNECTIONS true",
            ),
            (
                "ALTER DATABASE shard WITH CONNECTION LIMIT 1",
                "ALTER DATABASE shard WITH CONNECTION LIMIT -1",
            ),
        ] {
            for sql in [harm, end_all] {
                admin.batch_execute(sql).await.expect("a superuser may");
            }
            pause_ms(300).await;
            for sql in [cure, end_all] {
                admin.batch_execute(sql).await.expect("a superuser may");
            }
        }
        load.until_acknowledged(20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_whose_answers_are_lost_makes_nothing_wrong() {
    let mut met = 0;
    in_and_out(83, async |_, wire, load| {
        for round in 0..6 {
            wire.set([Mischief::Mute, Mischief::Lost, Mischief::Late][round % 3]);
            pause_ms(150).await;
            wire.deliver();
        }
        wire.set(Mischief::None);
        met = wire.done();
        load.until_acknowledged(20).await;
    })
    .await;
    assert!(met >= 6, "only {met} answers to a COMMIT were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_with_a_full_disk_makes_nothing_wrong() {
    in_and_out(84, async |server, _, load| {
        // Neither its tables nor its log can be written. It ends its sessions then, and may end itself and start again.
        server.limit_files(Some(8 * 1024)).await;
        pause_ms(700).await;
        server.limit_files(None).await;
        server.kill().await;
        server.restart().await;
        load.until_acknowledged(20).await;
    })
    .await;
}
