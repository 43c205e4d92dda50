//! The router's shell, and the clients in it: each does one call after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_checkers::Stamp;
use sheaf_map::Map;
use sheaf_router::{Effects, Event, Op as CoreOp, Operation, Outcome, Verdict};
use sheaf_types::{PointId, Time};

use crate::register::{Deed, End};
use crate::scope::{Id, Op};
use crate::wire::{Call, DataRequest, Found, Message, Proc, Reply, What, Work};
use crate::world::World;

/// Milliseconds that a client waits.
const CLIENT_MS: u64 = 10_000;

/// One client's request.
#[derive(Clone, Debug, Hash)]
pub struct Running {
    operation: Operation,
    client: u8,
    work: Work,
    /// What the parts found.
    found: BTreeMap<u64, Found>,
    wake: Option<Time>,
}

/// The router's process.
#[derive(Clone, Debug, Hash)]
pub struct RouterNode {
    pub map: Arc<Map>,
    pub running: BTreeMap<u8, Running>,
    /// Calls in each client's script.
    pub scripts: Vec<usize>,
    pub life: u8,
}

impl RouterNode {
    pub fn wake(&self) -> Option<Time> {
        self.running.values().filter_map(|running| running.wake).min()
    }
}

impl World<'_> {
    /// A client sends its next call.
    pub fn start(&mut self, client: u8) {
        let next = self.state.clients.get().clients[usize::from(client)].next;
        let op = self.scope.clients[usize::from(client)][usize::from(next)];
        let number = self.number_of(client, next);
        let work = self.work_of(op, number);
        self.begin(client, number, work);
    }

    /// The number of a client's call among all calls.
    fn number_of(&self, client: u8, next: u8) -> u8 {
        let before = self.scope.clients.iter().take(usize::from(client)).map(|ops| ops.len());
        before.sum::<usize>() as u8 + next
    }

    fn work_of(&self, op: Op, number: u8) -> Work {
        // Stamps up to this one were written before the search began.
        let stamp = Stamp::from(number) + 10;
        let id = |id: Id| self.cluster.ids[&id].clone();
        match op {
            Op::Put(a) => Work::Put(vec![(id(a), stamp)]),
            Op::PutBoth(a, b) => Work::Put(vec![(id(a), stamp), (id(b), stamp)]),
            Op::Delete(a) => Work::Delete(vec![id(a)]),
            Op::Get(a) => Work::Get(id(a)),
            Op::Gather => Work::Gather,
        }
    }

    /// A call begins at the router.
    pub fn begin(&mut self, client: u8, number: u8, work: Work) {
        let now = self.state.now(Proc::Router);
        self.client(client).busy = true;
        self.each_register(&work.clone(), |register, deed| {
            register.began(usize::from(number), deed);
            true
        });
        let map = Arc::clone(&self.state.router.get().map);
        let deadline = now.plus_ms(CLIENT_MS);
        let operation = Operation::new(now, map, op_of(&work), deadline, 1);
        let running = Running { operation, client, work, found: BTreeMap::new(), wake: None };
        self.router().running.insert(number, running);
        self.operation_event(number, Event::Start);
    }

    /// Calls `change` for each point that the work concerns, with what it does to it. False: no history explains it.
    fn each_register(
        &mut self,
        work: &Work,
        mut change: impl FnMut(&mut crate::register::Register, Deed) -> bool,
    ) {
        let touched: Vec<(usize, Deed)> = self
            .cluster
            .ids
            .values()
            .enumerate()
            .filter_map(|(at, id)| Some((at, deed_on(work, id)?)))
            .collect();
        for (at, deed) in touched {
            self.touched.clients = true;
            let explained = change(&mut self.state.clients.edit().registers[at], deed);
            if !explained {
                let id = self.cluster.ids.values().nth(at).cloned();
                self.break_promise(
                    "P2 linearizable",
                    format!("no order explains {work:?} at {id:?}"),
                );
            }
        }
    }

    fn operation_event(&mut self, number: u8, event: Event) {
        let now = self.state.now(Proc::Router);
        let Some(running) = self.router().running.get_mut(&number) else { return };
        let effects = running.operation.handle(now, event);
        let Effects { discard, calls, need_map: _, answer, wake } = effects;
        for call in discard {
            running.found.remove(&call.0);
        }
        running.wake = wake.map(|(at, _)| at);
        for call in calls {
            self.ask_shard(number, &call, now);
        }
        if let Some(verdict) = answer {
            self.operation_ends(number, verdict);
        }
    }

    fn ask_shard(&mut self, number: u8, call: &sheaf_router::Call, now: Time) {
        let node = self.state.router.get();
        let Some(running) = node.running.get(&number) else { return };
        let entry = node.map.shard(call.shard);
        let to = entry.and_then(|entry| self.gate_at(&entry.primary_url));
        let request = DataRequest {
            version: call.version,
            shard: call.shard,
            work: part_of(&running.work, &call.items),
            timeout_ms: call.answer_by.ms_since(now),
        };
        let Some(to) = to else { return };
        let what = What::Data { operation: number, part: call.id.0 };
        let call = Call { from: Proc::Router, life: node.life, to, what };
        self.call(call, Message::Data(Arc::new(request)));
    }

    /// A gate's answer has arrived.
    pub fn router_answered(&mut self, what: What, reply: Reply) {
        let What::Data { operation, part } = what else { return };
        let outcome = match reply {
            Reply::Done { version, found } => {
                if let Some(running) = self.router().running.get_mut(&operation) {
                    running.found.insert(part, found);
                }
                Outcome::Done { version }
            }
            Reply::Refused(refusal) => Outcome::Refused(refusal),
            Reply::Unknown | Reply::Lost | Reply::Directed(_) | Reply::Frame(_) => Outcome::Lost,
        };
        let call = sheaf_router::CallId(part);
        self.operation_event(operation, Event::Replied { call, outcome });
    }

    /// The router learns the map that the coordinator has published.
    pub fn adopt_map(&mut self) {
        let Some(map) = self.state.coordinator.get().published.clone() else { return };
        let node = self.router();
        node.map = Arc::clone(&map);
        let operations: Vec<u8> = node.running.keys().copied().collect();
        for operation in operations {
            self.operation_event(operation, Event::MapAdopted { map: Arc::clone(&map) });
        }
    }

    pub fn tick_router(&mut self) {
        let now = self.state.now(Proc::Router);
        let due: Vec<u8> = self
            .state
            .router
            .get()
            .running
            .iter()
            .filter(|(_, running)| running.wake.is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.operation_event(number, Event::Tick);
        }
    }

    fn operation_ends(&mut self, number: u8, verdict: Verdict) {
        let Some(running) = self.router().running.remove(&number) else { return };
        self.close_operation(number);
        let client = self.client(running.client);
        client.busy = false;
        client.next += 1;
        let work = running.work;
        match verdict {
            Verdict::Complete { calls, .. } => {
                let mut found = Found::new();
                for call in calls {
                    found.extend(running.found.get(&call.0).cloned().unwrap_or_default());
                }
                self.client_answered(number, &work, &found);
            }
            Verdict::Incomplete(incomplete) => {
                let ended = |item: usize| {
                    let item = item as u32;
                    let reads = matches!(work, Work::Get(_) | Work::Gather);
                    if !reads && incomplete.applied.contains(&item) {
                        End::Done
                    } else if reads || incomplete.not_applied.contains(&item) {
                        End::Refused
                    } else {
                        End::Unknown
                    }
                };
                if !incomplete.unknown.is_empty() {
                    self.marks.hit(crate::marks::Mark::UnknownWrite);
                }
                let ids: Vec<PointId> = self.cluster.ids.values().cloned().collect();
                let items = items_of(&work, &ids);
                for (item, id) in items.into_iter().enumerate() {
                    self.end_at(number, &id, ended(item));
                }
            }
        }
    }

    /// A client's call was done, all of it.
    fn client_answered(&mut self, number: u8, work: &Work, found: &Found) {
        let reads = matches!(work, Work::Get(_) | Work::Gather);
        let ids: Vec<PointId> = self.cluster.ids.values().cloned().collect();
        for id in items_of(work, &ids) {
            let mut stamps = found.iter().filter(|(at, _)| *at == id).map(|(_, stamp)| *stamp);
            let end = if reads { End::Found(stamps.next()) } else { End::Done };
            if stamps.next().is_some() {
                self.break_promise("P3 gather-exact", format!("{id} is shown twice: {found:?}"));
            }
            self.end_at(number, &id, end);
        }
    }

    fn end_at(&mut self, number: u8, id: &PointId, end: End) {
        let Some(at) = self.cluster.ids.values().position(|known| known == id) else { return };
        self.touched.clients = true;
        let register = &mut self.state.clients.edit().registers[at];
        if !register.ended(usize::from(number), end) {
            let label =
                if matches!(end, End::Found(_)) { "P1 acked-survives" } else { "P2 linearizable" };
            self.break_promise(
                label,
                format!(
                    "call {number} ended with {end:?} at {id}, which no order of the calls explains"
                ),
            );
        }
    }

    /// The memory is gone: who waited for an answer doesn't know.
    pub fn crash_router(&mut self) {
        self.hang_up(Proc::Router);
        let node = self.router();
        node.life += 1;
        let running = std::mem::take(&mut node.running);
        for (_, running) in running {
            let client = self.client(running.client);
            client.busy = false;
            client.next += 1;
        }
    }
}

