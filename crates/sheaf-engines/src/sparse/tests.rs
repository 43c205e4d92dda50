//! What payloads hold, what the index says beside a look at all documents, and that it is never older than a write.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use sheaf_types::{CollectionConfig, CollectionId, PlacementKey, PointBody, PointId, StoredPoint};

use super::index::Index;
use super::*;
use crate::{Accept, Engine, EngineError, Filter, Memory, Write};

fn of(payload: Value) -> Option<SparseVector> {
    SparseVector::of_payload(Some(&payload.to_string()))
}

#[test]
fn a_payload_holds_a_sparse_vector_or_a_text_and_a_malformed_one_counts_as_none() {
    let vector = |indices: &[u32], values: &[f32]| Some(SparseVector::of_query(indices, values));
    let sparse = |indices: Value, values: Value| json!({SPARSE_KEY: {"indices": indices, "values": values}, TEXT_KEY: "dog"});
    assert_eq!(of(sparse(json!([7, 3]), json!([1, 0.5]))), vector(&[3, 7], &[0.5, 1.0]));
    assert_eq!(of(sparse(json!([]), json!([]))), vector(&[], &[]));
    for (indices, values) in [
        (json!([1]), json!([1, 2])),
        (json!([1, 1]), json!([1, 2])),
        (json!([-1]), json!([1])),
        (json!([1.5]), json!([1])),
        (json!([4_294_967_296_u64]), json!([1])),
        (json!([1]), json!(["1"])),
        (json!(null), json!([])),
    ] {
        let payload = sparse(indices, values);
        assert_eq!(of(payload.clone()), None, "{payload}");
    }
    assert_eq!(of(json!({SPARSE_KEY: null, TEXT_KEY: "dog"})), None);
    let dog = query_terms("dog")[0];
    assert_eq!(of(json!({TEXT_KEY: "the dog, dogs!"})), vector(&[dog], &[2.0]));
    assert_eq!(of(json!({TEXT_KEY: "of the"})), vector(&[], &[]));
    for payload in [json!({TEXT_KEY: 7}), json!({"text": "dog"}), json!([TEXT_KEY])] {
        assert_eq!(of(payload.clone()), None, "{payload}");
    }
    assert_eq!(SparseVector::of_payload(None), None);
    let escaped = r#"{"\u005f_quiver_text__":"dog"}"#;
    assert_eq!(SparseVector::of_payload(Some(escaped)), vector(&[dog], &[1.0]));
}

/// The same, as plainly as can be.
#[derive(Default)]
struct Naive(BTreeMap<PointId, SparseVector>);

impl Naive {
    fn statistics(&self, terms: &[u32], accept: &Accept) -> Statistics {
        let seen = || self.0.iter().filter(|(id, _)| accept.takes(id.placement_key()));
        let length = |vector: &SparseVector| f64::from(vector.weights.values().sum::<f32>());
        let has = |term: &u32| seen().filter(|(_, v)| v.weights.contains_key(term)).count() as u64;
        Statistics {
            documents: seen().count() as u64,
            length: seen().map(|(_, vector)| length(vector)).sum(),
            frequencies: terms.iter().map(has).collect(),
        }
    }

    fn rank(&self, query: &SparseQuery, accept: &Accept, limit: usize) -> Vec<Ranked> {
        let score = |vector: &SparseVector| match query {
            SparseQuery::Vector(query) => {
                let both = |(term, wanted): (&u32, &f32)| Some(wanted * vector.weights.get(term)?);
                query.weights.iter().filter_map(both).sum::<f32>()
            }
            SparseQuery::Text { terms, statistics } => {
                let length = vector.weights.values().sum::<f32>();
                let pairs = terms.iter().zip(&statistics.frequencies);
                let one = |(term, frequency): (&u32, &u64)| {
                    let inverse = statistics.inverse_frequency(*frequency);
                    Some(statistics.score(inverse, *vector.weights.get(term)?, length))
                };
                pairs.filter_map(one).fold(0.0, |sum, one| sum + one)
            }
        };
        let seen = self.0.iter().filter(|(id, _)| accept.takes(id.placement_key()));
        let mut all: Vec<Ranked> =
            seen.map(|(id, vector)| Ranked { id: id.clone(), score: score(vector) }).collect();
        all.retain(|ranked| ranked.score > 0.0);
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        all.truncate(limit);
        all
    }
}

/// Weights are multiples of a half, so that sums are the same in any order, and ties occur.
fn vectors() -> impl Strategy<Value = Option<SparseVector>> {
    let weights = prop::collection::btree_map(0_u32..6, -1_i8..4, 0..4);
    let halves = |weights: BTreeMap<u32, i8>| SparseVector {
        weights: weights.into_iter().map(|(term, half)| (term, f32::from(half) / 2.0)).collect(),
    };
    prop::option::weighted(0.8, weights.prop_map(halves))
}

