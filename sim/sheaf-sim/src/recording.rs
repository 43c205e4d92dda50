//! A run as data, for the picture: who sent what to whom, what happened to it, what each gate held and owned at each time.
//!
//! Only looks: draws no chance and changes nothing, so a run that is recorded is the run that isn't. Off unless asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use sheaf_checkers::{Answer, By, Call, Fact, Held, OpId, Phase, PointAt};
use sheaf_map::Map;
use sheaf_protocol::Stage as OrderStage;
use sheaf_types::PointId;

use crate::machine::{Machine, Proc};
use crate::wire::{CallId, ClientReply, DataReply, Message, Reply};
use crate::world::World;

/// Kept outside of the world, so that a core that panics doesn't take it along.
pub type Recorder = Rc<RefCell<Recording>>;

/// Characters of a message's or a log line's text that are kept.
const TEXT_MAX: usize = 420;

/// A process, from top to bottom.
#[derive(Debug, Serialize)]
pub(crate) struct Lane {
    pub name: String,
    pub kind: &'static str,
    #[serde(skip)]
    proc: Proc,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Arrived,
    /// The run ended before it came.
    Flying,
    Lost,
    Cut,
    /// Nobody was there.
    Down,
}

/// One message, or its repetition.
#[derive(Debug, Serialize)]
pub(crate) struct Arrow {
    pub from: usize,
    pub to: usize,
    pub kind: &'static str,
    /// An answer, and not a request.
    pub answer: bool,
    /// Says that something was refused or isn't known.
    pub bad: bool,
    /// Which one.
    pub refusal: Option<String>,
    pub repeated: bool,
    pub sent: u64,
    pub landed: Option<u64>,
    pub fate: Fate,
    pub text: String,
}

/// Something about a process that lasts.
#[derive(Debug, Serialize)]
pub(crate) struct Span {
    pub lane: usize,
    pub kind: &'static str,
    pub from: u64,
    pub to: Option<u64>,
}

/// Ways that are closed for a while.
#[derive(Debug, Serialize)]
struct CutSpan {
    ways: Vec<(usize, usize)>,
    from: u64,
    to: Option<u64>,
}

/// What the store holds from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stored {
    pub at: u64,
    pub term: u64,
    pub map: usize,
    pub transition: Option<u64>,
    pub phase: &'static str,
    pub attempt: u64,
    pub next: Option<usize>,
}

/// What a gate's disk says from now on.
#[derive(Debug, Serialize)]
pub(crate) struct GateState {
    pub at: u64,
    pub lane: usize,
    pub shard: Option<u64>,
    pub map: Option<usize>,
    pub transition: Option<u64>,
    pub stage: &'static str,
    pub attempt: u64,
    pub next: Option<usize>,
    pub clean: bool,
}

/// What an engine holds of a point from now on; no stamp: nothing.
#[derive(Debug, Serialize)]
struct Content {
    at: u64,
    lane: usize,
    point: usize,
    stamp: Option<u64>,
    by: &'static str,
}

/// A gate let a point be read or acknowledged a write of it.
#[derive(Debug, Serialize)]
struct Touch {
    at: u64,
    lane: usize,
    point: usize,
    write: bool,
    version: u64,
}

/// A client's or an operator's call.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    pub lane: Option<usize>,
    pub from: u64,
    pub to: Option<u64>,
    pub kind: &'static str,
    pub collection: Arc<str>,
    pub ids: Vec<String>,
    pub text: String,
    pub answer: String,
    pub done: bool,
}

/// A map of the run, and who owns each point of the run in it.
#[derive(Debug, Serialize)]
pub(crate) struct MapSeen {
    pub version: u64,
    pub committed: u64,
    pub shards: Vec<(u64, usize)>,
    pub owners: Vec<u64>,
    #[serde(skip)]
    map: Arc<Map>,
}

