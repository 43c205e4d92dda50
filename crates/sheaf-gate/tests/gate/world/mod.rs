//! Gates with engines in memory, wired to each other; whatever a core asks for happens at once, in order.

mod engine;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sheaf_gate::{
    Answer, Change, Effects, EngineCall, Event, FrameAnswer, Gate, GateRecord, JobId, Limits,
    Operation, Outcome, Outgoing, Request, Seen, Token,
};
use sheaf_map::{Collection, Map, ShardEntry, Weight};
use sheaf_protocol::{CopyOptions, Directive, DirectiveRefusal, GateReport, Order, Refusal, Stage};
use sheaf_types::*;

use engine::Engine;

pub const WORDS: CollectionId = CollectionId(1);

pub struct Node {
    pub gate: Gate,
    pub record: GateRecord,
    pub engine: Engine,
    pub answers: BTreeMap<Token, Vec<Answer>>,
    collections: Vec<CollectionId>,
    /// What every collection was created with.
    pub configs: BTreeMap<CollectionId, Arc<CollectionConfig>>,
    /// The next calls for reading that fail.
    pub failing_reads: u32,
    /// Points that each scan returned, with where it began.
    pub scans: Vec<(Option<PointId>, usize)>,
}

pub struct World {
    pub now: Time,
    pub nodes: BTreeMap<ShardId, Node>,
    /// The bodies of writes that wait to be admitted.
    bodies: BTreeMap<Token, Vec<(PointId, Option<StoredPoint>)>>,
    frames: BTreeMap<(ShardId, Token), (ShardId, Outgoing)>,
    queue: VecDeque<(ShardId, Work)>,
    next_token: u64,
    revision: u64,
    /// Of each point that is written.
    pub payload: Option<String>,
    /// Frames are dropped while set.
    pub cut: bool,
    /// While set, frames stay on their way, in the order in which they were sent.
    pub parked: Option<Vec<(ShardId, Outgoing)>>,
    /// While set, engines don't carry out what was admitted.
    pub slow: Option<Vec<(ShardId, Token, CollectionId)>>,
    /// The collection that clients ask for.
    pub collection: &'static str,
    /// Every frame that a donor sent.
    pub sent: Vec<Outgoing>,
    pub latest: Option<Arc<Map>>,
    /// What directives say.
    pub unproven: bool,
}

enum Work {
    Event(Event),
    Engine(JobId, EngineCall),
    Frame(Outgoing),
    Request(Token, CollectionId),
}

pub fn entry(shard: u64) -> ShardEntry {
    ShardEntry {
        id: ShardId(shard),
        primary_url: format!("http://gate-{shard}"),
        replica_urls: vec![],
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{shard}")),
    }
}

pub fn map_of(version: u64, committed: u64, shards: &[u64]) -> Arc<Map> {
    map_with(version, committed, shards, &[config("words")])
}

pub fn config(name: &str) -> CollectionConfig {
    CollectionConfig {
        name: name.into(),
        dim: 1,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: vec![],
        multivector: None,
        vector_encryption: Default::default(),
    }
}

/// Collections have the ids 1, 2, … in this order.
pub fn map_with(
    version: u64,
    committed: u64,
    shards: &[u64],
    collections: &[CollectionConfig],
) -> Arc<Map> {
    let collection = |(id, config): (u64, &CollectionConfig)| Collection {
        id: CollectionId(id),
        config: Arc::new(config.clone()),
    };
    let collections = (1..).zip(collections).map(collection).collect();
    let shards = shards.iter().copied().map(entry).collect();
    let (version, committed) = (MapVersion(version), TransitionId(committed));
    Arc::new(Map::new(ClusterId::from("c"), version, committed, shards, collections).unwrap())
}

impl World {
    pub fn new(shards: &[u64]) -> Self {
        let mut world = Self {
            now: Time(1),
            nodes: BTreeMap::new(),
            bodies: BTreeMap::new(),
            frames: BTreeMap::new(),
            queue: VecDeque::new(),
            next_token: 1,
            revision: 0,
            payload: None,
            cut: false,
            parked: None,
            slow: None,
            collection: "words",
            sent: Vec::new(),
            latest: None,
            unproven: false,
        };
        for shard in shards {
            let store = StoreId::from(format!("store-{shard}"));
            let record = GateRecord::new(store).restarted();
            let gate = Gate::new(world.now, record.clone(), vec![], Limits::default());
            let node = Node {
                gate,
                record,
                engine: Engine::default(),
                answers: BTreeMap::new(),
                collections: vec![],
                configs: BTreeMap::new(),
                failing_reads: 0,
                scans: vec![],
            };
            world.nodes.insert(ShardId(*shard), node);
        }
        world
    }

