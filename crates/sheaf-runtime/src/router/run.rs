//! Carries one client's request from its arrival to its answer: performs what the core asks for, reports what came of it.
//!
//! Decides nothing. Every wait ends at the request's deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sheaf_map::Map;
use sheaf_router::{Call, CallId, Effects, Event, Op, Operation, Outcome, Verdict, WakeReason};
use sheaf_types::Time;

use super::RouterHost;

/// How a request ended, with the replies that the verdict is about.
#[derive(Debug)]
pub struct Ended<T> {
    pub verdict: Verdict,
    /// What `send` brought back for each call that was done or has failed.
    pub replies: BTreeMap<CallId, T>,
    /// The newest map that the request was judged by. Of a complete gather: the map of its version, or a newer one.
    pub map: Arc<Map>,
}

/// What comes of one call, as `send` says.
type Answered<T> = (CallId, Outcome, Option<T>);

impl RouterHost {
    /// Carries out `op`, which was routed by `map`, until `deadline`. `send` makes one call to one shard of the map that it is
    /// given; it should end at the call's `answer_by`, or soon after.
    pub async fn run<T, F>(
        &self,
        map: Arc<Map>,
        op: Op,
        deadline: Time,
        send: impl Fn(Call, Arc<Map>) -> F,
    ) -> Ended<T>
    where
        F: Future<Output = (Outcome, Option<T>)>,
    {
        let now = self.clock().now();
        let operation = Operation::new(now, map, op, deadline, self.next_seed());
        let mut request =
            Request { host: self, operation, open: BTreeSet::new(), replies: BTreeMap::new() };
        let mut calls = FuturesUnordered::new();
        let mut effects = request.handle(Event::Start);
        loop {
            for id in &effects.discard {
                request.open.remove(id);
                request.replies.remove(id);
            }
            if let Some(verdict) = effects.answer {
                let map = request.operation.map().clone();
                return Ended { verdict, replies: request.replies, map };
            }
            if let Some(version) = effects.need_map {
                self.want(version);
            }
            for call in effects.calls {
                let id = call.id;
                request.open.insert(id);
                let sent = send(call, request.operation.map().clone());
                calls.push(async move {
                    let (outcome, reply) = sent.await;
                    (id, outcome, reply)
                });
            }
            let wake = effects.wake.unwrap_or((deadline, WakeReason::Deadline));
            effects = request.next(&mut calls, wake).await;
        }
    }
}

struct Request<'a, T> {
    host: &'a RouterHost,
    operation: Operation,
    /// Calls whose replies are wanted: one that the core has discarded is answered all the same.
    open: BTreeSet<CallId>,
    replies: BTreeMap<CallId, T>,
}

impl<T> Request<'_, T> {
    fn handle(&mut self, event: Event) -> Effects {
        self.operation.handle(self.host.clock().now(), event)
    }

    /// Waits for what comes first: a reply, a newer map where one can make a difference, or the time to wake.
    async fn next<F>(
        &mut self,
        calls: &mut FuturesUnordered<F>,
        (at, reason): (Time, WakeReason),
    ) -> Effects
    where
        F: Future<Output = Answered<T>>,
    {
        let clock = self.host.clock();
        let known = self.operation.map().version();
        // Only who waits to ask again is helped by a newer map.
        let waits = reason == WakeReason::Retry;
        let mut maps = self.host.0.map.clone();
        let newer = async {
            let newer = |map: &Option<Arc<Map>>| map.as_ref().is_some_and(|m| m.version() > known);
            maps.wait_for(newer).await.ok().and_then(|map| map.clone())
        };
        tokio::select! {
            biased;
            Some((call, outcome, reply)) = calls.next(), if !calls.is_empty() => {
                self.replied(call, outcome, reply)
            }
            // `None`: the keeper is gone, and with it all news.
            Some(map) = newer, if waits => self.handle(Event::MapAdopted { map }),
            () = clock.sleep_until(at) => self.handle(Event::Tick),
        }
    }

    fn replied(&mut self, call: CallId, outcome: Outcome, reply: Option<T>) -> Effects {
        if self.open.remove(&call)
            && let Some(reply) = reply
            && matches!(outcome, Outcome::Done { .. } | Outcome::Failed)
        {
            self.replies.insert(call, reply);
        }
        // What was refused may be asked at once under a map that came meanwhile.
        let news = self.host.map().filter(|map| map.version() > self.operation.map().version());
        match news {
            Some(map) if matches!(outcome, Outcome::Refused(_)) => {
                let adopted = self.handle(Event::MapAdopted { map });
                merged(adopted, self.handle(Event::Replied { call, outcome }))
            }
            _ => self.handle(Event::Replied { call, outcome }),
        }
    }
}

/// What two events in a row ask for; the later wake counts.
fn merged(mut earlier: Effects, later: Effects) -> Effects {
    earlier.discard.extend(later.discard);
    earlier.calls.extend(later.calls);
    earlier.need_map = later.need_map;
    earlier.answer = earlier.answer.or(later.answer);
    earlier.wake = later.wake;
    earlier
}