#[derive(Debug, Serialize)]
struct PointSeen {
    id: String,
    collection: String,
    #[serde(skip)]
    at: PointAt,
}

#[derive(Debug, Serialize)]
struct Line {
    at: u64,
    event: u64,
    text: String,
}

/// What broke, and at which event.
#[derive(Debug, Serialize)]
pub struct Broken {
    pub label: String,
    pub text: String,
    pub at: u64,
    pub event: u64,
}

/// Everything about one run.
#[derive(Debug, Default, Serialize)]
pub struct Recording {
    pub name: String,
    pub seed: u64,
    pub knobs: String,
    pub replay: String,
    pub end: u64,
    pub broken: Option<Broken>,
    pub(crate) lanes: Vec<Lane>,
    lines: Vec<Line>,
    pub(crate) arrows: Vec<Arrow>,
    pub(crate) spans: Vec<Span>,
    cuts: Vec<CutSpan>,
    pub(crate) stored: Vec<Stored>,
    pub(crate) gates: Vec<GateState>,
    points: Vec<PointSeen>,
    contents: Vec<Content>,
    touches: Vec<Touch>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) maps: Vec<MapSeen>,
    healed: Option<u64>,

    #[serde(skip)]
    flying: BTreeMap<(CallId, bool), Vec<usize>>,
    #[serde(skip)]
    lane_of: BTreeMap<Proc, usize>,
    #[serde(skip)]
    point_of: BTreeMap<PointAt, usize>,
    #[serde(skip)]
    open_spans: BTreeMap<(Proc, &'static str), usize>,
    #[serde(skip)]
    open_cuts: BTreeMap<u64, usize>,
    #[serde(skip)]
    operation_of: BTreeMap<OpId, usize>,
    /// Calls that began, but whose first message isn't sent yet: it tells whose they are.
    #[serde(skip)]
    unsent: Vec<usize>,
}

impl Recording {
    /// Of a cluster with these processes.
    pub fn begin(world: &World) -> Recorder {
        let mut recording = Self { seed: world.seed, ..Self::default() };
        recording.knobs = format!("{:?}", world.drawn);
        let clients = (0..world.drawn.clients).map(Proc::Client);
        let routers = (0..world.drawn.routers).map(Proc::Router);
        let gates = (0..world.drawn.gates).map(Proc::Gate);
        let coordinators = (0..world.drawn.coordinators).map(Proc::Coordinator);
        for proc in clients.chain(routers).chain(gates).chain(coordinators).chain([Proc::Operator])
        {
            recording.lane_of.insert(proc, recording.lanes.len());
            let (kind, name) = match proc {
                Proc::Client(n) => ("client", format!("client {n}")),
                Proc::Router(n) => ("router", format!("router {n}")),
                Proc::Gate(n) => ("gate", format!("gate {n}")),
                Proc::Coordinator(n) => ("coordinator", format!("coordinator {n}")),
                Proc::Operator => ("operator", "operator".to_owned()),
            };
            recording.lanes.push(Lane { name, kind, proc });
        }
        let decided = world.store.decided();
        recording.stored(0, &decided);
        recording.watch(world);
        Rc::new(RefCell::new(recording))
    }

    fn lane(&self, proc: Proc) -> usize {
        self.lane_of.get(&proc).copied().unwrap_or_default()
    }

    fn gate_lane(&self, node: sheaf_checkers::NodeId) -> usize {
        self.lane(Proc::Gate(node.0))
    }

    /// A line of the log.
    pub fn line(&mut self, at: u64, event: u64, text: &str) {
        self.lines.push(Line { at, event, text: shortened(text) });
    }