    /// Crashes the gate and starts it again on what is durable.
    pub fn restart(&mut self, shard: u64) {
        let id = ShardId(shard);
        self.queue.retain(|(to, _)| *to != id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.record = node.record.clone().restarted();
        node.gate =
            Gate::new(self.now, node.record.clone(), node.collections.clone(), Limits::default());
        node.answers.clear();
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn event(&mut self, shard: u64, event: Event) {
        self.queue.push_back((ShardId(shard), Work::Event(event)));
        self.run();
    }

    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world never comes to rest");
    }

    /// Does the next thing; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some((shard, work)) = self.queue.pop_front() else { return false };
        match work {
            Work::Event(event) => self.handle(shard, event),
            Work::Engine(job, call) => {
                let reply = self.nodes.get_mut(&shard).unwrap().call(call);
                self.handle(shard, Event::EngineAnswered { job, reply });
            }
            Work::Frame(outgoing) => match &mut self.parked {
                Some(parked) => parked.push((shard, outgoing)),
                None => self.deliver(shard, outgoing),
            },
            Work::Request(token, collection) => match &mut self.slow {
                Some(slow) => slow.push((shard, token, collection)),
                None => self.carry_out(shard, token, collection),
            },
        }
        true
    }

    /// A write that is admitted, applied and answered before anything else that waits happens.
    pub fn write_at_once(&mut self, shard: u64, id: &str, value: Option<u32>) -> Token {
        let waiting = std::mem::take(&mut self.queue);
        let (token, event) = self.writing(id, value);
        self.queue.push_back((ShardId(shard), Work::Event(event)));
        while !self.delivered(shard, token) {
            assert!(self.step(), "not answered: {:?}", self.answer(shard, token));
        }
        let caused = std::mem::replace(&mut self.queue, waiting);
        self.queue.extend(caused);
        token
    }

    /// The frames that were parked arrive, in the order and as often as they are given.
    pub fn release_frames(&mut self, arrive: impl FnOnce(&mut Vec<(ShardId, Outgoing)>)) {
        let mut parked = self.parked.take().unwrap_or_default();
        arrive(&mut parked);
        let frames = parked.into_iter().map(|(donor, frame)| (donor, Work::Frame(frame)));
        self.queue.extend(frames);
        self.run();
    }

    /// The oldest frame that was parked arrives, and is answered; the others stay on their way.
    pub fn release_oldest_frame(&mut self) {
        let parked = self.parked.as_mut().filter(|parked| !parked.is_empty());
        if let Some((donor, frame)) = parked.map(|parked| parked.remove(0)) {
            self.deliver(donor, frame);
            self.run();
        }
    }

    /// Does the next thing; when there is none, lets 10 ms pass.
    pub fn step_or_wait(&mut self) {
        if !self.step() {
            self.now = self.now.plus_ms(10);
            let shards = self.nodes.keys().copied();
            self.queue.extend(shards.map(|shard| (shard, Work::Event(Event::Tick))));
        }
    }

    /// The engines carry out what they had let wait.
    pub fn release_requests(&mut self) {
        for (shard, token, collection) in self.slow.take().unwrap_or_default() {
            self.carry_out(shard, token, collection);
        }
        self.run();
    }

    /// The engines surely did nothing of what they had let wait.
    pub fn fail_requests(&mut self) {
        for (shard, token, _) in self.slow.take().unwrap_or_default() {
            self.bodies.remove(&token);
            self.handle(shard, Event::RequestDone { token, outcome: Outcome::Failed });
        }
        self.run();
    }