fn op_of(work: &Work) -> CoreOp {
    match work {
        Work::Put(points) => {
            CoreOp::Write { keys: points.iter().map(|(id, _)| id.placement_key()).collect() }
        }
        Work::Delete(ids) => {
            CoreOp::Write { keys: ids.iter().map(PointId::placement_key).collect() }
        }
        Work::Get(id) => CoreOp::Read { keys: vec![id.placement_key()] },
        Work::Gather => CoreOp::Gather,
    }
}

/// The items of a request that one shard is asked for.
fn part_of(work: &Work, items: &[u32]) -> Work {
    match work {
        Work::Put(points) => {
            Work::Put(items.iter().filter_map(|item| points.get(*item as usize).cloned()).collect())
        }
        Work::Delete(ids) => {
            Work::Delete(items.iter().filter_map(|item| ids.get(*item as usize).cloned()).collect())
        }
        Work::Get(_) | Work::Gather => work.clone(),
    }
}

/// The points of a call, in its order; a gather concerns all.
fn items_of(work: &Work, all: &[PointId]) -> Vec<PointId> {
    match work {
        Work::Put(points) => points.iter().map(|(id, _)| id.clone()).collect(),
        Work::Delete(ids) => ids.clone(),
        Work::Get(id) => vec![id.clone()],
        Work::Gather => all.to_vec(),
    }
}

fn deed_on(work: &Work, id: &PointId) -> Option<Deed> {
    match work {
        Work::Put(points) => {
            points.iter().find(|(at, _)| at == id).map(|(_, stamp)| Deed::Put(*stamp))
        }
        Work::Delete(ids) => ids.contains(id).then_some(Deed::Delete),
        Work::Get(at) => (at == id).then_some(Deed::Read),
        Work::Gather => Some(Deed::Read),
    }
}
