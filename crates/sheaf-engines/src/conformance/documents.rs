//! Documents: points of several vectors, where an engine has them.

use std::sync::Arc;

use serde_json::json;
use sheaf_types::limits::DOCUMENT_NUMBERS_MAX;
use sheaf_types::{CollectionConfig, CollectionId, IndexKind, Metric, PointId, StoredPoint};

use super::depth::edges;
use super::sample::{Numbers, scan_all, upserts, whole};
use super::{fresh, is_refused, plain};
use crate::documents::{self, DocumentSearch};
use crate::{Accept, Bodies, Engine, Filter, Memory, Scan, Search, Write};

const DIM: usize = 3;

fn config(metric: Metric, index: IndexKind) -> Arc<CollectionConfig> {
    let plain = plain("documents", DIM as u32, metric);
    Arc::new(CollectionConfig { multivector: Some(true), index, ..(*plain).clone() })
}

/// Documents of one to six vectors are kept to the bit and ranked as the oracle ranks them.
pub async fn documents_are_kept_to_the_bit_and_ranked_exactly(
    engine: &impl Engine,
    id: CollectionId,
) {
    for (n, index) in [IndexKind::Hnsw, IndexKind::Colbert].into_iter().enumerate() {
        for (m, metric) in [Metric::Cosine, Metric::Dot].into_iter().enumerate() {
            let id = CollectionId(id.0 + (2 * n + m) as u64);
            let config = config(metric, index);
            assert_eq!(engine.holds(&config), Ok(()), "{index:?} {metric:?}");
            fresh(engine, id, Arc::clone(&config)).await;
            let listed = engine.collections().await.expect("listing");
            assert_eq!(
                listed.iter().find(|(listed, _)| *listed == id),
                Some(&(id, config.clone()))
            );
            kept_and_ranked(engine, id, &config).await;
            engine.drop_collection(id).await.expect("dropping");
        }
    }
}

async fn kept_and_ranked(engine: &impl Engine, id: CollectionId, config: &Arc<CollectionConfig>) {
    let mut numbers = Numbers(7);
    let mut vectors = |least: u64| -> Vec<Vec<f32>> {
        (0..least + numbers.below(6)).map(|_| numbers.vector(DIM)).collect()
    };
    let document = |n: usize, vectors: &[Vec<f32>]| {
        let payload = format!(r#"{{"n":{}}}"#, n % 10);
        let body = documents::body(config, vectors, Some(&payload)).expect("a document");
        StoredPoint::new(id, PointId::from(format!("d{n:03}")), body)
    };
    let all: Vec<StoredPoint> = (0..300).map(|n| document(n, &vectors(1))).collect();
    let oracle = Memory::new();
    oracle.create_collection(id, Arc::clone(config)).await.expect("an oracle");
    for engine in [engine as &dyn Engine, &oracle] {
        engine.apply(id, upserts(&all)).await.expect("writing");
        // A shorter one, and none, in the place of what was there.
        let shorter = document(5, &[vec![1.0, -0.0, 1e-45]]);
        engine.apply(id, upserts(&[shorter])).await.expect("overwriting");
        engine.apply(id, vec![Write::Delete(PointId::from("d007"))]).await.expect("deleting");
    }
    let kept = scan_all(engine, id, whole()).await;
    assert_eq!(kept, scan_all(&oracle, id, whole()).await);
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(299));
    let odd = Accept::Only(Arc::new(|key: sheaf_types::PlacementKey| key.0 % 2 == 1));
    let filter = Filter::from_json(&json!({"lt": {"field": "n", "value": 3}})).expect("a filter");
    for (k, accept, filter) in [
        (1, Accept::All, None),
        (20, odd.clone(), None),
        (20, Accept::All, Some(filter.clone())),
        (1_000, odd, Some(filter)),
        (0, Accept::All, None),
    ] {
        let search = DocumentSearch { query: vectors(1), k, accept, filter, bodies: k > 1 };
        let found = documents::search(engine, id, config, search.clone()).await;
        let expected = documents::search(&oracle, id, config, search).await;
        assert_eq!(found.expect("searching"), expected.expect("searching"), "k = {k}");
    }
    let search = |vector| {
        let (accept, filter, bodies) = (Accept::All, None, Bodies::None);
        engine
            .search(id, Search { vector, k: 1, ef: 64, accept, filter, vector_json: None, bodies })
    };
    assert!(is_refused(&search(vec![1.0; DIM]).await), "it holds no points of one vector");
    let uneven =
        StoredPoint::new(id, PointId::from("x"), sheaf_types::PointBody::encode(&[1.0; 4], None));
    assert!(is_refused(&engine.apply(id, upserts(&[uneven])).await));
}

/// A document of these numbers, `DIM` to a vector.
fn document(
    id: CollectionId,
    config: &CollectionConfig,
    name: &str,
    numbers: &[f32],
    payload: Option<&str>,
) -> StoredPoint {
    let vectors: Vec<Vec<f32>> = numbers.chunks(DIM).map(<[f32]>::to_vec).collect();
    let body = documents::body(config, &vectors, payload).expect("a document");
    StoredPoint::new(id, PointId::from(name), body)
}

