//! The gate's shell around the real core: what clients, crashes, slow engines and failing disks make of a request.

mod world;

use std::sync::Arc;

use sheaf_engines::EngineError;
use sheaf_protocol::{Refusal, Stage};
use sheaf_runtime::gate::{NotServed, OpenError, Operation};
use sheaf_stores::{Failure, MemoryStore};
use sheaf_types::{Incarnation, MapVersion, ShardId};
use world::{World, id, join, map, open};

#[tokio::test(start_paused = true)]
async fn a_standby_serves_nothing() {
    let world = World::new().await;
    assert_eq!(world.write("a", 100).await, Err(NotServed::Refused(Refusal::NotServing)));
    let report = world.host.report().await.unwrap();
    assert_eq!((report.shard, report.incarnation), (None, Incarnation(1)));
    assert_eq!(world.host.map(), None);
}

#[tokio::test(start_paused = true)]
async fn a_standby_says_how_full_it_is_when_it_is_asked() {
    let world = World::new().await;
    assert_eq!(world.host.report().await.unwrap().load.points, 0);
    world.fill("left over").await;
    assert_eq!(world.host.report().await.unwrap().load.points, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_and_counted_at_the_map_that_was_ordered() {
    let world = World::serving().await;
    assert_eq!(world.write("a", 100).await.unwrap().version, MapVersion(2));
    assert!(world.read("a", 100).await.unwrap().value);
    assert!(!world.read("b", 100).await.unwrap().value);
    assert_eq!(world.count(100).await.unwrap().value, 1);
    assert_eq!(world.host.map().unwrap().version(), MapVersion(2));
    assert_eq!(world.host.report().await.unwrap().shard, Some(ShardId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_client_vanishes_runs_to_its_end() {
    let world = World::serving().await;
    world.engine.close();
    tokio::select! {
        biased;
        _ = world.write("a", 1_000) => panic!("the engine is closed"),
        () = world.engine.has_begun(1) => {} // Here the client goes.
    }
    world.engine.reopen();
    while !world.engine.holds("a") {
        tokio::task::yield_now().await;
    }
    // A fence would wait for ever on a write that was never ended.
    assert!(world.direct(map(2, &[1]), Some(join(Stage::Fence))).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_client_vanishes_is_ended() {
    let world = World::serving().await;
    world.engine.close();
    tokio::select! {
        biased;
        _ = world.count(1_000) => panic!("the engine is closed"),
        () = world.engine.has_begun(1) => {}
    }
    world.engine.reopen();
    assert_eq!(world.count(100).await.unwrap().value, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_on_a_moving_id_is_held_by_the_fence_until_its_deadline() {
    let world = World::serving().await;
    world.direct(map(2, &[1]), Some(join(Stage::Fence))).await.unwrap();
    let version = MapVersion(2);
    let fenced = NotServed::Refused(Refusal::Fenced { version });
    assert_eq!(world.write(&id(true), 50).await.unwrap_err(), fenced);
    assert!(!world.engine.holds(&id(true)), "a refusal means that nothing was applied");
    assert!(world.write(&id(false), 50).await.is_ok(), "what stays is not held");
    assert_eq!(world.read(&id(true), 50).await.unwrap_err(), fenced);
}

#[tokio::test(start_paused = true)]
async fn what_the_fence_held_is_served_when_it_is_backed_out() {
    let world = World::serving().await;
    world.direct(map(2, &[1]), Some(join(Stage::Fence))).await.unwrap();
    let moving = id(true);
    let (written, ()) = tokio::join!(world.write(&moving, 10_000), async {
        while world.host.metrics().held_requests == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!world.engine.holds(&moving));
        world.direct(map(2, &[1]), Some(join(Stage::Copy))).await.unwrap();
    });
    assert!(written.is_ok());
    assert!(world.engine.holds(&moving));
}

#[tokio::test(start_paused = true)]
async fn a_held_request_whose_client_vanishes_is_never_carried_out() {
    let world = World::serving().await;
    world.direct(map(2, &[1]), Some(join(Stage::Fence))).await.unwrap();
    let moving = id(true);
    tokio::select! {
        biased;
        _ = world.write(&moving, 10_000) => panic!("the gate is fenced"),
        () = async {
            while world.host.metrics().held_requests == 0 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    assert_eq!(world.host.metrics().held_requests, 0);
    world.direct(map(2, &[1]), None).await.unwrap();
    assert!(world.read(&moving, 100).await.is_ok_and(|served| !served.value));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_know_makes_the_outcome_unknown() {
    let world = World::serving().await;
    for error in [EngineError::Unknown("lost".to_owned()), EngineError::Damaged("bad".to_owned())] {
        world.engine.failures.lock().unwrap().push_back(error);
        assert!(matches!(world.write("a", 100).await, Err(NotServed::OutcomeUnknown(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_refuses_is_heard_and_nothing_was_applied() {
    let world = World::serving().await;
    let full = EngineError::Unavailable("the disk is full".to_owned());
    world.engine.failures.lock().unwrap().push_back(full.clone());
    assert_eq!(world.write("a", 100).await, Err(NotServed::Engine(full)));
    let invalid = EngineError::Invalid("no".to_owned());
    world.engine.failures.lock().unwrap().push_back(invalid.clone());
    assert_eq!(world.read("a", 100).await, Err(NotServed::Engine(invalid)));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_outlasts_its_deadline_has_an_unknown_outcome_and_a_read_has_none() {
    let world = World::serving().await;
    world.engine.close();
    assert!(matches!(world.write("a", 50).await, Err(NotServed::OutcomeUnknown(_))));
    assert_eq!(world.read("a", 50).await, Err(NotServed::TooLate));
    world.engine.reopen();
    while !world.engine.holds("a") {
        tokio::task::yield_now().await; // Late, but not lost.
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_a_newer_map_is_served_once_the_gate_has_fetched_it() {
    let world = World::serving().await;
    let at = |version, ms| {
        let mut request = world.request(Operation::Gather, ms);
        request.version = Some(MapVersion(version));
        world.host.serve(request, |_| async { Ok(()) })
    };
    let behind = Refusal::Behind { version: MapVersion(2), wanted: MapVersion(3) };
    assert_eq!(at(3, 100).await, Err(NotServed::Refused(behind)));
    *world.peers.map.lock().unwrap() = Some(map(3, &[1, 2]));
    assert_eq!(at(3, 100).await.unwrap().version, MapVersion(3));
    let version = MapVersion(3);
    assert_eq!(at(2, 100).await, Err(NotServed::Refused(Refusal::OtherVersion { version })));
    let moved = world.write(&id(true), 100).await;
    assert_eq!(moved, Err(NotServed::Refused(Refusal::Moved { version })));
}

#[tokio::test(start_paused = true)]
async fn a_directive_is_reported_only_once_it_is_durable() {
    let world = World::new().await;
    for failure in [Failure::NotStored, Failure::UnknownNotStored, Failure::UnknownStored] {
        world.store.fail_next(failure);
    }
    let before = world.store.writes();
    let report = world.direct(map(2, &[1]), None).await.unwrap();
    assert_eq!(report.map_version, Some(MapVersion(2)));
    assert!(world.store.writes() > before);
    let again = open(&world.engine, &world.store, &world.peers).await.unwrap();
    assert_eq!(again.report().await.unwrap().map_version, Some(MapVersion(2)));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_restarts_goes_on_as_its_ledger_says_in_a_new_incarnation() {
    let mut world = World::serving().await;
    world.write("a", 100).await.unwrap();
    world.direct(map(2, &[1]), Some(join(Stage::Fence))).await.unwrap();
    world.host.stop();
    world.host = open(&world.engine, &world.store, &world.peers).await.unwrap();
    let report = world.host.report().await.unwrap();
    assert_eq!((report.incarnation, report.shard), (Incarnation(2), Some(ShardId(1))));
    let refused = world.write(&id(true), 50).await;
    assert!(matches!(refused, Err(NotServed::Refused(Refusal::Fenced { .. }))), "still fenced");
    assert!(world.read(&id(false), 50).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_engine_with_points_and_no_ledger_is_not_taken_for_a_new_node() {
    let world = World::serving().await;
    let opened = open(&world.engine, &Arc::new(MemoryStore::new()), &world.peers).await;
    assert_eq!(opened.err(), Some(OpenError::LedgerLost { collections: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_donor_sends_frames_to_its_recipient_and_repeats_those_that_were_lost() {
    let world = World::serving().await;
    world.write(&id(true), 100).await.unwrap();
    world.direct(map(2, &[1]), Some(join(Stage::Copy))).await.unwrap();
    while world.peers.frames.lock().unwrap().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let frames = world.peers.frames.lock().unwrap();
    assert!(frames.iter().all(|frame| frame.recipient == ShardId(2) && frame.seq == 1));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_gate_answers_polls_with_an_error_instead_of_silence() {
    let world = World::serving().await;
    world.host.stop();
    let frame = world.host.report().await;
    assert!(frame.is_ok(), "what needs no task is still answered");
    let mut request = world.request(Operation::Gather, 100);
    request.version = Some(MapVersion(9));
    let late = world.host.serve(request, |_| async { Ok(()) }).await;
    assert_eq!(late, Err(NotServed::TooLate));
}
