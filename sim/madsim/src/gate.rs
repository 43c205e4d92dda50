//! A gate's process: production's gate on an engine and a ledger that outlive it, asked and asking by messages.

use std::sync::Arc;
use std::time::Duration;

use sheaf_checkers::{Fact, NodeId, PointAt, Stamp};
use sheaf_engines::{Accept, Engine, EngineError, Memory, Scan, Write};
use sheaf_map::Map;
use sheaf_protocol::{Frame, Refusal};
use sheaf_runtime::entropy;
use sheaf_runtime::gate::{
    Change, FrameAnswer, GateHost, GateParts, Go, NotServed, Operation, Peers, Reply, Request,
};
use sheaf_sim::wire::{DataReply, DataRequest, Found, Work};
use sheaf_stores::MemoryStore;
use sheaf_types::{CollectionId, MapVersion, PointBody, PointId, StoredPoint};

use crate::book::Book;
use crate::net::{self, Answer, Caller, Question};
use crate::place::{coordinator_name, shard_name};
use crate::process::{DIM, Machine};
use crate::slow::SlowEngine;
use crate::watch::{Owner, WatchedStore};

/// How long a recipient may take for a frame before the donor sends it again, as over HTTP.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Milliseconds that a coordinator may wait for the version that is wanted, and that its answer may take besides.
const MAP_WAIT_MS: u64 = 1_000;
const MAP_ANSWER_MS: u64 = 3_000;

/// Other gates and the coordinators, by messages.
struct MessagePeers {
    caller: Caller,
    coordinators: u32,
}

impl Peers for MessagePeers {
    fn send_frame(&self, url: String, frame: Frame) -> Reply<'_, FrameAnswer> {
        Box::pin(async move {
            let question = Question::Frame(Arc::new(frame));
            match self.caller.ask_at(&url, question, FRAME_TIMEOUT).await {
                Ok(Answer::Frame(Ok(verdict))) => FrameAnswer::Carried(verdict),
                Ok(Answer::Frame(Err(refusal))) => FrameAnswer::Refused(refusal),
                Ok(_) | Err(_) => FrameAnswer::Lost,
            }
        })
    }

    fn fetch_map(&self, at_least: MapVersion) -> Reply<'_, Option<Arc<Map>>> {
        Box::pin(async move {
            let after = MapVersion(at_least.0.saturating_sub(1));
            for coordinator in 0..self.coordinators {
                let question = Question::Map { after, wait_ms: MAP_WAIT_MS };
                let patience = Duration::from_millis(MAP_WAIT_MS + MAP_ANSWER_MS);
                let name = coordinator_name(coordinator);
                let answer = self.caller.ask(&name, question, patience).await;
                if let Ok(Answer::Map(map)) = answer
                    && map.version() >= at_least
                {
                    return Some(map);
                }
            }
            None
        })
    }
}

/// What is on a node's disk: it outlives the node.
#[derive(Clone)]
pub struct Disk {
    ledger: Arc<WatchedStore<MemoryStore>>,
    engine: Arc<SlowEngine<Memory>>,
}

impl Disk {
    pub fn new(machine: &Machine) -> Self {
        let [of_engine, of_ledger] = machine.paces.clone();
        let (store, owner) = (MemoryStore::new(), Owner::Gate(machine.number));
        let ledger = WatchedStore::new(store, machine.book.clone(), owner, Some(of_ledger));
        let engine = SlowEngine { inner: Memory::new(), pace: of_engine };
        Self { ledger: Arc::new(ledger), engine: Arc::new(engine) }
    }
}

/// `sheaf shard`
pub async fn run(machine: Machine, disk: Disk) -> std::io::Result<()> {
    let name = shard_name(machine.number);
    let caller = Caller::of(&name).await?;
    let peers = MessagePeers { caller, coordinators: machine.coordinators };
    let host = GateHost::open(GateParts {
        clock: machine.clock(),
        ledger: disk.ledger,
        engine: disk.engine,
        peers: Arc::new(peers),
        new_store_id: entropy::store_id(),
    });
    let host = match host.await {
        Ok(host) => host,
        Err(error) => {
            machine.book.broken("I5 durable", format!("a node doesn't start: {error}"));
            return Ok(());
        }
    };
    let at = At { host, book: Arc::clone(&machine.book), node: NodeId(machine.number) };
    net::serve(&name, move |question| at.clone().answer(question)).await
}

/// A gate, and where its answers are written down.
#[derive(Clone)]
struct At {
    host: GateHost,
    book: Arc<Book>,
    node: NodeId,
}

impl At {
    async fn answer(self, question: Question) -> Answer {
        let stopping = || Answer::NotReady("the gate is stopping".to_owned());
        match question {
            Question::Direct { directive, seen, wait_ms } => {
                let directive = Box::new((*directive).clone());
                self.book.fact(Fact::Directed { node: self.node, directive: directive.clone() });
                let deadline = self.host.clock().now().plus_ms(wait_ms);
                match self.host.direct(*directive, seen, deadline).await {
                    Ok(Ok(report)) => {
                        let report = Box::new(report);
                        self.book.fact(Fact::Reported { node: self.node, report: report.clone() });
                        Answer::Directed(Ok(report))
                    }
                    Ok(Err(refusal)) => Answer::Directed(Err(refusal)),
                    Err(_) => stopping(),
                }
            }
            Question::Report => match self.host.report().await {
                Ok(report) => Answer::Report(Box::new(report)),
                Err(_) => stopping(),
            },
            Question::Frame(frame) => match self.host.frame((*frame).clone()).await {
                Ok(answer) => Answer::Frame(answer),
                Err(_) => stopping(),
            },
            Question::Audit => {
                let audit = self.host.audit().await;
                audit.map_or_else(
                    |reason| Answer::NotReady(reason.to_string()),
                    |audit| Answer::Audit(Box::new(audit)),
                )
            }
            Question::Data(request) => Answer::Data(self.data(&request).await),
            other => Answer::NotReady(format!("no question for a gate: {other:?}")),
        }
    }

