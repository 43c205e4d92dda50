//! With an index, searches still see exactly the points that are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sheaf_engines::embedded::{Command, Database, Done, FileDisk};
use sheaf_engines::{
    Accept, Bodies, Embedded, EmbeddedOptions, Engine, Filter, Hit, Memory, Search, Write,
};
use sheaf_types::{
    CollectionConfig, CollectionId, Metric, PlacementKey, PointBody, PointId, StoredPoint,
};

const C: CollectionId = CollectionId(1);
const DIM: usize = 12;

/// An engine with an index on everything, and an oracle that is told the same.
struct Pair {
    _dir: tempfile::TempDir,
    database: Database,
    oracle: Memory,
    rng: ChaCha8Rng,
}

impl Pair {
    async fn new(metric: Metric) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions {
            index_floats_min: 1,
            ..EmbeddedOptions::on(Arc::new(FileDisk::new(dir.path())))
        };
        let database = Database::open(options).unwrap();
        let config = serde_json::json!({"name": "index", "dim": DIM, "metric": metric});
        let config: Arc<CollectionConfig> = Arc::new(serde_json::from_value(config).unwrap());
        let oracle = Memory::new();
        oracle.create_collection(C, Arc::clone(&config)).await.unwrap();
        let command = Command::Create { collection: C, config };
        assert_eq!(database.commit(&[command]), [Ok(Done::Created)]);
        let rng = ChaCha8Rng::seed_from_u64(7);
        Self { _dir: dir, database, oracle, rng }
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.rng.random_range(-1.0..1.0)).collect()
    }

    async fn apply(&mut self, writes: Vec<Write>) {
        let expected = self.oracle.apply(C, writes.clone()).await.unwrap();
        let done = self.database.commit(&[Command::Apply { collection: C, writes }]);
        assert_eq!(done, [Ok(Done::Applied(expected))]);
    }

    async fn upsert(&mut self, names: impl Iterator<Item = usize>) {
        let mut writes = Vec::new();
        for n in names {
            let payload = format!(r#"{{"n":{}}}"#, n % 100);
            let body = PointBody::encode(&self.vector(), Some(&payload));
            writes.push(Write::Upsert(StoredPoint::new(
                C,
                PointId::from(format!("p{n:05}")),
                body,
            )));
        }
        for batch in writes.chunks(1_000) {
            self.apply(batch.to_vec()).await;
        }
    }

    async fn delete(&mut self, names: impl Iterator<Item = usize>) {
        let delete = |n| Write::Delete(PointId::from(format!("p{n:05}")));
        self.apply(names.map(delete).collect()).await;
    }

    fn index_all(&self) {
        while self.database.index_step() {}
        assert_eq!(self.database.stats().unindexed_points, 0);
    }

    /// Searches like this find only what is there, with the right scores, and most of the nearest.
    async fn check(&mut self, accept: Accept, filter: Option<Filter>) {
        let (mut found_of, mut all) = (0, 0);
        for _ in 0..40 {
            let search = Search {
                vector: self.vector(),
                k: 10,
                ef: 64,
                accept: accept.clone(),
                filter: filter.clone(),
                vector_json: None,
                bodies: Bodies::Whole,
            };
            let found = self.database.search(C, &search).unwrap();
            let every = Search { k: 10_000, ..search.clone() };
            let every = self.oracle.search(C, every).await.unwrap();
            let truth: BTreeMap<&PointId, &Hit> = every.iter().map(|hit| (&hit.id, hit)).collect();
            for hit in &found {
                assert_eq!(truth.get(&hit.id), Some(&hit), "a hit that isn't so");
            }
            let places: Vec<_> =
                found.iter().map(|hit| every.iter().position(|of| of.id == hit.id)).collect();
            assert!(places.is_sorted(), "best first: {places:?}");
            assert_eq!(found.len(), every.len().min(10), "as many as there are");
            found_of += places.iter().flatten().filter(|place| **place < 10).count();
            all += every.len().min(10);
        }
        assert!(found_of as f64 >= 0.95 * all as f64, "recall {found_of} of {all}");
    }

    async fn check_all(&mut self) {
        let some: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0.is_multiple_of(3)));
        let few: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0.is_multiple_of(200)));
        let below = |n: i32| Some(Filter::Lt { field: "n".into(), value: n.into() });
        self.check(Accept::All, None).await;
        self.check(some.clone(), None).await;
        self.check(few.clone(), None).await;
        self.check(Accept::All, below(90)).await;
        self.check(some, below(50)).await;
        self.check(few, below(1)).await;
    }
}