    /// A request leaves.
    pub fn asks(&mut self, at: u64, way: (CallId, Proc, Proc), message: &Message, repeated: bool) {
        let (call, from, to) = way;
        let kind = match message {
            Message::Directive { .. } => "directive",
            Message::ReportWanted => "report",
            Message::Frame(_) => "frame",
            Message::MapWanted { .. } => "map",
            Message::Data(_) => "data",
            Message::Client(_) => "client",
            Message::Ask(_) => "ask",
        };
        if matches!(from, Proc::Client(_) | Proc::Operator | Proc::Coordinator(_)) {
            let lane = self.lane(from);
            for operation in std::mem::take(&mut self.unsent) {
                self.operations[operation].lane = Some(lane);
            }
        }
        let text = shortened(&crate::brief::message(message));
        let arrow = Arrow {
            from: self.lane(from),
            to: self.lane(to),
            kind,
            answer: false,
            bad: false,
            refusal: None,
            repeated,
            sent: at,
            landed: None,
            fate: Fate::Flying,
            text,
        };
        self.flying.entry((call, false)).or_default().push(self.arrows.len());
        self.arrows.push(arrow);
    }

    /// An answer leaves.
    pub fn answers(&mut self, at: u64, way: (CallId, Proc, Proc), reply: &Reply) {
        let (call, from, to) = way;
        let (kind, refusal) = match reply {
            Reply::Directed(result) => ("directive", result.as_ref().err().map(named)),
            Reply::Report(_) => ("report", None),
            Reply::Frame(result) => ("frame", result.as_ref().err().map(named)),
            Reply::Map(_) => ("map", None),
            Reply::Data(DataReply::Done { .. }) => ("data", None),
            Reply::Data(DataReply::Refused(refusal)) => ("data", Some(named(refusal))),
            Reply::Data(DataReply::Unknown) => ("data", Some("Unknown".to_owned())),
            Reply::Client(ClientReply::Done(_)) => ("client", None),
            Reply::Client(_) => ("client", Some("Parts".to_owned())),
            Reply::Asked(result) => ("ask", result.as_ref().err().map(named)),
            Reply::NotReady | Reply::Lost | Reply::NotSent => ("nothing", Some(named(reply))),
        };
        let text = shortened(&crate::brief::reply(reply));
        let arrow = Arrow {
            from: self.lane(from),
            to: self.lane(to),
            kind,
            answer: true,
            bad: refusal.is_some(),
            refusal,
            repeated: false,
            sent: at,
            landed: None,
            fate: Fate::Flying,
            text,
        };
        self.flying.entry((call, true)).or_default().push(self.arrows.len());
        self.arrows.push(arrow);
    }

    /// A request or an answer comes to its end; of repetitions, the one that left first.
    pub fn lands(&mut self, at: u64, call: CallId, answer: bool, fate: Fate) {
        let Some(flying) = self.flying.get_mut(&(call, answer)) else { return };
        if flying.is_empty() {
            return;
        }
        let arrow = &mut self.arrows[flying.remove(0)];
        arrow.fate = fate;
        arrow.landed = Some(at);
    }

    /// Looks at every process and every cut, and notes what is new.
    pub fn watch(&mut self, world: &World) {
        let at = world.now_us;
        for (proc, machine) in world.machines.iter() {
            for (kind, holds) in lasting(machine, at) {
                self.lasts(at, proc, kind, holds);
            }
        }
        let cuts = world.network.cuts();
        let over: Vec<u64> =
            self.open_cuts.keys().filter(|number| !cuts.contains_key(number)).copied().collect();
        for number in over {
            if let Some(span) = self.open_cuts.remove(&number) {
                self.cuts[span].to = Some(at);
            }
        }
        for (number, ways) in cuts {
            if !self.open_cuts.contains_key(number) {
                let ways = ways.iter().map(|(from, to)| (self.lane(*from), self.lane(*to)));
                let ways = ways.collect();
                self.open_cuts.insert(*number, self.cuts.len());
                self.cuts.push(CutSpan { ways, from: at, to: None });
            }
        }
    }

