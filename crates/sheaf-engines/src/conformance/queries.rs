//! What is asked is answered: scans, searches, filters, counts, against a plain model.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use sheaf_types::{CollectionId, Metric, PlacementKey, PointId};

use super::sample::{Numbers, point, points, scan_all, upserts, whole};
use super::{fresh, is_refused, plain};
use crate::{Accept, Bodies, Engine, Filter, Hit, Memory, Scan, Search, Write};

/// A scan is not disturbed by deletes behind and before it: no id is skipped, none comes twice.
pub async fn scans_go_in_the_order_of_ids_while_points_are_deleted(
    engine: &impl Engine,
    id: CollectionId,
) {
    fresh(engine, id, plain("scans", 2, Metric::L2)).await;
    let all = points(id, &mut Numbers(1), 200, 2);
    let mut shuffled = all.clone();
    shuffled.sort_by_key(|point| point.hash);
    for batch in shuffled.chunks(50) {
        engine.apply(id, upserts(batch)).await.expect("writing");
    }
    let mut kept: BTreeSet<PointId> = all.iter().map(|point| point.id.clone()).collect();
    let mut numbers = Numbers(2);
    let mut seen = Vec::new();
    let mut scan = Scan { points_max: 7, bodies: false, ..whole() };
    loop {
        let page = engine.scan(id, scan.clone()).await.expect("a page");
        assert!(page.points.len() <= 7);
        seen.extend(page.points.iter().map(|point| point.id.clone()));
        let Some(through) = page.looked_through else { break };
        // Delete one that was seen, and one that is still to come.
        let (before, behind): (Vec<_>, Vec<_>) =
            kept.iter().cloned().partition(|id| *id <= through);
        for side in [before, behind] {
            if side.is_empty() {
                continue;
            }
            let victim = side[numbers.below(side.len() as u64) as usize].clone();
            kept.remove(&victim);
            engine.apply(id, vec![Write::Delete(victim)]).await.expect("deleting");
        }
        scan.after = Some(through);
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
    let missed: Vec<_> = kept.iter().filter(|id| !seen.contains(id)).collect();
    assert!(missed.is_empty(), "points that were there all the time were skipped: {missed:?}");
    engine.drop_collection(id).await.expect("dropping");
}

/// Pages keep within their bounds on points, bytes and ids, and within what is accepted and filtered.
pub async fn pages_respect_their_bounds(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("pages", 2, Metric::L2)).await;
    let all = points(id, &mut Numbers(3), 120, 2);
    engine.apply(id, upserts(&all)).await.expect("writing");
    let oracle = oracle_of(engine, id).await;
    let filter = Filter::from_json(&json!({"gte": {"field": "n", "value": 10}})).expect("a filter");
    let odd: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0 % 2 == 1));
    let bounds = [
        (None, None),
        (Some("p0010"), Some("p0080")),
        (Some("p"), Some("p0000")),
        (Some("p0119"), None),
    ];
    for (after, through) in bounds {
        for accept in [Accept::All, odd.clone()] {
            for filter in [None, Some(filter.clone())] {
                let scan = Scan {
                    after: after.map(PointId::from),
                    through: through.map(PointId::from),
                    points_max: 9,
                    accept: accept.clone(),
                    filter,
                    ..whole()
                };
                let found = scan_all(engine, id, scan.clone()).await;
                assert_eq!(found, scan_all(&oracle, id, scan.clone()).await, "{scan:?}");
                let hashes = scan_all(engine, id, Scan { bodies: false, ..scan }).await;
                assert!(
                    hashes.iter().all(|point| point.body.is_none()),
                    "no bodies were asked for"
                );
                let pairs = hashes.iter().map(|point| (&point.id, point.hash));
                assert!(pairs.eq(found.iter().map(|point| (&point.id, point.hash))));
            }
        }
    }
    let tight = Scan { bytes_max: 150, ..whole() };
    let page = engine.scan(id, tight.clone()).await.expect("a page");
    assert!((1..10).contains(&page.points.len()), "bytes bound the page: {}", page.points.len());
    assert_eq!(scan_all(engine, id, tight).await.len(), all.len());
    let tiny = Scan { bytes_max: 0, ..whole() };
    assert_eq!(
        engine.scan(id, tiny).await.expect("a page").points.len(),
        1,
        "one point always fits"
    );
    let nothing =
        Scan { after: Some(PointId::from("b")), through: Some(PointId::from("a")), ..whole() };
    let page = engine.scan(id, nothing).await.expect("a page");
    assert_eq!((page.points.len(), page.looked_through), (0, None), "an empty range");
    engine.drop_collection(id).await.expect("dropping");
}

