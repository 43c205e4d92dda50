//! Facts of a small cluster: shard 1 owns everything, shard 2 joins. Judges nothing but whether a checker fired.

use std::sync::Arc;

use sheaf_checkers::fact::HeldPoint;
use sheaf_checkers::{
    Answer, By, Call, Checker, Decided, Fact, Held, Moment, NodeId, OpId, Phase, PointAt, Running,
    Stamp,
};
use sheaf_map::{Collection, Map, ShardEntry, Weight};
use sheaf_protocol::{
    CopyOptions, CopyState, Directive, DonorReport, GateReport, Load, Order, Proof,
    RecipientReport, Sealed, Stage, StallReport, StreamId,
};
use sheaf_types::{
    Attempt, ClusterId, CollectionConfig, CollectionId, Digest, Incarnation, IndexKind, MapVersion,
    Metric, PointId, Revision, ShardId, StoreId, Term, TransitionId,
};

/// Tells all facts, then that it is over.
fn tell(checker: &mut dyn Checker, facts: &[Fact]) -> Option<(usize, String)> {
    for (at, fact) in facts.iter().enumerate() {
        let number = at as u64 + 1;
        let moment = Moment { us: number, event: number, fact: number };
        if checker.hears(fact.kind())
            && let Err(violation) = checker.judge(moment, fact)
        {
            return Some((at, violation.to_string()));
        }
    }
    checker.finish().err().map(|violation| (facts.len(), violation.to_string()))
}

/// These facts break nothing.
pub fn quiet(mut checker: impl Checker, facts: &[Fact]) {
    assert_eq!(tell(&mut checker, facts), None);
}

/// The last of these facts breaks the promise, and none before it; or it is seen to be broken when all is over.
pub fn fires(mut checker: impl Checker, facts: &[Fact], text: &str) {
    let Some((at, said)) = tell(&mut checker, facts) else { panic!("quiet, but: {text}") };
    assert!(at + 1 >= facts.len(), "fired at fact {at} already: {said}");
    assert!(said.contains(text), "{said:?} says nothing of {text:?}");
}

// --- the cluster

pub fn entry(shard: u64) -> ShardEntry {
    ShardEntry {
        id: ShardId(shard),
        primary_url: format!("http://gate-{shard}"),
        replica_urls: vec![],
        weight: Weight::ONE,
        store_id: StoreId::from(format!("store-{shard}")),
    }
}

pub fn collection(id: u64, name: &str) -> Collection {
    let config = CollectionConfig {
        name: name.into(),
        dim: 1,
        metric: Metric::L2,
        index: IndexKind::Hnsw,
        pq_subspaces: None,
        binary: None,
        filterable: vec![],
        multivector: None,
        vector_encryption: Default::default(),
    };
    Collection { id: CollectionId(id), config: Arc::new(config) }
}

pub fn map_of(
    version: u64,
    committed: u64,
    shards: Vec<ShardEntry>,
    collections: Vec<Collection>,
) -> Arc<Map> {
    let (version, committed) = (MapVersion(version), TransitionId(committed));
    Arc::new(Map::new(ClusterId::from("c"), version, committed, shards, collections).unwrap())
}

/// Shard 1 alone.
pub fn before() -> Arc<Map> {
    map_of(1, 0, vec![entry(1)], vec![collection(1, "words")])
}

/// Shard 2 has joined by transition 1.
pub fn after() -> Arc<Map> {
    map_of(2, 1, vec![entry(1), entry(2)], vec![collection(1, "words")])
}

fn with_owner(shard: u64) -> PointId {
    let mut ids = (0..100).map(|n| PointId::from(format!("p{n}")));
    ids.find(|id| after().owner(id.placement_key()) == Some(ShardId(shard))).unwrap()
}

/// A point that moves from shard 1 to shard 2.
pub fn moving() -> PointAt {
    PointAt { collection: CollectionId(1), id: with_owner(2) }
}

/// A point that stays at shard 1.
pub fn staying() -> PointAt {
    PointAt { collection: CollectionId(1), id: with_owner(1) }
}

// --- the coordinator

pub fn running(id: u64, attempt: u64, phase: Phase, next: &Arc<Map>) -> Option<Running> {
    let (id, attempt) = (TransitionId(id), Attempt(attempt));
    let fence_budget_ms = 500;
    Some(Running { id, attempt, phase, fence_budget_ms, next: Arc::clone(next) })
}

/// The store holds this, in term 1.
pub fn stored(revision: u64, map: &Arc<Map>, running: Option<Running>) -> Fact {
    let (term, revision) = (Term(1), Revision(revision));
    Fact::Stored { decided: Box::new(Decided { term, revision, map: Arc::clone(map), running }) }
}

pub fn order(stage: Stage, attempt: u64) -> Order {
    Order {
        transition: TransitionId(1),
        attempt: Attempt(attempt),
        stage,
        next: after(),
        copy: CopyOptions::default(),
    }
}

pub fn directive(revision: u64, map: &Arc<Map>, order: Option<Order>) -> Box<Directive> {
    Box::new(Directive {
        cluster_id: ClusterId::from("c"),
        term: Term(1),
        revision: Revision(revision),
        shard: ShardId(1),
        store_id: StoreId::from("store-1"),
        map: Arc::clone(map),
        order,
        sweep: false,
        retired: false,
        unproven: false,
    })
}