    fn lasts(&mut self, at: u64, proc: Proc, kind: &'static str, holds: bool) {
        let open = self.open_spans.get(&(proc, kind)).copied();
        match open {
            None if holds => {
                self.open_spans.insert((proc, kind), self.spans.len());
                self.spans.push(Span { lane: self.lane(proc), kind, from: at, to: None });
            }
            Some(span) if !holds => {
                self.spans[span].to = Some(at);
                self.open_spans.remove(&(proc, kind));
            }
            _ => {}
        }
    }

    /// What the checkers are told.
    pub fn fact(&mut self, at: u64, fact: &Fact) {
        match fact {
            Fact::Invoked { op, call } => self.invoked(at, *op, call),
            Fact::Returned { op, answer } => self.returned(at, *op, answer),
            Fact::GateStarted { node, held } | Fact::Persisted { node, held } => {
                self.gate_holds(at, self.gate_lane(*node), held);
            }
            Fact::Applied { node, by, point, after, .. } => {
                let (lane, point) = (self.gate_lane(*node), self.point(point));
                let by = match by {
                    By::Request => "request",
                    By::Gate => "gate",
                    By::Found => "found",
                };
                self.contents.push(Content { at, lane, point, stamp: *after, by });
            }
            Fact::Acknowledged { node, points, version, .. } => {
                self.touched(at, self.gate_lane(*node), points, true, version.0);
            }
            Fact::Served { node, points, version, .. } => {
                self.touched(at, self.gate_lane(*node), points, false, version.0);
            }
            Fact::Stored { decided } => self.stored(at, decided),
            Fact::Healed => self.healed = Some(at),
            Fact::Directed { .. }
            | Fact::MapFetched { .. }
            | Fact::Reported { .. }
            | Fact::Admitted { .. }
            | Fact::DirectiveSent { .. }
            | Fact::Published { .. }
            | Fact::RouterAdopted { .. }
            | Fact::Holds { .. }
            | Fact::Ended { .. } => {}
        }
    }

    fn touched(&mut self, at: u64, lane: usize, points: &[PointAt], write: bool, version: u64) {
        for point in points {
            let point = self.point(point);
            self.touches.push(Touch { at, lane, point, write, version });
        }
    }

    fn invoked(&mut self, at: u64, op: OpId, call: &Call) {
        let (kind, collection, ids): (_, _, Vec<&PointId>) = match call {
            Call::Upsert { collection, points } => {
                ("upsert", collection, points.iter().map(|(id, _)| id).collect())
            }
            Call::Delete { collection, ids } => ("delete", collection, ids.iter().collect()),
            Call::Get { collection, id } => ("get", collection, vec![id]),
            Call::Gather { collection } => ("search", collection, Vec::new()),
            Call::Create { collection } => ("create", collection, Vec::new()),
            Call::Drop { collection } => ("drop", collection, Vec::new()),
        };
        self.operation_of.insert(op, self.operations.len());
        self.unsent.push(self.operations.len());
        self.operations.push(Operation {
            lane: None,
            from: at,
            to: None,
            kind,
            collection: Arc::clone(collection),
            ids: ids.into_iter().map(|id| id.as_str().to_owned()).collect(),
            text: shortened(&format!("{call:?}")),
            answer: String::new(),
            done: false,
        });
    }

    fn returned(&mut self, at: u64, op: OpId, answer: &Answer) {
        if let Some(operation) = self.operation_of.get(&op).copied() {
            let operation = &mut self.operations[operation];
            operation.to = Some(at);
            operation.answer = shortened(&format!("{answer:?}"));
            operation.done = !matches!(answer, Answer::Refused | Answer::Unknown);
        }
    }

    /// Why a client's call wasn't done.
    pub fn explain(&mut self, op: OpId, why: &str) {
        if let Some(operation) = self.operation_of.get(&op) {
            self.operations[*operation].answer += &format!(": {why}");
        }
    }