/// An oracle with the same points.
async fn oracle_of(engine: &impl Engine, id: CollectionId) -> Memory {
    let oracle = Memory::new();
    let listed = engine.collections().await.expect("listing");
    let (_, config) = listed.into_iter().find(|(listed, _)| *listed == id).expect("the collection");
    oracle.create_collection(id, config).await.expect("an oracle");
    let scanned = scan_all(engine, id, whole()).await.into_iter();
    let writes = scanned.map(|point| {
        let body = point.body.expect("a body");
        Write::Upsert(sheaf_types::StoredPoint { id: point.id, hash: point.hash, body })
    });
    oracle.apply(id, writes.collect()).await.expect("an oracle");
    oracle
}

fn question(vector: Vec<f32>, k: usize) -> Search {
    Search {
        vector,
        k,
        ef: 64,
        accept: Accept::All,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    }
}

/// Equal in ids, order and bodies, as far as they were asked for; equal in score but for rounding.
fn assert_same(found: &[Hit], expected: &[Hit], bodies: Bodies, what: &str) {
    let ids = |hits: &[Hit]| -> Vec<PointId> { hits.iter().map(|hit| hit.id.clone()).collect() };
    assert_eq!(ids(found), ids(expected), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let close = (found.score - expected.score).abs() <= 1e-5 * expected.score.abs().max(1.0);
        assert!(close, "{what}: {} scores {}, not {}", found.id, found.score, expected.score);
        if bodies == Bodies::Payloads {
            let payload = |hit: &Hit| hit.body.as_ref().map(|b| b.payload().map(str::to_owned));
            assert_eq!(payload(found), payload(expected), "{what}: {}", found.id);
        } else {
            assert_eq!(found.body, expected.body, "{what}: {}", found.id);
        }
    }
}

/// Small collections are searched exactly: the right points, best first, ties by id, scores as the API says.
pub async fn searches_agree_with_the_oracle(engine: &impl Engine, id: CollectionId) {
    for (n, metric) in [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().enumerate() {
        let id = CollectionId(id.0 + n as u64);
        fresh(engine, id, plain(&format!("search-{n}"), 8, metric)).await;
        let empty = engine.search(id, question(vec![1.0; 8], 5)).await;
        assert_eq!(empty, Ok(Vec::new()), "an empty collection has no hits");
        let mut numbers = Numbers(4);
        let all = points(id, &mut numbers, 300, 8);
        engine.apply(id, upserts(&all)).await.expect("writing");
        let oracle = oracle_of(engine, id).await;
        let odd: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0 % 2 == 1));
        let nobody: Accept = Accept::Only(Arc::new(|_| false));
        for k in [1, 10, 299, 1_000] {
            for (accept, bodies) in [
                (Accept::All, Bodies::None),
                (Accept::All, Bodies::Whole),
                (odd.clone(), Bodies::Whole),
                (odd.clone(), Bodies::Payloads),
                (nobody.clone(), Bodies::Whole),
            ] {
                let search = Search { accept, bodies, ..question(numbers.vector(8), k) };
                let found = engine.search(id, search.clone()).await.expect("searching");
                let expected = oracle.search(id, search.clone()).await.expect("searching");
                assert_same(&found, &expected, bodies, &format!("{metric:?} {search:?}"));
            }
        }
        assert_eq!(
            engine.search(id, question(numbers.vector(8), 0)).await,
            Ok(Vec::new()),
            "k = 0"
        );
        for wrong in [vec![1.0; 7], vec![1.0; 9], vec![f32::NAN; 8]] {
            let answer = engine.search(id, question(wrong, 5)).await;
            assert!(is_refused(&answer), "{answer:?}");
        }
        engine.drop_collection(id).await.expect("dropping");
    }
}

