//! What is written comes back: configurations, ids, floats, payloads, and the answers to writes.

use std::sync::Arc;

use sheaf_types::collection::{FieldType, FilterableField};
use sheaf_types::{
    CollectionConfig, CollectionId, Metric, PointBody, PointHash, PointId, StoredPoint,
    VectorEncryption,
};

use super::sample::{point, scan_all, upserts, whole};
use super::{fresh, is_refused, plain};
use crate::{Accept, Bodies, Change, Engine, EngineError, Search, ShownPoint, Write};

/// A collection is listed with the whole configuration that it was created with; creating it again changes nothing.
pub async fn configurations_are_kept_whole(engine: &impl Engine, id: CollectionId) {
    let config = Arc::new(CollectionConfig {
        filterable: vec![FilterableField { path: "a.b".into(), field_type: FieldType::Numeric }],
        ..(*plain("Ünïcode / name", 7, Metric::Dot)).clone()
    });
    fresh(engine, id, Arc::clone(&config)).await;
    engine.create_collection(id, plain("other", 3, Metric::L2)).await.expect("creating it again");
    let listed = engine.collections().await.expect("listing");
    assert_eq!(listed.iter().find(|(listed, _)| *listed == id), Some(&(id, config)));
    engine.drop_collection(id).await.expect("dropping");
    let listed = engine.collections().await.expect("listing");
    assert!(!listed.iter().any(|(listed, _)| *listed == id), "a dropped collection is not listed");
    engine.drop_collection(id).await.expect("dropping it again");
}