    fn gate_holds(&mut self, at: u64, lane: usize, held: &Held) {
        let order = held.order.as_ref();
        let state = GateState {
            at,
            lane,
            shard: held.shard.map(|shard| shard.0),
            map: held.map.as_ref().map(|map| self.map(map)),
            transition: order.map(|order| order.transition.0),
            stage: order.map_or("", |order| match order.stage {
                OrderStage::Prepare => "prepare",
                OrderStage::Copy => "copy",
                OrderStage::Fence => "fence",
            }),
            attempt: order.map_or(0, |order| order.attempt.0),
            next: order.map(|order| self.map(&order.next)),
            clean: held.clean,
        };
        self.gates.push(state);
    }

    fn stored(&mut self, at: u64, decided: &sheaf_checkers::Decided) {
        let running = decided.running.as_ref();
        let stored = Stored {
            at,
            term: decided.term.0,
            map: self.map(&decided.map),
            transition: running.map(|running| running.id.0),
            phase: running.map_or("", |running| phase_name(running.phase)),
            attempt: running.map_or(0, |running| running.attempt.0),
            next: running.map(|running| self.map(&running.next)),
        };
        let same = self.stored.last().is_some_and(|last| Stored { at: last.at, ..stored } == *last);
        if !same {
            self.stored.push(Stored { at, ..stored });
        }
    }

    fn map(&mut self, map: &Arc<Map>) -> usize {
        if let Some(known) = self.maps.iter().rposition(|seen| seen.map == *map) {
            return known;
        }
        let lane_of_url = |url: &str| {
            let found = self.lanes.iter().position(|lane| match lane.proc {
                Proc::Gate(gate) => crate::gate_node::url_of(gate) == url,
                _ => false,
            });
            found.unwrap_or_default()
        };
        let shards = map.shards().iter();
        let shards = shards.map(|shard| (shard.id.0, lane_of_url(&shard.primary_url))).collect();
        self.maps.push(MapSeen {
            version: map.version().0,
            committed: map.committed().0,
            shards,
            owners: Vec::new(),
            map: Arc::clone(map),
        });
        self.maps.len() - 1
    }

    fn point(&mut self, point: &PointAt) -> usize {
        if let Some(known) = self.point_of.get(point) {
            return *known;
        }
        let number = self.points.len();
        self.point_of.insert(point.clone(), number);
        let id = point.id.as_str().to_owned();
        self.points.push(PointSeen { id, collection: String::new(), at: point.clone() });
        number
    }

    /// Completes what can only be said at the end: names of collections, and each point's owner in each map.
    pub fn complete(&mut self, end: u64, broken: Option<Broken>) {
        self.end = end;
        self.broken = broken;
        for point in &mut self.points {
            let named = |seen: &MapSeen| {
                let collection = seen.map.collection_by_id(point.at.collection)?;
                Some(collection.name().to_owned())
            };
            let name = self.maps.iter().find_map(named);
            point.collection = name.unwrap_or_else(|| point.at.collection.to_string());
        }
        for seen in &mut self.maps {
            let owner = |point: &PointSeen| {
                seen.map.owner(point.at.id.placement_key()).map_or(0, |owner| owner.0)
            };
            seen.owners = self.points.iter().map(owner).collect();
        }
    }
}

impl World {
    /// Adds to the recording, if there is one.
    pub fn record(&self, add: impl FnOnce(&mut Recording, u64)) {
        if let Some(recorder) = &self.recorder {
            add(&mut recorder.borrow_mut(), self.now_us);
        }
    }
}

/// What may last about a process, and whether it does now.
fn lasting(machine: &Machine, now_us: u64) -> [(&'static str, bool); 3] {
    [
        ("down", !machine.up),
        ("paused", machine.up && machine.paused_until_us > now_us),
        ("slow", machine.slowness > 1),
    ]
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Copy => "copy",
        Phase::Fence => "fence",
        Phase::Sweep => "sweep",
        Phase::Abort => "abort",
    }
}

/// The name of an enum's variant.
pub(crate) fn named(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    text[..end].to_owned()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