proptest! {
    #[test]
    fn the_index_ranks_and_counts_as_a_look_at_all_documents_does(
        puts in prop::collection::vec((0_u8..12, vectors()), 0..60),
        query in vectors(), limit in 0_usize..15, odd in any::<bool>(),
    ) {
        let mut index = Index::default();
        let mut naive = Naive::default();
        for (n, vector) in puts {
            let id = PointId::from(format!("p{n}"));
            index.put(&id, vector.clone());
            match vector {
                Some(vector) => drop(naive.0.insert(id, vector)),
                None => drop(naive.0.remove(&id)),
            }
        }
        let accept =
            if odd { Accept::Only(Arc::new(|key: PlacementKey| key.0 % 2 == 1)) } else { Accept::All };
        let terms = [3, 0, 9];
        let statistics = index.statistics(&terms, &accept);
        prop_assert_eq!(&statistics, &naive.statistics(&terms, &accept));
        let text = SparseQuery::Text { terms: terms.to_vec(), statistics };
        for query in [SparseQuery::Vector(query.unwrap_or_default()), text] {
            prop_assert_eq!(index.rank(&query, &accept, limit), naive.rank(&query, &accept, limit));
        }
    }
}

#[test]
fn documents_that_were_replaced_take_no_room_for_ever() {
    let mut index = Index::default();
    let id = PointId::from("a");
    for weight in 0..100_000 {
        let weight = (weight % 7) as f32;
        index.put(&id, Some(SparseVector::of_query(&[1, 2], &[weight, 1.0])));
    }
    assert!(index.entries() < 10_000, "{} entries", index.entries());
    assert_eq!(index.statistics(&[1], &Accept::All).frequencies, [1]);
}

const COLLECTION: CollectionId = CollectionId(1);

async fn engine(entries_max: usize) -> SparseEngine {
    let engine = SparseEngine::with_entries_max(Arc::new(Memory::new()), entries_max);
    let config: CollectionConfig = serde_json::from_value(json!({"name": "c", "dim": 1})).unwrap();
    engine.create_collection(COLLECTION, Arc::new(config)).await.unwrap();
    engine
}

fn text(id: &str, text: &str) -> Write {
    let payload = json!({TEXT_KEY: text, "n": text.len()}).to_string();
    let body = PointBody::encode(&[1.0], Some(&payload));
    Write::Upsert(StoredPoint::new(COLLECTION, PointId::from(id), body))
}

async fn found(
    engine: &SparseEngine,
    query: &str,
    filter: Option<Filter>,
) -> Result<Vec<String>, EngineError> {
    let terms = query_terms(query);
    let statistics = engine.statistics(COLLECTION, terms.clone(), Accept::All).await?;
    let query = SparseQuery::Text { terms, statistics };
    let ranked = engine.rank(COLLECTION, query, 10, Accept::All, filter).await?;
    Ok(ranked.into_iter().map(|ranked| ranked.id.as_str().to_owned()).collect())
}

#[tokio::test]
async fn the_index_shows_every_write_that_was_answered() {
    let engine = engine(1_000_000).await;
    let before = (0..600).map(|n| text(&format!("p{n:03}"), "a bird")).collect();
    engine.apply(COLLECTION, before).await.unwrap();
    assert_eq!(found(&engine, "dog", None).await, Ok(vec![]));
    engine.apply(COLLECTION, vec![text("p007", "a dog"), text("new", "dogs dogs")]).await.unwrap();
    assert_eq!(found(&engine, "dog", None).await.unwrap(), ["new", "p007"]);
    engine.apply(COLLECTION, vec![Write::Delete(PointId::from("new"))]).await.unwrap();
    assert_eq!(found(&engine, "dog", None).await.unwrap(), ["p007"]);
    let many = (0..CHANGED_BEYOND).map(|n| text(&format!("q{n}"), "a fish")).collect();
    engine.apply(COLLECTION, many).await.unwrap();
    assert_eq!(found(&engine, "dog", None).await.unwrap(), ["p007"], "made anew");
    assert_eq!(found(&engine, "fish", None).await.unwrap().len(), 10);
    engine.drop_collection(COLLECTION).await.unwrap();
    assert!(matches!(found(&engine, "dog", None).await, Err(EngineError::NoCollection(_))));
}

/// More than are remembered as changed.
const CHANGED_BEYOND: usize = 70_000;

#[tokio::test]
async fn a_filter_chooses_among_all_that_were_found_and_not_among_the_best() {
    let engine = engine(1_000_000).await;
    let long = format!("dog {}", "bird ".repeat(50));
    let mut writes: Vec<Write> = (0..700).map(|n| text(&format!("p{n:03}"), "dog")).collect();
    writes.push(text("last", &long));
    engine.apply(COLLECTION, writes).await.unwrap();
    let filter = Filter::from_json(&json!({"gt": {"field": "n", "value": 100}})).unwrap();
    assert_eq!(found(&engine, "dog", Some(filter)).await.unwrap(), ["last"]);
}

#[tokio::test]
async fn an_index_that_would_be_too_large_is_refused_and_made_again_once_it_fits() {
    let engine = engine(20).await;
    let write = |n: usize| text(&format!("p{n}"), "dog bird");
    engine.apply(COLLECTION, (0..30).map(write).collect()).await.unwrap();
    let refused = found(&engine, "dog", None).await;
    assert!(
        matches!(&refused, Err(EngineError::Unsupported(why)) if why.contains("more than 20")),
        "{refused:?}"
    );
    let gone = (5..30).map(|n| Write::Delete(PointId::from(format!("p{n}")))).collect();
    engine.apply(COLLECTION, gone).await.unwrap();
    assert_eq!(found(&engine, "dog", None).await.unwrap().len(), 5);
}
