//! A router's shell: one operation for each client's request, and one map that is kept up to date.

use std::sync::Arc;

use sheaf_checkers::{Fact, Stamp};
use sheaf_map::Map;
use sheaf_router::{Call, CallId as PartId, Effects, Event, Op, Operation, Outcome, Verdict};
use sheaf_types::{MapVersion, PlacementKey, PointId};

use crate::machine::Proc;
use crate::row::Row;
use crate::wire::{
    CallId, ClientReply, ClientRequest, DataReply, DataRequest, Found, Message, Purpose, Reply,
    Work,
};
use crate::world::{Happening, World};

/// Milliseconds that a map's long poll waits at the coordinator.
const POLL_WAIT_MS: u64 = 2_000;
/// Milliseconds before maps are asked for again after a failure.
const POLL_RETRY_MS: u64 = 200;
/// Milliseconds that a map wanted by an operation may take.
const FETCH_MS: u64 = 800;

/// One client's request.
struct Running {
    operation: Operation,
    client_call: CallId,
    request: Arc<ClientRequest>,
    found: Vec<(PartId, Found)>,
    wake_us: Option<u64>,
}

/// One router process.
#[derive(Default)]
pub struct RouterNode {
    pub map: Option<Arc<Map>>,
    running: Row<Running>,
    next: u64,
    fetching: bool,
}

impl World {
    pub fn boot_router(&mut self, n: u32) {
        let proc = Proc::Router(n);
        if let Some(machine) = self.machines.get_mut(&proc) {
            machine.up = true;
        }
        if let Some(life) = self.life(proc) {
            self.keep_map(n, life);
        }
    }

    pub fn crash_router(&mut self, n: u32) {
        let node = &mut self.routers[n as usize];
        *node = RouterNode { next: node.next, ..RouterNode::default() };
    }

    /// Asks a coordinator for the next map, and waits.
    pub fn keep_map(&mut self, n: u32, life: u32) {
        let proc = Proc::Router(n);
        if self.life(proc) != Some(life) {
            return;
        }
        let after = self.routers[n as usize].map.as_ref().map(|map| map.version());
        let message = Message::MapWanted { after, wait_ms: POLL_WAIT_MS };
        let to = self.some_coordinator(Proc::Router(n));
        let timeout_us = (POLL_WAIT_MS + FETCH_MS) * 1_000;
        self.call(proc, to, message, Purpose::RouterMap { keeper: true }, timeout_us);
    }

    fn fetch_map(&mut self, n: u32, wanted: MapVersion) {
        let node = &mut self.routers[n as usize];
        if node.fetching {
            return;
        }
        node.fetching = true;
        let after = Some(MapVersion(wanted.0.saturating_sub(1)));
        let message = Message::MapWanted { after, wait_ms: FETCH_MS / 2 };
        let to = self.some_coordinator(Proc::Router(n));
        self.call(
            Proc::Router(n),
            to,
            message,
            Purpose::RouterMap { keeper: false },
            FETCH_MS * 1_000,
        );
    }

    pub fn router_request(&mut self, n: u32, call: CallId, message: Message) {
        let Message::Client(request) = message else { return };
        let proc = Proc::Router(n);
        let now = self.clock(proc);
        let seed = self.dice.processes.of(proc.code()).number();
        let buggify = self.buggify_of(proc);
        let node = &mut self.routers[n as usize];
        let Some(map) = node.map.clone() else {
            self.reply(proc, call, Reply::NotReady);
            return;
        };
        let deadline = now.plus_ms(request.timeout_ms);
        let operation = Operation::new(now, map, op_of(&request.work), deadline, seed);
        let operation = operation.buggified(buggify);
        node.next += 1;
        let number = node.next;
        let found = Vec::new();
        let running = Running { operation, client_call: call, request, found, wake_us: None };
        node.running.add(number, running);
        self.operation_event(n, number, Event::Start);
    }

    fn operation_event(&mut self, n: u32, number: u64, event: Event) {
        let now = self.clock(Proc::Router(n));
        let Some(running) = self.routers[n as usize].running.get_mut(number) else { return };
        let effects = running.operation.handle(now, event);
        self.stats.core_events += 1;
        self.operation_effects(n, number, effects);
    }

    fn operation_effects(&mut self, n: u32, number: u64, effects: Effects) {
        let proc = Proc::Router(n);
        let Some(life) = self.life(proc) else { return };
        let Effects { discard, calls, need_map, answer, wake } = effects;
        if let Some(running) = self.routers[n as usize].running.get_mut(number) {
            running.found.retain(|(call, _)| !discard.contains(call));
        }
        for call in calls {
            if self.crashed_between(proc, life) {
                return;
            }
            self.ask_shard(n, number, &call);
        }
        if let Some(verdict) = answer {
            self.operation_ends(n, number, verdict);
            return;
        }
        let wake_us = wake.map(|(at, _)| {
            let clock = self.machines.get(&proc).map(|machine| machine.clock);
            clock.map_or(self.now_us + 1, |clock| clock.when(at).max(self.now_us + 1))
        });
        if let Some(running) = self.routers[n as usize].running.get_mut(number)
            && running.wake_us != wake_us
        {
            running.wake_us = wake_us;
            if let Some(at_us) = wake_us {
                let happening =
                    Happening::OperationWake { router: n, life, operation: number, at_us };
                self.queue.plan(at_us, happening);
            }
        }
        if let Some(wanted) = need_map {
            let known = self.routers[n as usize].map.clone().filter(|map| map.version() >= wanted);
            match known {
                Some(map) => self.operation_event(n, number, Event::MapAdopted { map }),
                None => self.fetch_map(n, wanted),
            }
        }
    }