    /// Lets time pass in steps of 10 ms.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now.plus_ms(10);
            for shard in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.queue.push_back((shard, Work::Event(Event::Tick)));
            }
            self.run();
        }
    }

    fn handle(&mut self, shard: ShardId, event: Event) {
        let now = self.now;
        let effects = self.nodes.get_mut(&shard).unwrap().gate.handle(now, event);
        self.perform(shard, effects);
    }

    fn perform(&mut self, shard: ShardId, effects: Effects) {
        if let Some(persist) = effects.persist {
            self.nodes.get_mut(&shard).unwrap().record = (*persist.record).clone();
            self.queue.push_back((shard, Work::Event(Event::Persisted { seq: persist.seq })));
        }
        for (job, call) in effects.engine {
            self.queue.push_back((shard, Work::Engine(job, call)));
        }
        for outgoing in effects.send {
            self.sent.push(outgoing.clone());
            self.queue.push_back((shard, Work::Frame(outgoing)));
        }
        for (token, answer) in effects.answer {
            if let Some((donor, sent)) = self.frames.remove(&(shard, token)) {
                self.answer_frame(donor, &sent, answer);
                continue;
            }
            if let Answer::Go { collection, .. } = &answer {
                self.queue.push_back((shard, Work::Request(token, *collection)));
            }
            self.nodes.get_mut(&shard).unwrap().answers.entry(token).or_default().push(answer);
        }
        if effects.fetch_map.is_some() {
            let event = match self.latest.clone() {
                Some(map) => Event::MapLearned { map },
                None => Event::MapUnavailable,
            };
            self.queue.push_back((shard, Work::Event(event)));
        }
    }

    /// A frame that was sent before arrives once more; nobody waits for the answer.
    pub fn deliver_again(&mut self, outgoing: &Outgoing) {
        let token = self.token();
        let frame = Box::new(outgoing.frame.clone());
        self.event(outgoing.frame.recipient.0, Event::FrameArrived { token, frame });
    }

    pub fn lose_answer_to_the_last_frame(&mut self) {
        let frame = self.sent.last().unwrap().frame.clone();
        let (recipient, stream, seq) = (frame.recipient, frame.stream, frame.seq);
        let answer = FrameAnswer::Lost;
        self.event(frame.donor.0, Event::FrameAnswered { recipient, stream, seq, answer });
    }

    fn deliver(&mut self, donor: ShardId, outgoing: Outgoing) {
        let recipient = outgoing.frame.recipient;
        if self.cut {
            let frame = &outgoing.frame;
            let answer = FrameAnswer::Lost;
            let event =
                Event::FrameAnswered { recipient, stream: frame.stream, seq: frame.seq, answer };
            self.queue.push_back((donor, Work::Event(event)));
            return;
        }
        let token = self.token();
        let frame = Box::new(outgoing.frame.clone());
        self.frames.insert((recipient, token), (donor, outgoing));
        self.queue.push_back((recipient, Work::Event(Event::FrameArrived { token, frame })));
    }

    fn answer_frame(&mut self, donor: ShardId, sent: &Outgoing, answer: Answer) {
        let Answer::Frame(result) = answer else { panic!("not a frame's answer: {answer:?}") };
        let answer = match result {
            Ok(verdict) => FrameAnswer::Carried(verdict),
            Err(refusal) => FrameAnswer::Refused(refusal),
        };
        let (recipient, stream, seq) = (sent.frame.recipient, sent.frame.stream, sent.frame.seq);
        let event = Event::FrameAnswered { recipient, stream, seq, answer };
        self.queue.push_back((donor, Work::Event(event)));
    }

    fn carry_out(&mut self, shard: ShardId, token: Token, collection: CollectionId) {
        let writes = self.bodies.remove(&token).unwrap_or_default();
        let node = self.nodes.get_mut(&shard).unwrap();
        for (id, point) in writes {
            match point {
                Some(point) => node.engine.points.insert((collection, id), point),
                None => node.engine.points.remove(&(collection, id)),
            };
        }
        self.handle(shard, Event::RequestDone { token, outcome: Outcome::Done });
    }

    /// Sends a write; `value` `None` deletes. What the gate answered so far is in `answers`.
    pub fn write(&mut self, shard: u64, id: &str, value: Option<u32>) -> Token {
        let (token, event) = self.writing(id, value);
        self.event(shard, event);
        token
    }

    /// Has the gate insert a point, unless one is there. Returns whether it was let through.
    pub fn insert(&mut self, shard: u64, id: &str, value: u32) -> bool {
        let token = self.token();
        let id = PointId::from(id);
        let body = PointBody::encode(&[value as f32], None);
        let point = StoredPoint::new(self.collection_id(), id.clone(), body);
        let missing = self.value_at(shard, id.as_str()).is_none();
        let bodies = missing.then_some((id.clone(), Some(point)));
        self.bodies.insert(token, bodies.into_iter().collect());
        self.request(shard, token, Operation::Write { ids: vec![id], change: Change::Insert });
        self.delivered(shard, token)
    }

    /// Has the gate delete, or discard, these points.
    pub fn take_away(&mut self, shard: u64, ids: &[&str], change: Change) -> Token {
        let token = self.token();
        let ids: Vec<PointId> = ids.iter().map(|id| PointId::from(*id)).collect();
        self.bodies.insert(token, ids.iter().map(|id| (id.clone(), None)).collect());
        self.request(shard, token, Operation::Write { ids, change });
        token
    }

    fn writing(&mut self, id: &str, value: Option<u32>) -> (Token, Event) {
        let token = self.token();
        let id = PointId::from(id);
        let point = value.map(|value| {
            StoredPoint::new(
                self.collection_id(),
                id.clone(),
                PointBody::encode(&[value as f32], self.payload.as_deref()),
            )
        });
        self.bodies.insert(token, vec![(id.clone(), point)]);
        (token, self.requested(token, Operation::Write { ids: vec![id], change: Change::Upsert }))
    }

    /// The id of the collection that clients ask for; maps of the world number them as they list them.
    fn collection_id(&self) -> CollectionId {
        let listed = self.latest.as_ref().and_then(|map| map.collection(self.collection));
        listed.map_or(WORDS, |listed| listed.id)
    }

    pub fn request(&mut self, shard: u64, token: Token, operation: Operation) {
        let event = self.requested(token, operation);
        self.event(shard, event);
    }

    fn requested(&self, token: Token, operation: Operation) -> Event {
        let deadline = self.now.plus_ms(1_000);
        let collection = self.collection.to_owned();
        let request = Request { version: None, shard: None, collection, operation, deadline };
        Event::Requested { token, request }
    }

    /// Directs every given gate; the revision grows with each call.
    pub fn direct(&mut self, shards: &[u64], map: &Arc<Map>, order: Option<Order>) {
        self.revision += 1;
        self.latest = Some(Arc::clone(map));
        for shard in shards {
            let directive = self.directive(*shard, self.revision, map, order.clone());
            let refusal = self.direct_with(*shard, directive);
            assert_eq!(refusal, None, "{shard}");
        }
    }

    /// Directs the gates, and lets nothing happen yet.
    pub fn direct_later(&mut self, shards: &[u64], map: &Arc<Map>, order: Option<Order>) {
        self.revision += 1;
        self.latest = Some(Arc::clone(map));
        for shard in shards {
            let directive = self.directive(*shard, self.revision, map, order.clone());
            let (_, event) = self.directed(directive);
            self.queue.push_back((ShardId(*shard), Work::Event(event)));
        }
    }

    pub fn directive(
        &self,
        shard: u64,
        revision: u64,
        map: &Arc<Map>,
        order: Option<Order>,
    ) -> Directive {
        let fenced = order.as_ref().is_some_and(|order| order.stage == Stage::Fence);
        Directive {
            cluster_id: ClusterId::from("c"),
            term: Term(1),
            revision: Revision(revision),
            shard: ShardId(shard),
            store_id: StoreId::from(format!("store-{shard}")),
            map: Arc::clone(map),
            order,
            sweep: !fenced,
            retired: false,
            unproven: self.unproven,
        }
    }

    pub fn direct_with(&mut self, shard: u64, directive: Directive) -> Option<DirectiveRefusal> {
        let (token, event) = self.directed(directive);
        self.event(shard, event);
        let answers = self.nodes.get_mut(&ShardId(shard)).unwrap().answers.remove(&token);
        match answers.and_then(|mut answers| answers.pop()) {
            Some(Answer::Directed(Err(refusal))) => Some(refusal),
            _ => None,
        }
    }

    fn directed(&mut self, directive: Directive) -> (Token, Event) {
        let (token, deadline) = (self.token(), self.now.plus_ms(5));
        let (directive, seen) = (Box::new(directive), Seen::default());
        (token, Event::Directed { token, directive, seen, deadline })
    }

    pub fn report(&mut self, shard: u64) -> GateReport {
        self.nodes[&ShardId(shard)].gate.report()
    }

    pub fn answer(&self, shard: u64, token: Token) -> Option<&Answer> {
        self.nodes[&ShardId(shard)].answers.get(&token).and_then(|answers| answers.last())
    }

    pub fn answers(&self, shard: u64, token: Token) -> &[Answer] {
        self.nodes[&ShardId(shard)].answers.get(&token).map_or(&[], Vec::as_slice)
    }

    pub fn refusal(&self, shard: u64, token: Token) -> Option<Refusal> {
        match self.answer(shard, token) {
            Some(Answer::Refused(refusal)) => Some(refusal.clone()),
            _ => None,
        }
    }

    pub fn delivered(&self, shard: u64, token: Token) -> bool {
        matches!(self.answer(shard, token), Some(Answer::Deliver))
    }

    pub fn ids_at(&self, shard: u64) -> Vec<String> {
        let points = &self.nodes[&ShardId(shard)].engine.points;
        points.keys().map(|(_, id)| id.to_string()).collect()
    }

    pub fn value_at(&self, shard: u64, id: &str) -> Option<u32> {
        let points = &self.nodes[&ShardId(shard)].engine.points;
        let point = points.get(&(WORDS, PointId::from(id)))?;
        Some(point.body.vector()[0] as u32)
    }
}

pub fn order(stage: Stage, attempt: u64, next: &Arc<Map>) -> Order {
    Order {
        transition: TransitionId(1),
        attempt: Attempt(attempt),
        stage,
        next: Arc::clone(next),
        copy: CopyOptions::default(),
    }
}
