//! The embedded engine finds the right neighbours among real vectors, at its defaults.

mod wordnet;

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_engines::{Accept, Bodies, Embedded, EmbeddedOptions, Engine, Search, Write};
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId, StoredPoint};

const C: CollectionId = CollectionId(1);

#[tokio::test]
async fn ten_nearest_of_real_questions_are_found_at_the_defaults() {
    let (vectors, ids) = (wordnet::matrix("wordnet-20k.f16.npy"), ids());
    let questions = wordnet::matrix("wordnet-queries.f16.npy");
    let truth = std::fs::read(wordnet::file("wordnet-queries.top10.json")).unwrap();
    let truth: Vec<BTreeSet<String>> = serde_json::from_slice(&truth).unwrap();
    assert_eq!((vectors.len(), questions.len()), (ids.len(), truth.len()));
    assert!(vectors.len() >= 5_000, "only {} vectors", vectors.len());

    let dir = tempfile::tempdir().unwrap();
    let engine = Embedded::open(EmbeddedOptions::new(dir.path())).unwrap();
    let config = serde_json::json!({"name": "wordnet", "dim": wordnet::DIM, "metric": "cosine"});
    let config: CollectionConfig = serde_json::from_value(config).unwrap();
    engine.create_collection(C, Arc::new(config)).await.unwrap();
    let points: Vec<Write> = ids
        .iter()
        .zip(&vectors)
        .map(|(id, vector)| {
            let body = PointBody::encode(vector, None);
            Write::Upsert(StoredPoint::new(C, PointId::from(id.as_str()), body))
        })
        .collect();
    for batch in points.chunks(1_000) {
        engine.apply(C, batch.to_vec()).await.unwrap();
    }

    // Exact as long as the index isn't built, which takes its time in the background.
    for indexed in [false, true] {
        if indexed {
            while engine.database().index_step() {}
            assert_eq!(engine.stats().await.unwrap().unindexed_points, 0);
        }
        let mut hits = 0;
        for (question, truth) in questions.iter().zip(&truth) {
            let search = Search {
                vector: question.clone(),
                k: 10,
                ef: 64,
                accept: Accept::All,
                filter: None,
                vector_json: None,
                bodies: Bodies::None,
            };
            let found = engine.search(C, search).await.unwrap();
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "best first");
            hits += found.iter().filter(|hit| truth.contains(hit.id.as_str())).count();
        }
        let recall = hits as f64 / (10 * truth.len()) as f64;
        println!(
            "recall@10 over {} real questions and {} vectors, indexed {indexed}: {recall:.4}",
            truth.len(),
            vectors.len()
        );
        assert!(recall >= 0.95, "recall@10 is {recall}");
    }
}

/// The id of each row.
fn ids() -> Vec<String> {
    let text =
        std::fs::read_to_string(wordnet::file("wordnet-20k.jsonl")).expect("a readable file");
    let id = |line: &str| -> String {
        let row: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        row["id"].as_str().expect("an id").to_owned()
    };
    text.lines().map(id).collect()
}