    pub fn operation_wake(&mut self, n: u32, life: u32, operation: u64, at_us: u64) {
        if self.life(Proc::Router(n)) != Some(life) {
            return;
        }
        let Some(running) = self.routers[n as usize].running.get_mut(operation) else { return };
        if running.wake_us == Some(at_us) {
            running.wake_us = None;
            self.operation_event(n, operation, Event::Tick);
        }
    }

    fn ask_shard(&mut self, n: u32, number: u64, call: &Call) {
        let proc = Proc::Router(n);
        let purpose = Purpose::Data { operation: number, call: call.id };
        let node = &self.routers[n as usize];
        let Some(running) = node.running.get(number) else { return };
        let entry = node.map.as_ref().and_then(|map| map.shard(call.shard));
        let to = entry.and_then(|entry| self.gate_at(&entry.primary_url));
        let Some(to) = to else {
            self.call_nobody(proc, purpose);
            return;
        };
        let left_ms = call.answer_by.ms_since(self.clock(proc));
        let request = DataRequest {
            version: Some(call.version),
            shard: Some(call.shard),
            collection: Arc::clone(&running.request.collection),
            work: part_of(&running.request.work, &call.items),
            timeout_ms: left_ms,
        };
        let timeout_us = (left_ms + 50) * 1_000;
        self.call(proc, to, Message::Data(Arc::new(request)), purpose, timeout_us);
    }

    pub fn router_answered(&mut self, n: u32, purpose: Purpose, reply: Reply) {
        match purpose {
            Purpose::Data { operation, call } => self.shard_answered(n, operation, call, reply),
            Purpose::RouterMap { keeper } => {
                let life = self.life(Proc::Router(n)).unwrap_or_default();
                let failed = !matches!(reply, Reply::Map(_));
                if let Reply::Map(map) = reply {
                    self.adopt_map(n, life, map);
                }
                if !keeper {
                    self.routers[n as usize].fetching = false;
                } else if failed {
                    let at_us = self.now_us + POLL_RETRY_MS * 1_000;
                    self.queue.plan(at_us, Happening::KeepMap { router: n, life });
                } else {
                    self.keep_map(n, life);
                }
            }
            _ => {}
        }
    }

    fn adopt_map(&mut self, n: u32, life: u32, map: Arc<Map>) {
        let node = &mut self.routers[n as usize];
        if node.map.as_ref().is_some_and(|known| known.version() >= map.version()) {
            return;
        }
        node.map = Some(Arc::clone(&map));
        let operations: Vec<u64> = node.running.iter().map(|(number, _)| number).collect();
        self.fact(Fact::RouterAdopted { router: n, life, version: map.version() });
        for operation in operations {
            self.operation_event(n, operation, Event::MapAdopted { map: Arc::clone(&map) });
        }
    }

    fn shard_answered(&mut self, n: u32, operation: u64, call: PartId, reply: Reply) {
        let outcome = match reply {
            Reply::Data(DataReply::Done { version, found }) => {
                if let Some(running) = self.routers[n as usize].running.get_mut(operation) {
                    running.found.push((call, found));
                }
                Outcome::Done { version }
            }
            Reply::Data(DataReply::Refused(refusal)) => Outcome::Refused(refusal),
            Reply::NotSent | Reply::NotReady => Outcome::NotSent,
            _ => Outcome::Lost,
        };
        self.operation_event(n, operation, Event::Replied { call, outcome });
    }

    fn operation_ends(&mut self, n: u32, number: u64, verdict: Verdict) {
        let Some(mut running) = self.routers[n as usize].running.remove(number) else { return };
        let reply = match verdict {
            Verdict::Complete { calls, .. } => {
                let mut found = Found::default();
                for call in calls {
                    let part = running.found.iter_mut().find(|(part, _)| *part == call);
                    found.points.extend(
                        part.map(|(_, part)| std::mem::take(part)).unwrap_or_default().points,
                    );
                }
                ClientReply::Done(found)
            }
            Verdict::Incomplete(incomplete) => {
                self.log(|| format!("    router {n}: {incomplete:?}"));
                ClientReply::Parts {
                    applied: incomplete.applied,
                    not_applied: incomplete.not_applied,
                    reason: incomplete.reason,
                }
            }
        };
        self.reply(Proc::Router(n), running.client_call, Reply::Client(reply));
    }
}

/// What a request is to the router's core.
pub fn op_of(work: &Work) -> Op {
    let key = |id: &PointId| -> PlacementKey { id.placement_key() };
    match work {
        Work::Upsert(points) | Work::Insert(points) => {
            Op::Write { keys: points.iter().map(|(id, _)| key(id)).collect() }
        }
        Work::Delete(ids) | Work::Discard(ids) => Op::Write { keys: ids.iter().map(key).collect() },
        Work::Get(id) => Op::Read { keys: vec![key(id)] },
        Work::Gather => Op::Gather,
    }
}

/// The items of a request that one shard is asked for.
pub fn part_of(work: &Work, items: &[u32]) -> Work {
    match work {
        Work::Upsert(points) => {
            let part = items.iter().filter_map(|item| points.get(*item as usize).cloned());
            Work::Upsert(part.collect::<Vec<(PointId, Stamp)>>())
        }
        Work::Delete(ids) => {
            Work::Delete(items.iter().filter_map(|item| ids.get(*item as usize).cloned()).collect())
        }
        // A repair doesn't go through routers.
        Work::Get(_) | Work::Gather | Work::Insert(_) | Work::Discard(_) => work.clone(),
    }
}
