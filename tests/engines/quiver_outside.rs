//! A Quiver server that is slow, refuses, loses answers, restarts or has a full disk, as clients of a whole cluster see it.

use sheaf_tests::{Load, QuiverServer, pause_ms};

use crate::outside;
use crate::requests::{Fault, Requests};

/// Requests of Sheaf's that write points, wherever.
const WRITES: &str = "POST /v1/collections/sheaf-c1/points";
const ANY: &str = "";

/// A cluster grows into a shard on Quiver, and back, while `deed` does harm.
async fn in_and_out(
    seed: u64,
    mut deed: impl AsyncFnMut(&mut QuiverServer, &Requests, &Load),
) -> Load {
    let mut server = QuiverServer::start().await;
    let wire = Requests::to(&server.address()).await;
    let deed = async |load: &Load| deed(&mut server, &wire, load).await;
    outside::in_and_out(seed, ("quiver", &wire.url), deed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_quiver_makes_nothing_wrong() {
    let load = in_and_out(71, async |_, wire, load| {
        wire.delay(60);
        load.until_acknowledged(20).await;
        wire.delay(0);
    })
    .await;
    load.expect_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiver_that_refuses_and_fails_makes_nothing_wrong() {
    let mut met = 0;
    in_and_out(72, async |_, wire, load| {
        for status in [429, 503, 500, 429, 500] {
            wire.set(Fault::Refused(status), ANY, 6);
            pause_ms(150).await;
        }
        wire.set(Fault::Refused(500), WRITES, 0);
        met = wire.done();
        load.until_acknowledged(20).await;
    })
    .await;
    assert!(met >= 60, "only {met} requests were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiver_whose_answers_are_lost_makes_nothing_wrong() {
    let mut met = 0;
    in_and_out(73, async |_, wire, load| {
        for round in 0..6 {
            let fault = if round % 2 == 0 { Fault::AnswerLost } else { Fault::Lost };
            wire.set(fault, if round % 3 == 0 { ANY } else { WRITES }, 2);
            pause_ms(150).await;
        }
        wire.set(Fault::Lost, WRITES, 0);
        met = wire.done();
        load.until_acknowledged(20).await;
    })
    .await;
    assert!(met >= 12, "only {met} requests or answers were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiver_with_a_full_disk_makes_nothing_wrong_once_it_was_restarted() {
    in_and_out(74, async |server, _, load| {
        server.limit_files(Some(200)).await;
        pause_ms(700).await;
        server.limit_files(None).await;
        pause_ms(200).await;
        server.kill().await;
        server.restart().await;
        load.until_acknowledged(20).await;
    })
    .await;
}