// --- gates: node 1 is shard 1, node 2 is shard 2

pub fn held(revision: u64, map: &Arc<Map>, order: Option<Order>) -> Held {
    Held {
        incarnation: Incarnation(1),
        shard: Some(ShardId(1)),
        term: Term(1),
        revision: Revision(revision),
        map: Some(Arc::clone(map)),
        order,
        unproven: false,
        clean: true,
    }
}

pub fn persisted(held: Held) -> Fact {
    Fact::Persisted { node: NodeId(1), held }
}

pub fn report(shard: u64) -> GateReport {
    GateReport {
        store_id: StoreId::from(format!("store-{shard}")),
        incarnation: Incarnation(1),
        cluster_id: Some(ClusterId::from("c")),
        shard: Some(ShardId(shard)),
        term: Term(1),
        revision: Revision(1),
        seq: 1,
        map_version: Some(MapVersion(1)),
        catalogue_ready: true,
        cannot_hold: None,
        clean: true,
        unproven: false,
        strays: None,
        transition: None,
        prepared: false,
        outgoing: vec![],
        incoming: vec![],
        stall: StallReport::default(),
        load: Load::default(),
    }
}

pub fn reported(report: GateReport) -> Fact {
    let node = NodeId(report.shard.map_or(0, |shard| shard.0) as u32);
    Fact::Reported { node, report: Box::new(report) }
}

pub fn digest(sum: u128) -> Digest {
    Digest { points: 1, sum }
}

/// Shard 1 proves its move to shard 2 in this attempt.
pub fn proof(attempt: u64, donor: u128, recipient: u128) -> Fact {
    let attempt = Attempt(attempt);
    let (donor, recipient) = (digest(donor), digest(recipient));
    let outgoing = DonorReport {
        to: ShardId(2),
        stream: StreamId::default(),
        state: CopyState::Drained,
        passes: 1,
        sent_points: 1,
        sent_bytes: 1,
        repaired_ranges: 0,
        dirty: 0,
        slice_points: 1,
        proof: Some(Proof { attempt, seq: 1, donor, recipient }),
    };
    let transition = Some(TransitionId(1));
    reported(GateReport { transition, outgoing: vec![outgoing], ..report(1) })
}

/// Shard 2 says what was sealed and what it holds.
pub fn seal(attempt: u64, donor: u128, recipient: u128) -> Fact {
    let incoming = RecipientReport {
        from: ShardId(1),
        stream: StreamId::default(),
        seq: 1,
        digest: digest(recipient),
        sealed: Some(Sealed { attempt: Attempt(attempt), donor: digest(donor) }),
    };
    let transition = Some(TransitionId(1));
    reported(GateReport { transition, incoming: vec![incoming], ..report(2) })
}

pub fn acknowledged(shard: u64, version: u64, point: PointAt) -> Fact {
    let (node, shard, version) = at(shard, version);
    Fact::Acknowledged { node, shard, version, points: vec![point] }
}

pub fn served(shard: u64, version: u64, point: PointAt) -> Fact {
    let (node, shard, version) = at(shard, version);
    Fact::Served { node, shard, version, points: vec![point] }
}

pub fn admitted(gather: bool, points: Vec<PointAt>) -> Fact {
    let (node, shard, version) = at(1, 1);
    Fact::Admitted { node, shard, version, gather, points }
}

fn at(shard: u64, version: u64) -> (NodeId, Option<ShardId>, MapVersion) {
    (NodeId(shard as u32), Some(ShardId(shard)), MapVersion(version))
}

/// An engine's point has changed.
pub fn applied(
    shard: u64,
    by: By,
    point: PointAt,
    before: Option<Stamp>,
    after: Option<Stamp>,
) -> Fact {
    let (node, shard, _) = at(shard, 1);
    Fact::Applied { node, shard, by, point, before, after }
}

pub fn holds(shard: u64, points: &[(PointAt, Option<Stamp>, bool)]) -> Fact {
    let (node, shard, _) = at(shard, 1);
    let points = points.iter().cloned();
    let held = points.map(|(point, stamp, unsettled)| HeldPoint { point, stamp, unsettled });
    Fact::Holds { node, shard, points: held.collect() }
}

// --- clients: one point "p" of the collection "words"

pub fn asks(op: u64, call: Call) -> Fact {
    Fact::Invoked { op: OpId(op), call: Arc::new(call) }
}

pub fn hears(op: u64, answer: Answer) -> Fact {
    Fact::Returned { op: OpId(op), answer }
}

pub fn put(stamp: Stamp) -> Call {
    Call::Upsert { collection: "words".into(), points: vec![("p".into(), stamp)] }
}

pub fn delete() -> Call {
    Call::Delete { collection: "words".into(), ids: vec!["p".into()] }
}

pub fn get() -> Call {
    Call::Get { collection: "words".into(), id: "p".into() }
}

pub fn gather() -> Call {
    Call::Gather { collection: "words".into() }
}
