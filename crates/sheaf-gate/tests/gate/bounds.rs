//! What a gate does at its bounds: time that runs backwards (I1), more held requests than it may hold, and more bytes than a frame takes
//! (I14).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::world::{World, map_of, order};
use sheaf_gate::{Event, Operation};
use sheaf_protocol::{Content, Delta, Refusal, Stage};
use sheaf_types::limits::{COPY_FRAME_BYTES_MAX, HELD_REQUESTS_MAX};
use sheaf_types::{ShardId, Time};

#[test]
fn a_gate_whose_time_runs_backwards_stops_at_once() {
    let mut world = World::new(&[1]);
    world.pass(100);
    let gate = &mut world.nodes.get_mut(&ShardId(1)).unwrap().gate;
    let stopped = catch_unwind(AssertUnwindSafe(|| gate.handle(Time(1), Event::Tick).wake));
    let message = stopped.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("I1 time-forward"), "{message}");
}

#[test]
fn a_fenced_gate_refuses_what_it_can_not_hold_and_keeps_what_it_holds() {
    let mut world = World::new(&[1, 2]);
    let (current, next) = (map_of(1, 0, &[1]), map_of(2, 1, &[1, 2]));
    world.direct(&[1], &current, None);
    for stage in [Stage::Prepare, Stage::Copy, Stage::Fence] {
        world.direct(&[1, 2], &current, Some(order(stage, 1, &next)));
    }
    let mut held = Vec::new();
    for _ in 0..HELD_REQUESTS_MAX {
        let token = world.token();
        world.request(1, token, Operation::Gather);
        held.push(token);
    }
    let token = world.token();
    world.request(1, token, Operation::Gather);
    let limit = HELD_REQUESTS_MAX;
    assert_eq!(world.refusal(1, token), Some(Refusal::TooManyHeld { held: limit, limit }));
    assert!(held.iter().all(|token| world.answer(1, *token).is_none()));
    world.direct(&[1, 2], &Arc::clone(&next), None);
    assert!(held.iter().all(|token| world.answer(1, *token).is_some()));
}

#[test]
fn dirty_points_that_are_too_large_for_one_frame_go_in_several_and_none_is_forgotten() {
    const POINT_BYTES: usize = 300_000;
    let mut world = World::new(&[1, 2]);
    let (current, next) = (map_of(1, 0, &[1]), map_of(2, 1, &[1, 2]));
    world.direct(&[1], &current, None);
    for stage in [Stage::Prepare, Stage::Copy] {
        world.direct(&[1, 2], &current, Some(order(stage, 0, &next)));
    }
    world.pass(100);
    // No frame arrives meanwhile, so the ids wait together.
    world.parked = Some(Vec::new());
    world.payload = Some(format!("\"{}\"", "x".repeat(POINT_BYTES)));
    for n in 0..40 {
        world.write(1, &format!("large-{n}"), Some(n));
    }
    let before = world.sent.len();
    world.release_frames(|_| {});
    world.pass(500);
    let bytes = |delta: &Delta| match delta {
        Delta::Put { point, .. } => point.body.as_bytes().len(),
        Delta::Deleted { .. } => 0,
    };
    let frames = world.sent[before..].iter().map(|outgoing| match &outgoing.frame.content {
        Content::Drain { deltas } => deltas.iter().map(bytes).sum(),
        _ => 0,
    });
    let largest: usize = frames.max().unwrap_or_default();
    assert!(largest > COPY_FRAME_BYTES_MAX, "{largest} bytes: no frame was full");
    assert!(largest < COPY_FRAME_BYTES_MAX + 2 * POINT_BYTES, "{largest} bytes in one frame");
    world.direct(&[1, 2], &current, Some(order(Stage::Fence, 1, &next)));
    world.pass(500);
    let proof = world.report(1).outgoing[0].proof.expect("all was handed over");
    assert_eq!(proof.donor, proof.recipient);
    assert!(proof.donor.points > 8, "{proof:?}");
}