/// Writes of a batch take effect in order; the answers name the hashes before and after each.
pub async fn batches_apply_in_order_and_tell_what_they_changed(
    engine: &impl Engine,
    id: CollectionId,
) {
    fresh(engine, id, plain("batches", 2, Metric::L2)).await;
    let a1 = point(id, "a", &[1.0, 0.0], None);
    let a2 = point(id, "a", &[2.0, 0.0], Some(r#"{"v":2}"#));
    let b = point(id, "b", &[3.0, 0.0], None);
    let change = |old: Option<&StoredPoint>, new: Option<&StoredPoint>| -> Change {
        let hash = |point: Option<&StoredPoint>| -> Option<PointHash> { point.map(|p| p.hash) };
        Change { old: hash(old), new: hash(new) }
    };
    let delete = |id: &str| Write::Delete(PointId::from(id));
    let upsert = |point: &StoredPoint| Write::Upsert(point.clone());

    assert_eq!(engine.apply(id, Vec::new()).await, Ok(Vec::new()), "an empty batch");
    let batch = vec![upsert(&a1), upsert(&b), upsert(&a2), delete("b"), delete("none")];
    let expected = vec![
        change(None, Some(&a1)),
        change(None, Some(&b)),
        change(Some(&a1), Some(&a2)),
        change(Some(&b), None),
        change(None, None),
    ];
    assert_eq!(engine.apply(id, batch).await, Ok(expected));
    let ids = ["b", "a", "none", "a"].map(PointId::from).to_vec();
    let expected = vec![None, Some(a2.clone()), None, Some(a2.clone())];
    assert_eq!(engine.get(id, ids).await, Ok(expected), "in the order that was asked");

    let expected = vec![change(Some(&a2), None), change(None, Some(&a1))];
    assert_eq!(engine.apply(id, vec![delete("a"), upsert(&a1)]).await, Ok(expected));
    let expected = vec![change(Some(&a1), Some(&a1))];
    assert_eq!(engine.apply(id, vec![upsert(&a1)]).await, Ok(expected), "the same once more");
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(1));
    engine.drop_collection(id).await.expect("dropping");
}

/// Vectors keep every bit, payloads every byte, also when scanned.
pub async fn floats_and_payloads_are_kept_to_the_bit(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("bits", 4, Metric::L2)).await;
    let vectors: [[f32; 4]; 4] = [
        [0.1, -0.0, f32::MIN_POSITIVE, 1e-45],
        [1.0e18, -1.0e18, 1.0 / 3.0, 16_777_217.0],
        [f32::EPSILON, 1.000_000_1, -2.5e-30, 7.0],
        [0.0; 4],
    ];
    let large = format!(r#"{{"text":"{}"}}"#, "é".repeat(20_000));
    let payloads = [
        None,
        Some("{}"),
        Some(r#"{"a":null,"b":[1,2.5,1e300,-0.0],"c":{"d":"\"\\\n\u0000€😀"}}"#),
        Some(r#"{"f":1.0,"i":9007199254740993,"u":18446744073709551615}"#),
        Some(r#"{"":"","a.b":1}"#),
        Some(large.as_str()),
    ];
    let mut points = Vec::new();
    for (v, vector) in vectors.iter().enumerate() {
        for (p, payload) in payloads.iter().enumerate() {
            points.push(point(id, &format!("v{v}p{p}"), vector, *payload));
        }
    }
    engine.apply(id, upserts(&points)).await.expect("writing");
    let ids = points.iter().map(|point| point.id.clone()).collect();
    let found = engine.get(id, ids).await.expect("reading");
    for (found, wrote) in found.iter().zip(&points) {
        assert_eq!(found.as_ref(), Some(wrote), "{}", wrote.id);
        assert_eq!(shown(engine, id, &wrote.id).await.as_ref(), Some(&wrote.body), "{}", wrote.id);
    }
    let scanned = scan_all(engine, id, whole()).await;
    assert_eq!(scanned.len(), points.len());
    for found in scanned {
        let wrote =
            points.iter().find(|point| point.id == found.id).expect("a point that was written");
        assert_eq!((found.hash, found.body.as_ref()), (wrote.hash, Some(&wrote.body)));
    }
    engine.drop_collection(id).await.expect("dropping");
}

/// What clients seal is kept with its zeros and never ranked; what keeps its distances is ranked.
pub async fn encrypted_vectors_are_kept_and_ranked_as_far_as_they_can_be(
    engine: &impl Engine,
    id: CollectionId,
) {
    let encrypted = |metric, vector_encryption| {
        Arc::new(CollectionConfig { vector_encryption, ..(*plain("encrypted", 2, metric)).clone() })
    };
    let search = || Search {
        vector: vec![1.0, 0.0],
        k: 1,
        ef: 16,
        accept: Accept::All,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    };
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        let sealed = encrypted(metric, VectorEncryption::ClientSide);
        fresh(engine, id, Arc::clone(&sealed)).await;
        let envelope = Some(r#"{"__quiver_vec__":{"ct":"AAAA"}}"#);
        let points: Vec<StoredPoint> = ["a", "b"].map(|p| point(id, p, &[0.0; 2], envelope)).into();
        engine.apply(id, upserts(&points)).await.expect("writing zeros");
        let found = engine.get(id, vec![PointId::from("b")]).await.expect("reading");
        assert_eq!(found, [Some(points[1].clone())]);
        assert_eq!(scan_all(engine, id, whole()).await.len(), 2);
        assert_eq!(engine.count(id, Accept::All, None).await, Ok(2));
        let refused = engine.search(id, search()).await;
        assert!(matches!(refused, Err(EngineError::Invalid(_))), "{refused:?}");
        let listed = engine.collections().await.expect("listing");
        assert_eq!(listed.iter().find(|(listed, _)| *listed == id), Some(&(id, sealed)));
        engine.drop_collection(id).await.expect("dropping");
    }
    fresh(engine, id, encrypted(Metric::L2, VectorEncryption::Dcpe)).await;
    let points = [point(id, "far", &[5.0, 0.0], None), point(id, "near", &[2.0, 0.0], None)];
    engine.apply(id, upserts(&points)).await.expect("writing");
    let hits = engine.search(id, search()).await.expect("searching");
    assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["near"]);
    engine.drop_collection(id).await.expect("dropping");
}

/// What a client is shown of the point, as a body.
async fn shown(engine: &impl Engine, collection: CollectionId, id: &PointId) -> Option<PointBody> {
    match engine.show(collection, id.clone()).await.expect("showing")? {
        ShownPoint::Body(body) => Some(body),
        ShownPoint::Json { vector, payload } => {
            let numbers: Vec<f32> = serde_json::from_str(vector.get()).expect("numbers");
            Some(PointBody::encode(&numbers, payload.as_deref()))
        }
    }
}

/// Ids that paths, URLs and old string functions choke on.
pub async fn ids_may_be_any_text(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("ids", 1, Metric::L2)).await;
    let long = "x".repeat(4 * 1024);
    let longer = format!("{long}y");
    let ids = [
        "",
        "a/b",
        "a/b/",
        "/",
        "..",
        "doc#3",
        "a?b",
        "a?b=c&d",
        "%2F",
        "%",
        "a b",
        " a",
        "a ",
        "+",
        "\"",
        "'",
        "\\",
        "\n",
        "\u{0}",
        "\u{0}b",
        "é",
        "e\u{301}",
        "😀",
        "😀😀",
        "\u{10ffff}",
        "null",
        "A",
        "a",
        &long,
        &longer,
    ];
    let points: Vec<StoredPoint> =
        ids.iter().enumerate().map(|(n, name)| point(id, name, &[n as f32], None)).collect();
    engine.apply(id, upserts(&points)).await.expect("writing");
    assert_eq!(
        engine.count(id, Accept::All, None).await,
        Ok(ids.len() as u64),
        "none taken for another"
    );
    let asked = ids.iter().map(|name| PointId::from(*name)).collect();
    let found = engine.get(id, asked).await.expect("reading");
    for (found, wrote) in found.iter().zip(&points) {
        assert_eq!(found.as_ref(), Some(wrote), "{:?}", wrote.id);
        assert_eq!(shown(engine, id, &wrote.id).await.as_ref(), Some(&wrote.body));
    }
    assert_eq!(shown(engine, id, &PointId::from("none")).await, None);
    let mut sorted: Vec<&str> = ids.to_vec();
    sorted.sort_unstable();
    let scanned = scan_all(engine, id, whole()).await;
    let scanned: Vec<&str> = scanned.iter().map(|point| point.id.as_str()).collect();
    assert_eq!(scanned, sorted, "in the order of bytes");
    let deletes = ids.iter().map(|name| Write::Delete(PointId::from(*name))).collect();
    let deleted = engine.apply(id, deletes).await.expect("deleting");
    assert!(deleted.iter().all(|change| change.old.is_some()), "each was there");
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(0));
    engine.drop_collection(id).await.expect("dropping");
}

/// A batch with one wrong point is refused whole; so is one for a collection that doesn't exist.
pub async fn wrong_writes_change_nothing(engine: &impl Engine, id: CollectionId) {
    let (none, cosine) = (CollectionId(id.0 + 1), CollectionId(id.0 + 2));
    fresh(engine, id, plain("wrong", 2, Metric::L2)).await;
    fresh(engine, cosine, plain("cosine", 2, Metric::Cosine)).await;
    let good = |id| point(id, "good", &[1.0, 1.0], None);
    let wrong: [&[f32]; 5] = [
        &[1.0],
        &[1.0, 2.0, 3.0],
        &[f32::NAN, 0.0],
        &[0.0, f32::INFINITY],
        &[f32::NEG_INFINITY, 0.0],
    ];
    for vector in wrong {
        let answer = engine.apply(id, upserts(&[good(id), point(id, "bad", vector, None)])).await;
        assert!(is_refused(&answer), "{vector:?}: {answer:?}");
    }
    let answer = engine
        .apply(cosine, upserts(&[good(cosine), point(cosine, "bad", &[0.0, 0.0], None)]))
        .await;
    assert!(is_refused(&answer), "a zero vector under cosine: {answer:?}");
    for id in [id, cosine] {
        assert_eq!(engine.count(id, Accept::All, None).await, Ok(0), "nothing was applied");
    }
    engine.drop_collection(none).await.expect("dropping");
    let missing = || EngineError::NoCollection(none);
    assert_eq!(engine.apply(none, upserts(&[good(none)])).await, Err(missing()));
    assert_eq!(engine.get(none, vec![PointId::from("good")]).await, Err(missing()));
    assert_eq!(engine.scan(none, whole()).await, Err(missing()));
    assert_eq!(engine.count(none, Accept::All, None).await, Err(missing()));
    for id in [id, cosine] {
        engine.drop_collection(id).await.expect("dropping");
    }
}