/// A search sees each write that was answered before: no deleted point, no older vector.
pub async fn searches_see_every_write(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("fresh", 2, Metric::L2)).await;
    let nearest = async |x: f32| {
        let hits = engine.search(id, question(vec![x, 0.0], 1)).await.expect("searching");
        hits.first().map(|hit| (hit.id.clone(), hit.score))
    };
    let at = |name: &str, x: f32| Write::Upsert(point(id, name, &[x, 0.0], None));
    engine.apply(id, vec![at("far", 1_000.0)]).await.expect("writing");
    for n in 0..50 {
        let x = n as f32;
        engine.apply(id, vec![at("walker", x)]).await.expect("writing");
        assert_eq!(
            nearest(x).await,
            Some((PointId::from("walker"), 0.0)),
            "its newest place, step {n}"
        );
        if n % 10 == 9 {
            engine.apply(id, vec![Write::Delete(PointId::from("walker"))]).await.expect("deleting");
            let found = nearest(x).await.map(|(id, _)| id);
            assert_eq!(found, Some(PointId::from("far")), "deleted at step {n}");
        }
    }
    engine.drop_collection(id).await.expect("dropping");
}

/// Filters choose the same points in scans, counts and searches as the oracle.
pub async fn filters_agree_with_the_oracle(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("filters", 4, Metric::L2)).await;
    let mut numbers = Numbers(5);
    engine.apply(id, upserts(&points(id, &mut numbers, 200, 4))).await.expect("writing");
    let oracle = oracle_of(engine, id).await;
    let filters = [
        json!({"eq": {"field": "tag", "value": "a"}}),
        json!({"ne": {"field": "tag", "value": "a"}}),
        json!({"eq": {"field": "n", "value": 7}}),
        json!({"lt": {"field": "n", "value": 20.5}}),
        json!({"gte": {"field": "deep.x", "value": 3}}),
        json!({"in": {"field": "n", "values": [1, 2.0, "3"]}}),
        json!({"exists": {"field": "deep.x"}}),
        json!({"not": {"exists": {"field": "tag"}}}),
        json!({"and": [{"lte": {"field": "n", "value": 40}}, {"gt": {"field": "n", "value": 10}}]}),
        json!({"or": [{"eq": {"field": "tag", "value": "b"}}, {"lt": {"field": "n", "value": 5}}]}),
        json!({"gt": {"field": "tag", "value": "a"}}),
        json!({"eq": {"field": "none", "value": 1}}),
    ];
    let odd: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0 % 2 == 1));
    for filter in filters {
        let filter = Filter::from_json(&filter).expect("a filter");
        for accept in [Accept::All, odd.clone()] {
            let count =
                engine.count(id, accept.clone(), Some(filter.clone())).await.expect("counting");
            let expected = oracle.count(id, accept.clone(), Some(filter.clone())).await;
            assert_eq!(Ok(count), expected, "{filter:?}");
            let scan = Scan { accept: accept.clone(), filter: Some(filter.clone()), ..whole() };
            let scanned = scan_all(engine, id, scan).await;
            assert_eq!(scanned.len() as u64, count, "{filter:?}");
            let search = Search {
                accept,
                filter: Some(filter.clone()),
                bodies: Bodies::Whole,
                ..question(numbers.vector(4), 20)
            };
            let found = engine.search(id, search.clone()).await.expect("searching");
            let expected = oracle.search(id, search).await.expect("searching");
            assert_same(&found, &expected, Bodies::Whole, &format!("{filter:?}"));
        }
    }
    engine.drop_collection(id).await.expect("dropping");
}

/// What is dropped doesn't come back under another id.
pub async fn a_dropped_collection_is_gone_and_a_new_id_starts_empty(
    engine: &impl Engine,
    id: CollectionId,
) {
    let second = CollectionId(id.0 + 1);
    for (id, dim) in [(id, 2), (second, 3)] {
        fresh(engine, id, plain("again", dim as u32, Metric::L2)).await;
        assert_eq!(engine.count(id, Accept::All, None).await, Ok(0), "it starts empty");
        assert!(scan_all(engine, id, whole()).await.is_empty());
        engine.apply(id, upserts(&points(id, &mut Numbers(6), 30, dim))).await.expect("writing");
        assert_eq!(engine.count(id, Accept::All, None).await, Ok(30));
        engine.drop_collection(id).await.expect("dropping");
        assert!(engine.count(id, Accept::All, None).await.is_err(), "it is gone");
        assert!(engine.search(id, question(vec![0.0; dim], 1)).await.is_err());
    }
}