/// Documents of any length with numbers and payloads at the edges are kept to the bit, also when one takes another's place, are
/// scanned in pages within their bounds, and go when they are deleted.
pub async fn documents_at_the_edges_are_kept(engine: &impl Engine, id: CollectionId) {
    let config = config(Metric::Dot, IndexKind::Hnsw);
    fresh(engine, id, Arc::clone(&config)).await;
    let many = (0..500 * DIM as u32).map(|n| f32::from_bits(n * 2_800_011));
    let many: Vec<f32> = many.filter(|number| number.is_finite()).take(400 * DIM).collect();
    let vectors: [&[f32]; 5] = [
        &[-0.0, 0.0, f32::from_bits(1)],
        &[f32::MAX, f32::MIN, -f32::from_bits(1), f32::MIN_POSITIVE, 1e38, 0.1],
        &[0.0; DIM],
        &many,
        &[0.0, -0.0, f32::from_bits(0x007f_ffff), -0.0, -0.0, -0.0, 16_777_217.0, 1.0 / 3.0, -7.5],
    ];
    let edges: Vec<String> = edges().iter().map(ToString::to_string).collect();
    let odd = [
        r#"{"__sheaf_exact__":"{}","__sheaf_vectors__":"AAAA"}"#,
        r#"{"__sheaf_vectors__":{"a":[0.30000000000000004]}}"#,
        r#"{"__sheaf_vectors__":1}"#,
    ];
    let payloads = edges.iter().map(String::as_str).chain(odd).map(Some).chain([None]);
    let payloads: Vec<Option<&str>> = payloads.collect();
    // Each round, every name has vectors and a payload that another one had.
    for round in 0..vectors.len() {
        let made = |n: usize| {
            let (vectors, payload) =
                (vectors[(n + round) % 5], payloads[(n + round) % payloads.len()]);
            // Some engines have no room for the longest payload and many vectors.
            let is_long = payload.is_some_and(|payload| payload.len() > 50_000);
            let vectors = if is_long { &vectors[..DIM] } else { vectors };
            document(id, &config, &format!("d/{n:02}"), vectors, payload)
        };
        let all: Vec<StoredPoint> = (0..payloads.len()).map(made).collect();
        engine.apply(id, upserts(&all)).await.expect("writing");
        let ids = all.iter().map(|document| document.id.clone()).collect();
        let found = engine.get(id, ids).await.expect("reading");
        for (found, wrote) in found.iter().zip(&all) {
            assert_eq!(found.as_ref(), Some(wrote), "round {round}: {}", wrote.id);
        }
        for (points_max, bytes_max) in [(3, 1 << 20), (1_000, 6_000)] {
            let scanned = scan_all(engine, id, Scan { points_max, bytes_max, ..whole() }).await;
            assert!(
                scanned
                    .iter()
                    .map(|found| (&found.id, found.hash))
                    .eq(all.iter().map(|wrote| (&wrote.id, wrote.hash)))
            );
            assert!(
                scanned
                    .iter()
                    .map(|found| found.body.as_ref())
                    .eq(all.iter().map(|wrote| Some(&wrote.body)))
            );
        }
    }
    let filter = Filter::from_json(&json!({"not": {"exists": {"field": "__sheaf_vectors__"}}}));
    let without = engine.count(id, Accept::All, Some(filter.expect("a filter"))).await;
    assert_eq!(without, Ok((payloads.len() - odd.len()) as u64), "by their own payloads");
    let gone = (0..payloads.len()).map(|n| Write::Delete(PointId::from(format!("d/{n:02}"))));
    let changes = engine.apply(id, gone.collect()).await.expect("deleting");
    assert!(changes.iter().all(|change| change.old.is_some() && change.new.is_none()));
    assert_eq!(scan_all(engine, id, whole()).await, []);
    engine.drop_collection(id).await.expect("dropping");
}

/// A document of as many numbers as one may have comes back to the bit.
pub async fn the_largest_document_is_kept(engine: &impl Engine, id: CollectionId) {
    let config = config(Metric::Dot, IndexKind::Colbert);
    fresh(engine, id, Arc::clone(&config)).await;
    let numbers: Vec<f32> =
        (0..DOCUMENT_NUMBERS_MAX / DIM * DIM).map(|n| 1.0 / (n as f32 - 0.5)).collect();
    let large = document(id, &config, "large", &numbers, Some(r#"{"a":1}"#));
    let small = document(id, &config, "small", &numbers[..DIM], None);
    engine.apply(id, upserts(&[large.clone(), small])).await.expect("writing");
    let found = engine.get(id, vec![large.id.clone()]).await.expect("reading");
    assert_eq!(found, [Some(large.clone())]);
    let scanned = scan_all(engine, id, whole()).await;
    assert_eq!(scanned.len(), 2);
    assert_eq!((scanned[0].hash, scanned[0].body.as_ref()), (large.hash, Some(&large.body)));
    engine.drop_collection(id).await.expect("dropping");
}