async fn searches_stay_right(metric: Metric) {
    let mut pair = Pair::new(metric).await;
    pair.upsert(0..4_000).await;
    pair.index_all();
    pair.check_all().await;
    // The index doesn't know of these changes yet.
    pair.upsert(3_900..4_100).await;
    pair.delete(0..300).await;
    pair.check_all().await;
    pair.index_all();
    pair.check_all().await;
    // So many changes that it is built anew, while the old one serves.
    pair.upsert(1_000..3_000).await;
    pair.delete(3_000..3_500).await;
    pair.database.index_step();
    pair.check_all().await;
    pair.index_all();
    pair.check_all().await;
}

#[tokio::test]
async fn searches_stay_right_while_points_change_under_l2() {
    searches_stay_right(Metric::L2).await;
}

#[tokio::test]
async fn searches_stay_right_while_points_change_under_cosine() {
    searches_stay_right(Metric::Cosine).await;
}

#[tokio::test]
async fn searches_stay_right_while_points_change_under_dot() {
    searches_stay_right(Metric::Dot).await;
}

#[tokio::test]
async fn a_neighbourhood_that_was_deleted_whole_is_not_found() {
    let mut pair = Pair::new(Metric::L2).await;
    pair.upsert(0..4_000).await;
    pair.index_all();
    let search = Search {
        vector: vec![0.5; DIM],
        k: 1_000,
        ef: 64,
        accept: Accept::All,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    };
    let near = pair.oracle.search(C, search.clone()).await.unwrap();
    pair.apply(near.iter().map(|hit| Write::Delete(hit.id.clone())).collect()).await;
    let search = Search { k: 10, ..search };
    let found = pair.database.search(C, &search).unwrap();
    let expected = pair.oracle.search(C, search).await.unwrap();
    assert_eq!(found.len(), 10);
    let right = found.iter().filter(|hit| expected.contains(hit)).count();
    assert!(right >= 9, "{right} of 10");
}

#[tokio::test]
async fn a_collection_that_shrinks_loses_its_index_and_is_still_searched() {
    let mut pair = Pair::new(Metric::L2).await;
    pair.upsert(0..3_000).await;
    pair.index_all();
    pair.delete(0..3_000).await;
    pair.index_all();
    pair.check(Accept::All, None).await;
    pair.upsert(0..50).await;
    pair.check(Accept::All, None).await;
    pair.index_all();
    pair.check(Accept::All, None).await;
}

/// Moves one point about and looks for it after each move, beside others that do the same. Answers how often it
/// was missed: an index may miss a point, but never shows an old place or a deleted one.
async fn walk(engine: Arc<Embedded>, walker: u64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(walker);
    let id = PointId::from(format!("walker-{walker}"));
    let own_score = async |vector: &[f32]| {
        let (vector, accept) = (vector.to_vec(), Accept::All);
        let search = Search {
            vector,
            k: 20,
            ef: 64,
            accept,
            filter: None,
            vector_json: None,
            bodies: Bodies::None,
        };
        let hits = engine.search(C, search).await.unwrap();
        hits.iter().find(|hit| hit.id == id).map(|hit| hit.score)
    };
    let mut old: Option<Vec<f32>> = None;
    let mut missed = 0;
    for n in 0..150 {
        let vector: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let point = StoredPoint::new(C, id.clone(), PointBody::encode(&vector, None));
        engine.apply(C, vec![Write::Upsert(point)]).await.unwrap();
        match own_score(&vector).await {
            Some(score) => assert_eq!(score, 0.0, "its newest place"),
            None => missed += 1,
        }
        if let Some(old) = old {
            assert_ne!(own_score(&old).await, Some(0.0), "an old place");
        }
        if n % 5 == 4 {
            engine.apply(C, vec![Write::Delete(id.clone())]).await.unwrap();
            assert_eq!(own_score(&vector).await, None, "deleted");
        }
        old = Some(vector);
    }
    missed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_write_is_seen_while_others_write_search_and_the_index_grows() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { index_floats_min: 1, ..EmbeddedOptions::new(dir.path()) };
    let engine = Arc::new(Embedded::open(options).unwrap());
    let config = serde_json::json!({"name": "index", "dim": DIM});
    let config: CollectionConfig = serde_json::from_value(config).unwrap();
    engine.create_collection(C, Arc::new(config)).await.unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut crowd = |n: usize| {
        let vector: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let id = PointId::from(format!("crowd-{n}"));
        Write::Upsert(StoredPoint::new(C, id, PointBody::encode(&vector, None)))
    };
    let mut tasks = tokio::task::JoinSet::new();
    engine.apply(C, (0..4_000).map(&mut crowd).collect()).await.unwrap();
    for walker in 0..4 {
        tasks.spawn(walk(Arc::clone(&engine), walker));
    }
    for batch in 0..8 {
        let names = batch * 500..batch * 500 + 600;
        engine.apply(C, names.map(&mut crowd).collect()).await.unwrap();
    }
    let missed: usize = tasks.join_all().await.iter().sum();
    assert!(missed <= 12, "{missed} of 600 were missed");
}
