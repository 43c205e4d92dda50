//! Documents: points of several vectors, where an engine has them.

use std::sync::Arc;

use serde_json::json;
use sheaf_types::{CollectionConfig, CollectionId, IndexKind, Metric, PointId, StoredPoint};

use super::sample::{Numbers, scan_all, upserts, whole};
use super::{fresh, is_refused, plain};
use crate::documents::{self, DocumentSearch};
use crate::{Accept, Bodies, Engine, Filter, Memory, Search, Write};

const DIM: usize = 3;

fn config(metric: Metric, index: IndexKind) -> Arc<CollectionConfig> {
    let plain = plain("documents", DIM as u32, metric);
    Arc::new(CollectionConfig { multivector: Some(true), index, ..(*plain).clone() })
}

/// Documents of one to six vectors are kept to the bit and ranked as the oracle ranks them. An engine that has none refuses the
/// collection.
pub async fn documents_are_kept_to_the_bit_and_ranked_exactly(
    engine: &impl Engine,
    id: CollectionId,
) {
    for (n, index) in [IndexKind::Hnsw, IndexKind::Colbert].into_iter().enumerate() {
        for (m, metric) in [Metric::Cosine, Metric::Dot].into_iter().enumerate() {
            let id = CollectionId(id.0 + (2 * n + m) as u64);
            let config = config(metric, index);
            let held = engine.holds(&config);
            if is_refused(&held) {
                assert!(is_refused(&engine.create_collection(id, config).await), "{held:?}");
                continue;
            }
            fresh(engine, id, Arc::clone(&config)).await;
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
        engine.search(id, Search { vector, k: 1, ef: 64, accept, filter, bodies })
    };
    assert!(is_refused(&search(vec![1.0; DIM]).await), "it holds no points of one vector");
    let uneven =
        StoredPoint::new(id, PointId::from("x"), sheaf_types::PointBody::encode(&[1.0; 4], None));
    assert!(is_refused(&engine.apply(id, upserts(&[uneven])).await));
}
