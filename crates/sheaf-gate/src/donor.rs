//! The donor's part in a transition: capture, and one stream for each recipient.

mod pace;
mod pass;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_map::{Map, Moves};
use sheaf_protocol::{CopyState, DonorReport, Order, Stage, StreamId};
use sheaf_types::{
    Attempt, ClusterId, CollectionId, Incarnation, PointId, ShardId, Time, TransitionId, mark,
};

use crate::capture::Capture;
use crate::context::Context;
use crate::event::{EngineReply, FrameAnswer, Outcome, Token};
use crate::limits::Limits;
use crate::requests::Requests;
use pace::{Backpressure, Pace};
use stream::Stream;

/// What a donor may rely on while it works on its streams: all of it durable.
pub(crate) struct DonorGround<'a> {
    pub cluster_id: &'a ClusterId,
    pub incarnation: Incarnation,
    pub map: &'a Map,
    pub order: &'a Order,
    pub prepared: bool,
    pub request_p99_ms: u64,
}

/// Exists from the moment when the gate decides to follow an order as a donor.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Donor {
    transition: TransitionId,
    capture: Capture,
    streams: BTreeMap<ShardId, Stream>,
    /// Writes that were admitted before the fence; it is quiet when they are done.
    blocking: BTreeSet<Token>,
    pace: Pace,
    backpressure: Backpressure,
    next_stream: u64,
}

impl Donor {
    pub fn new(
        me: ShardId,
        order: &Order,
        moves: Moves,
        requests: &Requests,
        limits: Limits,
    ) -> Self {
        let mut capture = Capture::new(me, moves.clone(), limits.dirty_bytes_max);
        for (_, collection, ids) in requests.writes_in_flight() {
            capture.admitted(collection, ids);
        }
        let streams = moves
            .pairs()
            .iter()
            .filter(|pair| pair.donor == me)
            .map(|pair| (pair.recipient, Stream::new(*pair)))
            .collect();
        Self {
            transition: order.transition,
            capture,
            streams,
            blocking: BTreeSet::new(),
            pace: Pace::default(),
            backpressure: Backpressure::default(),
            next_stream: 1,
        }
    }

    pub fn transition(&self) -> TransitionId {
        self.transition
    }

    pub fn admitted(&mut self, collection: CollectionId, ids: &[PointId], fenced: bool) {
        let outgoing = self.capture.admitted(collection, ids);
        assert!(!(outgoing && fenced), "I3 one-writer: a write to an outgoing id under the fence");
    }

    /// A write is done: what it touched is dirty from here on. Returns by how many milliseconds its acknowledgement
    /// is to be held back.
    pub fn finished(
        &mut self,
        token: Token,
        collection: CollectionId,
        ids: &[PointId],
        outcome: Outcome,
    ) -> u64 {
        self.blocking.remove(&token);
        let outgoing = self.capture.finished(collection, ids, outcome);
        if outgoing { self.backpressure.delay_ms() } else { 0 }
    }

    /// From now on no write to an outgoing id is admitted: remembers those that are under way.
    pub fn fence_begins(&mut self, requests: &Requests) {
        self.blocking = requests
            .writes_in_flight()
            .filter(|(_, _, ids)| ids.iter().any(|id| self.capture.is_outgoing(id)))
            .map(|(token, _, _)| token)
            .collect();
        mark!(!self.blocking.is_empty(), "a fence waits for writes that are under way");
    }

    /// The fence was backed out: proofs made under it are worth nothing.
    pub fn fence_ends(&mut self) {
        self.blocking.clear();
        for stream in self.streams.values_mut() {
            stream.unseal();
        }
    }

    /// A collection is gone: sums that contain it can't be compared with new ones.
    pub fn catalogue_shrank(&mut self) {
        for stream in self.streams.values_mut() {
            stream.reset(Time(0));
        }
    }

    pub fn on_engine(
        &mut self,
        recipient: ShardId,
        reply: EngineReply,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(stream) = self.streams.get_mut(&recipient) else { return };
        stream.on_engine(reply, &mut self.capture, &mut self.pace, ground, ctx);
    }

    pub fn on_frame_answer(
        &mut self,
        recipient: ShardId,
        id: StreamId,
        seq: u64,
        answer: FrameAnswer,
        now: Time,
    ) {
        if let Some(stream) = self.streams.get_mut(&recipient) {
            stream.on_answer(id, seq, answer, now);
        }
    }

    /// Drives every stream as far as the facts allow.
    pub fn step(&mut self, ground: &DonorGround<'_>, ctx: &mut Context<'_>) {
        if !ground.prepared || ground.order.stage == Stage::Prepare {
            return;
        }
        let quiet = ground.order.stage == Stage::Fence && self.blocking.is_empty();
        for stream in self.streams.values_mut() {
            stream.step(
                &mut stream::Hands {
                    capture: &mut self.capture,
                    pace: &mut self.pace,
                    next_stream: &mut self.next_stream,
                    quiet,
                },
                ground,
                ctx,
            );
        }
        let caught_up = self.streams.values().all(Stream::is_verified);
        self.backpressure.look(ctx, caught_up, self.capture.dirty());
    }

    pub fn reports(&self, order: Option<&Order>) -> Vec<DonorReport> {
        let attempt = fenced_attempt(order);
        self.streams
            .iter()
            .map(|(to, stream)| stream.report(*to, self.capture.list(*to), attempt))
            .collect()
    }

    pub fn captured(&self) -> u64 {
        self.capture.captured()
    }

    pub fn dirty(&self) -> u64 {
        self.capture.dirty()
    }

    /// What a coordinator waits for; when it changes, it should be told.
    pub fn milestones(&self, order: Option<&Order>) -> impl Iterator<Item = (CopyState, bool)> {
        let attempt = fenced_attempt(order);
        self.streams.iter().map(move |(to, stream)| {
            let (state, proof) = stream.state(self.capture.list(*to), attempt);
            (state, proof.is_some())
        })
    }

    pub fn sent_points(&self) -> u64 {
        self.streams.values().map(Stream::sent_points).sum()
    }
}

fn fenced_attempt(order: Option<&Order>) -> Option<Attempt> {
    order.filter(|order| order.stage == Stage::Fence).map(|order| order.attempt)
}

/// Where the frames of a move go.
fn url_of(order: &Order, recipient: ShardId) -> Option<String> {
    let next: &Arc<Map> = &order.next;
    next.shard(recipient).map(|entry| entry.primary_url.clone())
}