    async fn data(&self, asked: &DataRequest) -> DataReply {
        let operation = match &asked.work {
            Work::Insert(_) | Work::Discard(_) => return no_repairs(),
            Work::Upsert(points) => Operation::Write {
                ids: points.iter().map(|(id, _)| id.clone()).collect(),
                change: Change::Upsert,
            },
            Work::Delete(ids) => Operation::Write { ids: ids.clone(), change: Change::Delete },
            Work::Get(id) => Operation::Read { ids: vec![id.clone()] },
            Work::Gather => Operation::Gather,
        };
        let request = Request {
            version: asked.version,
            shard: asked.shard,
            collection: asked.collection.to_string(),
            operation,
            deadline: self.host.clock().now().plus_ms(asked.timeout_ms),
        };
        let work = asked.work.clone();
        let served = self.host.serve(request, move |go: Go| carry_out(go, work)).await;
        match served {
            Ok(served) => {
                let (collection, found) = served.value;
                self.acknowledged(asked, served.version, collection);
                match found {
                    Ok(found) => DataReply::Done { version: served.version, found },
                    Err(nonsense) => {
                        self.book.broken("P1 whole-points", nonsense);
                        DataReply::Unknown
                    }
                }
            }
            Err(NotServed::Refused(refusal)) => DataReply::Refused(refusal),
            Err(NotServed::Engine(EngineError::Unknown(_) | EngineError::Damaged(_))) => {
                DataReply::Unknown
            }
            Err(reason @ (NotServed::Engine(_) | NotServed::TooLate)) => {
                DataReply::Refused(Refusal::EngineUnavailable { reason: reason.to_string() })
            }
            Err(NotServed::OutcomeUnknown(_)) => DataReply::Unknown,
        }
    }

    fn acknowledged(&self, asked: &DataRequest, version: MapVersion, collection: CollectionId) {
        let at = |id: &PointId| PointAt { collection, id: id.clone() };
        let points: Vec<PointAt> = match &asked.work {
            Work::Upsert(points) => points.iter().map(|(id, _)| at(id)).collect(),
            Work::Delete(ids) => ids.iter().map(at).collect(),
            Work::Get(_) | Work::Gather | Work::Insert(_) | Work::Discard(_) => return,
        };
        let (node, shard) = (self.node, asked.shard);
        self.book.fact(Fact::Acknowledged { node, shard, version, points });
    }
}

/// No cluster is adopted in this world: the pure simulator has that.
const NO_REPAIRS: &str = "nothing is repaired here";

fn no_repairs() -> DataReply {
    DataReply::Refused(Refusal::EngineUnavailable { reason: NO_REPAIRS.to_owned() })
}

/// What the engine found, or what it found that no write can have made.
type Came = (CollectionId, Result<Found, String>);

async fn carry_out(go: Go, work: Work) -> Result<Came, EngineError> {
    let collection = go.collection;
    let found = match work {
        Work::Upsert(points) => {
            let write = |(id, stamp)| Write::Upsert(point(collection, id, stamp));
            go.engine.apply(collection, points.into_iter().map(write).collect()).await?;
            Vec::new()
        }
        Work::Delete(ids) => {
            go.engine.apply(collection, ids.into_iter().map(Write::Delete).collect()).await?;
            Vec::new()
        }
        Work::Get(id) => {
            let points = go.engine.get(collection, vec![id]).await?;
            points.into_iter().flatten().map(|point| (point.id, point.body)).collect()
        }
        Work::Gather => scan(&*go.engine, collection, go.accept).await?,
        Work::Insert(_) | Work::Discard(_) => {
            return Err(EngineError::Unsupported(NO_REPAIRS.to_owned()));
        }
    };
    let points = found.into_iter().map(|(id, body)| stamped(id, &body)).collect();
    Ok((collection, Result::map(points, |points| Found { points, ..Found::default() })))
}

async fn scan(
    engine: &dyn Engine,
    collection: CollectionId,
    accept: Accept,
) -> Result<Vec<(PointId, PointBody)>, EngineError> {
    let scan = Scan {
        after: None,
        through: None,
        points_max: usize::MAX,
        bytes_max: usize::MAX,
        bodies: true,
        accept,
        filter: None,
    };
    let page = engine.scan(collection, scan).await?;
    Ok(page.points.into_iter().filter_map(|point| Some((point.id, point.body?))).collect())
}

/// The vector that the write of this stamp gives to this point.
fn vector(id: &PointId, stamp: Stamp) -> [f32; DIM as usize] {
    let sum = id.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
    [stamp as f32, (sum % 1_000) as f32 / 8.0]
}

fn point(collection: CollectionId, id: PointId, stamp: Stamp) -> StoredPoint {
    let body = PointBody::encode(&vector(&id, stamp), Some(&stamp.to_string()));
    StoredPoint::new(collection, id, body)
}

/// A point's stamp; an error when its vector and payload are not of one write.
fn stamped(id: PointId, body: &PointBody) -> Result<(PointId, Stamp), String> {
    let stamp = body.payload().and_then(|payload| payload.parse().ok());
    match stamp {
        Some(stamp) if body.vector() == vector(&id, stamp) => Ok((id, stamp)),
        _ => Err(format!(
            "{id:?} has the payload {:?}, but the vector {:?}",
            body.payload(),
            body.vector()
        )),
    }
}
